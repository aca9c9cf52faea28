// Tests of proto/hook_json: what is asked of a backend, byte for byte, and every way in which its answer may be wrong.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
extern "C" {
#include <cmocka.h>
}

#include "json_harness.h"
#include "proto/hook_json.h"

#include <string>

using namespace belfry;
using std::string;

namespace {

buffer out, scratch;
hook_answer answer;
error why;

int end(void **state) {
    buffer_free(&out);
    buffer_free(&scratch);
    return harness_end(state);
}

void assert_written(view want) {
    const string got(buffer_view(&out));
    assert_string_equal(got.c_str(), string(want).c_str());
    assert_true(json_valid(harness.reader, source(got)));
    buffer_clear(&out);
}

void assert_view(view got, view want) {
    assert_string_equal(string(got).c_str(), string(want).c_str());
}

// ---------------------------------------------------------------- requests

void test_connect(void **) {
    view offered[] = {"belfry.v1.json", "x"};
    hook_connect_request q = {};
    q.conn = "c_1";
    q.ip = "203.0.113.7";
    q.path = "/ws";
    hook_write_connect(&out, &q);
    assert_written(R"({"event":"connect","conn":"c_1","ip":"203.0.113.7","path":"/ws","query":{},"subprotocols":[]})");
    q.origin = "https://a.example";
    q.query = "a=1&b=x%20y+z&a=2&%ff=bad&c=%zz&d=%22&e";
    q.subprotocols = offered;
    q.subprotocol_count = 2;
    q.claims = R"({"sub":"5"})";
    hook_write_connect(&out, &q);
    assert_written(
        R"({"event":"connect","conn":"c_1","ip":"203.0.113.7","origin":"https://a.example","path":"/ws",)"
        R"("query":{"a":"1","b":"x y z","d":"\"","e":""},"subprotocols":["belfry.v1.json","x"],"claims":{"sub":"5"}})");
}

void test_connect_names_so_many_parameters(void **) {
    string query;
    for (int i = 0; i < 100; i++)
        query += "p" + std::to_string(i) + "=1&";
    hook_connect_request q = {};
    q.query = query;
    hook_write_connect(&out, &q);
    string got(buffer_view(&out));
    assert_true(got.find("\"p63\":") != string::npos);
    assert_true(got.find("\"p64\":") == string::npos);
}

void test_session_events(void **) {
    hook_asker nobody = {"c_1", {}, {}}, user = {"c_1", "5\"6", R"({"a":1})"};
    hook_write_join(&out, &nobody, "chat:1");
    assert_written(R"({"event":"join","conn":"c_1","room":"chat:1"})");
    hook_write_join(&out, &user, "chat:1");
    assert_written(R"({"event":"join","conn":"c_1","user":"5\"6","state":{"a":1},"room":"chat:1"})");
    hook_write_publish(&out, &nobody, "r", "[ 1]");
    assert_written(R"({"event":"publish","conn":"c_1","room":"r","data":[ 1]})");
    hook_write_call(&out, &nobody, "order.create", "null");
    assert_written(R"({"event":"call","conn":"c_1","method":"order.create","data":null})");
    hook_write_message(&out, &nobody, "a\"b", false);
    assert_written(R"({"event":"message","conn":"c_1","data":"a\"b"})");
    hook_write_message(&out, &nobody, view("\0\xff", 2), true);
    assert_written(R"({"event":"message","conn":"c_1","data64":"AP8="})");
    hook_write_refresh(&out, &user);
    assert_written(R"({"event":"refresh","conn":"c_1","user":"5\"6","state":{"a":1}})");
}

void test_notify(void **) {
    hook_notification gone = {"n_1", "disconnected", "c_1", "56", {}, 1006, 17};
    hook_notification room = {"n_2", "vacated", {}, {}, "chat:1", 0, 18};
    hook_write_notify_begin(&out);
    hook_write_notification(&out, &gone);
    buffer_append_char(&out, ',');
    hook_write_notification(&out, &room);
    hook_write_notify_end(&out);
    assert_written(
        R"({"event":"notify","events":[{"id":"n_1","type":"disconnected","conn":"c_1","user":"56","code":1006,"time":17},)"
        R"({"id":"n_2","type":"vacated","room":"chat:1","time":18}]})");
}

void test_which_events_may_be_repeated(void **) {
    for (hook_event e : {hook_event::connect, hook_event::join, hook_event::refresh, hook_event::notify})
        assert_true(hook_event_safe(e));
    for (hook_event e : {hook_event::publish, hook_event::call, hook_event::message})
        assert_false(hook_event_safe(e));
}

// ---------------------------------------------------------------- answers

bool parse(const string &text) {
    why.text[0] = '\0';
    return hook_answer_parse(harness.reader, source(text), &answer, &scratch, &why);
}

void assert_malformed(const string &text, const char *named) {
    assert_false(parse(text));
    if (!strstr(why.text, named)) fail_msg("%s: %s", text.c_str(), why.text);
}

void test_an_empty_answer(void **) {
    hook_answer none;
    hook_answer_empty(&none);
    assert_true(parse("{}"));
    for (const hook_answer *a : {&none, &answer}) {
        assert_true(a->user.empty() && !a->has_info && !a->has_state && !a->has_expires && !a->has_data);
        assert_true(a->deliver && !a->has_error && !a->expired && !a->disconnect && !a->has_data64);
        assert_int_equal(a->room_count + a->join_count + a->publish_count + a->command_count, 0);
    }
    assert_true(parse(R"( {"unknown":[1],"user":null,"rooms":null,"expires_in":null,"error":null,"commands":null,)"
                      R"("disconnect":null,"deliver":null,"data64":null} )"));
    assert_true(answer.user.empty() && answer.deliver && !answer.has_expires);
}

void test_a_full_answer(void **) {
    assert_true(
        parse(R"({"user":"5\u0036","info":{"name": "A"},"state":[1],"expires_in":3600,"rooms":["chat:4\u0032"],)"
              R"("join":["chat:*"],"publish":["a","b"],"data":{"x":1},"deliver":false,"expired":true,)"
              R"("error":{"code":409,"message":"n\u006f"},"commands":[{"op":"publish"}, {"op":"x"}],)"
              R"("disconnect":{"code":4001,"reason":"b\u0061d"}})"));
    assert_view(answer.user, "56");
    assert_view(answer.info, R"({"name": "A"})");
    assert_view(answer.state, "[1]");
    assert_true(answer.has_expires);
    assert_int_equal(answer.expires_in, 3600);
    assert_int_equal(answer.room_count, 1);
    assert_view(answer.rooms[0], "chat:42");
    assert_int_equal(answer.join_count, 1);
    assert_view(answer.join[0], "chat:*");
    assert_int_equal(answer.publish_count, 2);
    assert_view(answer.publish[1], "b");
    assert_true(answer.has_data);
    assert_view(answer.data, R"({"x":1})");
    assert_false(answer.deliver);
    assert_true(answer.expired);
    assert_int_equal(answer.error_code, 409);
    assert_view(answer.error_message, "no");
    assert_int_equal(answer.command_count, 2);
    assert_view(answer.commands[1], R"({"op":"x"})");
    assert_int_equal(answer.close_code, 4001);
    assert_view(answer.reason, "bad");
}

void test_defaults(void **) {
    assert_true(parse(R"({"error":{},"disconnect":{}})"));
    assert_true(answer.has_error && answer.disconnect);
    assert_int_equal(answer.error_code, 403);
    assert_int_equal(answer.close_code, 4403);
    assert_true(answer.reason.empty() && answer.error_message.empty());
}

void test_null_clears_state_and_info(void **) {
    assert_true(parse(R"({"state":null,"info":null,"data":null})"));
    assert_true(answer.has_state && answer.has_info && answer.state.empty() && answer.info.empty());
    assert_true(answer.has_data); // any JSON, null too
    assert_view(answer.data, "null");
}

void test_data64(void **) {
    assert_true(parse(R"({"data64":"AP8="})"));
    assert_true(answer.has_data64 && !answer.has_data);
    assert_int_equal(answer.data.size(), 2);
    assert_memory_equal(answer.data.data(), "\0\xff", 2);
    assert_malformed(R"({"data64":"AP8"})", "data64");
    assert_malformed(R"({"data64":1})", "data64");
    assert_malformed(R"({"data":1,"data64":""})", "only one");
}

void test_malformed(void **) {
    for (const char *bad : {"", "[]", "1", "null", "{", "{}x", "{\"a\":1,\"a\":2}", "<html>"})
        assert_malformed(bad, "bad JSON");
    assert_malformed(R"({"user":56})", "user");
    assert_malformed(R"({"user":""})", "user");
    assert_malformed(R"({"user":"a b"})", "user");
    assert_malformed(R"({"user":"\ud800"})", "user");
    assert_malformed(R"({"expires_in":0})", "expires_in");
    assert_malformed(R"({"expires_in":-1})", "expires_in");
    assert_malformed(R"({"expires_in":1.5})", "expires_in");
    assert_malformed(R"({"expires_in":"60"})", "expires_in");
    assert_malformed(R"({"expires_in":9223372036854775807})", "expires_in");
    assert_malformed(R"({"rooms":"chat"})", "rooms");
    assert_malformed(R"({"rooms":[1]})", "rooms");
    assert_malformed(R"({"rooms":["@all"]})", "rooms");
    assert_malformed(R"({"join":["@user:*"]})", "join");
    assert_malformed(R"({"publish":["a b"]})", "publish");
    assert_malformed(R"({"deliver":1})", "deliver");
    assert_malformed(R"({"expired":"yes"})", "expired");
    assert_malformed(R"({"error":"no"})", "error");
    assert_malformed(R"({"error":{"code":200}})", "error");
    assert_malformed(R"({"error":{"code":"403"}})", "error");
    assert_malformed(R"({"error":{"message":1}})", "message");
    assert_malformed(R"({"commands":{}})", "commands");
    assert_malformed(R"({"commands":[{},1]})", "commands");
    assert_malformed(R"({"disconnect":true})", "disconnect");
    assert_malformed(R"({"disconnect":{"code":1006}})", "disconnect");
    assert_malformed(R"({"disconnect":{"reason":1}})", "reason");
}

string many(size_t n, const string &one) {
    string all = "[";
    for (size_t i = 0; i < n; i++)
        all += (i ? "," : "") + one;
    return all + "]";
}

void test_bounds(void **) {
    assert_true(parse("{\"user\":\"" + string(249, 'u') + "\"}"));
    assert_malformed("{\"user\":\"" + string(250, 'u') + "\"}", "user");
    for (const char *name : {"info", "state"}) {
        assert_true(parse("{\"" + string(name) + "\":\"" + string(4094, 'x') + "\"}"));
        assert_malformed("{\"" + string(name) + "\":\"" + string(4095, 'x') + "\"}", name);
    }
    assert_true(parse("{\"expires_in\":315360000}"));
    assert_malformed("{\"expires_in\":315360001}", "expires_in");
    for (const char *name : {"rooms", "join", "publish"}) {
        assert_true(parse("{\"" + string(name) + "\":" + many(64, "\"r\"") + "}"));
        assert_malformed("{\"" + string(name) + "\":" + many(65, "\"r\"") + "}", name);
    }
    assert_true(parse("{\"commands\":" + many(64, "{}") + "}"));
    assert_int_equal(answer.command_count, 64);
    assert_malformed("{\"commands\":" + many(65, "{}") + "}", "commands");
    assert_true(parse("{\"error\":{\"message\":\"" + string(1024, 'm') + "\"}}"));
    assert_malformed("{\"error\":{\"message\":\"" + string(1025, 'm') + "\"}}", "message");
    assert_true(parse("{\"disconnect\":{\"reason\":\"" + string(123, 'r') + "\"}}"));
    assert_malformed("{\"disconnect\":{\"reason\":\"" + string(124, 'r') + "\"}}", "reason");
}

// ---------------------------------------------------------------- info

void assert_merged(view info, view more, view want) {
    assert_true(hook_merge_info(harness.reader, source(info), source(more), &out));
    assert_written(want);
}

void test_info_is_merged(void **) {
    assert_merged("", R"({"a":1})", R"({"a":1})");
    assert_merged(R"({"a":1,"b\n":[2]})", R"({"a":3,"c":4})", R"({"b\n":[2],"a":3,"c":4})");
    assert_merged("{}", "{}", "{}");
    assert_merged(R"({"a":1})", "\"text\"", "\"text\"");
    assert_merged("[1]", R"({"a":1})", R"({"a":1})");
    string large = "{\"b\":\"" + string(4080, 'x') + "\"}";
    assert_false(hook_merge_info(harness.reader, R"({"a":"0123456789"})", large, &out));
    assert_int_equal(out.size, 0);
}

} // namespace

#define TEST(name) cmocka_unit_test_setup_teardown(name, harness_begin, end)

int main() {
    const CMUnitTest tests[] = {
        TEST(test_connect),
        TEST(test_connect_names_so_many_parameters),
        TEST(test_session_events),
        TEST(test_notify),
        TEST(test_which_events_may_be_repeated),
        TEST(test_an_empty_answer),
        TEST(test_a_full_answer),
        TEST(test_defaults),
        TEST(test_null_clears_state_and_info),
        TEST(test_data64),
        TEST(test_malformed),
        TEST(test_bounds),
        TEST(test_info_is_merged),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
