// Tests of proto/http1: every case runs twice, in one piece and byte by byte, and must end the same.
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

string held; // what `request` points into
http1_request request;
const char *why;

#define ASSERT_VIEW(got, want)                                                                                         \
    do {                                                                                                               \
        const string got_text(got);                                                                                    \
        assert_string_equal(got_text.c_str(), want);                                                                   \
    } while (0)

http1_result parse_whole(const string &bytes) {
    held = bytes;
    http1_scan scan = {};
    return http1_parse_request(held, &scan, &request, &why);
}

// The result, and how many bytes it took.
http1_result parse_by_byte(const string &bytes, size_t *used) {
    http1_scan scan = {};
    http1_result result = http1_result::incomplete;
    for (*used = 0; *used < bytes.size() && result == http1_result::incomplete;) {
        const string piece = bytes.substr(0, ++*used); // another address each time
        result = http1_parse_request(piece, &scan, &request, &why);
    }
    return result;
}

http1_result parse(const string &bytes) {
    size_t used = 0;
    const http1_result by_byte = parse_by_byte(bytes, &used);
    const string by_byte_why = why;
    const http1_result whole = parse_whole(bytes);
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
    const bool refused = static_cast<int>(want) >= 400;
    if (refused != (why[0] != '\0')) fail_msg("why is \"%s\" for: %s", why, bytes.c_str());
}

void expect_ok(const string &bytes) {
    expect(bytes, http1_result::complete);
}
void expect_bad(const string &bytes) {
    expect(bytes, http1_result::bad_request);
}
// A head with this request line, or with this field beside what is needed.
string with_line(const string &line) {
    return line + "\r\nHost: a\r\n\r\n";
}
string with_fields(const string &fields) {
    return "GET / HTTP/1.1\r\nHost: a\r\n" + fields + "\r\n\r\n";
}
string post_with(const string &fields) {
    return "POST / HTTP/1.1\r\nHost: a\r\n" + fields + "\r\n\r\n";
}

// ---- what is accepted

void test_whole_request(void **) {
    const string bytes = "GET /ws/a?room=x?y HTTP/1.1\r\nHost: example.com:8443\r\nX-Empty:\r\n"
                         "x-Text: \t two words\t \r\nX-Latin: \xe9\r\n\r\nbody";
    assert_int_equal(parse_whole(bytes), http1_result::complete);
    ASSERT_VIEW(request.method, "GET");
    ASSERT_VIEW(request.target, "/ws/a?room=x?y");
    ASSERT_VIEW(request.path, "/ws/a");
    ASSERT_VIEW(request.query, "room=x?y");
    ASSERT_VIEW(request.authority, "example.com:8443");
    assert_int_equal(request.minor_version, 1);
    assert_true(request.keep_alive);
    assert_false(request.has_content_length);
    assert_false(request.chunked);
    assert_false(request.expect_continue);
    assert_int_equal(request.head_size, bytes.size() - 4);
    assert_int_equal(request.field_count, 4);
    ASSERT_VIEW(request.fields[1].name, "X-Empty");
    ASSERT_VIEW(request.fields[1].value, "");
    ASSERT_VIEW(request.fields[2].name, "x-Text");
    ASSERT_VIEW(request.fields[2].value, "two words");
    ASSERT_VIEW(request.fields[3].value, "\xe9");
    assert_ptr_equal(request.target.data(), held.data() + 4); // a view, no copy
    // Whoever waits for the body parses the head again when its bytes have moved.
    http1_scan scan = {};
    const string moved = bytes;
    assert_int_equal(http1_parse_request(moved.substr(0, 20), &scan, &request, &why), http1_result::incomplete);
    assert_int_equal(http1_parse_request(moved, &scan, &request, &why), http1_result::complete);
    assert_int_equal(http1_parse_request(moved, &scan, &request, &why), http1_result::complete);
    assert_ptr_equal(request.target.data(), moved.data() + 4);
}

void test_every_prefix_is_incomplete(void **) {
    const string bytes = "\r\nGET / HTTP/1.1\r\nHost: a\r\nCookie: b=c\r\n\r\n";
    size_t used = 0;
    assert_int_equal(parse_by_byte(bytes + "more", &used), http1_result::complete);
    assert_int_equal(used, bytes.size());
    assert_int_equal(request.head_size, bytes.size());
    for (size_t n = 0; n < bytes.size(); n++) {
        assert_int_equal(parse_whole(bytes.substr(0, n)), http1_result::incomplete);
    }
}

void test_one_empty_line_in_front(void **) {
    expect_ok("\r\n" + with_line("GET / HTTP/1.1"));
    ASSERT_VIEW(request.method, "GET");
    expect_bad("\r\n\r\n" + with_line("GET / HTTP/1.1"));
    expect_bad("\n" + with_line("GET / HTTP/1.1"));
    expect_bad("\rGET / HTTP/1.1\r\n\r\n");
}

void test_versions(void **) {
    expect_ok("GET / HTTP/1.0\r\n\r\n");
    assert_int_equal(request.minor_version, 0);
    ASSERT_VIEW(request.authority, "");
    expect_ok(with_line("GET / HTTP/1.9")); // RFC 9110 section 2.5
    assert_int_equal(request.minor_version, 1);
    expect("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", http1_result::version_not_supported);
    expect(with_line("GET / HTTP/0.9"), http1_result::version_not_supported);
    expect(with_line("GET / HTTP/3.0"), http1_result::version_not_supported);
    for (const char *line :
         {"GET /", "GET / ", "GET / HTTP/1", "GET / HTTP/1.", "GET / HTTP/1.10", "GET / HTTP/11.1", "GET / http/1.1",
          "GET / HTTP/1.1 ", "GET /  HTTP/1.1", "GET  / HTTP/1.1", "GET HTTP/1.1", "GET / HTTP/1,1", "GET / HTTP/x.1",
          "GET / HTTP/1.x", "GET / XHTTP/1.1", "GET\t/ HTTP/1.1", "GET /\tHTTP/1.1", "GET", "GET "}) {
        expect_bad(with_line(line));
    }
}

void test_keep_alive(void **) {
    const struct {
        const char *version, *connection;
        bool want;
    } cases[] = {
        {"1.1", "", true},
        {"1.1", "Connection: close\r\n", false},
        {"1.1", "Connection: close, upgrade\r\n", false},
        {"1.1", "Connection: Upgrade , CLOSE\r\n", false},
        {"1.1", "Connection: upgrade\r\nConnection: close\r\n", false},
        {"1.1", "Connection: close-not\r\n", true},
        {"1.1", "Connection: not close\r\n", true},
        {"1.1", "X-Connection: close\r\n", true},
        {"1.0", "", false},
        {"1.0", "Connection: Keep-Alive\r\n", true},
        {"1.0", "Connection: keep-alive, close\r\n", false},
        {"1.0", "Connection: keep-alives\r\n", false},
    };
    for (const auto &c : cases) {
        expect_ok(string("GET / HTTP/") + c.version + "\r\nHost: a\r\n" + c.connection + "\r\n");
        if (request.keep_alive != c.want) fail_msg("keep_alive of %s %s", c.version, c.connection);
    }
}

void test_absolute_form(void **) {
    const string full = "GET http://b.example:81/p/q?r HTTP/1.1\r\nHost: a\r\n\r\n";
    assert_int_equal(parse_whole(full), http1_result::complete);
    ASSERT_VIEW(request.authority, "b.example:81"); // wins over Host, RFC 9112 section 3.2.2
    ASSERT_VIEW(request.path, "/p/q");
    ASSERT_VIEW(request.query, "r");
    const string bare = "GET HTTPS://[::1] HTTP/1.1\r\nHost: a\r\n\r\n";
    assert_int_equal(parse_whole(bare), http1_result::complete);
    ASSERT_VIEW(request.authority, "[::1]");
    ASSERT_VIEW(request.path, "/");
    ASSERT_VIEW(request.query, "");
    const string query = "GET http://b?c/d HTTP/1.1\r\nHost: a\r\n\r\n";
    assert_int_equal(parse_whole(query), http1_result::complete);
    ASSERT_VIEW(request.authority, "b");
    ASSERT_VIEW(request.path, "/");
    ASSERT_VIEW(request.query, "c/d");
    for (const char *target :
         {"http:///p", "http://", "http://user@b/", "http://u:p@b/", "ftp://b/", "http:/b", "x://b/", "http//b/",
          "://b/", "http://b:99999/", "http://b:x/", "a.example", "p/q", "?q", ""}) {
        expect_bad(with_line(string("GET ") + target + " HTTP/1.1"));
    }
    expect_bad("GET http://b/ HTTP/1.1\r\n\r\n"); // Host is needed all the same
}

void test_other_target_forms(void **) {
    const string options = with_line("OPTIONS * HTTP/1.1");
    assert_int_equal(parse_whole(options), http1_result::complete);
    ASSERT_VIEW(request.path, "*");
    expect_bad(with_line("GET * HTTP/1.1"));
    expect_bad(with_line("OPTIONS ** HTTP/1.1"));
    const string connect = with_line("CONNECT b:443 HTTP/1.1");
    assert_int_equal(parse_whole(connect), http1_result::complete);
    ASSERT_VIEW(request.authority, "b:443");
    ASSERT_VIEW(request.path, "");
    for (const char *line : {"CONNECT / HTTP/1.1", "CONNECT b HTTP/1.1", "CONNECT b: HTTP/1.1", "CONNECT  HTTP/1.1",
                             "CONNECT http://b/ HTTP/1.1", "GET b:443 HTTP/1.1"}) {
        expect_bad(with_line(line));
    }
}

void test_host(void **) {
    for (const char *host :
         {"a", "a.example", "a.example:80", "a:", "127.0.0.1", "127.0.0.1:65535", "[::1]", "[::1]:80",
          "[2001:db8::1]:", "[::ffff:1.2.3.4]", "a_b", "xn--bcher-kva.example", "a%2Fb", "a%2F"}) {
        expect_ok(string("GET / HTTP/1.1\r\nHost: ") + host + "\r\n\r\n");
    }
    for (const char *host : {"",
                             ":80",
                             "a:b",
                             "a:80:80",
                             "a:65536",
                             "a:-1",
                             "a:+1",
                             "a:000080",
                             "a b",
                             "user@a",
                             "user:pass@a",
                             "a/b",
                             "a?b",
                             "a#b",
                             "http://a",
                             "a,b:1:2",
                             "::1",
                             "[::1",
                             "::1]",
                             "[]",
                             "[::1]a",
                             "[::1]80",
                             "[::1%25eth0]",
                             "[v1.x]",
                             "[1.2.3.4]",
                             "[:::1]",
                             "[1:2:3:4:5:6:7:8:9]",
                             "a%",
                             "a%2",
                             "a%2x",
                             "\"a\"",
                             "a\\b",
                             "\xc3\xa9",
                             "[0000:0000:0000:0000:0000:0000:0000:0000:0000:0000]"}) {
        expect_bad(string("GET / HTTP/1.1\r\nHost: ") + host + "\r\n\r\n");
        expect_bad(string("GET / HTTP/1.0\r\nHost: ") + host + "\r\n\r\n");
    }
    expect_bad("GET / HTTP/1.1\r\n\r\n");
    expect_bad("GET / HTTP/1.1\r\nX-Host: a\r\n\r\n");
    expect_bad("GET / HTTP/1.1\r\nHost: a\r\nhOST: a\r\n\r\n");
    expect_bad("GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n");
}

void test_body_fields(void **) {
    expect_ok(post_with("Content-Length: 18446744073709551615"));
    assert_true(request.has_content_length);
    assert_true(request.content_length == UINT64_MAX);
    expect_ok(post_with("content-length:0"));
    assert_true(request.has_content_length);
    assert_int_equal(request.content_length, 0);
    expect_ok(post_with("Transfer-Encoding: ChunkeD"));
    assert_true(request.chunked);
    assert_false(request.has_content_length);
    expect_ok(post_with("Expect: 100-Continue"));
    assert_true(request.expect_continue);
    expect_ok("POST / HTTP/1.0\r\nExpect: 100-continue\r\n\r\n");
    assert_false(request.expect_continue);
}

// ---- early refusals and limits

void test_refused_at_the_first_byte(void **) {
    size_t used = 0;
    for (const char first : {'\x16', '\0', ' ', '\t', '\n', '\x80', '(', ':', '/', '"'}) {
        assert_int_equal(parse_by_byte(string(1, first) + "\x03\x01 / HTTP/1.1\r\n\r\n", &used),
                         http1_result::bad_request);
        assert_int_equal(used, 1);
    }
    assert_int_equal(parse_by_byte("GE\x01", &used), http1_result::bad_request);
    assert_int_equal(used, 3);
    assert_int_equal(parse_by_byte(string(1000, 'A'), &used), http1_result::bad_request);
    assert_int_equal(used, 33);
    expect_ok(with_line(string(32, 'A') + " / HTTP/1.1"));
    expect_bad(with_line(string(33, 'A') + " / HTTP/1.1"));
}

void test_refused_at_once(void **) {
    const struct {
        const char *text;
        size_t used;
    } cases[] = {
        {"GET / HTTP/1.1\nHost: a", 15},
        {"GET / HTTP/1.1\rHost: a", 16},
        {"GET / HTTP/1.1\r\r\n", 16},
        {"GET / HTTP/1.1\r\n Host: a", 17},
        {"GET / HTTP/1.1\r\nA: b\r\n\tc", 23},
        {"GET /\x7f", 6},
        {"\r\n\r\n", 3},
        {"\r\n ", 3},
        {"\r\r", 2},
    };
    for (const auto &c : cases) {
        size_t used = 0;
        assert_int_equal(parse_by_byte(c.text, &used), http1_result::bad_request);
        assert_int_equal(used, c.used);
        expect_bad(c.text);
    }
}

void test_target_limit(void **) {
    const string longest = "/" + string(http1_target_max - 1, 'x');
    expect_ok(with_line("GET " + longest + " HTTP/1.1"));
    assert_int_equal(request.target.size(), http1_target_max);
    expect(with_line("GET " + longest + "x HTTP/1.1"), http1_result::target_too_long);
    size_t used = 0;
    assert_int_equal(parse_by_byte("\r\nGET " + longest + "xyz", &used), http1_result::target_too_long);
    assert_int_equal(used, 6 + http1_target_max + 1);
    expect("GET " + longest + "x\n", http1_result::target_too_long); // the earlier byte decides, not the later LF
    expect("GET /\n" + longest + "x", http1_result::bad_request);
    expect("GET /" + string(2 * http1_head_max, 'x'), http1_result::target_too_long);
}

void test_head_limit(void **) {
    const string start = "GET / HTTP/1.1\r\nHost: a\r\nX: ";
    const string fits = start + string(http1_head_max - start.size() - 4, 'x') + "\r\n\r\n";
    expect_ok(fits);
    assert_int_equal(request.head_size, http1_head_max);
    size_t used = 0;
    assert_int_equal(parse_by_byte(start + "x" + fits.substr(start.size()), &used), http1_result::head_too_large);
    assert_int_equal(used, http1_head_max);
    expect(start + "x" + fits.substr(start.size()), http1_result::head_too_large);
    expect(start + string(http1_head_max, 'x') + "\n", http1_result::head_too_large);
}

void test_vulnerability_13_many_fields(void **) {
    string fields = "GET / HTTP/1.1\r\nHost: a\r\n";
    for (size_t i = 1; i < http1_field_max; i++) {
        fields += "a:b\r\n";
    }
    expect_ok(fields + "\r\n");
    assert_int_equal(request.field_count, http1_field_max);
    expect(fields + "Upgrade: websocket\r\n\r\n", http1_result::head_too_large);
    string flood = "GET / HTTP/1.1\r\n";
    while (flood.size() < http1_head_max) {
        flood += "a:\r\n";
    }
    expect(flood, http1_result::head_too_large);
    expect(flood.substr(0, 4000) + "\r\n", http1_result::head_too_large);
}

// ---- the classes of reference holes, by their numbers

void test_vulnerability_21_names(void **) {
    for (const char *line : {":", ": b", ":b", " : b", "b", "b c: d", "b : c", "b\t: c", "b(: c", "b@c: d", "\"b\": c",
                             "b\xe9: c", "b/c: d", "[b]: c", "=", "Content-Length : 5", "Content-Length\t: 5"}) {
        expect_bad(with_fields(line));
    }
    // A name of 300 bytes stays 300 bytes: nothing is cut to eight bits.
    const string name = string(270, 'n') + "!#$%&'*+-.^_`|~0Zz";
    expect_ok(with_fields(name + ": v"));
    assert_int_equal(request.fields[1].name.size(), name.size());
    expect_ok(with_fields("a::b:"));
}

void test_vulnerability_22_fragment(void **) {
    for (const char *line : {"GET /a#b HTTP/1.1", "GET /# HTTP/1.1", "GET /a?b#c HTTP/1.1", "GET # HTTP/1.1",
                             "GET http://a/#b HTTP/1.1", "GET http://a#b/ HTTP/1.1"}) {
        expect_bad(with_line(line));
    }
    expect_ok(with_line("GET /a%23b HTTP/1.1"));
}

void test_vulnerability_23_transfer_encoding(void **) {
    for (const char *field : {"Transfer-Encoding: \x0b"
                              "chunked",
                              "Transfer-Encoding:\x0c"
                              "chunked",
                              "Transfer-Encoding: chunked\x0b",
                              "Transfer-Encoding: xchunked",
                              "Transfer-Encoding: chunked, chunked",
                              "Transfer-Encoding: gzip, chunked",
                              "Transfer-Encoding: identity",
                              "Transfer-Encoding: \"chunked\"",
                              "Transfer-Encoding: chunked;a=b",
                              "Transfer-Encoding:",
                              "Transfer-Encoding: ,chunked",
                              "Transfer-Encoding: chunked,",
                              "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
                              "Transfer-Encoding : chunked",
                              "Transfer-Encoding\r\n: chunked",
                              "Transfer-Encoding:\r\n chunked",
                              "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
                              "Content-Length:",
                              "Content-Length: ",
                              "Content-Length: +5",
                              "Content-Length: -5",
                              "Content-Length: 0x5",
                              "Content-Length: 5 5",
                              "Content-Length: 5,5",
                              "Content-Length: 5, 5",
                              "Content-Length: 5.0",
                              "Content-Length: 5a",
                              "Content-Length: 18446744073709551616",
                              "Content-Length: 000000000000000000005",
                              "Content-Length: 5\r\nContent-Length: 5",
                              "Content-Length: 5\r\ncontent-length: 6"}) {
        expect_bad(post_with(field));
    }
}

void test_vulnerability_24_lines(void **) {
    expect_bad(" GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    expect_bad("\r\n GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    expect_bad("GET / HTTP/1.1\r\n Host: a\r\n\r\n");
    expect_bad("GET / HTTP/1.1\r\n\tX: b\r\nHost: a\r\n\r\n");
    expect_bad("GET / HTTP/1.1\r\nHost: a\r\nX: b\r\n c\r\n\r\n");
    // No other way to end a head than CRLF CRLF.
    for (const char *end : {"\r\r", "\n\n", "\r\n\n", "\r\n\r\r", "\r\n\rX", "\r\n\r\r\n", "\n\r\n"}) {
        expect_bad(string("GET / HTTP/1.1\r\nHost: a") + end + "\r\n\r\n");
    }
    // Names that look alike are other names.
    expect_ok(post_with("Content_Length: 5\r\nTransfer.Encoding: chunked\r\nContent-Lengt: 5\r\nContent-Lengths: 5"));
    assert_false(request.has_content_length);
    assert_false(request.chunked);
}

void test_vulnerability_26_bare_line_ends(void **) {
    expect_bad("GET / HTTP/1.1\nHost: a\n\n");
    expect_bad("GET / HTTP/1.1\r\nHost: a\n\r\n");
    expect_bad("GET / HTTP/1.1\r\nHost: a\r\nX: b\nY: c\r\n\r\n");
    expect_bad("GET / HTTP/1.1\r\nHost: a\r\nX: b\rY: c\r\n\r\n");
    expect_bad("GET /\rHTTP/1.1\r\nHost: a\r\n\r\n");
}

void test_vulnerability_27_bytes_in_target(void **) {
    const string nul("GET /a \0.html HTTP/1.1\r\nHost: a\r\n\r\n", 35);
    expect_bad(nul);
    for (int byte = 0; byte < 256; byte++) {
        const bool fine = byte > 0x20 && byte < 0x7f && byte != '#';
        const http1_result want = fine ? http1_result::complete : http1_result::bad_request;
        expect("GET /a" + string(1, static_cast<char>(byte)) + "b HTTP/1.1\r\nHost: a\r\n\r\n", want);
        // In a field's value: everything but controls, HTAB being none.
        const bool value_fine = (byte >= 0x20 && byte != 0x7f) || byte == '\t';
        expect(with_fields("X: a" + string(1, static_cast<char>(byte)) + "b"),
               value_fine ? http1_result::complete : http1_result::bad_request);
    }
}

void test_vulnerability_28_framing(void **) {
    expect_bad(post_with("Content-Length: 5\r\nTransfer-Encoding: chunked"));
    assert_string_equal(why, "both Content-Length and Transfer-Encoding");
    expect_bad(post_with("Content-Length: 5\r\nContent-Length: 5"));
    assert_string_equal(why, "several Content-Length fields");
    expect_bad(post_with("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"));
    assert_string_equal(why, "several Transfer-Encoding fields");
    expect_bad(post_with("Transfer-Encoding: chunked\r\nContent-Length: 5"));
    expect_bad(post_with("Transfer-Encoding: chunked\r\nContent-Length: 0"));
    expect_bad("POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
}

// ---- the small functions

void test_find(void **) {
    const string bytes = with_fields("Origin: https://good\r\nX: 1\r\norigin: https://evil");
    assert_int_equal(parse_whole(bytes), http1_result::complete);
    size_t count = 9;
    assert_null(http1_find(&request, "Origin", &count)); // two: none of them counts
    assert_int_equal(count, 2);
    assert_null(http1_find(&request, "Orig", &count));
    assert_int_equal(count, 0);
    const http1_field *x = http1_find(&request, "x", nullptr);
    assert_non_null(x);
    ASSERT_VIEW(x->value, "1");
}

void test_lists(void **) {
    view rest = " , a,, \tb c\t ,,\"d\" ,";
    view element;
    for (const char *want : {"a", "b c", "\"d\""}) {
        assert_true(http1_next_element(&rest, &element));
        ASSERT_VIEW(element, want);
    }
    assert_false(http1_next_element(&rest, &element));
    assert_false(http1_next_element(&rest, &element));
    const string bytes = with_fields("A: b, C\r\nA: d e\r\nA:");
    assert_int_equal(parse_whole(bytes), http1_result::complete);
    assert_true(http1_list_has(&request, "a", "c"));
    assert_true(http1_list_has(&request, "a", "b"));
    assert_false(http1_list_has(&request, "a", "d"));
    assert_false(http1_list_has(&request, "a", ""));
    assert_false(http1_list_has(&request, "b", "b"));
}

void test_token(void **) {
    assert_false(http1_is_token(""));
    const string others = "!#$%&'*+-.^_`|~";
    for (int byte = 0; byte < 256; byte++) {
        const char c = static_cast<char>(byte);
        const bool alphanumeric = (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
        assert_int_equal(http1_is_token(string("a") + c), alphanumeric || others.find(c) != string::npos);
    }
}

} // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(test_whole_request),
        cmocka_unit_test(test_every_prefix_is_incomplete),
        cmocka_unit_test(test_one_empty_line_in_front),
        cmocka_unit_test(test_versions),
        cmocka_unit_test(test_keep_alive),
        cmocka_unit_test(test_absolute_form),
        cmocka_unit_test(test_other_target_forms),
        cmocka_unit_test(test_host),
        cmocka_unit_test(test_body_fields),
        cmocka_unit_test(test_refused_at_the_first_byte),
        cmocka_unit_test(test_refused_at_once),
        cmocka_unit_test(test_target_limit),
        cmocka_unit_test(test_head_limit),
        cmocka_unit_test(test_vulnerability_13_many_fields),
        cmocka_unit_test(test_vulnerability_21_names),
        cmocka_unit_test(test_vulnerability_22_fragment),
        cmocka_unit_test(test_vulnerability_23_transfer_encoding),
        cmocka_unit_test(test_vulnerability_24_lines),
        cmocka_unit_test(test_vulnerability_26_bare_line_ends),
        cmocka_unit_test(test_vulnerability_27_bytes_in_target),
        cmocka_unit_test(test_vulnerability_28_framing),
        cmocka_unit_test(test_find),
        cmocka_unit_test(test_lists),
        cmocka_unit_test(test_token),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
