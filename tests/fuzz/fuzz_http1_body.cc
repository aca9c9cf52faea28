// Fuzzes proto/http1_body. The first two bytes choose kind, length and cuts, the rest is the body and what follows.
// What must hold for any bytes:
// - content, trailers, end and reason are the same however the bytes are cut;
// - a chunked body that was accepted means the same to a decoder that is simple and does not care for strictness;
// - content and trailers, written again, are read as the same content and the same trailers.
//
// One thread.
#include "proto/http1_body.h"

#include <stdlib.h>
#include <string>

using namespace belfry;

namespace {

void require(bool holds) {
    if (!holds) abort();
}

struct outcome {
    http1_body_event event = http1_body_event::more;
    http1_body_event at_eof = http1_body_event::more;
    std::string content, trailers, why;
    size_t used = 0;
    bool operator==(const outcome &) const = default;
};

// In pieces of `piece_max` bytes, or, where there is a seed, of 1 to `piece_max`.
outcome read_body(http1_body_kind kind, uint64_t length, view bytes, size_t piece_max, uint32_t seed) {
    outcome o;
    http1_body body = {};
    http1_body_start(&body, kind, length);
    const char *why = nullptr;
    for (size_t at = 0; o.event == http1_body_event::more && at <= bytes.size();) {
        const size_t piece_size = seed == 0 ? piece_max : 1 + (seed >> 8) % piece_max;
        if (seed != 0) seed = seed * 1664525 + 1013904223;
        const std::string piece(bytes.substr(at, piece_size)); // its own memory
        view rest = piece;
        do {
            view data;
            o.event = http1_body_next(&body, &rest, &data, &why);
            require(data.empty() == (o.event != http1_body_event::data));
            o.content += data;
        } while (o.event == http1_body_event::data);
        require(rest.empty() || o.event != http1_body_event::more);
        at += piece.size();
        o.used = at - rest.size();
        if (piece.empty()) break;
    }
    o.why = why;
    require(o.why.empty() == (o.event != http1_body_event::failed));
    o.at_eof = http1_body_eof(&body, &why);
    require(o.event == http1_body_event::more || o.at_eof == o.event);
    if (o.event == http1_body_event::end) o.trailers = http1_body_trailers(&body);
    http1_body_free(&body);
    return o;
}

// What strtoull and find make of an accepted body.
void check_simply(view bytes, const outcome &o) {
    std::string content;
    size_t at = 0;
    for (;;) {
        const uint64_t size = strtoull(std::string(bytes.substr(at, 17)).c_str(), nullptr, 16);
        require(bytes.find('\n', at) == bytes.find("\r\n", at) + 1);
        at = bytes.find("\r\n", at) + 2;
        if (size == 0) break;
        content += bytes.substr(at, size);
        at += size;
        require(bytes.substr(at, 2) == "\r\n");
        at += 2;
    }
    require(content == o.content);
    if (bytes.substr(at, 2) != "\r\n") at = bytes.find("\r\n\r\n", at) + 2;
    require(o.used == at + 2);
}

void check_written_again(const outcome &o) {
    buffer out = {};
    char head[http1_chunk_head_size];
    for (size_t at = 0; at < o.content.size(); at += 19) {
        const view piece = view(o.content).substr(at, 19);
        buffer_append(&out, view(head, http1_write_chunk_head(piece.size(), head)));
        buffer_append(&out, piece);
        buffer_append(&out, "\r\n");
    }
    http1_write_last_chunk(o.trailers, &out);
    const outcome again = read_body(http1_body_kind::chunked, 0, buffer_view(&out), out.size, 0);
    // A space behind the colon can make them too large for another reader like this.
    if (o.trailers.size() + 2 <= http1_trailers_max) {
        require(again.event == http1_body_event::end && again.used == out.size);
        require(again.content == o.content && again.trailers == o.trailers);
    }
    buffer_free(&out);
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 2) return 0;
    // Chunked is the kind that can go wrong.
    const http1_body_kind kind = data[0] < 4 ? static_cast<http1_body_kind>(data[0]) : http1_body_kind::chunked;
    const view bytes(reinterpret_cast<const char *>(data) + 2, size - 2);
    const outcome whole = read_body(kind, data[1], bytes, bytes.size() + 1, 0);
    require(read_body(kind, data[1], bytes, 1, 0) == whole);
    require(read_body(kind, data[1], bytes, 1 + data[1] % 32, 1u + data[0]) == whole);
    if (kind == http1_body_kind::chunked && whole.event == http1_body_event::end) {
        check_simply(bytes, whole);
        check_written_again(whole);
    }
    return 0;
}
