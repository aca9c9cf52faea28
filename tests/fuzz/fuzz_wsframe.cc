// Fuzz target of proto/wsframe: however the network cuts a stream, it gives the same events; and nothing outside of
// what was consumed is touched. One thread.
//
// The input's first four bytes choose the limits, the cuts and the form of the rest: the stream itself, or (bit 0 of
// the first; bit 1: permessage-deflate is agreed on) a list of frames: a first byte, a length and that many bytes of
// payload, which are made to a valid masked frame. The second form reaches deep states that random bytes seldom do.
#include "proto/utf8.h"
#include "proto/wsframe.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <string>

using namespace belfry;

namespace {

void require(bool condition) {
    if (!condition) abort();
}

struct settings {
    ws_limits limits;
    uint32_t seed; // of the cuts
};

// The events of a run, pieces of a message merged.
struct record {
    std::string events;
    std::string message; // under way: what was handed out so far
    std::string piece;   // its part since the last other event, not yet in `events`
    bool open = false;   // a message is under way
    bool compressed = false;
    size_t rest = 0;
};

void flush_piece(record *r, bool last) {
    if (r->piece.empty() && !last) return;
    r->events += last ? "D" : "d";
    r->events += std::to_string(r->piece.size()) + ":" + r->piece;
    r->piece.clear();
}

void check_data(record *r, const ws_event *e, const settings *s) {
    require(e->opcode == ws_text || e->opcode == ws_binary);
    require(e->first == !r->open);
    require(e->last || !e->payload.empty());
    if (e->first) {
        r->message.clear();
        r->events += e->opcode == ws_text ? e->compressed ? "Z" : "T" : e->compressed ? "z" : "B";
        r->compressed = e->compressed;
    }
    require(e->compressed == r->compressed && (!e->compressed || s->limits.deflate));
    r->open = !e->last;
    r->message += e->payload;
    r->piece += e->payload;
    require(r->message.size() <= s->limits.message + (e->compressed ? ws_deflate_slack(s->limits.message) : 0));
    if (e->opcode == ws_text && !e->compressed) {
        uint8_t state = utf8_step(utf8_start, r->message);
        require(e->last ? state == utf8_start : state != utf8_bad);
    }
    if (e->last) flush_piece(r, true);
}

void check_event(record *r, const ws_event *e, const settings *s) {
    if (e->type == ws_event_type::data) return check_data(r, e, s);
    if (e->type == ws_event_type::failed) {
        require(e->close_code == 1002 || e->close_code == 1007 || e->close_code == 1009);
        require(e->why && *e->why);
        // How much of the broken message's last frames was handed out depends on the cuts, also whether it was begun.
        if (r->open && r->piece.size() == r->message.size()) r->events.pop_back();
        r->piece.clear();
        r->events += "F" + std::to_string(e->close_code) + e->why;
        return;
    }
    require(e->type == ws_event_type::control);
    require(e->payload.size() <= ws_control_max);
    if (e->opcode == ws_close) {
        require(e->close_code == 1005 ? e->payload.empty() : ws_close_code_valid(e->close_code));
        require(utf8_valid(e->payload));
    } else {
        require(e->opcode == ws_ping || e->opcode == ws_pong);
    }
    flush_piece(r, false);
    r->events += "C" + std::to_string(e->opcode) + "," + std::to_string(e->close_code) + ":";
    r->events += e->payload;
}

// One read's bytes, and a copy to compare what must not change. With guards around them writes outside are found
// without a sanitizer, without guards AddressSanitizer finds reads outside.
struct window {
    char *memory; // owned
    size_t size;
    std::string shadow;
    ws_bytes data;
};

void window_open(window *w, view rest, view bytes, size_t guard) {
    w->shadow.assign(guard, '\xa5');
    w->shadow += rest;
    w->shadow += bytes;
    w->shadow.append(guard, '\x5a');
    w->size = w->shadow.size();
    w->memory = static_cast<char *>(malloc(w->size));
    require(w->memory != nullptr);
    memcpy(w->memory, w->shadow.data(), w->size);
    w->data.begin = w->memory + guard;
    w->data.end = w->data.begin + rest.size() + bytes.size();
}

ws_event window_parse(window *w, ws_parser *p, uint64_t *received, const settings *s) {
    char *begin = w->data.begin, *end = w->data.end;
    ws_event e = ws_parse(p, &s->limits, received, &w->data);
    require(w->data.end == end && w->data.begin >= begin && w->data.begin <= end);
    // Only what was consumed may have been unmasked.
    size_t from = static_cast<size_t>(begin - w->memory);
    size_t to = static_cast<size_t>(w->data.begin - w->memory);
    require(memcmp(w->memory, w->shadow.data(), from) == 0);
    require(memcmp(w->memory + to, w->shadow.data() + to, w->size - to) == 0);
    memcpy(w->shadow.data() + from, w->memory + from, to - from);
    if (!e.payload.empty()) require(e.payload.data() >= begin && e.payload.data() + e.payload.size() <= w->data.begin);
    return e;
}

// step 0: pieces of lengths drawn from the seed; else of `step` bytes.
void run(record *r, view stream, size_t step, const settings *s) {
    ws_parser p = {};
    uint64_t received = 0;
    uint32_t random = s->seed | 1;
    std::string rest;
    window w;
    while (!stream.empty()) {
        random = random * 1664525 + 1013904223;
        view piece = stream.substr(0, step > 0 ? step : 1 + (random >> 16) % 40);
        stream.remove_prefix(piece.size());
        window_open(&w, rest, piece, step == 1 ? 0 : 16);
        ws_event e;
        while ((e = window_parse(&w, &p, &received, s)).type != ws_event_type::more) {
            check_event(r, &e, s);
            if (e.type == ws_event_type::failed) return free(w.memory);
        }
        rest.assign(w.data.begin, w.data.end);
        free(w.memory);
        require(rest.size() <= ws_rest_max);
        require(!r->open || received == r->message.size());
    }
    flush_piece(r, false);
    r->rest = rest.size();
}

std::string build_frames(view list, uint32_t key) {
    std::string stream;
    while (list.size() >= 2) {
        stream += list[0];
        size_t n = static_cast<uint8_t>(list[1]);
        if (n > 250) n = (n - 250) * 400; // also lengths of 16 bits
        list.remove_prefix(2);
        view payload = list.substr(0, n);
        list.remove_prefix(payload.size());
        n = payload.size();
        stream += static_cast<char>(0x80 | (n <= 125 ? n : 126));
        if (n > 125) {
            stream += static_cast<char>(n >> 8);
            stream += static_cast<char>(n);
        }
        char mask[4];
        memcpy(mask, &key, 4);
        stream.append(mask, 4);
        for (size_t i = 0; i < n; i++)
            stream += static_cast<char>(payload[i] ^ mask[i % 4]);
        key = key * 1664525 + 1013904223;
    }
    return stream;
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 4 || size > 4096) return 0;
    settings s = {};
    s.limits.message = data[1] == 255 ? UINT64_MAX : uint64_t{data[1]} * data[1] / 16;
    s.limits.deflate = (data[0] & 2) != 0;
    s.limits.bookkeeping = data[2] == 255 ? UINT64_MAX : uint64_t{data[2]} * 8;
    s.seed = data[3] * 2654435761u;
    view input(reinterpret_cast<const char *>(data) + 4, size - 4);
    std::string stream = data[0] & 1 ? build_frames(input, s.seed) : std::string(input);

    record whole, bytewise, cut;
    run(&whole, stream, stream.size() + 1, &s);
    run(&bytewise, stream, 1, &s);
    run(&cut, stream, 0, &s);
    require(whole.events == bytewise.events && whole.rest == bytewise.rest);
    require(whole.events == cut.events && whole.rest == cut.rest);
    return 0;
}
