// Tests of proto/server_json: contracts section 4, the server's side, byte for byte.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
extern "C" {
#include <cmocka.h>
}

#include "json_harness.h"
#include "proto/server_json.h"

#include <string>

using namespace belfry;
using std::string;

namespace {

buffer out;

int end(void **state) {
    buffer_free(&out);
    return harness_end(state);
}

// What was written is `want`, is valid JSON, and was appended.
void assert_written(view want) {
    const string got(buffer_view(&out));
    assert_string_equal(got.c_str(), string(want).c_str());
    assert_true(json_valid(harness.reader, source(got)));
    buffer_clear(&out);
}

void test_welcome(void **) {
    server_welcome w = {};
    w.conn = "c_7Qx2";
    w.ping_seconds = 25;
    server_json_welcome(&out, &w);
    assert_written(R"({"type":"welcome","conn":"c_7Qx2","ping":25,"rooms":{}})");
    view rooms[] = {"lobby", "a\"b"};
    w.ping_seconds = 0;
    w.rooms = rooms;
    w.room_count = 2;
    server_json_welcome(&out, &w);
    assert_written(R"({"type":"welcome","conn":"c_7Qx2","ping":0,"rooms":{"lobby":{},"a\"b":{}}})");
}

void test_welcome_of_a_user(void **) {
    server_welcome w = {};
    w.conn = "c_7Qx2";
    w.user = "5\"6";
    w.info = R"({"name":"A"})";
    w.ping_seconds = 25;
    w.expires_in = 3600;
    w.data = "[1]";
    server_json_welcome(&out, &w);
    assert_written(R"({"type":"welcome","conn":"c_7Qx2","user":"5\"6","info":{"name":"A"},"ping":25,)"
                   R"("expires_in":3600,"rooms":{},"data":[1]})");
    w = {};
    w.data64 = view("\0\xff", 2);
    server_json_welcome(&out, &w);
    assert_written(R"({"type":"welcome","conn":"","ping":0,"rooms":{},"data64":"AP8="})");
}

void test_answers_with_content(void **) {
    server_json_ok_data(&out, -4, R"({"a":1})");
    assert_written(R"({"type":"ok","id":-4,"data":{"a":1}})");
    server_json_ok_expires(&out, 6, 3600);
    assert_written(R"({"type":"ok","id":6,"expires_in":3600})");
    server_json_ok_expires(&out, 6, 0);
    assert_written(R"({"type":"ok","id":6})");
}

void test_answers(void **) {
    server_json_ok(&out, 1, "chat:42");
    assert_written(R"({"type":"ok","id":1,"room":"chat:42"})");
    server_json_ok(&out, INT64_MIN, {});
    assert_written(R"({"type":"ok","id":-9223372036854775808})");
    server_json_pong(&out, true, 7);
    assert_written(R"({"type":"pong","id":7})");
    server_json_pong(&out, false, 7);
    assert_written(R"({"type":"pong"})");
    server_json_error(&out, true, 3, 403, "not allowed to publish in chat:42");
    assert_written(R"({"type":"error","id":3,"code":403,"message":"not allowed to publish in chat:42"})");
    server_json_error(&out, false, 3, 400, "x");
    assert_written(R"({"type":"error","code":400,"message":"x"})");
}

server_message head;

void test_message(void **) {
    head = {"chat:42", R"({"conn":"c"})", 1760000000123, {}};
    server_json_message(&out, &head, R"({ "a":1 })");
    assert_written(R"({"type":"message","room":"chat:42","data":{ "a":1 },"from":{"conn":"c"},"time":1760000000123})");
    head = {"a", {}, UINT64_MAX, {}};
    server_json_message(&out, &head, "null");
    assert_written(R"({"type":"message","room":"a","data":null,"time":18446744073709551615})");
}

void test_positions(void **) {
    position at;
    assert_true(position_set(&at, "k3Fq", 18));
    head = {"a", {}, 1, at};
    server_json_message(&out, &head, "7");
    assert_written(R"({"type":"message","room":"a","data":7,"epoch":"k3Fq","offset":18,"time":1})");
    server_json_ok_published(&out, 3, &at, false);
    assert_written(R"({"type":"ok","id":3,"epoch":"k3Fq","offset":18})");
    server_json_ok_published(&out, 3, &at, true);
    assert_written(R"({"type":"ok","id":3,"epoch":"k3Fq","offset":18,"duplicate":true})");
    server_json_ok_joined(&out, 1, "a", &at, server_recovery::yes, 2);
    assert_written(R"({"type":"ok","id":1,"room":"a","epoch":"k3Fq","offset":18,"recovered":true,"replayed":2})");
    server_json_ok_joined(&out, 1, "a", &at, server_recovery::no, 0);
    assert_written(R"({"type":"ok","id":1,"room":"a","epoch":"k3Fq","offset":18,"recovered":false})");
    server_json_ok_joined(&out, 1, "a", &at, server_recovery::not_asked, 0);
    assert_written(R"({"type":"ok","id":1,"room":"a","epoch":"k3Fq","offset":18})");
    assert_false(position_set(&at, "", 1));
    assert_false(position_set(&at, "123456789", 1));
    assert_false(position_set(&at, "a b", 1));
    server_json_ok_published(&out, 3, &at, false);
    assert_written(R"({"type":"ok","id":3})");
}

void test_member(void **) {
    server_json_member(&out, "a", R"({"event":"join","member":{"conn":"c"}})");
    assert_written(R"({"type":"member","room":"a","event":"join","member":{"conn":"c"}})");
}

void test_message_text(void **) {
    head = {"a", R"({})", 1, {}};
    server_json_message_text(&out, &head, "say \"hi\"\n\xe2\x82\xac");
    assert_written(
        "{\"type\":\"message\",\"room\":\"a\",\"data\":\"say \\\"hi\\\"\\n\xe2\x82\xac\",\"from\":{},\"time\":1}");
    head = {"a", {}, 1, {}};
    server_json_message_text(&out, &head, {});
    assert_written(R"({"type":"message","room":"a","data":"","time":1})");
}

void test_message_binary(void **) {
    head = {"a", {}, 1, {}};
    server_json_message_binary(&out, &head, view("\xff\0\x01", 3));
    assert_written(R"({"type":"message","room":"a","data64":"/wAB","time":1})");
    head = {"a", "{}", 1, {}};
    server_json_message_binary(&out, &head, "\xff");
    assert_written(R"({"type":"message","room":"a","data64":"/w==","from":{},"time":1})");
    head = {"a", {}, 1, {}};
    server_json_message_binary(&out, &head, {});
    assert_written(R"({"type":"message","room":"a","data64":"","time":1})");
}

void test_notices(void **) {
    server_json_removed(&out, "chat:42", "kicked");
    assert_written(R"({"type":"removed","room":"chat:42","reason":"kicked"})");
    server_json_gap(&out, "chat:42");
    assert_written(R"({"type":"gap","room":"chat:42"})");
    server_json_bye(&out, 4503, "restarting", true, 8200);
    assert_written(R"({"type":"bye","code":4503,"reason":"restarting","reconnect":true,"after_ms":8200})");
    server_json_bye(&out, 1000, "", false, 0);
    assert_written(R"({"type":"bye","code":1000,"reason":"","reconnect":false,"after_ms":0})");
}

void test_members(void **) {
    server_json_ok_members(&out, 5, "", 0, false);
    assert_written(R"({"type":"ok","id":5,"members":[],"count":0})");
    server_json_ok_members(&out, -1, R"({"conn":"a"},{"conn":"b"})", 7, true);
    assert_written(R"({"type":"ok","id":-1,"members":[{"conn":"a"},{"conn":"b"}],"count":7,"truncated":true})");
}

// No name or reason breaks out of its string.
void test_escapes(void **) {
    server_json_gap(&out, "\",\"x\":\"");
    assert_written(R"({"type":"gap","room":"\",\"x\":\""})");
    server_json_removed(&out, "a\\", view("\0\x1f\xff", 3));
    assert_written("{\"type\":\"removed\",\"room\":\"a\\\\\",\"reason\":\"\\u0000\\u001f\xef\xbf\xbd\"}");
    server_json_error(&out, false, 0, 400, "line\r\n");
    assert_written(R"({"type":"error","code":400,"message":"line\r\n"})");
}

void test_appends(void **) {
    server_json_gap(&out, "a");
    server_json_gap(&out, "b");
    const string got(buffer_view(&out));
    assert_string_equal(got.c_str(), R"({"type":"gap","room":"a"}{"type":"gap","room":"b"})");
}

} // namespace

#define TEST(name) cmocka_unit_test_setup_teardown(name, harness_begin, end)

int main() {
    const CMUnitTest tests[] = {
        TEST(test_welcome),        TEST(test_welcome_of_a_user), TEST(test_answers_with_content),
        TEST(test_answers),        TEST(test_message),           TEST(test_positions),
        TEST(test_member),         TEST(test_members),           TEST(test_message_text),
        TEST(test_message_binary), TEST(test_notices),           TEST(test_escapes),
        TEST(test_appends),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
