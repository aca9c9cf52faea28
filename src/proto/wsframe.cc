// WebSocket frames, RFC 6455 section 5: the server's parser and its header writer.
// Owns nothing but the 24 bytes of a connection's ws_parser; pure; runs on the connection's thread.
//
// Each rule is checked as soon as the byte that decides it is there, and in the order of the bytes. So the same input
// gives the same events however the network cuts it, and a header that promises too much fails before its payload,
// even before its masking key, has come.
#include "proto/wsframe.h"

#include "proto/utf8.h"

#include <algorithm>
#include <string.h>

namespace belfry {

static_assert(sizeof(ws_parser) == 24, "the budget of a connection");

namespace {

enum : uint16_t {
    close_protocol_error = 1002,
    close_bad_payload = 1007,
    close_too_big = 1009,
    close_no_status = 1005, // never on the wire: "the peer sent none" (7.1.5)
};

struct header {
    bool complete;    // false: read on, unless code says that it failed
    uint16_t code;    // 0, or the close code it failed with
    const char *why;  // the rule broken
    bool final;       // FIN
    bool compressed;  // RSV1
    uint8_t opcode;   // as on the wire
    uint64_t length;  // of the payload
    uint32_t mask;    // network order
    size_t byte_size; // of the header itself
};

bool is_control(uint8_t opcode) {
    return (opcode & 0x8) != 0;
}

header header_failed(uint16_t code, const char *why) {
    header h = {};
    h.code = code;
    h.why = why;
    return h;
}

ws_event event_failed(uint16_t code, const char *why) {
    ws_event e = {};
    e.type = ws_event_type::failed;
    e.close_code = code;
    e.why = why;
    return e;
}

// Rules that the first byte decides: null where it keeps them.
const char *first_byte_error(const ws_parser *p, bool deflate, uint8_t byte) {
    uint8_t reserved = byte & 0x70;
    if (reserved && !deflate) return "a reserved bit is set, but no extension was agreed on (RFC 6455 5.2)";
    if (reserved & ~ws_rsv1) return "a reserved bit is set that permessage-deflate does not use (RFC 6455 5.2)";
    if (reserved && (is_control(byte) || (byte & 0x0f) == ws_continuation))
        return "RSV1 is set elsewhere than on a message's first frame (RFC 7692 6.1)";
    bool final = (byte & 0x80) != 0;
    switch (byte & 0x0f) {
    case ws_continuation:
        return p->opcode == 0 ? "a continuation frame without a message to continue (RFC 6455 5.4)" : nullptr;
    case ws_text:
    case ws_binary:
        return p->opcode != 0 ? "a new message before the last one was complete (RFC 6455 5.4)" : nullptr;
    case ws_close:
    case ws_ping:
    case ws_pong:
        return final ? nullptr : "a fragmented control frame (RFC 6455 5.5)";
    default:
        return "a reserved opcode (RFC 6455 5.2)";
    }
}

uint64_t read_big_endian(const char *at, size_t n) {
    uint64_t value = 0;
    for (size_t i = 0; i < n; i++)
        value = value << 8 | static_cast<uint8_t>(at[i]);
    return value;
}

// The limits are compared by subtraction, as a length of up to 2^63-1 on top of what was received may not wrap.
// A limit may have shrunk since the message began (reload).
const char *limit_error(const ws_parser *p, const ws_limits *limits, uint64_t received, const header *h) {
    bool begins = h->opcode != ws_continuation;
    uint64_t before = begins ? 0 : received;
    uint64_t most = limits->message;
    if (begins ? h->compressed : p->compressed) most += std::min(ws_deflate_slack(most), UINT64_MAX - most);
    if (before > most || h->length > most - before) return "a message larger than this route allows";
    uint64_t fragments = (begins ? 0 : uint64_t{p->fragments}) + 1;
    return fragments > limits->bookkeeping / ws_fragment_cost ? "a message in too many fragments" : nullptr;
}

// Reads the header at the front of the n bytes at `at`. Changes nothing.
header read_header(const ws_parser *p, const ws_limits *limits, uint64_t received, const char *at, size_t n) {
    header h = {};
    if (n < 1) return h;
    uint8_t first = static_cast<uint8_t>(at[0]);
    if (const char *why = first_byte_error(p, limits->deflate, first)) return header_failed(close_protocol_error, why);
    h.final = (first & 0x80) != 0;
    h.compressed = (first & ws_rsv1) != 0;
    h.opcode = first & 0x0f;

    if (n < 2) return h;
    uint8_t second = static_cast<uint8_t>(at[1]);
    if (!(second & 0x80)) return header_failed(close_protocol_error, "an unmasked frame (RFC 6455 5.1)");
    h.length = second & 0x7f;
    if (is_control(h.opcode) && h.length > ws_control_max)
        return header_failed(close_protocol_error, "a control frame of more than 125 bytes (RFC 6455 5.5)");

    size_t length_size = h.length == 126 ? 2 : h.length == 127 ? 8 : 0;
    if (n < 2 + length_size) return h;
    if (length_size > 0) {
        h.length = read_big_endian(at + 2, length_size);
        if (h.length >> 63) return header_failed(close_protocol_error, "a length beyond 63 bits (RFC 6455 5.2)");
        if (h.length <= (length_size == 2 ? 125u : 0xffffu))
            return header_failed(close_protocol_error, "a length not in its shortest form (RFC 6455 5.2)");
    }
    if (!is_control(h.opcode))
        if (const char *why = limit_error(p, limits, received, &h)) return header_failed(close_too_big, why);

    h.byte_size = 2 + length_size + sizeof h.mask;
    if (n < h.byte_size) return h;
    memcpy(&h.mask, at + 2 + length_size, sizeof h.mask);
    h.complete = true;
    return h;
}

// A control frame is taken whole: its payload is at most 125 bytes, and a close reason must be judged as one text.
ws_event take_control(const header *h, ws_bytes *data) {
    ws_event e = {};
    size_t size = h->byte_size + static_cast<size_t>(h->length);
    if (static_cast<size_t>(data->end - data->begin) < size) return e; // more
    char *payload = data->begin + h->byte_size;
    (void)ws_unmask(payload, static_cast<size_t>(h->length), h->mask);
    data->begin += size;

    e.type = ws_event_type::control;
    e.opcode = h->opcode;
    e.payload = view(payload, static_cast<size_t>(h->length));
    if (h->opcode != ws_close) return e;
    e.close_code = close_no_status;
    if (e.payload.empty()) return e;
    if (e.payload.size() == 1)
        return event_failed(close_protocol_error, "a close frame with half a code (RFC 6455 5.5.1)");
    e.close_code = static_cast<uint16_t>(read_big_endian(payload, 2));
    if (!ws_close_code_valid(e.close_code))
        return event_failed(close_protocol_error, "a close code that may not be sent (RFC 6455 7.4)");
    e.payload.remove_prefix(2);
    if (!utf8_valid(e.payload))
        return event_failed(close_bad_payload, "a close reason that is not UTF-8 (RFC 6455 5.5.1)");
    return e;
}

void begin_data_frame(ws_parser *p, uint64_t *received, const header *h) {
    if (h->opcode != ws_continuation) {
        p->opcode = h->opcode; // p->utf8 is utf8_start: a text that ended otherwise failed
        p->compressed = h->compressed;
        p->fragments = 0;
        *received = 0;
    }
    if (p->fragments < UINT32_MAX) p->fragments++;
    p->remaining = h->length;
    p->mask = h->mask;
    p->final = h->final;
    p->in_frame = 1;
}

// Hands out what is there of the current data frame's payload. `more`: nothing is, or the frame is empty and others
// of its message are to come (in_frame tells which).
ws_event take_payload(ws_parser *p, uint64_t *received, ws_bytes *data) {
    ws_event e = {};
    size_t n = static_cast<size_t>(data->end - data->begin);
    if (n > p->remaining) n = static_cast<size_t>(p->remaining);
    if (n == 0 && p->remaining > 0) return e;

    char *payload = data->begin;
    p->mask = ws_unmask(payload, n, p->mask);
    p->remaining -= n;
    data->begin += n;
    e.payload = view(payload, n);
    bool last = p->remaining == 0 && p->final;
    if (p->opcode == ws_text && !p->compressed) {
        p->utf8 = utf8_step(p->utf8, e.payload);
        if (p->utf8 == utf8_bad) return event_failed(close_bad_payload, "text that is not UTF-8 (RFC 6455 8.1)");
        if (last && p->utf8 != utf8_start)
            return event_failed(close_bad_payload, "text that ends inside a character (RFC 6455 8.1)");
    }
    if (p->remaining == 0) p->in_frame = 0;
    if (n == 0 && !last) return e;

    e.type = ws_event_type::data;
    e.opcode = p->opcode;
    e.first = *received == 0;
    e.last = last;
    e.compressed = p->compressed;
    *received += n;
    if (last) p->opcode = 0;
    return e;
}

} // namespace

ws_event ws_parse(ws_parser *p, const ws_limits *limits, uint64_t *received, ws_bytes *data) {
    for (;;) {
        if (!p->in_frame) {
            header h = read_header(p, limits, *received, data->begin, static_cast<size_t>(data->end - data->begin));
            if (h.code) return event_failed(h.code, h.why);
            if (!h.complete) return {};
            if (is_control(h.opcode)) return take_control(&h, data);
            begin_data_frame(p, received, &h);
            data->begin += h.byte_size;
        }
        ws_event e = take_payload(p, received, data);
        if (e.type != ws_event_type::more || p->in_frame) return e;
    }
}

bool ws_close_code_valid(uint16_t code) {
    return (code >= 1000 && code <= 1003) || (code >= 1007 && code <= 1014) || (code >= 3000 && code <= 4999);
}

size_t ws_write_header(uint8_t opcode, uint64_t n, char out[10]) {
    out[0] = static_cast<char>(0x80 | opcode);
    size_t length_size = n <= 125 ? 0 : n <= 0xffff ? 2 : 8;
    out[1] = static_cast<char>(length_size == 0 ? n : length_size == 2 ? 126 : 127);
    for (size_t i = 0; i < length_size; i++)
        out[2 + i] = static_cast<char>(n >> 8 * (length_size - 1 - i));
    return 2 + length_size;
}

// The key twice is a word whose bytes lie as the data's do, on a machine of either byte order. memcpy, because the
// payload begins at any address; it compiles to one load and one store.
uint32_t ws_unmask(char *data, size_t n, uint32_t mask) {
    char key[8];
    memcpy(key, &mask, 4);
    memcpy(key + 4, &mask, 4);
    uint64_t wide;
    memcpy(&wide, key, sizeof wide);
    size_t i = 0;
    for (; i + sizeof wide <= n; i += sizeof wide) {
        uint64_t word;
        memcpy(&word, data + i, sizeof word);
        word ^= wide;
        memcpy(data + i, &word, sizeof word);
    }
    for (size_t k = 0; i < n; i++, k++)
        data[i] = static_cast<char>(data[i] ^ key[k]);
    memcpy(&mask, key + n % 4, sizeof mask);
    return mask;
}

} // namespace belfry
