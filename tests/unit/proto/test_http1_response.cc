// Tests of proto/http1_response: every case runs twice, in one piece and byte by byte, and must end the same.
//
// One thread.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
extern "C" {
#include <cmocka.h>
}

#include "proto/http1.h"

#include <string>

using namespace belfry;
using std::string;

namespace {

string held; // what `response` points into
http1_response response;
const char *why;

#define ASSERT_VIEW(got, want) assert_string_equal(string(got).c_str(), want)

http1_result parse_by_byte(const string &bytes, size_t *used) {
    http1_scan scan = {};
    http1_result result = http1_result::incomplete;
    for (*used = 0; *used < bytes.size() && result == http1_result::incomplete;) {
        const string piece = bytes.substr(0, ++*used); // another address each time
        result = http1_parse_response(piece, &scan, &response, &why);
    }
    return result;
}

http1_result parse(const string &bytes) {
    size_t used = 0;
    const http1_result by_byte = parse_by_byte(bytes, &used);
    const string by_byte_why = why;
    held = bytes;
    http1_scan scan = {};
    const http1_result whole = http1_parse_response(held, &scan, &response, &why);
    if (by_byte != whole || by_byte_why != why) {
        fail_msg("whole: %d %s, byte by byte: %d %s, for: %s", static_cast<int>(whole), why, static_cast<int>(by_byte),
                 by_byte_why.c_str(), bytes.c_str());
    }
    return whole;
}

void expect(const string &bytes, http1_result want) {
    const http1_result got = parse(bytes);
    if (got != want) {
        fail_msg("got %d (%s), not %d, for: %s", static_cast<int>(got), why, static_cast<int>(want), bytes.c_str());
    }
    if ((static_cast<int>(want) >= 400) != (why[0] != '\0')) fail_msg("why is \"%s\" for: %s", why, bytes.c_str());
}

void expect_bad(const string &bytes) {
    expect(bytes, http1_result::bad_request);
}

string with_line(const string &line) {
    return line + "\r\nServer: a\r\n\r\n";
}

string with_fields(const string &fields) {
    return "HTTP/1.1 200 OK\r\n" + fields + "\r\n\r\n";
}

void test_whole_response(void **) {
    const string bytes =
        "HTTP/1.1 404 Not  Found\xe9\r\nContent-Length: 4\r\nX-Empty:\r\nset-cookie: \t a=b; c \t\r\n\r\n";
    expect(bytes + "body", http1_result::complete);
    assert_int_equal(response.status, 404);
    ASSERT_VIEW(response.reason, "Not  Found\xe9");
    assert_int_equal(response.minor_version, 1);
    assert_true(response.keep_alive);
    assert_true(response.has_content_length);
    assert_int_equal(response.content_length, 4);
    assert_false(response.chunked);
    assert_int_equal(response.head_size, bytes.size());
    assert_int_equal(response.field_count, 3);
    ASSERT_VIEW(response.fields[1].value, "");
    ASSERT_VIEW(response.fields[2].name, "set-cookie");
    ASSERT_VIEW(response.fields[2].value, "a=b; c");
    assert_ptr_equal(response.reason.data(), held.data() + 13); // a view, no copy
}

void test_every_prefix_is_incomplete(void **) {
    const string bytes = "HTTP/1.1 100 \r\nA: b\r\n\r\n";
    size_t used = 0;
    assert_int_equal(parse_by_byte(bytes + "HTTP/1.1 200 OK", &used), http1_result::complete);
    assert_int_equal(used, bytes.size());
    assert_int_equal(response.status, 100);
    ASSERT_VIEW(response.reason, "");
    for (size_t n = 0; n < bytes.size(); n++) {
        http1_scan scan = {};
        assert_int_equal(http1_parse_response(view(bytes).substr(0, n), &scan, &response, &why),
                         http1_result::incomplete);
    }
}

void test_status_lines(void **) {
    expect(with_line("HTTP/1.0 599 "), http1_result::complete);
    assert_int_equal(response.minor_version, 0);
    assert_int_equal(response.status, 599);
    expect(with_line("HTTP/1.7 101 \t"), http1_result::complete);
    assert_int_equal(response.minor_version, 1);
    for (const char *line : {"HTTP/1.1 200",
                             "HTTP/1.1 20 OK",
                             "HTTP/1.1 2000 OK",
                             "HTTP/1.1  200 OK",
                             "HTTP/1.1\t200 OK",
                             "HTTP/1.1200 OK",
                             "HTTP/1.1 200\tOK",
                             "HTTP/1.1 099 OK",
                             "HTTP/1.1 600 OK",
                             "HTTP/1.1 000 OK",
                             "HTTP/1.1 2x0 OK",
                             "HTTP/1.1 -20 OK",
                             "HTTP/1.1 +20 OK",
                             "HTTP/1. 200 OK",
                             "HTTP/1 200 OK",
                             "HTTP/1.10 200 OK",
                             "http/1.1 200 OK",
                             "HTTP/1.1",
                             "HTTP/",
                             "HTTP/x.1 200 OK",
                             " HTTP/1.1 200 OK",
                             "ICY 200 OK"}) {
        expect_bad(with_line(line));
    }
    expect(with_line("HTTP/2.0 200 OK"), http1_result::version_not_supported);
    expect(with_line("HTTP/0.9 200 OK"), http1_result::version_not_supported);
}

void test_other_protocols_are_seen_at_once(void **) {
    size_t used = 0;
    // HTTP/0.9, Redis, TLS, SSH, an empty line in front
    for (const char *bytes : {"<html>", "-ERR", "\x16\x03\x01", "SSH-2.0", "\r\nHTTP/1.1 200 OK", "\nHTTP"}) {
        assert_int_equal(parse_by_byte(bytes, &used), http1_result::bad_request);
        assert_int_equal(used, 1);
        expect_bad(bytes);
    }
    assert_int_equal(parse_by_byte("HTTQ/1.1", &used), http1_result::bad_request);
    assert_int_equal(used, 4);
}

void test_bytes(void **) {
    expect_bad(string("HTTP/1.1 200 O\0K\r\n\r\n", 20));
    expect_bad(string("HTTP/1.1 200 OK\r\nA: \0\r\n\r\n", 24));
    for (const char *bytes :
         {"HTTP/1.1 200 OK\nA: b\r\n\r\n", "HTTP/1.1 200 OK\r\nA: b\n\n", "HTTP/1.1 200 OK\rA: b\r\n\r\n",
          "HTTP/1.1 200 OK\r\n A: b\r\n\r\n", "HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n", "HTTP/1.1 200 \x7f\r\n\r\n"}) {
        expect_bad(bytes);
    }
    for (const char *field : {"A", "A : b", ": b", "A b: c", "(A): b", "A: \x01", "A: b\x7f"}) {
        expect_bad(with_fields(field));
    }
}

void test_framing(void **) {
    expect(with_fields("Transfer-Encoding: Chunked"), http1_result::complete);
    assert_true(response.chunked);
    expect(with_fields("Content-Length: 18446744073709551615"), http1_result::complete);
    assert_true(response.content_length == UINT64_MAX);
    for (const char *fields :
         {"Content-Length: 5\r\nTransfer-Encoding: chunked", "Content-Length: 5\r\nContent-Length: 5",
          "Content-Length: 5, 5", "Content-Length:", "Content-Length: +5", "Content-Length: -1", "Content-Length: 0x5",
          "Content-Length: 5 5", "Content-Length: 18446744073709551616", "Transfer-Encoding: gzip, chunked",
          "Transfer-Encoding: identity", "Transfer-Encoding:", "Transfer-Encoding: chunked, chunked",
          "Transfer-Encoding: xchunked", "Transfer-Encoding: \"chunked\"",
          "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"}) {
        expect_bad(with_fields(fields));
    }
    expect_bad("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
}

void test_limits(void **) {
    string fields = "A: b";
    for (size_t i = 1; i < http1_field_max; i++)
        fields += "\r\nA: b";
    expect(with_fields(fields), http1_result::complete);
    assert_int_equal(response.field_count, http1_field_max);
    expect(with_fields(fields + "\r\nA: b"), http1_result::head_too_large);
    const size_t around = with_fields("A: ").size();
    expect(with_fields("A: " + string(http1_head_max - around, 'x')), http1_result::complete);
    expect(with_fields("A: " + string(http1_head_max - around + 1, 'x')), http1_result::head_too_large);
    // A reason phrase has no limit of its own, as a request's target does.
    expect(with_line("HTTP/1.1 200 " + string(http1_target_max + 100, 'x')), http1_result::complete);
}

void test_keep_alive_and_lookups(void **) {
    expect("HTTP/1.0 200 OK\r\n\r\n", http1_result::complete);
    assert_false(response.keep_alive);
    expect("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\n", http1_result::complete);
    assert_true(response.keep_alive);
    expect(with_fields("Connection: x\r\nConnection: y, Close\r\nA: 1\r\na: 2\r\nB: 3"), http1_result::complete);
    assert_false(response.keep_alive);
    assert_true(http1_list_has(&response, "connection", "Y"));
    assert_false(http1_list_has(&response, "connection", "z"));
    size_t count = 0;
    assert_null(http1_find(&response, "A", &count));
    assert_int_equal(count, 2);
    ASSERT_VIEW(http1_find(&response, "b", &count)->value, "3");
}

} // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(test_whole_response), cmocka_unit_test(test_every_prefix_is_incomplete),
        cmocka_unit_test(test_status_lines),   cmocka_unit_test(test_other_protocols_are_seen_at_once),
        cmocka_unit_test(test_bytes),          cmocka_unit_test(test_framing),
        cmocka_unit_test(test_limits),         cmocka_unit_test(test_keep_alive_and_lookups),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
