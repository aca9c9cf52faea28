// Tests of proto/http1_forward: forwarded heads, byte for byte.
//
// One thread.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
extern "C" {
#include <cmocka.h>
}

#include "proto/http1_forward.h"

#include <string>

using namespace belfry;
using std::string;

namespace {

buffer out;
string held; // what `request` or `response` points into
http1_request request;
http1_response response;

int clear(void **) {
    buffer_free(&out);
    return 0;
}

void parse_request(const string &bytes) {
    held = bytes;
    http1_scan scan = {};
    const char *why = nullptr;
    if (http1_parse_request(held, &scan, &request, &why) != http1_result::complete) fail_msg("%s", why);
}

void parse_response(const string &bytes) {
    held = bytes;
    http1_scan scan = {};
    const char *why = nullptr;
    if (http1_parse_response(held, &scan, &response, &why) != http1_result::complete) fail_msg("%s", why);
}

forward_request_options plain() {
    forward_request_options o = {};
    o.host = "backend:8000";
    o.scheme = "https";
    o.client_host = "192.0.2.7";
    return o;
}

// What is always sent about the client of `plain`.
#define ABOUT_CLIENT                                                                                                   \
    "X-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: example.com\r\n"                      \
    "Forwarded: for=192.0.2.7;host=example.com;proto=https\r\n"

string forwarded(const string &head, const forward_request_options &o) {
    parse_request(head);
    buffer_clear(&out);
    http1_forward_request(&request, "/t", &o, &out);
    return string(buffer_view(&out));
}

void expect_forwarded(const string &fields, const forward_request_options &o, const string &want) {
    const string got = forwarded("GET /x HTTP/1.1\r\nHost: example.com\r\n" + fields + "\r\n", o);
    assert_string_equal(got.c_str(), ("GET /t HTTP/1.1\r\nHost: backend:8000\r\n" + want + "\r\n").c_str());
}

// ---- requests

void test_request(void **) {
    parse_request("POST http://Example.com:81/a%20b?c=d?e HTTP/1.1\r\nhost: other\r\nX-A:\t1 \r\ncookie: a=b\r\n"
                  "Content-Length: 005\r\nX-A: 2\r\nX-Latin: \xe9\r\n\r\n");
    http1_forward_target(&request, &out);
    const string target(buffer_view(&out));
    assert_string_equal(target.c_str(), "/a%20b?c=d?e");
    forward_request_options o = plain();
    o.body = http1_body_kind::length;
    o.content_length = 5;
    o.request_id = "id-1";
    o.traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    o.extra = "X-User: u\r\n";
    buffer_clear(&out);
    http1_forward_request(&request, target, &o, &out);
    const string got(buffer_view(&out));
    assert_string_equal(got.c_str(),
                        "POST /a%20b?c=d?e HTTP/1.1\r\nHost: backend:8000\r\nContent-Length: 5\r\n"
                        "X-A: 1\r\ncookie: a=b\r\nX-A: 2\r\nX-Latin: \xe9\r\n"
                        "X-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: Example.com:81\r\n"
                        "Forwarded: for=192.0.2.7;host=\"Example.com:81\";proto=https\r\n"
                        "X-Request-Id: id-1\r\n"
                        "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n"
                        "X-User: u\r\n\r\n");
}

void test_targets(void **) {
    const struct {
        const char *line, *want;
    } cases[] = {{"GET / HTTP/1.1", "/"},        {"GET /?a HTTP/1.1", "/?a"}, {"GET http://h?a HTTP/1.1", "/?a"},
                 {"GET http://h HTTP/1.1", "/"}, {"OPTIONS * HTTP/1.1", "*"}, {"GET //evil/x HTTP/1.1", "//evil/x"}};
    for (const auto &c : cases) {
        parse_request(string(c.line) + "\r\nHost: a\r\n\r\n");
        buffer_clear(&out);
        http1_forward_target(&request, &out);
        assert_string_equal(string(buffer_view(&out)).c_str(), c.want);
    }
}

void test_request_framing(void **) {
    forward_request_options o = plain();
    expect_forwarded("Content-Length: 7\r\nTrailer: X\r\n", o, ABOUT_CLIENT);
    o.body = http1_body_kind::chunked;
    expect_forwarded("Transfer-Encoding: Chunked\r\nTrailer: X\r\n", o,
                     "Transfer-Encoding: chunked\r\nTrailer: X\r\n" ABOUT_CLIENT);
    o.body = http1_body_kind::length;
    expect_forwarded("Content-Length: 0\r\n", o, "Content-Length: 0\r\n" ABOUT_CLIENT);
}

void test_hop_by_hop_is_dropped(void **) {
    for (const char *fields :
         {"Connection: keep-alive\r\nKeep-Alive: timeout=5\r\n", "Proxy-Connection: close\r\n", "TE: trailers\r\n",
          "Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAAA\r\n", "Expect: 100-continue\r\n",
          "Proxy-Authorization: Basic eA==\r\n", "Proxy-Authenticate: Basic\r\n", "Proxy: http://evil\r\n",
          "Connection: X-Secret , close\r\nx-secret: 1\r\nX-Secret: 2\r\n",
          "Connection: a\r\nConnection: b\r\nA: 1\r\nB: 2\r\n", "Belfry-Connection: c_1\r\n",
          "Sec-WebSocket-Key: x\r\nSec-WebSocket-Version: 13\r\n", "X-Request-Id: evil\r\n",
          "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\ntracestate: a=b\r\n"}) {
        expect_forwarded(fields, plain(), ABOUT_CLIENT);
    }
    expect_forwarded("Connection: xs\r\nX: 1\r\n", plain(), "X: 1\r\n" ABOUT_CLIENT);
}

void test_client_cannot_speak_for_proxies(void **) {
    for (const char *name : {"X-Forwarded-For", "x-forwarded-proto", "X-Forwarded-Host", "X-Forwarded-Port",
                             "X-FORWARDED-ANY", "Forwarded", "X-Real-IP"}) {
        expect_forwarded(string(name) + ": evil\r\n", plain(), ABOUT_CLIENT);
    }
}

void test_underscores(void **) {
    forward_request_options o = plain();
    o.trusted = true;
    for (const char *name :
         {"X_Forwarded_For", "X-Forwarded_For", "x_forwarded_host", "X_Real_IP", "Content_Length", "Transfer_Encoding",
          "X_Request_Id", "Belfry_Connection", "Sec_WebSocket_Key", "Proxy_Authorization"}) {
        expect_forwarded(string(name) + ": evil\r\n", plain(), ABOUT_CLIENT);
        expect_forwarded(string(name) + ": evil\r\n", o, ABOUT_CLIENT);
    }
    expect_forwarded("My_Own: 1\r\nX-Forwarde_: 2\r\n", plain(), "My_Own: 1\r\nX-Forwarde_: 2\r\n" ABOUT_CLIENT);
}

void test_trusted_proxy_is_appended_to(void **) {
    forward_request_options o = plain();
    o.trusted = true;
    expect_forwarded("", o, ABOUT_CLIENT);
    expect_forwarded(
        "X-Forwarded-For: 10.0.0.1\r\nx-forwarded-for: 10.0.0.2, 10.0.0.3\r\nX-Forwarded-For:\r\n"
        "X-Forwarded-Proto: http\r\nX-Forwarded-Host: outer:8080\r\nX-Forwarded-Port: 8080\r\nX-Real-IP: 10.0.0.1\r\n"
        "Forwarded: for=a\r\nForwarded: for=b;proto=http\r\n",
        o,
        "X-Forwarded-Port: 8080\r\nX-Real-IP: 10.0.0.1\r\n"
        "X-Forwarded-For: 10.0.0.1, 10.0.0.2, 10.0.0.3, 192.0.2.7\r\n"
        "X-Forwarded-Proto: http\r\nX-Forwarded-Host: outer:8080\r\n"
        "Forwarded: for=a, for=b;proto=http, for=192.0.2.7;host=example.com;proto=https\r\n");
    // Said twice, it is not said.
    expect_forwarded("X-Forwarded-Proto: http\r\nX-Forwarded-Proto: ftp\r\nX-Forwarded-Host:\r\n", o, ABOUT_CLIENT);
}

void test_addresses(void **) {
    forward_request_options o = plain();
    o.client_host = "2001:db8::1";
    expect_forwarded("", o,
                     "X-Forwarded-For: 2001:db8::1\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: example.com\r\n"
                     "Forwarded: for=\"[2001:db8::1]\";host=example.com;proto=https\r\n");
    o.client_host = "";
    expect_forwarded("", o,
                     "X-Forwarded-Proto: https\r\nX-Forwarded-Host: example.com\r\n"
                     "Forwarded: for=unknown;host=example.com;proto=https\r\n");
    o.client_host = "192.0.2.7";
    assert_string_equal(forwarded("GET / HTTP/1.0\r\n\r\n", o).c_str(),
                        "GET /t HTTP/1.1\r\nHost: backend:8000\r\nX-Forwarded-For: 192.0.2.7\r\n"
                        "X-Forwarded-Proto: https\r\nForwarded: for=192.0.2.7;proto=https\r\n\r\n");
}

void test_extra_replaces(void **) {
    forward_request_options o = plain();
    o.extra = "X-User: real\r\nX-Role: r\r\n";
    expect_forwarded("x-user: evil\r\nX_Role: evil\r\nX-Users: 1\r\n", o,
                     "X-Users: 1\r\n" ABOUT_CLIENT "X-User: real\r\nX-Role: r\r\n");
}

void test_tunnel(void **) {
    forward_request_options o = plain();
    o.upgrade_websocket = true;
    expect_forwarded(
        "Upgrade: websocket, h2c\r\nConnection: keep-alive, Upgrade\r\nSec-WebSocket-Key: k\r\n"
        "Sec_WebSocket_Key: evil\r\nSec-WebSocket-Protocol: p\r\nOrigin: https://a\r\n",
        o,
        "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: k\r\nSec-WebSocket-Protocol: p\r\n"
        "Origin: https://a\r\n" ABOUT_CLIENT);
}

#define TRACE "0af7651916cd43dd8448eb211c80319c"

void test_trace(void **) {
    forward_request_options o = plain();
    o.traceparent = "00-" TRACE "-00000000000000aa-00";
    const string sent = "traceparent: 00-" TRACE "-00000000000000aa-00\r\n";
    expect_forwarded("traceparent: 00-" TRACE "-b7ad6b7169203331-01\r\ntracestate: a=1\r\nTraceState: b=2\r\n", o,
                     ABOUT_CLIENT + sent + "tracestate: a=1, b=2\r\n");
    // Another trace, a broken one, two of them, none: a state without its trace stays behind.
    for (const char *came :
         {"traceparent: 00-1af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n", "traceparent: 00-" TRACE "\r\n",
          "traceparent: 00-" TRACE "-b7ad6b7169203331-01\r\ntraceparent: 00-" TRACE "-b7ad6b7169203331-01\r\n", ""}) {
        expect_forwarded(string(came) + "tracestate: a=1\r\n", o, ABOUT_CLIENT + sent);
    }
}

void test_refusals(void **) {
    const auto refused = [](const string &connection) {
        parse_request("GET / HTTP/1.1\r\nHost: a\r\n" + connection + "\r\n");
        return http1_forward_refuse(&request) != nullptr;
    };
    assert_false(refused(""));
    assert_false(refused("Connection:\r\n"));
    assert_false(refused("Connection: close\r\n"));
    assert_false(refused("Connection: keep-alive, Upgrade, HTTP2-Settings, TE, Trailer, X-Any\r\n"));
    for (const char *name : {"Host",
                             "content-length",
                             "Content-Type",
                             "Transfer-Encoding",
                             "Cookie",
                             "Authorization",
                             "Origin",
                             "Forwarded",
                             "X-Forwarded-For",
                             "X-Forwarded-Host",
                             "X-Forwarded-New",
                             "X_Forwarded_For",
                             "X-Real-IP",
                             "X-Request-Id",
                             "traceparent",
                             "tracestate",
                             "Sec-WebSocket-Key",
                             "Sec-Fetch-Site",
                             "Belfry-Connection",
                             "CONTENT_LENGTH"}) {
        assert_true(refused("Connection: close, " + string(name) + "\r\n"));
        assert_true(refused("Connection: close\r\nconnection:" + string(name) + "\r\n"));
        assert_false(refused("X-Connection: " + string(name) + "\r\n"));
    }
    assert_true(refused("Connection: keep alive\r\n"));
    assert_true(refused("Connection: \"close\"\r\n"));
    string options = "x";
    for (size_t i = 1; i < http1_connection_options_max; i++)
        options += ",x";
    assert_false(refused("Connection: " + options + "\r\n"));
    assert_true(refused("Connection: " + options + "\r\nConnection: x\r\n"));
    parse_request("CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_non_null(http1_forward_refuse(&request));
    // Whoever does not ask still can't be made to lose them.
    expect_forwarded("Connection: Cookie\r\nCookie: a=b\r\n", plain(), "Cookie: a=b\r\n" ABOUT_CLIENT);
}

// ---- answers

struct answer {
    http1_body_kind body = http1_body_kind::length;
    bool http11 = true;
    bool keep_alive = true;
};

void expect_answer(const string &head, const answer &a, const string &want) {
    parse_response(head + "\r\n");
    buffer_clear(&out);
    http1_forward_response(&response, a.body, 5, a.http11, a.keep_alive, nullptr, 0, "", &out);
    assert_string_equal(string(buffer_view(&out)).c_str(), want.c_str());
}

void test_answer(void **) {
    parse_response(
        "HTTP/1.0 404 Nothing \xe9\r\nDate: d\r\nServer:s\r\nContent-Length: 05\r\nSet-Cookie: a\r\nset-cookie: b\r\n"
        "Connection: keep-alive, X-Hop, Set-Cookie\r\nX-Hop: 1\r\nKeep-Alive: 5\r\nProxy-Authenticate: x\r\n"
        "Upgrade: h2c\r\nTrailer: X\r\nBelfry-Publish: r\r\nX-Drop: 1\r\nx-drop: 2\r\nX-Request-Id: i\r\n\r\n");
    const view drop[] = {"other", "X-Drop"};
    http1_forward_response(&response, http1_body_kind::length, 5, true, true, drop, 2, "X-Extra: 1\r\n", &out);
    const string got(buffer_view(&out));
    assert_string_equal(got.c_str(),
                        "HTTP/1.1 404 Nothing \xe9\r\nContent-Length: 5\r\nDate: d\r\nServer: s\r\nSet-Cookie: a\r\n"
                        "set-cookie: b\r\nX-Request-Id: i\r\nX-Extra: 1\r\n\r\n");
}

void test_answer_framing(void **) {
    const string chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X\r\n";
    expect_answer(chunked, {http1_body_kind::chunked, true, true},
                  "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X\r\n\r\n");
    expect_answer(chunked, {http1_body_kind::chunked, true, false},
                  "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\nTrailer: X\r\n\r\n");
    for (const auto body : {http1_body_kind::chunked, http1_body_kind::until_close}) { // no chunks for HTTP/1.0
        expect_answer(chunked, {body, false, true}, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n");
    }
    const string length = "HTTP/1.1 200 \r\nContent-Length: 5\r\n";
    expect_answer(length, {http1_body_kind::length, false, true},
                  "HTTP/1.1 200 \r\nContent-Length: 5\r\nConnection: keep-alive\r\n\r\n");
    expect_answer(length, {http1_body_kind::length, false, false},
                  "HTTP/1.1 200 \r\nContent-Length: 5\r\nConnection: close\r\n\r\n");
}

void test_answer_without_body(void **) {
    const answer none = {http1_body_kind::none, true, true};
    expect_answer("HTTP/1.1 200 OK\r\nContent-Length: 007\r\n", none,
                  "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n"); // HEAD
    expect_answer("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n", none, "HTTP/1.1 200 OK\r\n\r\n");
    expect_answer("HTTP/1.1 304 N\r\nContent-Length: 7\r\n", none, "HTTP/1.1 304 N\r\nContent-Length: 7\r\n\r\n");
    expect_answer("HTTP/1.1 204 N\r\nContent-Length: 7\r\n", none, "HTTP/1.1 204 N\r\n\r\n"); // RFC 9110 section 8.6
}

void test_interim_answers(void **) {
    for (const answer &a : {answer{http1_body_kind::none, true, true}, answer{http1_body_kind::chunked, true, false}}) {
        expect_answer(
            "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nContent-Length: 5\r\nConnection: close\r\nTrailer: X\r\n", a,
            "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n");
        expect_answer("HTTP/1.1 101 S\r\nConnection: upgrade\r\nupgrade: WebSocket\r\nSec-WebSocket-Accept: x\r\n", a,
                      "HTTP/1.1 101 S\r\nConnection: Upgrade\r\nUpgrade: WebSocket\r\nSec-WebSocket-Accept: x\r\n\r\n");
    }
    expect_answer("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n", {http1_body_kind::none, false, true}, "");
}

// ---- ids

void test_request_ids(void **) {
    assert_true(http1_request_id_valid("a"));
    assert_true(http1_request_id_valid("azAZ09-._~:+/=@"));
    assert_true(http1_request_id_valid(string(http1_request_id_max, 'x')));
    assert_false(http1_request_id_valid(string(http1_request_id_max + 1, 'x')));
    assert_false(http1_request_id_valid(""));
    for (const char *id : {"a b", "a\tb", "a\"b", "a,b", "a;b", "a\\b", "{a}", "<a>", "a\xe9", "a%b", "a\r\nb"}) {
        assert_false(http1_request_id_valid(id));
    }
}

void test_traceparents(void **) {
    const string good = "00-" TRACE "-b7ad6b7169203331-01";
    assert_true(http1_traceparent_valid(good));
    assert_true(http1_traceparent_valid("00-" TRACE "-b7ad6b7169203331-ff"));
    assert_false(http1_traceparent_valid(good + "0"));
    assert_false(http1_traceparent_valid(good + "-a"));
    assert_false(http1_traceparent_valid(""));
    assert_false(http1_traceparent_valid("01-" TRACE "-b7ad6b7169203331-01"));
    assert_false(http1_traceparent_valid("ff-" TRACE "-b7ad6b7169203331-01"));
    assert_false(http1_traceparent_valid("00-00000000000000000000000000000000-b7ad6b7169203331-01"));
    assert_false(http1_traceparent_valid("00-" TRACE "-0000000000000000-01"));
    for (size_t i = 0; i < good.size(); i++) {
        for (const char c : {'G', 'A', ' ', '-', '_'}) {
            string bad = good;
            bad[i] = c;
            assert_int_equal(http1_traceparent_valid(bad), bad == good);
        }
    }
}

void test_making_traceparents(void **) {
    uint8_t random[http1_traceparent_random] = {};
    char made[http1_traceparent_size];
    http1_traceparent_make(random, made);
    const string zeros(made, sizeof made);
    assert_string_equal(zeros.c_str(), "00-00000000000000000000000000000001-0000000000000001-00");
    for (uint8_t i = 0; i < sizeof random; i++)
        random[i] = static_cast<uint8_t>(i * 11);
    http1_traceparent_make(random, made);
    const string got(made, sizeof made);
    assert_string_equal(got.c_str(), "00-000b16212c37424d58636e79848f9aa5-b0bbc6d1dce7f2fd-00");
    assert_true(http1_traceparent_valid(got));
}

} // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_request, clear),
        cmocka_unit_test_teardown(test_targets, clear),
        cmocka_unit_test_teardown(test_request_framing, clear),
        cmocka_unit_test_teardown(test_hop_by_hop_is_dropped, clear),
        cmocka_unit_test_teardown(test_client_cannot_speak_for_proxies, clear),
        cmocka_unit_test_teardown(test_underscores, clear),
        cmocka_unit_test_teardown(test_trusted_proxy_is_appended_to, clear),
        cmocka_unit_test_teardown(test_addresses, clear),
        cmocka_unit_test_teardown(test_extra_replaces, clear),
        cmocka_unit_test_teardown(test_tunnel, clear),
        cmocka_unit_test_teardown(test_trace, clear),
        cmocka_unit_test_teardown(test_refusals, clear),
        cmocka_unit_test_teardown(test_answer, clear),
        cmocka_unit_test_teardown(test_answer_framing, clear),
        cmocka_unit_test_teardown(test_answer_without_body, clear),
        cmocka_unit_test_teardown(test_interim_answers, clear),
        cmocka_unit_test(test_request_ids),
        cmocka_unit_test(test_traceparents),
        cmocka_unit_test(test_making_traceparents),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
