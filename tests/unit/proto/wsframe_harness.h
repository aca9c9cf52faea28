// What test_wsframe.cc builds its streams with and compares their events by. One thread; all of it is static, because a
// failed assertion jumps past destructors.
//
// `expect` feeds the stream whole, byte by byte and cut in two at every place; all must give the same events. They are
// compared as text, pieces of a frame merged:
//   text<Hello>        a whole message in one piece; "<" is first, ">" is last
//   text*<Hello>       the same with RSV1
//   text<Hel ping(x) text+lo>   a message with a ping inside it
//   close(1000,bye) fail(1002) rest(3)   the last one: bytes left for the next read
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

extern "C" {
#include <cmocka.h>
}

#include "proto/wsframe.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

namespace belfry {

namespace {

struct stream {
    size_t size;
    char bytes[160 * 1024];
} in;

struct entry {
    ws_event_type type;
    uint8_t opcode;
    bool first, last, compressed;
    uint16_t code;
    size_t begin, size; // of the payload, in `payloads`
    const char *why;
};

struct outcome {
    entry entries[512];
    size_t count;
    char payloads[160 * 1024];
    size_t payload_size;
    size_t rest;
    char text[64 * 1024];
} got;

ws_limits limits;

int setup(void **) {
    in.size = 0;
    limits = {.message = 1 << 20, .bookkeeping = 1 << 16};
    return 0;
}

void put(view bytes) {
    memcpy(in.bytes + in.size, bytes.data(), bytes.size());
    in.size += bytes.size();
}

void put_byte(int byte) {
    in.bytes[in.size++] = static_cast<char>(byte);
}

void put_masked(view payload) {
    static const char key[4] = {0x37, '\xfa', 0x21, 0x3d};
    put(view(key, 4));
    for (size_t i = 0; i < payload.size(); i++)
        put_byte(payload[i] ^ key[i % 4]);
}

// A masked frame with the length in its shortest form. `first` is FIN, RSV and opcode.
void put_frame(int first, view payload) {
    put_byte(first);
    size_t n = payload.size();
    size_t length_size = n <= 125 ? 0 : n <= 0xffff ? 2 : 8;
    put_byte(0x80 | static_cast<int>(length_size == 0 ? n : length_size == 2 ? 126 : 127));
    for (size_t i = length_size; i > 0; i--)
        put_byte(static_cast<int>(n >> 8 * (i - 1) & 0xff));
    put_masked(payload);
}

void put_close(int code, view reason) {
    char payload[ws_control_max] = {static_cast<char>(code >> 8), static_cast<char>(code)};
    memcpy(payload + 2, reason.data(), reason.size());
    put_frame(0x88, view(payload, 2 + reason.size()));
}

void record(const ws_event *e) {
    entry *before = got.count > 0 ? &got.entries[got.count - 1] : nullptr;
    bool under_way = before && before->type == ws_event_type::data && !before->last;
    // A piece handed out of a message that then failed: how much of it depends on the cuts.
    if (e->type == ws_event_type::failed && under_way) got.count--;
    if (e->type == ws_event_type::data && under_way) {
        if (e->first || e->opcode != before->opcode || e->compressed != before->compressed)
            fail_msg("a message inside another one");
        before->last = e->last;
        before->size += e->payload.size();
    } else {
        got.entries[got.count++] = {e->type,       e->opcode,        e->first,          e->last, e->compressed,
                                    e->close_code, got.payload_size, e->payload.size(), e->why};
    }
    if (!e->payload.empty()) memcpy(got.payloads + got.payload_size, e->payload.data(), e->payload.size());
    got.payload_size += e->payload.size();
}

void append(const char *format, ...) {
    size_t used = strlen(got.text);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(got.text + used, sizeof got.text - used, format, arguments);
    va_end(arguments);
}

void append_payload(const entry *e) {
    if (e->size > 60) return append("%zu bytes", e->size);
    for (size_t i = 0; i < e->size; i++) {
        uint8_t byte = static_cast<uint8_t>(got.payloads[e->begin + i]);
        append(byte > 0x20 && byte < 0x7f ? "%c" : "\\x%02x", byte);
    }
}

void describe() {
    got.text[0] = 0;
    for (size_t i = 0; i < got.count; i++) {
        const entry *e = &got.entries[i];
        if (i > 0) append(" ");
        if (e->type == ws_event_type::failed) {
            append("fail(%d)", e->code);
        } else if (e->type == ws_event_type::data) {
            append("%s%s%s", e->opcode == ws_text ? "text" : "binary", e->compressed ? "*" : "", e->first ? "<" : "+");
            append_payload(e);
            append(e->last ? ">" : "");
        } else {
            append(e->opcode == ws_close ? "close(%d," : e->opcode == ws_ping ? "ping(" : "pong(", e->code);
            append_payload(e);
            append(")");
        }
    }
    if (got.rest > 0) append(got.count > 0 ? " rest(%zu)" : "rest(%zu)", got.rest);
}

// Feeds in.bytes[from, to) behind the rest, as the caller of ws_parse does. False after a failure.
// The memory is of exact size, so that AddressSanitizer sees a read or write outside.
bool feed(ws_parser *p, uint64_t *received, char *rest, size_t from, size_t to) {
    size_t size = got.rest + (to - from);
    char *memory = static_cast<char *>(malloc(size > 0 ? size : 1));
    memcpy(memory, rest, got.rest);
    memcpy(memory + got.rest, in.bytes + from, to - from);
    ws_bytes data = {memory, memory + size};
    ws_event e;
    do {
        e = ws_parse(p, &limits, received, &data);
        if (e.type != ws_event_type::more) record(&e);
    } while (e.type != ws_event_type::more && e.type != ws_event_type::failed);
    got.rest = e.type == ws_event_type::failed ? 0 : static_cast<size_t>(data.end - data.begin);
    bool kept = got.rest <= ws_rest_max;
    if (kept) memcpy(rest, data.begin, got.rest);
    free(memory);
    assert_true(kept);
    return e.type != ws_event_type::failed;
}

// Runs the stream in pieces of `step` bytes, the first one of `first`; gives the events' text.
const char *run(size_t first, size_t step) {
    ws_parser p = {};
    uint64_t received = 0;
    char rest[ws_rest_max];
    got.count = got.payload_size = got.rest = 0;
    for (size_t from = 0, to = first; from < in.size; from = to, to = from + step) {
        if (to > in.size) to = in.size;
        if (!feed(&p, &received, rest, from, to)) break;
    }
    describe();
    return got.text;
}

void expect(const char *events) {
    assert_string_equal(run(in.size, 1), events);
    const char *why = got.count > 0 ? got.entries[got.count - 1].why : nullptr;
    assert_string_equal(run(1, 1), events);
    for (size_t cut = 1; cut < in.size; cut++) {
        // Of long streams only the places near the ends, where the headers are, and some between.
        if (cut > 300 && in.size - cut > 300 && cut % 997 != 0) continue;
        if (strcmp(run(cut, in.size), events) != 0) fail_msg("cut at %zu: %s instead of %s", cut, got.text, events);
        assert_ptr_equal(got.count > 0 ? got.entries[got.count - 1].why : nullptr, why);
    }
    setup(nullptr);
}

// The stream must fail with its last byte, not before: a server does not wait for what can't help.
void expect_failure_at_end(int code) {
    size_t size = in.size--;
    run(in.size, 1);
    for (size_t i = 0; i < got.count; i++)
        assert_int_not_equal(got.entries[i].type, ws_event_type::failed);
    in.size = size;
    run(in.size, 1);
    assert_true(got.count > 0);
    const entry *e = &got.entries[got.count - 1];
    assert_int_equal(e->type, ws_event_type::failed);
    assert_int_equal(e->code, code);
    assert_true(e->why && *e->why);
    setup(nullptr);
}

} // namespace

} // namespace belfry
