// Tests of proto/wsframe: each MUST of RFC 6455 sections 5, 7.4 and 8.1 that meets a server, as bytes.
// wsframe_harness.h says how streams are fed and what the events' text means.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

extern "C" {
#include <cmocka.h>
}

#include "proto/wsframe.h"
#include "wsframe_harness.h"

#include <stdio.h>
#include <string.h>

using namespace belfry;

namespace {

// 5.7: the RFC's own examples.
void examples_of_the_rfc(void **) {
    put("\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58");
    expect("text<Hello>");
    put("\x8a\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58");
    expect("pong(Hello)");
    put("\x89\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58");
    expect("ping(Hello)");
}

// 5.1: a server MUST close on an unmasked frame. The mask bit is in the second byte, nothing more is needed.
void unmasked_frames_fail(void **) {
    for (int first : {0x81, 0x82, 0x01, 0x88, 0x89, 0x8a}) {
        put_byte(first);
        put_byte(0x05);
        expect_failure_at_end(1002);
        put_byte(first);
        put("\x05Hello");
        expect("fail(1002)");
    }
    put_frame(0x01, "a");
    put(view("\x80\x00", 2)); // an unmasked continuation
    expect("fail(1002)");
}

// 5.2: RSV bits MUST be 0 without an extension; on every kind of frame, also inside a message.
void reserved_bits_fail(void **) {
    for (int bits = 0x10; bits <= 0x70; bits += 0x10) {
        for (int first : {0x81, 0x02, 0x88, 0x89, 0x8a}) {
            put_byte(first | bits);
            expect_failure_at_end(1002);
            put_frame(first | bits, "");
            expect("fail(1002)");
        }
        put_frame(0x01, "a");
        put_byte(0x80 | bits);
        expect_failure_at_end(1002);
    }
}

// 5.2: an unknown opcode MUST fail the connection.
void reserved_opcodes_fail(void **) {
    for (int opcode : {0x3, 0x4, 0x5, 0x6, 0x7, 0xb, 0xc, 0xd, 0xe, 0xf})
        for (int final : {0x80, 0x00}) {
            put_byte(final | opcode);
            expect_failure_at_end(1002);
            put_frame(0x81, "before");
            put_frame(final | opcode, "abc");
            expect("text<before> fail(1002)");
        }
}

// 5.2: the three forms of a length, in network order, at their edges; the shortest MUST be used.
void lengths(void **) {
    static char payload[70000];
    memset(payload, 'x', sizeof payload);
    for (size_t n : {0u, 1u, 2u, 60u}) {
        put_frame(0x82, view(payload, n));
        run(in.size, 1);
        assert_int_equal(got.entries[0].size, n);
        setup(nullptr);
    }
    static const struct {
        size_t n;
        size_t header;
        const char *events;
    } sizes[] = {{125, 6, "binary<125 bytes>"},      {126, 8, "binary<126 bytes>"},
                 {127, 8, "binary<127 bytes>"},      {65535, 8, "binary<65535 bytes>"},
                 {65536, 14, "binary<65536 bytes>"}, {70000, 14, "binary<70000 bytes>"}};
    for (const auto &size : sizes) {
        put_frame(0x82, view(payload, size.n));
        assert_int_equal(in.size, size.header + size.n);
        if (size.n < 1000) {
            expect(size.events);
        } else {
            for (size_t step : {in.size, size_t{1}, size_t{4096}, size_t{13}})
                assert_string_equal(run(step, step), size.events);
            assert_memory_equal(got.payloads, payload, size.n);
            setup(nullptr);
        }
    }
}

void lengths_not_in_their_shortest_form_fail(void **) {
    put(view("\x82\xfe\x00\x7d", 4)); // 125 in 16 bits
    expect_failure_at_end(1002);
    put(view("\x82\xfe\x00\x00", 4));
    expect_failure_at_end(1002);
    put(view("\x82\xff\x00\x00\x00\x00\x00\x00\xff\xff", 10)); // 65535 in 64 bits
    expect_failure_at_end(1002);
    put(view("\x82\xff\x00\x00\x00\x00\x00\x00\x00\x00", 10));
    expect_failure_at_end(1002);
}

// 5.2: the most significant bit of a 64-bit length MUST be 0; and no length may wrap what is added to it.
void huge_lengths_fail_from_the_header_alone(void **) {
    put("\x82\xff\xff\xff\xff\xff\xff\xff\xff\xff"); // -1, and -4 with the key added
    expect_failure_at_end(1002);
    put("\x82\xff\xff\xff\xff\xff\xff\xff\xff\xfc");
    expect_failure_at_end(1002);
    put(view("\x82\xff\x80\x00\x00\x00\x00\x00\x00\x00", 10));
    expect_failure_at_end(1002);
    put("\x82\xff\x7f\xff\xff\xff\xff\xff\xff\xff"); // 2^63-1
    expect_failure_at_end(1009);
    put_frame(0x02, "abc"); // 3 + 2^63-1
    put("\x80\xff\x7f\xff\xff\xff\xff\xff\xff\xff");
    expect_failure_at_end(1009);
    limits.message = UINT64_MAX; // the longest length there is, and a limit that can't be passed
    put("\x82\xff\x7f\xff\xff\xff\xff\xff\xff\xff");
    put_masked("abc");
    expect("binary<abc");
}

// 5.3: any key, also zero; the payload is XORed with octet i MOD 4 and the key starts anew in each frame.
void keys(void **) {
    put(view("\x81\x83\0\0\0\0abc", 9));
    expect("text<abc>");
    put(view("\x82\x85\xff\x00\x0f\xf0\xff\x00\x0f\xf0\xff", 11));
    expect("binary<\\x00\\x00\\x00\\x00\\x00>");
    put(view("\x01\x83\x01\x02\x03\x04"
             "aaa"
             "\x80\x83\x04\x03\x02\x01"
             "bbb",
             18));
    expect("text<`cbfa`>");
}

void unmask_any_size_place_and_rotation(void **) {
    static const uint8_t key[4] = {0x11, 0x22, 0x44, 0x88};
    uint32_t mask;
    memcpy(&mask, key, 4);
    for (size_t size = 0; size <= 67; size++)
        for (size_t place = 0; place < 8; place++)
            for (size_t cut = 0; cut <= size; cut++) {
                char memory[8 + 67 + 8];
                memset(memory, 'a', sizeof memory);
                uint32_t rotated = ws_unmask(memory + place, cut, mask);
                rotated = ws_unmask(memory + place + cut, size - cut, rotated);
                for (size_t i = 0; i < sizeof memory; i++) {
                    bool inside = i >= place && i < place + size;
                    int byte = inside ? 'a' ^ key[(i - place) % 4] : 'a';
                    if (static_cast<uint8_t>(memory[i]) != byte) fail_msg("%zu+%zu cut %zu: %zu", place, size, cut, i);
                }
                uint8_t next[4];
                memcpy(next, &rotated, 4);
                assert_int_equal(next[0], key[size % 4]);
                assert_int_equal(next[3], key[(size + 3) % 4]);
            }
}

// 5.4: fragments are delivered in order, as parts of one message of the first frame's type.
void fragments(void **) {
    put_frame(0x01, "Hel");
    put_frame(0x80, "lo");
    expect("text<Hello>");
    put_frame(0x02, "a");
    put_frame(0x00, "b");
    put_frame(0x00, "c");
    put_frame(0x80, "d");
    put_frame(0x81, "next");
    expect("binary<abcd> text<next>");
    put_frame(0x01, "endless");
    expect("text<endless");
}

// 5.4: control frames MAY be injected in the middle and MUST be handled there; they leave the message's state alone.
void control_frames_between_fragments(void **) {
    put_frame(0x01, "H\xc3");
    put_frame(0x89, "p1");
    put_frame(0x8a, "");
    put_frame(0x00, "\xa9");
    put_frame(0x89, "\xff");
    put_frame(0x80, "l");
    expect("text<H\\xc3 ping(p1) pong() text+\\xa9 ping(\\xff) text+l>");
    put_frame(0x02, "a");
    put_close(1000, "");
    expect("binary<a close(1000,)");
}

void empty_frames(void **) {
    put_frame(0x81, "");
    put_frame(0x82, "");
    expect("text<> binary<>");
    // Empty fragments give no event, so the first event is the first piece with bytes, or the empty end.
    put_frame(0x01, "");
    put_frame(0x89, "");
    put_frame(0x00, "");
    put_frame(0x80, "a");
    expect("ping() text<a>");
    put_frame(0x02, "");
    put_frame(0x00, "");
    put_frame(0x80, "");
    expect("binary<>");
    put_frame(0x01, "a");
    put_frame(0x89, "");
    put_frame(0x80, "");
    expect("text<a ping() text+>");
}

void continuation_without_a_message_fails(void **) {
    put_byte(0x80);
    expect_failure_at_end(1002);
    put_byte(0x00);
    expect_failure_at_end(1002);
    put_frame(0x81, "whole");
    put_frame(0x80, "more");
    expect("text<whole> fail(1002)");
    put_frame(0x01, "a");
    put_frame(0x80, "b");
    put_byte(0x80);
    expect_failure_at_end(1002);
    put_frame(0x89, "");
    put_frame(0x00, "");
    expect("ping() fail(1002)");
}

// 5.4: the fragments of one message MUST NOT be interleaved with another message's.
void a_message_inside_a_message_fails(void **) {
    for (int first : {0x81, 0x82, 0x01, 0x02}) {
        put_frame(0x01, "a");
        put_byte(first);
        expect_failure_at_end(1002);
        put_frame(0x02, ""); // an empty fragment opens a message too
        put_frame(first, "b");
        expect("fail(1002)");
    }
}

// 5.5: control frames MUST be of 125 bytes at most and MUST NOT be fragmented.
void control_frames_are_short_and_whole(void **) {
    char payload[125];
    memset(payload, 'p', sizeof payload);
    put_frame(0x89, view(payload, 125));
    put_frame(0x8a, view(payload, 125));
    expect("ping(125 bytes) pong(125 bytes)");
    for (int first : {0x88, 0x89, 0x8a}) {
        put_byte(first);
        put_byte(0xfe); // a 16-bit length: above 125, or not the shortest form
        expect_failure_at_end(1002);
        put_byte(first);
        put_byte(0xff);
        expect_failure_at_end(1002);
        put_byte(first & 0x0f); // no FIN
        expect_failure_at_end(1002);
        put_frame(0x01, "a");
        put_frame(first & 0x0f, "");
        expect("fail(1002)");
    }
}

// A control frame is handed out whole, so an unfinished one stays with the caller, untouched: 130 bytes at most.
void an_unfinished_control_frame_is_left_over(void **) {
    char payload[125];
    memset(payload, 'p', sizeof payload);
    put_frame(0x89, view(payload, 125));
    in.size--;
    expect("rest(130)");
    for (size_t cut = 1; cut < 14; cut++) {
        put_frame(0x81, "x");
        size_t begin = in.size;
        put_byte(0x82);
        put(view("\xff\x00\x00\x00\x00\x00\x01\x00\x00\x01\x02\x03\x04", 13));
        in.size = begin + cut;
        char events[32];
        snprintf(events, sizeof events, "text<x> rest(%zu)", cut);
        expect(events);
    }
}

// 5.5.1, 7.4: the code is the payload's first two bytes, in network order; the reason is UTF-8.
void close_frames(void **) {
    put_frame(0x88, "");
    expect("close(1005,)");
    put_close(1000, "");
    expect("close(1000,)");
    put_close(1001, "going \xe2\x9c\x93");
    expect("close(1001,going\\x20\\xe2\\x9c\\x93)");
    char reason[123];
    memset(reason, 'r', sizeof reason);
    put_close(4999, view(reason, 123));
    expect("close(4999,123 bytes)");
    put_frame(0x88, "\x03");
    expect("fail(1002)");
    put_close(1000, "\xce\xba\xed\xa0\x80"); // a surrogate
    expect("fail(1007)");
    put_close(1000, "cut \xe2\x82"); // inside a character
    expect("fail(1007)");
    put_close(1005, "\xff"); // the code is judged first
    expect("fail(1002)");
    // The parser does not mind what comes behind a close; the connection does not read on.
    put_close(3000, "");
    put_frame(0x81, "late");
    put_frame(0x88, "");
    expect("close(3000,) text<late> close(1005,)");
}

void close_codes(void **) {
    for (uint32_t code = 0; code <= 0xffff; code++) {
        bool valid = (code >= 3000 && code <= 4999);
        for (uint32_t one : {1000u, 1001u, 1002u, 1003u, 1007u, 1008u, 1009u, 1010u, 1011u, 1012u, 1013u, 1014u})
            valid = valid || code == one;
        if (ws_close_code_valid(static_cast<uint16_t>(code)) != valid) fail_msg("%u", code);
    }
    for (int code : {0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535}) {
        put_close(code, "");
        expect("fail(1002)");
    }
}

// 8.1, 5.6: text is UTF-8 over the whole message, a fragment may end inside a character; binary is anything.
void text_is_utf8(void **) {
    put_frame(0x81, "\xce\xba\xf0\x9f\x98\x80");
    expect("text<\\xce\\xba\\xf0\\x9f\\x98\\x80>");
    put_frame(0x01, "\xf0");
    put_frame(0x00, "\x9f\x98");
    put_frame(0x80, "\x80");
    expect("text<\\xf0\\x9f\\x98\\x80>");
    put_frame(0x82, "\xff\xed\xa0\x80");
    expect("binary<\\xff\\xed\\xa0\\x80>");
    for (view bad : {view("\xff"), view("ok \xc0\x80"), view("\xed\xa0\x80"), view("\xf4\x90\x80\x80"), view("\x80")}) {
        put_frame(0x81, "ok");
        put_frame(0x81, bad);
        expect("text<ok> fail(1007)");
        put_frame(0x02, bad);
        put_frame(0x80, bad);
        run(in.size, 1);
        assert_int_equal(got.count, 1);
        assert_true(got.entries[0].last);
        assert_int_equal(got.entries[0].size, 2 * bad.size());
        setup(nullptr);
    }
}

void text_that_ends_inside_a_character_fails(void **) {
    put_frame(0x81, "a\xe2\x82");
    expect("fail(1007)");
    put_frame(0x01, "a\xe2\x82");
    put_frame(0x80, "");
    expect("fail(1007)");
    // The next message starts anew: the half character does not reach into it.
    put_frame(0x01, "\xe2\x82");
    put_frame(0x80, "\xac");
    put_frame(0x81, "\xac");
    expect("text<\\xe2\\x82\\xac> fail(1007)");
}

// Autobahn 6.4: a bad byte fails the connection before the frame, let alone the message, is complete.
void bad_text_fails_at_the_bad_byte(void **) {
    put_frame(0x81, "\xce\xba\xe1\xbd\xb9\xf4\x90\x80\x80 much more");
    in.size -= 12; // up to 0x90
    expect_failure_at_end(1007);
    put_frame(0x01, "\xce\xba\xe1\xbd\xb9\xf4");
    put_frame(0x00, "\x90\x80\x80 much more");
    in.size -= 12;
    expect_failure_at_end(1007);
}

// A header that promises too much fails before any of the payload (1009), even before the masking key.
void messages_above_the_limit_fail_from_the_header(void **) {
    limits.message = 100;
    put("\x82\xe5"); // 101
    expect_failure_at_end(1009);
    limits.message = 1000;
    put("\x82\xfe\x03\xe9"); // 1001
    expect_failure_at_end(1009);
    limits.message = 65536;
    put(view("\x82\xff\x00\x00\x00\x00\x00\x01\x00\x01", 10)); // 65537
    expect_failure_at_end(1009);
    limits.message = 5;
    put_frame(0x81, "Hello");
    run(in.size, 1);
    assert_string_equal(got.text, "text<Hello>");
    setup(nullptr);
    limits.message = 5; // all fragments together
    put_frame(0x01, "Hel");
    put_frame(0x80, "lo");
    put_frame(0x01, "Hel");
    put("\x80\x83");
    expect_failure_at_end(1009);
    limits.message = 0;
    put_frame(0x82, "");
    put("\x82\x81");
    expect_failure_at_end(1009);
}

// A control frame in between must not give the message a new allowance, nor count as part of it.
void control_frames_do_not_touch_the_limit(void **) {
    limits.message = 5;
    put_frame(0x01, "abc");
    put_frame(0x89, "0123456789");
    put_frame(0x00, "de");
    put_frame(0x89, "0123456789");
    put_frame(0x80, "");
    run(in.size, 1);
    assert_string_equal(got.text, "text<abc ping(0123456789) text+de ping(0123456789) text+>");
    setup(nullptr);
    limits.message = 5;
    put_frame(0x01, "abc");
    put_frame(0x89, "0123456789");
    put("\x80\x83");
    expect_failure_at_end(1009);
}

// A limit that shrank (reload) under a message that is longer already must not wrap.
void a_limit_may_shrink_inside_a_message(void **) {
    put_frame(0x02, "0123456789");
    ws_parser p = {};
    uint64_t received = 0;
    ws_bytes data = {in.bytes, in.bytes + in.size};
    assert_int_equal(ws_parse(&p, &limits, &received, &data).type, ws_event_type::data);
    assert_int_equal(received, 10);
    limits.message = 5;
    put_frame(0x80, "");
    data.end = in.bytes + in.size;
    assert_int_equal(ws_parse(&p, &limits, &received, &data).close_code, 1009);
}

// However much was received under an unlimited limit, the sum with the next length does not wrap.
void received_and_length_do_not_wrap(void **) {
    limits.message = UINT64_MAX;
    for (uint64_t left : {2u, 3u}) {
        put_frame(0x80, "abc");
        ws_parser p = {};
        p.opcode = ws_binary;
        uint64_t received = UINT64_MAX - left;
        ws_bytes data = {in.bytes, in.bytes + in.size};
        ws_event e = ws_parse(&p, &limits, &received, &data);
        assert_int_equal(e.type, left < 3 ? ws_event_type::failed : ws_event_type::data);
        assert_int_equal(e.close_code, left < 3 ? 1009 : 0);
        in.size = 0;
    }
}

// Memory for tiny or empty fragments is charged: an endless message of them ends, with and without bytes.
void fragments_are_charged(void **) {
    for (view payload : {view(""), view("x")}) {
        limits.bookkeeping = 4 * ws_fragment_cost;
        put_frame(0x02, payload);
        put_frame(0x00, payload);
        put_frame(0x89, "");
        put_frame(0x00, payload);
        put_frame(0x80, payload); // four are allowed
        put_frame(0x82, payload); // the next message starts from nothing
        put_frame(0x02, payload);
        put_frame(0x00, payload);
        put_frame(0x00, payload);
        put_frame(0x00, payload);
        put_byte(0x00);
        put_byte(0x80 | static_cast<int>(payload.size()));
        expect_failure_at_end(1009);
    }
    limits.bookkeeping = 5 * ws_fragment_cost - 1;
    put_frame(0x02, "");
    for (int i = 0; i < 3; i++)
        put_frame(0x00, "");
    put("\x80\x80");
    expect_failure_at_end(1009);
}

void the_count_of_fragments_does_not_wrap(void **) {
    limits.bookkeeping = UINT64_MAX;
    put_frame(0x00, "a");
    put_frame(0x00, "b");
    ws_parser p = {};
    p.opcode = ws_binary;
    p.fragments = UINT32_MAX - 1;
    uint64_t received = 1;
    ws_bytes data = {in.bytes, in.bytes + in.size};
    for (int i = 0; i < 2; i++) {
        assert_int_equal(ws_parse(&p, &limits, &received, &data).type, ws_event_type::data);
        assert_int_equal(p.fragments, UINT32_MAX);
    }
}

// `received` grows with what was handed out and begins anew with each message.
void received_counts_the_message(void **) {
    put_frame(0x01, "abc");
    put_frame(0x80, "de");
    put_frame(0x82, "x");
    ws_parser p = {};
    uint64_t received = 0;
    ws_bytes data = {in.bytes, in.bytes + in.size};
    for (uint64_t expected : {3u, 5u, 1u}) {
        assert_int_equal(ws_parse(&p, &limits, &received, &data).type, ws_event_type::data);
        assert_int_equal(received, expected);
    }
    assert_int_equal(ws_parse(&p, &limits, &received, &data).type, ws_event_type::more);
    assert_ptr_equal(data.begin, data.end);
}

// A whole message is one event whose view lies in the caller's bytes, behind the header: nothing is copied.
void a_whole_message_is_one_view(void **) {
    put_frame(0x81, "first");
    put_frame(0x81, "second");
    ws_parser p = {};
    uint64_t received = 0;
    ws_bytes data = {in.bytes, in.bytes + in.size};
    ws_event e = ws_parse(&p, &limits, &received, &data);
    assert_true(e.first && e.last);
    assert_ptr_equal(e.payload.data(), in.bytes + 6);
    assert_int_equal(e.payload.size(), 5);
    assert_ptr_equal(data.begin, in.bytes + 11);
    e = ws_parse(&p, &limits, &received, &data);
    assert_ptr_equal(e.payload.data(), in.bytes + 17);
    assert_memory_equal(in.bytes + 6, "first", 5);
    assert_memory_equal(in.bytes + 17, "second", 6);
}

// 5.1, 5.2: a server's frames MUST NOT be masked; lengths in their shortest form. 5.7: 256 bytes and 64 KiB.
void headers_written(void **) {
    static const struct {
        uint8_t opcode;
        uint64_t n;
        const char *bytes;
        size_t size;
    } cases[] = {{ws_text, 5, "\x81\x05", 2},
                 {ws_ping, 0, "\x89\x00", 2},
                 {ws_pong, 125, "\x8a\x7d", 2},
                 {ws_close, 2, "\x88\x02", 2},
                 {ws_binary, 126, "\x82\x7e\x00\x7e", 4},
                 {ws_binary, 256, "\x82\x7e\x01\x00", 4},
                 {ws_text, 65535, "\x81\x7e\xff\xff", 4},
                 {ws_binary, 65536, "\x82\x7f\x00\x00\x00\x00\x00\x01\x00\x00", 10},
                 {ws_binary, 0x0123456789abcdef, "\x82\x7f\x01\x23\x45\x67\x89\xab\xcd\xef", 10}};
    for (const auto &c : cases) {
        char out[10];
        assert_int_equal(ws_write_header(c.opcode, c.n, out), c.size);
        assert_memory_equal(out, c.bytes, c.size);
    }
}

} // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test_setup(examples_of_the_rfc, setup),
        cmocka_unit_test_setup(unmasked_frames_fail, setup),
        cmocka_unit_test_setup(reserved_bits_fail, setup),
        cmocka_unit_test_setup(reserved_opcodes_fail, setup),
        cmocka_unit_test_setup(lengths, setup),
        cmocka_unit_test_setup(lengths_not_in_their_shortest_form_fail, setup),
        cmocka_unit_test_setup(huge_lengths_fail_from_the_header_alone, setup),
        cmocka_unit_test_setup(keys, setup),
        cmocka_unit_test_setup(unmask_any_size_place_and_rotation, setup),
        cmocka_unit_test_setup(fragments, setup),
        cmocka_unit_test_setup(control_frames_between_fragments, setup),
        cmocka_unit_test_setup(empty_frames, setup),
        cmocka_unit_test_setup(continuation_without_a_message_fails, setup),
        cmocka_unit_test_setup(a_message_inside_a_message_fails, setup),
        cmocka_unit_test_setup(control_frames_are_short_and_whole, setup),
        cmocka_unit_test_setup(an_unfinished_control_frame_is_left_over, setup),
        cmocka_unit_test_setup(close_frames, setup),
        cmocka_unit_test_setup(close_codes, setup),
        cmocka_unit_test_setup(text_is_utf8, setup),
        cmocka_unit_test_setup(text_that_ends_inside_a_character_fails, setup),
        cmocka_unit_test_setup(bad_text_fails_at_the_bad_byte, setup),
        cmocka_unit_test_setup(messages_above_the_limit_fail_from_the_header, setup),
        cmocka_unit_test_setup(control_frames_do_not_touch_the_limit, setup),
        cmocka_unit_test_setup(a_limit_may_shrink_inside_a_message, setup),
        cmocka_unit_test_setup(received_and_length_do_not_wrap, setup),
        cmocka_unit_test_setup(fragments_are_charged, setup),
        cmocka_unit_test_setup(the_count_of_fragments_does_not_wrap, setup),
        cmocka_unit_test_setup(received_counts_the_message, setup),
        cmocka_unit_test_setup(a_whole_message_is_one_view, setup),
        cmocka_unit_test_setup(headers_written, setup),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
