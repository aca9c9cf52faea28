// Tests of proto/handshake: the MUSTs of RFC 6455 section 4.2, each by a request that breaks one of them.
//
// One thread.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
extern "C" {
#include <cmocka.h>
}

#include "proto/handshake.h"

#include <string.h>
#include <string>

using namespace belfry;
using std::string;

namespace {

string held; // what `request` and `shake` point into
http1_request request;
handshake shake;
buffer out;

int clear(void **) {
    buffer_free(&out);
    return 0;
}

#define ASSERT_VIEW(got, want)                                                                                         \
    do {                                                                                                               \
        const string got_text(got);                                                                                    \
        assert_string_equal(got_text.c_str(), want);                                                                   \
    } while (0)

const char *const upgrade = "Upgrade: websocket\r\n";
const char *const connection = "Connection: Upgrade\r\n";
const char *const key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
const char *const version = "Sec-WebSocket-Version: 13\r\n";

handshake_verdict check(const string &line, const string &fields) {
    held = line + "\r\nHost: a\r\n" + fields + "\r\n";
    http1_scan scan = {};
    const char *why = "";
    if (http1_parse_request(held, &scan, &request, &why) != http1_result::complete) {
        fail_msg("not even HTTP (%s): %s", why, held.c_str());
    }
    return handshake_check(&request, &shake);
}

void expect(int status, const string &fields) {
    const handshake_verdict verdict = check("GET /ws HTTP/1.1", fields);
    if (verdict.status != status)
        fail_msg("got %d (%s), not %d, for: %s", verdict.status, verdict.why, status, fields.c_str());
    if ((status == 101) != (verdict.why[0] == '\0')) fail_msg("why is \"%s\" for: %s", verdict.why, fields.c_str());
}

// A good handshake with more fields behind.
string good(const string &more = "") {
    return string(upgrade) + connection + key + version + more;
}

void test_section_1_3_example(void **) {
    expect(101, good("Origin: http://example.com\r\nSec-WebSocket-Protocol: chat, superchat\r\n"));
    ASSERT_VIEW(shake.key, "dGhlIHNhbXBsZSBub25jZQ==");
    assert_true(shake.has_origin);
    ASSERT_VIEW(shake.origin, "http://example.com");
    assert_int_equal(shake.protocol_count, 2);
    assert_int_equal(handshake_offers(&shake, "chat"), 0);
    assert_int_equal(handshake_offers(&shake, "superchat"), 1);
    assert_int_equal(handshake_offers(&shake, "Chat"), -1); // section 11.5: case matters
    assert_int_equal(handshake_offers(&shake, "super"), -1);
    char accept[handshake_accept_size];
    handshake_accept(shake.key, accept);
    ASSERT_VIEW(view(accept, sizeof accept), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    assert_true(handshake_wanted(&request));
}

void test_answer(void **) {
    handshake_write_101("dGhlIHNhbXBsZSBub25jZQ==", "chat", "X-One: 1\r\n", &out);
    ASSERT_VIEW(buffer_view(&out), "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                                   "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
                                   "Sec-WebSocket-Protocol: chat\r\nX-One: 1\r\n\r\n");
    buffer_clear(&out);
    handshake_write_101("x3JJHMbDL1EzLkh9GBhXDw==", "", "", &out);
    ASSERT_VIEW(buffer_view(&out), "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                                   "Sec-WebSocket-Accept: HSmrc0sMlYUkAGmm5OPpG2HaGWk=\r\n\r\n");
}

void test_method_and_version(void **) {
    for (const char *line : {"POST / HTTP/1.1", "HEAD / HTTP/1.1", "get / HTTP/1.1", "OPTIONS * HTTP/1.1"}) {
        const handshake_verdict verdict = check(line, good());
        assert_int_equal(verdict.status, 405);
        assert_string_equal(verdict.field, "Allow: GET\r\n");
    }
    assert_int_equal(check("GET / HTTP/1.0", good()).status, 400);
    assert_int_equal(check("GET http://b/ws HTTP/1.1", good()).status, 101); // section 4.1, item 2 of the request
}

void test_upgrade(void **) {
    const string rest = string(connection) + key + version;
    for (const char *field : {"Upgrade: WebSocket\r\n", "Upgrade: h2c, websocket\r\n", "upgrade:websocket\r\n",
                              "Upgrade: h2c\r\nUpgrade: websocket\r\n", "Upgrade: TLS/1.0,\twebsocket ,\r\n"}) {
        expect(101, field + rest);
    }
    for (const char *field : {"", "Upgrade: h2c\r\n", "Upgrade:\r\n", "Upgrade: websockets\r\n",
                              "Upgrade: xwebsocket\r\n", "Upgrade: websocket/13\r\n", "Upgrade: \"websocket\"\r\n",
                              "Upgrade: web socket\r\n", "Upgrade: websocket;q=1\r\n", "Upgrade: websocket, a b\r\n",
                              "Upgrade: websocket, /1\r\n", "Upgrade: websocket, a/\r\n", "X-Upgrade: websocket\r\n"}) {
        expect(400, field + rest);
    }
}

void test_connection(void **) {
    const string rest = string(upgrade) + key + version;
    for (const char *field :
         {"Connection: keep-alive, Upgrade\r\n", "Connection: UPGRADE\r\n", "connection: ,upgrade,\r\n",
          "Connection: keep-alive\r\nConnection: upgrade\r\n", "Connection: close, upgrade\r\n"}) {
        expect(101, field + rest);
        assert_true(handshake_wanted(&request));
    }
    for (const char *field :
         {"", "Connection: close\r\n", "Connection: keep-alive\r\n", "Connection:\r\n", "Connection: upgrades\r\n",
          "Connection: no-upgrade\r\n", "Connection: not upgrade\r\n", "Connection: \"upgrade\"\r\n",
          "Connection: upgrade, a b\r\n", "X-Connection: upgrade\r\n"}) {
        expect(400, field + rest);
    }
    expect(400, "Connection: close\r\n" + rest);
    assert_false(handshake_wanted(&request));
}

void test_no_upgrade_at_all(void **) {
    const handshake_verdict verdict = check("GET / HTTP/1.1", string(key) + version);
    assert_int_equal(verdict.status, 426);
    assert_string_equal(verdict.field, "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n");
    assert_false(handshake_wanted(&request));
    assert_int_equal(check("GET / HTTP/1.1", "Connection: keep-alive\r\n").status, 426);
}

void test_key(void **) {
    const string rest = string(upgrade) + connection + version;
    const string name = "Sec-WebSocket-Key: ";
    for (const char *value : {"AAAAAAAAAAAAAAAAAAAAAA==", "+/+/+/+/+/+/+/+/+/+/+w=="}) {
        expect(101, rest + name + value + "\r\n");
    }
    for (const char *value :
         {"", "dGhlIHNhbXBsZSBub25jZQ", "dGhlIHNhbXBsZSBub25jZQ=", "dGhlIHNhbXBsZSBub25jZQ===", "dGhlIHNhbXBsZSBub25j",
          "dGhlIHNhbXBsZSBub25jZQAA", "dGhlIHNhbXBsZSBub25jZQA=", "dGhlIHNhbXBsZSBub25jZQ==AAAA",
          "dGhlIHNhbXBsZSBub25jZQAAAAAAAAAAAAAAAAAAAAAAAAAA", "dGhlIHNhbXBsZSBub25jZR==", "dGhlIHNhbXBsZSBub25j-_==",
          "dGhlIHNhbXBsZSBub25 ZQ==", "dGhlIHNhbXBsZ===b25jZQ==", "\"GhlIHNhbXBsZSBub25jZQ\"="}) {
        expect(400, rest + name + value + "\r\n");
    }
    expect(400, rest);
    expect(400, rest + key + key);
}

void test_version(void **) {
    const string rest = string(upgrade) + connection + key;
    const string name = "Sec-WebSocket-Version: ";
    for (const char *value : {"0", "8", "12", "14", "255", "999"}) {
        const handshake_verdict verdict = check("GET / HTTP/1.1", rest + name + value + "\r\n");
        assert_int_equal(verdict.status, 426);
        assert_non_null(strstr(verdict.field, "Sec-WebSocket-Version: 13\r\n"));
        assert_non_null(strstr(verdict.field, "Upgrade: websocket\r\n"));
    }
    // An older client has no key at all: it learns the version all the same.
    assert_int_equal(check("GET / HTTP/1.1", string(upgrade) + connection + name + "8\r\n").status, 426);
    for (const char *value : {"", "013", "13, 8", "13.0", "+13", "-1", "13a", "x", "1 3", "99999999999999999999999"}) {
        expect(400, rest + name + value + "\r\n");
    }
    expect(400, rest);
    expect(400, rest + version + version);
    expect(400, rest + version + name + "8\r\n");
}

void test_body(void **) {
    expect(101, good("Content-Length: 0\r\n"));
    expect(400, good("Content-Length: 1\r\n"));
    expect(400, good("Transfer-Encoding: chunked\r\n"));
}

void test_origin(void **) {
    expect(101, good());
    assert_false(shake.has_origin);
    expect(101, good("Origin: null\r\n"));
    ASSERT_VIEW(shake.origin, "null");
    expect(101, good("Origin:\r\n"));
    assert_true(shake.has_origin);
    ASSERT_VIEW(shake.origin, "");
    expect(400, good("Origin: https://good.example\r\nOrigin: https://evil.example\r\n"));
    expect(400, good("Origin: https://good.example\r\nORIGIN: https://good.example\r\n"));
}

void test_vulnerability_12_protocols(void **) {
    const string name = "Sec-WebSocket-Protocol: ";
    expect(101, good(name + "belfry.v1.json, belfry.token.abc.def-_~\r\n" + name + ",v2,\r\n"));
    assert_int_equal(shake.protocol_count, 3);
    ASSERT_VIEW(shake.protocols[1], "belfry.token.abc.def-_~");
    ASSERT_VIEW(shake.protocols[2], "v2");
    expect(101, good(name + "a, A\r\n"));
    for (const char *value :
         {"", ",", " , ,", "a b", "a, b c", "\"a\"", "a;b", "a, a", "a/b", "a=b", "a, {b}", "\xc3\xbc"}) {
        expect(400, good(name + value + "\r\n"));
    }
    expect(400, good(name + "a\r\n" + name + "a\r\n"));
    string list = "p0";
    for (size_t i = 1; i < handshake_protocols_max; i++) {
        list += ",p" + std::to_string(i);
    }
    expect(101, good(name + list + "\r\n"));
    assert_int_equal(shake.protocol_count, handshake_protocols_max);
    expect(400, good(name + list + ",more\r\n"));
    // What made a regular expression backtrack for ever (CVE-2021-32640).
    expect(101, good(name + "b," + string(15000, ' ') + "x\r\n"));
    expect(400, good(name + "b" + string(15000, ' ') + "x\r\n"));
    expect(101, good(name + string(15000, ',') + "x\r\n"));
}

void test_vulnerability_10_extensions(void **) {
    const string name = "Sec-WebSocket-Extensions: ";
    for (const char *value :
         {"permessage-deflate", "permessage-deflate; client_max_window_bits",
          "permessage-deflate; client_max_window_bits; server_max_window_bits=10, permessage-deflate", "a;b=\"c\"",
          "a;b=\"\\c\\d\"", "a ; b = c , d", ",a,,b,", "constructor", "__proto__;toString=valueOf", "a;a;a",
          "a;b=\"c\",d"}) {
        expect(101, good(name + value + "\r\n"));
    }
    expect(101, good(name + "a\r\n" + name + "b;c\r\n"));
    for (const char *value :
         {"",           ",",          " , ",         ";",           "a;",           "a;;b",      "a;b=",
          "a;b=;c",     "a;=b",       "a=b",         "a b",         "a;b c",        "a;b=c d",   "a;b=\"\"",
          "a;b=\"",     "a;b=\"c",    "a;b=\"c d\"", "a;b=\"c\\\"", "a;b=\"\\\"\"", "a;b=\"c\\", "a;b=\"c,d\"",
          "a;b=\"c\"d", "a;b=c\"d\"", "\"a\"",       "a;\"b\"",     "a/b",          "a,b;",      "a;b=\xc3\xbc"}) {
        expect(400, good(name + value + "\r\n"));
    }
    expect(400, good(name + "a;b=\"c\r\n" + name + "d\"\r\n")); // no field ends inside another
    // What made a regular expression backtrack for ever (CVE-2020-7663), and other long things.
    string quoted = "a; b=\"";
    for (int i = 0; i < 7000; i++) {
        quoted += "\\c";
    }
    expect(400, good(name + quoted + "\r\n"));
    expect(101, good(name + quoted + "\"\r\n"));
    expect(400, good(name + "a" + string(15000, ';') + "\r\n"));
    expect(400, good(name + "a;b=c" + string(15000, ' ') + "=\r\n"));
    expect(101, good(name + string(15000, ',') + "a\r\n"));
}

void test_vulnerability_13_upgrade_cut_off(void **) {
    // 100 fields with no room for Connection: nobody may take it for there.
    string fields = string(upgrade) + key + version;
    for (size_t i = 4; i < http1_field_max; i++) {
        fields += "x: y\r\n";
    }
    expect(400, fields);
    assert_int_equal(request.field_count, http1_field_max);
    assert_false(handshake_wanted(&request));
}

} // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(test_section_1_3_example),
        cmocka_unit_test_teardown(test_answer, clear),
        cmocka_unit_test(test_method_and_version),
        cmocka_unit_test(test_upgrade),
        cmocka_unit_test(test_connection),
        cmocka_unit_test(test_no_upgrade_at_all),
        cmocka_unit_test(test_key),
        cmocka_unit_test(test_version),
        cmocka_unit_test(test_body),
        cmocka_unit_test(test_origin),
        cmocka_unit_test(test_vulnerability_12_protocols),
        cmocka_unit_test(test_vulnerability_10_extensions),
        cmocka_unit_test(test_vulnerability_13_upgrade_cut_off),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
