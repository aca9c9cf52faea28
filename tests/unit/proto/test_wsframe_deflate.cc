// Tests of proto/wsframe where permessage-deflate is agreed on: RFC 7692 section 6, and what RFC 6455 still forbids.
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

using namespace belfry;

namespace {

int setup_deflate(void **state) {
    setup(state);
    limits.deflate = true;
    return 0;
}

// `expect` and its like begin the next stream with plain limits.
void expect_deflate(const char *events) {
    expect(events);
    limits.deflate = true;
}
void expect_deflate_failure_at_end(int code) {
    expect_failure_at_end(code);
    limits.deflate = true;
}

void rsv1_marks_messages(void **) {
    put_frame(0xc1, "a\xff"); // no text yet: nobody looks whether it is UTF-8
    expect_deflate("text*<a\\xff>");
    put_frame(0xc2, "a\xff");
    expect_deflate("binary*<a\\xff>");
    put_frame(0xc1, "");
    expect_deflate("text*<>");
}

// A client may send any message plain (section 6), and that one is looked at as before.
void plain_and_compressed_follow_each_other(void **) {
    put_frame(0x81, "plain");
    put_frame(0xc1, "packed\xc3");
    put_frame(0x81, "plain");
    put_frame(0xc2, "b");
    put_frame(0x82, "c");
    put_close(1000, "bye");
    expect_deflate("text<plain> text*<packed\\xc3> text<plain> binary*<b> binary<c> close(1000,bye)");
    put_frame(0xc1, "\xff");
    put_frame(0x81, "\xff");
    expect_deflate_failure_at_end(1007);
}

// 6.1: RSV1 on the first fragment is the message's; pings between them are their own.
void fragments(void **) {
    put_frame(0x41, "one");
    put_frame(0x89, "p");
    put_frame(0x00, "\xff\xff");
    put_frame(0x80, "two");
    put_frame(0x81, "plain");
    expect_deflate("text*<one ping(p) text*+\\xff\\xfftwo> text<plain>");
    put_frame(0x41, "");
    put_frame(0x80, "x");
    expect_deflate("text*<x>");
    put_frame(0x42, "");
    put_frame(0x00, "");
    put_frame(0x80, "");
    expect_deflate("binary*<>");
    put_frame(0x01, "plain");
    put_frame(0x80, "\xff"); // not compressed, whatever was agreed on
    expect_deflate("fail(1007)");
}

// 6.1: an endpoint MUST NOT set RSV1 of control frames and of frames that are not a message's first.
void rsv1_elsewhere_fails(void **) {
    for (int first : {0xc8, 0xc9, 0xca}) {
        put_byte(first);
        expect_deflate_failure_at_end(1002);
    }
    for (int message : {0x01, 0x41, 0x02, 0x42})
        for (int continuation : {0xc0, 0x40}) {
            put_frame(message, "a");
            put_byte(continuation);
            expect_deflate_failure_at_end(1002);
        }
    put_byte(0xc0); // and there is no message
    expect_deflate_failure_at_end(1002);
    put_frame(0x41, "a");
    put_byte(0xc1); // a new message inside one
    expect_deflate_failure_at_end(1002);
}

// RSV2 and RSV3 belong to nobody, also beside RSV1.
void other_reserved_bits_fail(void **) {
    for (int bits : {0x10, 0x20, 0x30, 0x50, 0x60, 0x70})
        for (int first : {0x81, 0x82, 0x01, 0x88, 0x89}) {
            put_byte(first | bits);
            expect_deflate_failure_at_end(1002);
        }
    for (int opcode : {0x3, 0x7, 0xb, 0xf}) {
        put_byte(0xc0 | opcode);
        expect_deflate_failure_at_end(1002);
    }
}

void not_agreed_on(void **) {
    for (int first : {0xc1, 0xc2, 0x41, 0xc9}) {
        put_byte(first);
        limits.deflate = false;
        expect_deflate_failure_at_end(1002);
    }
}

// Compressed bytes count for the limit, with a little more than what the message may have when it is inflated.
void the_limit_of_compressed_bytes(void **) {
    static char payload[2000];
    memset(payload, 'x', sizeof payload);
    constexpr size_t most = 1000, slack = 126;
    static_assert(ws_deflate_slack(most) == slack);
    limits.message = most;
    put_frame(0xc1, view(payload, most + slack));
    assert_string_equal(run(in.size, 1), "text*<1126 bytes>");
    in.size = 0;
    put_frame(0xc1, view(payload, most + slack + 1));
    assert_string_equal(run(in.size, 1), "fail(1009)");
    in.size = 0;
    put_frame(0x41, view(payload, most));
    put_frame(0x80, view(payload, slack));
    assert_string_equal(run(in.size, 1), "text*<1126 bytes>");
    in.size = 0;
    put_frame(0x41, view(payload, most));
    put_frame(0x80, view(payload, slack + 1));
    assert_string_equal(run(in.size, 1), "fail(1009)");
    in.size = 0;
    put_frame(0x81, view(payload, most + 1)); // a plain message has no more than before
    assert_string_equal(run(in.size, 1), "fail(1009)");
    in.size = 0;
    put_frame(0xc1, "a");
    put_frame(0x81, view(payload, most + 1)); // also behind a compressed one
    assert_string_equal(run(in.size, 1), "text*<a> fail(1009)");
}

void limits_do_not_wrap(void **) {
    limits.message = UINT64_MAX;
    put_frame(0xc1, "a");
    assert_string_equal(run(in.size, 1), "text*<a>");
    in.size = 0;
    put_byte(0xc2);
    put_byte(0xff);
    put({"\x7f\xff\xff\xff\xff\xff\xff\xff", 8});
    assert_string_equal(run(in.size, 1), "rest(10)"); // no payload yet, and no failure
}

void header_with_rsv1(void **) {
    char out[10];
    assert_int_equal(ws_write_header(ws_text | ws_rsv1, 5, out), 2);
    assert_memory_equal(out, "\xc1\x05", 2);
    assert_int_equal(ws_write_header(ws_binary | ws_rsv1, 300, out), 4);
    assert_memory_equal(out, "\xc2\x7e\x01\x2c", 4);
}

} // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test_setup(rsv1_marks_messages, setup_deflate),
        cmocka_unit_test_setup(plain_and_compressed_follow_each_other, setup_deflate),
        cmocka_unit_test_setup(fragments, setup_deflate),
        cmocka_unit_test_setup(rsv1_elsewhere_fails, setup_deflate),
        cmocka_unit_test_setup(other_reserved_bits_fail, setup_deflate),
        cmocka_unit_test_setup(not_agreed_on, setup_deflate),
        cmocka_unit_test_setup(the_limit_of_compressed_bytes, setup_deflate),
        cmocka_unit_test_setup(limits_do_not_wrap, setup_deflate),
        cmocka_unit_test_setup(header_with_rsv1, setup_deflate),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
