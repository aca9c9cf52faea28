// Tests of proto/client_json: contracts section 4, the client's side.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
extern "C" {
#include <cmocka.h>
}

#include "json_harness.h"
#include "proto/client_json.h"

#include <string>

using namespace belfry;
using std::string;

namespace {

client_request request;
error e;

client_parse parse(view text) {
    e.text[0] = '\0';
    return client_json_parse(harness.reader, source(text), &request, &e);
}

void assert_ok(view text, client_op op) {
    if (parse(text) != client_parse::ok) fail_msg("%.*s: %s", static_cast<int>(text.size()), text.data(), e.text);
    assert_int_equal(request.op, op);
}

void assert_bad(view text, const char *reason) {
    assert_int_equal(parse(text), client_parse::bad_member);
    assert_string_equal(e.text, reason);
}

#define ASSERT_TEXT(got, want)                                                                                         \
    do {                                                                                                               \
        const string got_text(got);                                                                                    \
        assert_string_equal(got_text.c_str(), want);                                                                   \
    } while (0)

void test_join(void **) {
    assert_ok(R"({"type":"join","id":1,"room":"chat:42","since":{"epoch":"k3Fq","offset":17}})", client_op::join);
    ASSERT_TEXT(request.type, "join");
    assert_true(request.has_id);
    assert_int_equal(request.id, 1);
    assert_true(request.has_room);
    ASSERT_TEXT(request.room, "chat:42");
    assert_true(request.has_since);
    ASSERT_TEXT(request.since_epoch, "k3Fq");
    assert_int_equal(request.since_offset, 17);
    assert_ok(R"({"type":"join","room":"a"})", client_op::join);
    assert_false(request.has_id);
    assert_false(request.has_since);
    assert_ok(R"({"type":"join"})", client_op::join);
    assert_false(request.has_room);
    ASSERT_TEXT(request.room, "");
    assert_ok(R"({"type":"join","room":""})", client_op::join);
    assert_true(request.has_room);
}

// Texts of the request stay whole while the object inside it is read.
void test_join_with_escapes(void **) {
    assert_ok(
        R"({"\u0074ype":"jo\u0069n","room":"\u00fc\/\ud83d\ude00","since":{"\u0065poch":"\u006b\n","offset":0,"x":"\u0041"}})",
        client_op::join);
    ASSERT_TEXT(request.type, "join");
    ASSERT_TEXT(request.room, "\xc3\xbc/\xf0\x9f\x98\x80");
    ASSERT_TEXT(request.since_epoch, "k\n");
}

void test_bad_since(void **) {
    for (view since : {"1", "null", "[]", "{}", R"({"epoch":"a"})", R"({"offset":1})", R"({"epoch":1,"offset":1})",
                       R"({"epoch":"a","offset":-1})", R"({"epoch":"a","offset":1.5})", R"({"epoch":"a","offset":"1"})",
                       R"({"epoch":"\ud800","offset":1})", R"({"epoch":"a","epoch":"b","offset":1})"}) {
        assert_bad(R"({"type":"join","id":5,"room":"a","since":)" + string(since) + "}",
                   "since: must be an object with a string epoch and an integer offset of 0 or more");
        assert_true(request.has_id);
        assert_int_equal(request.id, 5);
        assert_false(request.has_since);
    }
}

void test_publish(void **) {
    assert_ok(R"({"type":"publish","id":3,"room":"chat:42","data": { "a" : [1, "\u0041"] } ,"echo":false})",
              client_op::publish);
    ASSERT_TEXT(request.data, R"({ "a" : [1, "\u0041"] })");
    assert_false(request.echo);
    assert_ok(R"({"type":"publish","room":"a","data":"\ud800","echo":true})", client_op::publish);
    ASSERT_TEXT(request.data, R"("\ud800")");
    assert_true(request.echo);
    assert_ok(R"({"type":"publish","room":"a"})", client_op::publish);
    ASSERT_TEXT(request.data, "null");
    assert_true(request.echo);
    assert_bad(R"({"type":"publish","room":"a","echo":"no"})", "echo: must be true or false");
    assert_bad(R"({"type":"publish","room":"a","echo":null})", "echo: must be true or false");
}

void test_others(void **) {
    assert_ok(R"({"type":"leave","id":2,"room":"chat:42"})", client_op::leave);
    ASSERT_TEXT(request.room, "chat:42");
    assert_ok(R"({"type":"call","id":4,"method":"order.create","data":[1]})", client_op::call);
    ASSERT_TEXT(request.method, "order.create");
    ASSERT_TEXT(request.data, "[1]");
    assert_ok(R"({"type":"members","id":5,"room":"chat:42"})", client_op::members);
    ASSERT_TEXT(request.room, "chat:42");
    assert_ok(R"({"type":"auth","id":6,"token":"a.b.c"})", client_op::auth);
    ASSERT_TEXT(request.token, "a.b.c");
    assert_ok(R"({"type":"ping","id":7})", client_op::ping);
    assert_int_equal(request.id, 7);
    assert_ok(R"({"type":"ping"})", client_op::ping);
    assert_false(request.has_id);
}

void test_ids(void **) {
    assert_ok(R"({"type":"ping","id":-9223372036854775808})", client_op::ping);
    assert_true(request.id == INT64_MIN);
    for (view id : {"1.0", "1e3", "9223372036854775808", "\"1\"", "null", "true", "[1]"}) {
        assert_bad(R"({"type":"ping","id":)" + string(id) + "}", "id: must be an integer");
        assert_false(request.has_id);
    }
}

void test_wrong_types(void **) {
    assert_bad(R"({"type":"join","id":9,"room":5})", "room: must be a string of valid Unicode");
    assert_int_equal(request.id, 9);
    assert_false(request.has_room);
    assert_bad(R"({"room":null,"type":"leave"})", "room: must be a string of valid Unicode");
    assert_bad(R"({"type":"members","room":{}})", "room: must be a string of valid Unicode");
    assert_bad(R"({"type":"publish","room":"a\udc00"})", "room: must be a string of valid Unicode");
    assert_bad(R"({"type":"call","method":1})", "method: must be a string of valid Unicode");
    assert_bad(R"({"type":"auth","token":["x"]})", "token: must be a string of valid Unicode");
}

// A member that a type does not know is ignored, also one that another type knows.
void test_unknown(void **) {
    assert_ok(R"({"type":"fly","id":1,"room":5,"echo":7})", client_op::unknown);
    ASSERT_TEXT(request.type, "fly");
    assert_int_equal(request.id, 1);
    assert_false(request.has_room);
    for (view type : {"", "Join", "join ", "joi", "joins", "welcome", "ok", "\\u0000"})
        assert_ok(R"({"type":")" + string(type) + "\"}", client_op::unknown);
    assert_ok(R"({"type":"ping","room":5,"data":{},"extra":[[]]})", client_op::ping);
    assert_false(request.has_room);
    ASSERT_TEXT(request.data, "null");
}

void test_not_an_object(void **) {
    for (view text :
         {"", "hello", "[]", "1", "\"join\"", "null", "{}", R"({"id":1})", R"({"type":1})", R"({"type":null})",
          R"({"type":["join"]})", R"({"type":"ping","type":"ping"})", R"({"type":"ping"}x)", R"({"type":"ping",})",
          "{\"type\":\"\xff\"}", R"({"Type":"ping"})", "{\"type\":\"publish\",\"data\":NaN}"}) {
        assert_int_equal(parse(text), client_parse::not_an_object);
        assert_true(e.text[0] != '\0');
    }
    parse(R"({"type":"publish","data":"secret","data":"secret"})");
    assert_null(strstr(e.text, "secret"));
    parse(R"({"type":1})");
    assert_string_equal(e.text, "type: must be a string");
}

// What would break out of the object that the data is put into.
void test_data_is_one_value(void **) {
    for (view data : {"1,\"room\":\"x\"", "{}}", "[]]", "1}{", "\"a\"b", "[1,[2]", "{\"a\":1", "tru", "1 2", "\"\n\"",
                      "", "//", "\"\\\""}) {
        assert_int_equal(parse(R"({"type":"publish","room":"a","data":)" + string(data) + R"(,"room2":1,"room":"b"})"),
                         client_parse::not_an_object);
    }
}

} // namespace

#define TEST(name) cmocka_unit_test_setup_teardown(name, harness_begin, harness_end)

int main() {
    const CMUnitTest tests[] = {
        TEST(test_join),          TEST(test_join_with_escapes),
        TEST(test_bad_since),     TEST(test_publish),
        TEST(test_others),        TEST(test_ids),
        TEST(test_wrong_types),   TEST(test_unknown),
        TEST(test_not_an_object), TEST(test_data_is_one_value),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
