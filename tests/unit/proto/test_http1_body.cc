// Tests of proto/http1_body: every case runs in one piece, byte by byte and in pieces of other sizes, and must end the
// same.
//
// One thread.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
extern "C" {
#include <cmocka.h>
}

#include "proto/http1_body.h"

#include <string>

using namespace belfry;
using std::string;

namespace {

http1_body body;
buffer out;

int clear(void **) {
    http1_body_free(&body);
    buffer_free(&out);
    return 0;
}

struct outcome {
    http1_body_event event;
    string content, rest, why, trailers;
    bool operator==(const outcome &) const = default;
};

// Feeds `bytes` in pieces of that size.
outcome feed(http1_body_kind kind, uint64_t length, const string &bytes, size_t piece_size) {
    outcome o = {http1_body_event::more, "", "", "", ""};
    http1_body_start(&body, kind, length);
    size_t at = 0;
    while (o.event == http1_body_event::more) {
        const string piece = bytes.substr(at, piece_size);
        at += piece.size();
        view rest = piece;
        const char *why = nullptr;
        do {
            view data;
            o.event = http1_body_next(&body, &rest, &data, &why);
            assert_int_equal(o.event == http1_body_event::data, !data.empty());
            o.content += data;
        } while (o.event == http1_body_event::data);
        o.why = why;
        o.rest = string(rest) + bytes.substr(at);
        if (o.event == http1_body_event::more) assert_true(rest.empty());
        if (piece.empty()) break;
    }
    if (o.event == http1_body_event::end) o.trailers = http1_body_trailers(&body);
    if (o.event == http1_body_event::failed) o.rest.clear(); // of no use to anybody
    // What happened once stays.
    view rest = "5\r\nhello\r\n";
    view data;
    const char *why = nullptr;
    if (o.event != http1_body_event::more) {
        assert_int_equal(http1_body_next(&body, &rest, &data, &why), o.event);
        assert_int_equal(rest.size(), 10);
        assert_string_equal(why, o.why.c_str());
    }
    return o;
}

outcome run(http1_body_kind kind, uint64_t length, const string &bytes) {
    const outcome whole = feed(kind, length, bytes, bytes.size() + 1);
    for (const size_t size : {1u, 2u, 3u, 7u}) {
        if (!(feed(kind, length, bytes, size) == whole))
            fail_msg("another outcome in pieces of %zu: %s", size, bytes.c_str());
    }
    return whole;
}

void expect_end(const outcome &o, const char *content, const char *rest) {
    assert_int_equal(o.event, http1_body_event::end);
    assert_string_equal(o.content.c_str(), content);
    assert_string_equal(o.rest.c_str(), rest);
    assert_string_equal(o.why.c_str(), "");
}

outcome chunked(const string &bytes) {
    return run(http1_body_kind::chunked, 99, bytes);
}

void expect_chunked(const string &bytes, const char *content) {
    expect_end(chunked(bytes + "GET /"), content, "GET /");
}

void expect_failed(const string &bytes) {
    const outcome o = chunked(bytes);
    if (o.event != http1_body_event::failed || o.why.empty()) fail_msg("not refused: %s", bytes.c_str());
}

void expect_more(const string &bytes) {
    if (chunked(bytes).event != http1_body_event::more) fail_msg("no wait for more: %s", bytes.c_str());
}

// ---- kinds

http1_body_kind kind_of_request(const string &fields) {
    const string head = "POST / HTTP/1.1\r\nHost: a\r\n" + fields + "\r\n";
    http1_scan scan = {};
    http1_request r;
    const char *why;
    assert_int_equal(http1_parse_request(head, &scan, &r, &why), http1_result::complete);
    return http1_request_body_kind(&r);
}

http1_body_kind kind_of_response(const string &status, const string &fields, view method) {
    const string head = "HTTP/1.1 " + status + " \r\n" + fields + "\r\n";
    http1_scan scan = {};
    http1_response r;
    const char *why;
    assert_int_equal(http1_parse_response(head, &scan, &r, &why), http1_result::complete);
    return http1_response_body_kind(&r, method);
}

void test_kinds(void **) {
    assert_int_equal(kind_of_request(""), http1_body_kind::none);
    assert_int_equal(kind_of_request("Content-Length: 0\r\n"), http1_body_kind::length);
    assert_int_equal(kind_of_request("Transfer-Encoding: chunked\r\n"), http1_body_kind::chunked);
    const string length = "Content-Length: 5\r\n";
    const string chunks = "Transfer-Encoding: chunked\r\n";
    assert_int_equal(kind_of_response("200", "", "GET"), http1_body_kind::until_close);
    assert_int_equal(kind_of_response("200", length, "GET"), http1_body_kind::length);
    assert_int_equal(kind_of_response("500", chunks, "POST"), http1_body_kind::chunked);
    assert_int_equal(kind_of_response("205", "", "POST"), http1_body_kind::until_close);
    for (const string &fields : {length, chunks, string()}) {
        for (const char *status : {"100", "101", "103", "199", "204", "304"}) {
            assert_int_equal(kind_of_response(status, fields, "GET"), http1_body_kind::none);
        }
        assert_int_equal(kind_of_response("200", fields, "HEAD"), http1_body_kind::none);
        assert_int_equal(kind_of_response("299", fields, "CONNECT"), http1_body_kind::none);
    }
    assert_int_equal(kind_of_response("200", length, "head"), http1_body_kind::length); // case matters
    assert_int_equal(kind_of_response("403", length, "CONNECT"), http1_body_kind::length);

    assert_int_equal(http1_client_body_kind(http1_body_kind::none, true), http1_body_kind::none);
    assert_int_equal(http1_client_body_kind(http1_body_kind::length, false), http1_body_kind::length);
    for (const auto kind : {http1_body_kind::chunked, http1_body_kind::until_close}) {
        assert_int_equal(http1_client_body_kind(kind, true), http1_body_kind::chunked);
        assert_int_equal(http1_client_body_kind(kind, false), http1_body_kind::until_close);
    }
}

void test_none_and_length(void **) {
    expect_end(run(http1_body_kind::none, 7, "GET /"), "", "GET /");
    expect_end(run(http1_body_kind::length, 0, "GET /"), "", "GET /");
    expect_end(run(http1_body_kind::length, 5, "helloGET /"), "hello", "GET /");
    const outcome part = run(http1_body_kind::length, 6, "hello");
    assert_int_equal(part.event, http1_body_event::more);
    assert_string_equal(part.content.c_str(), "hello");
    assert_int_equal(run(http1_body_kind::length, UINT64_MAX, "hello").event, http1_body_event::more);
    // A body whose last byte came is over, without another byte behind it.
    assert_int_equal(feed(http1_body_kind::length, 5, "hello", 5).event, http1_body_event::end);
    http1_body zero = {};
    view rest = "x";
    view data;
    const char *why;
    assert_int_equal(http1_body_next(&zero, &rest, &data, &why), http1_body_event::end);
    assert_int_equal(rest.size(), 1);
}

void test_slices_are_no_copies(void **) {
    const string bytes = "5\r\nhello\r\n0\r\n\r\n";
    view rest = bytes;
    view data;
    const char *why;
    http1_body_start(&body, http1_body_kind::chunked, 0);
    assert_int_equal(http1_body_next(&body, &rest, &data, &why), http1_body_event::data);
    assert_ptr_equal(data.data(), bytes.data() + 3);
    assert_int_equal(data.size(), 5);
    assert_int_equal(http1_body_next(&body, &rest, &data, &why), http1_body_event::end);
    assert_null(body.trailers.data); // no trailers, no allocation
}

void test_end_of_connection(void **) {
    const char *why = nullptr;
    const auto eof = [&](http1_body_kind kind, uint64_t length, const string &bytes) {
        (void)feed(kind, length, bytes, 3);
        const http1_body_event event = http1_body_eof(&body, &why);
        assert_int_equal(event == http1_body_event::failed, why[0] != '\0');
        view rest = "more";
        view data;
        assert_int_equal(http1_body_next(&body, &rest, &data, &why), event); // and it stays so
        return event;
    };
    assert_int_equal(eof(http1_body_kind::until_close, 0, "hello"), http1_body_event::end);
    assert_int_equal(eof(http1_body_kind::until_close, 0, ""), http1_body_event::end);
    assert_int_equal(eof(http1_body_kind::none, 0, ""), http1_body_event::end);
    assert_int_equal(eof(http1_body_kind::length, 5, "hello"), http1_body_event::end);
    assert_int_equal(eof(http1_body_kind::length, 6, "hello"), http1_body_event::failed);
    assert_string_equal(why, "the body was cut short");
    const string whole = "5\r\nhello\r\n0\r\nA: b\r\n\r\n";
    assert_int_equal(eof(http1_body_kind::chunked, 0, whole), http1_body_event::end);
    for (size_t n = 0; n < whole.size(); n++) {
        assert_int_equal(eof(http1_body_kind::chunked, 0, whole.substr(0, n)), http1_body_event::failed);
    }
    assert_int_equal(eof(http1_body_kind::chunked, 0, "x"), http1_body_event::failed);
    assert_string_equal(why, "a chunk does not begin with its size"); // the first reason stays
}

// ---- chunks

void test_chunks(void **) {
    expect_chunked("0\r\n\r\n", "");
    expect_chunked("5\r\nhello\r\n0\r\n\r\n", "hello");
    expect_chunked("1\r\na\r\n0A\r\n0123456789\r\n00002\r\nbc\r\n000\r\n\r\n", "a0123456789bc");
    expect_chunked("a\r\n0123456789\r\n0\r\n\r\n", "0123456789");
    expect_chunked("4\r\n\r\n\r\n\r\n0\r\n\r\n", "\r\n\r\n");
    expect_chunked("0000000000000001\r\na\r\n0000000000000000\r\n\r\n", "a");
    expect_more("ffffffffffffffff\r\nhello");
    expect_more("5\r\nhello\r\n0\r\n\r");
    expect_more("");
}

void test_vulnerability_25_chunk_sizes(void **) {
    for (const char *size : {"00000000000000001",
                             "10000000000000000",
                             "fffffffffffffffff",
                             "-5",
                             "+5",
                             "0x5",
                             "5h",
                             "x",
                             " 5",
                             "\t5",
                             "5 ",
                             "5\t",
                             "5 ;a",
                             "",
                             ";a",
                             "5,",
                             "5.0",
                             "\"5\"",
                             "5\v",
                             "5\f",
                             "g",
                             "\xd9\xa5"}) {
        expect_failed(string(size) + "\r\nhello\r\n0\r\n\r\n");
    }
    const string nul("5\0\r\nhello\r\n0\r\n\r\n", 16);
    expect_failed(nul);
}

void test_vulnerability_26_line_ends(void **) {
    expect_failed("5\nhello\r\n0\r\n\r\n");
    expect_failed("5\rhello\r\n0\r\n\r\n");
    expect_failed("5\rXhello\r\n0\r\n\r\n");
    expect_failed("5\r\nhello\r\n0\rX\r\n");
    expect_failed("5\r\r\nhello\r\n0\r\n\r\n");
    expect_failed("5;a\nhello\r\n0\r\n\r\n");
    expect_failed("5;a=\"\n\"\r\nhello\r\n0\r\n\r\n");
    expect_failed("5;a=\"\\\n\"\r\nhello\r\n0\r\n\r\n");
    expect_failed("5;a=\"\r\n0\r\n\r\nGET /evil HTTP/1.1\r\n\"\r\nhello");
    expect_failed("5\r\nhello\n0\r\n\r\n");
    expect_failed("5\r\nhelloXX0\r\n\r\n");
    expect_failed("5\r\nhello\rX0\r\n\r\n");
    expect_failed("5\r\nhello0\r\n\r\n");
    expect_failed("5\r\nhell\r\n0\r\n\r\n");
    expect_failed("0\n\r\n");
    expect_failed("0\r\n\n");
    expect_failed("0\r\n\rX");
    expect_failed("\r\n0\r\n\r\n");
}

void test_extensions(void **) {
    for (const char *extension : {";a", ";a=b", ";a=\"b c;\\\"\t\xe9\";d", ";a;b=1;c=\"\"", ";!#$=~", ";a=\"\\\\\""}) {
        expect_chunked("5" + string(extension) + "\r\nhello\r\n0" + extension + "\r\n\r\n", "hello");
    }
    for (const char *extension :
         {";", ";;", ";a=", ";=b", "; a", ";a ", ";a =b", ";a= b", ";a=b c", ";a=\"b", ";a=\"b\"c", ";a=b=c",
          ";a=b\"c\"", ";\"a\"", ";a=\"\x01\"", ";a=\"\x7f\"", ";a,b", ";a=\"\\\x01\""}) {
        expect_failed("5" + string(extension) + "\r\nhello\r\n0\r\n\r\n");
    }
    const string longest = "5;" + string(http1_chunk_line_max - 4, 'a') + "\r\n";
    assert_int_equal(longest.size(), http1_chunk_line_max);
    expect_chunked(longest + "hello\r\n" + longest.substr(0, 1) + ";b\r\nhello\r\n0\r\n\r\n", "hellohello");
    expect_failed("5;" + string(http1_chunk_line_max - 3, 'a') + "\r\nhello\r\n0\r\n\r\n");
    expect_failed("5;" + string(http1_chunk_line_max, 'a')); // without waiting for the line's end
    expect_failed("5;a=\"" + string(http1_chunk_line_max, 'a'));
}

// ---- trailers

void expect_trailers(const string &trailers, const char *want) {
    const outcome o = chunked("2\r\nhi\r\n0\r\n" + trailers + "\r\nGET /");
    expect_end(o, "hi", "GET /");
    assert_string_equal(o.trailers.c_str(), want);
}

void test_trailers(void **) {
    expect_trailers("", "");
    expect_trailers("A:b\r\n", "A: b\r\n");
    expect_trailers("Server-Timing: \t x;dur=1 \r\nDigest:\r\nx-Sum: \xe9 1\r\n",
                    "Server-Timing: x;dur=1\r\nDigest: \r\nx-Sum: \xe9 1\r\n");
    expect_trailers("A: 1\r\nContent-Length: 5\r\nB: 2\r\nhost: evil\r\n", "A: 1\r\nB: 2\r\n");
    for (const char *name : {"Transfer-Encoding",
                             "Content-Length",
                             "Content-Type",
                             "Content-Anything",
                             "Host",
                             "Connection",
                             "Keep-Alive",
                             "Upgrade",
                             "TE",
                             "Trailer",
                             "Expect",
                             "Authorization",
                             "Proxy-Authorization",
                             "WWW-Authenticate",
                             "Cookie",
                             "Set-Cookie",
                             "Cache-Control",
                             "If-None-Match",
                             "Range",
                             "Max-Forwards",
                             "Age",
                             "Date",
                             "Expires",
                             "Location",
                             "Retry-After",
                             "Vary",
                             "Warning",
                             "X-Forwarded-For",
                             "Forwarded",
                             "X-Real-IP",
                             "Origin",
                             "X-Request-Id",
                             "traceparent",
                             "Belfry-Publish",
                             "Sec-Fetch-Site",
                             "Content_Length",
                             "x_forwarded_for",
                             "HOST"}) {
        expect_trailers(string(name) + ": 1\r\n", "");
    }
    // What has been read before is gone.
    http1_body_start(&body, http1_body_kind::none, 0);
    assert_int_equal(http1_body_trailers(&body).size(), 0);
}

void test_bad_trailers(void **) {
    for (const char *trailers : {"A\r\n", "A : b\r\n", ": b\r\n", " A: b\r\n", "A: b\r\n c\r\n", "A: b\n",
                                 "A: b\rC: d\r\n", "A: \x01\r\n", "A b: c\r\n", "GET / HTTP/1.1\r\n", "A: b\r\n\n"}) {
        expect_failed("0\r\n" + string(trailers) + "\r\n");
    }
    expect_failed(string("0\r\nA: \0\r\n\r\n", 11));
}

void test_trailer_limits(void **) {
    string lines;
    for (size_t i = 0; i < http1_trailer_max; i++)
        lines += "Host: a\r\n"; // dropped ones count
    expect_trailers(lines, "");
    expect_failed("0\r\n" + lines + "A: b\r\n\r\n");
    const string longest = "A:" + string(http1_trailers_max - 6, 'x') + "\r\n";
    const outcome o = chunked("0\r\n" + longest + "\r\n");
    assert_int_equal(o.event, http1_body_event::end);
    assert_int_equal(o.trailers.size(), longest.size() + 1);
    expect_failed("0\r\nA:x" + longest.substr(2) + "\r\n");
    expect_failed("0\r\nA:" + string(http1_trailers_max, 'x')); // without waiting for the end
}

// ---- writing

void test_writing(void **) {
    char head[http1_chunk_head_size];
    assert_string_equal(string(head, http1_write_chunk_head(0x1a, head)).c_str(), "1a\r\n");
    assert_string_equal(string(head, http1_write_chunk_head(UINT64_MAX, head)).c_str(), "ffffffffffffffff\r\n");
    http1_write_last_chunk("", &out);
    http1_write_last_chunk("A: b\r\n", &out);
    assert_string_equal(string(buffer_view(&out)).c_str(), "0\r\n\r\n0\r\nA: b\r\n\r\n");
}

} // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(test_kinds),
        cmocka_unit_test_teardown(test_none_and_length, clear),
        cmocka_unit_test_teardown(test_slices_are_no_copies, clear),
        cmocka_unit_test_teardown(test_end_of_connection, clear),
        cmocka_unit_test_teardown(test_chunks, clear),
        cmocka_unit_test_teardown(test_vulnerability_25_chunk_sizes, clear),
        cmocka_unit_test_teardown(test_vulnerability_26_line_ends, clear),
        cmocka_unit_test_teardown(test_extensions, clear),
        cmocka_unit_test_teardown(test_trailers, clear),
        cmocka_unit_test_teardown(test_bad_trailers, clear),
        cmocka_unit_test_teardown(test_trailer_limits, clear),
        cmocka_unit_test_teardown(test_writing, clear),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
