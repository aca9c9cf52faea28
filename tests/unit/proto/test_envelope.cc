// Tests of proto/envelope: the commands of contracts section 8 and the envelope between nodes.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
extern "C" {
#include <cmocka.h>
}

#include "json_harness.h"
#include "proto/envelope.h"

#include <string>

using namespace belfry;
using std::string;

namespace {

buffer scratch;
buffer out;
command c;
envelope m;
error e;

int end(void **state) {
    buffer_free(&scratch);
    buffer_free(&out);
    return harness_end(state);
}

#define ASSERT_TEXT(got, want)                                                                                         \
    do {                                                                                                               \
        const string got_text(got);                                                                                    \
        const string want_text(want);                                                                                  \
        assert_int_equal(got_text.size(), want_text.size());                                                           \
        assert_memory_equal(got_text.data(), want_text.data(), want_text.size());                                      \
    } while (0)

bool parse(view text) {
    e.text[0] = '\0';
    return command_parse(harness.reader, source(text), &c, &scratch, &e);
}

void assert_command(view text, command_op op) {
    if (!parse(text)) fail_msg("%.*s: %s", static_cast<int>(text.size()), text.data(), e.text);
    assert_int_equal(c.op, op);
    // The reader goes on to other work; what was read must not change.
    json_object other;
    error ignored;
    assert_true(json_parse_object(harness.reader, source(R"({"\u0021":"\u0021\u0021\u0021\u0021\u0021\u0021"})"),
                                  &other, &ignored));
}

void assert_refused(view text, const char *reason) {
    if (parse(text)) fail_msg("accepted: %.*s", static_cast<int>(text.size()), text.data());
    assert_string_equal(e.text, reason);
}

string repeat(view text, size_t n) {
    string all;
    for (size_t i = 0; i < n; i++)
        all += text;
    return all;
}

void test_publish(void **) {
    assert_command(R"({"op":"publish","room":"chat:42","data": {"a" : 1} ,"except":["c_1","c_2"],"id":"order-77",
                      "from":{"user":"5"},"key":"price:EURUSD"})",
                   command_op::publish);
    assert_int_equal(c.room_count, 1);
    ASSERT_TEXT(c.rooms[0], "chat:42");
    assert_int_equal(c.kind, payload_kind::json);
    ASSERT_TEXT(c.data, R"({"a" : 1})");
    assert_int_equal(c.except_count, 2);
    ASSERT_TEXT(c.except[0], "c_1");
    ASSERT_TEXT(c.except[1], "c_2");
    ASSERT_TEXT(c.id, "order-77");
    ASSERT_TEXT(c.key, "price:EURUSD");
    ASSERT_TEXT(c.from, R"({"user":"5"})");
    assert_command(R"({"op":"publish","room":"@all","data":null})", command_op::publish);
    ASSERT_TEXT(c.data, "null");
    assert_int_equal(c.except_count, 0);
    ASSERT_TEXT(c.id, "");
    ASSERT_TEXT(c.from, "");
}

void test_publish_rooms(void **) {
    assert_command(R"({"op":"publish","rooms":["a","\u0062\/","@user:5"],"data":"\ud800"})", command_op::publish);
    assert_int_equal(c.room_count, 3);
    ASSERT_TEXT(c.rooms[0], "a");
    ASSERT_TEXT(c.rooms[1], "b/");
    ASSERT_TEXT(c.rooms[2], "@user:5");
    ASSERT_TEXT(c.data, R"("\ud800")");
    string most = R"({"op":"publish","data":1,"rooms":["x")" + repeat(",\"x\"", command_rooms_max - 1);
    assert_command(most + "]}", command_op::publish);
    assert_int_equal(c.room_count, command_rooms_max);
    assert_refused(most + ",\"x\"]}", "rooms: it has too many entries");
    assert_refused(R"({"op":"publish","rooms":[],"data":1})", "rooms: must name one room at least");
    assert_refused(R"({"op":"publish","rooms":"a","data":1})", "rooms: must be an array of strings");
    assert_refused(R"({"op":"publish","rooms":["a",1],"data":1})", "rooms: an entry is not a string");
    assert_refused(R"({"op":"publish","rooms":["\ud800"],"data":1})", "rooms: an entry has half a surrogate pair");
    assert_false(parse(R"({"op":"publish","rooms":["a","b c"],"data":1})"));
    assert_non_null(strstr(e.text, "rooms: entry 2: "));
    assert_false(parse(R"({"op":"publish","rooms":[""],"data":1})"));
    assert_refused(R"({"op":"publish","data":1})", "room, rooms: a publish needs exactly one of them");
    assert_refused(R"({"op":"publish","room":"a","rooms":["b"],"data":1})",
                   "room, rooms: a publish needs exactly one of them");
}

void test_publish_data64(void **) {
    assert_command(R"({"op":"publish","room":"a","data64":"aGVsbG8="})", command_op::publish);
    assert_int_equal(c.kind, payload_kind::text);
    ASSERT_TEXT(c.data, "hello");
    assert_command(R"({"op":"publish","room":"\u0061","data64":"\/\/8=","id":"\u0062"})", command_op::publish);
    assert_int_equal(c.kind, payload_kind::binary);
    ASSERT_TEXT(c.data, "\xff\xff");
    ASSERT_TEXT(c.rooms[0], "a");
    ASSERT_TEXT(c.id, "b");
    assert_command(R"({"op":"publish","room":"a","data64":""})", command_op::publish);
    assert_int_equal(c.kind, payload_kind::text);
    ASSERT_TEXT(c.data, "");
    for (view bad : {"a", "aGVsbG8", "aGVsbG8=\\n", "aGVs bG8=", "aGVsbG9=", "-_8=", "aGVsbG8==", "====", "\\u0000AAA"})
        assert_refused(R"({"op":"publish","room":"a","data64":")" + string(bad) + "\"}",
                       "data64: is not base64 with padding");
    assert_refused(R"({"op":"publish","room":"a","data64":null})", "data64: must be a string");
    assert_refused(R"({"op":"publish","room":"a"})", "data, data64: a publish needs exactly one of them");
    assert_refused(R"({"op":"publish","room":"a","data":null,"data64":""})",
                   "data, data64: a publish needs exactly one of them");
}

void test_publish_refused(void **) {
    assert_refused(R"({"op":"publish","room":1,"data":1})", "room: must be a string");
    assert_refused(R"({"op":"publish","room":null,"data":1})", "room: must be a string");
    assert_refused(R"({"op":"publish","room":"","data":1})", "room: must not be empty");
    assert_refused(R"({"op":"publish","room":"a\udc00","data":1})", "room: has half a surrogate pair");
    assert_refused(R"({"op":"publish","room":")" + string(256, 'x') + R"(","data":1})",
                   "room: must be 255 bytes at most");
    assert_command(R"({"op":"publish","room":")" + string(255, 'x') + R"(","data":1})", command_op::publish);
    for (view bad : {"a b", "a\\n", "\\u0000", "\\u007f", "\\u0085", "\\u2003", "\xc2\xa0"}) {
        assert_false(parse(R"({"op":"publish","room":")" + string(bad) + R"(","data":1})"));
        assert_true(view(e.text).substr(0, 6) == "room: ");
    }
    assert_refused(R"({"op":"publish","room":"a","data":1,"id":5})", "id: must be a string");
    assert_refused(R"({"op":"publish","room":"a","data":1,"id":""})", "id: must not be empty");
    assert_refused(R"({"op":"publish","room":"a","data":1,"key":")" + string(256, 'x') + "\"}",
                   "key: must be 255 bytes at most");
    assert_refused(R"({"op":"publish","room":"a","data":1,"from":"me"})", "from: must be an object");
    assert_refused(R"({"op":"publish","room":"a","data":1,"except":"c"})", "except: must be an array of strings");
    assert_refused(R"({"op":"publish","room":"a","data":1,"except":["x")" + repeat(",\"x\"", command_except_max) + "]}",
                   "except: it has too many entries");
}

void test_membership(void **) {
    assert_command(R"({"op":"join","conn":"c_7Qx2","room":"chat:42"})", command_op::join);
    ASSERT_TEXT(c.conn, "c_7Qx2");
    ASSERT_TEXT(c.user, "");
    assert_int_equal(c.room_count, 1);
    ASSERT_TEXT(c.rooms[0], "chat:42");
    assert_command(R"({"op":"leave","user":"\u00fc56","room":"\u0061"})", command_op::leave);
    ASSERT_TEXT(c.user, "\xc3\xbc"
                        "56");
    ASSERT_TEXT(c.rooms[0], "a");
    for (view op : {"join", "leave"}) {
        string begin = R"({"op":")" + string(op) + "\"";
        assert_refused(begin + R"(,"conn":"c"})", "room: is missing");
        assert_refused(begin + R"(,"conn":"c","rooms":["a"]})", "room: is missing");
        assert_refused(begin + R"(,"room":"a"})", "conn, user: exactly one of them is needed");
        assert_refused(begin + R"(,"room":"a","conn":"c","user":"u"})", "conn, user: exactly one of them is needed");
        assert_refused(begin + R"(,"room":"a","conn":5})", "conn: must be a string");
        assert_refused(begin + R"(,"room":"a","user":null})", "user: must be a string");
        assert_refused(begin + R"(,"room":"a","user":""})", "user: must not be empty");
        assert_false(parse(begin + R"(,"room":"a","user":"x\n"})"));
        assert_false(parse(begin + R"(,"room":"","user":"x"})"));
    }
    // "@user:" and the id are a room's name.
    assert_command(R"({"op":"join","room":"a","user":")" + string(249, 'u') + "\"}", command_op::join);
    assert_refused(R"({"op":"join","room":"a","user":")" + string(250, 'u') + "\"}", "user: must be 249 bytes at most");
}

void test_disconnect(void **) {
    assert_command(R"({"op":"disconnect","conn":"c"})", command_op::disconnect);
    ASSERT_TEXT(c.conn, "c");
    assert_int_equal(c.code, 4403);
    assert_false(c.reconnect);
    assert_int_equal(c.room_count, 0);
    assert_command(R"({"op":"disconnect","room":"a","code":3000,"reason":"b\u00fce","reconnect":true})",
                   command_op::disconnect);
    assert_int_equal(c.room_count, 1);
    ASSERT_TEXT(c.rooms[0], "a");
    assert_int_equal(c.code, 3000);
    ASSERT_TEXT(c.reason, "b\xc3\xbc"
                          "e");
    assert_true(c.reconnect);
    assert_command(R"({"op":"disconnect","user":"u","reason":"","reconnect":false})", command_op::disconnect);
    ASSERT_TEXT(c.reason, "");
    const char *targets = "conn, user, room: exactly one of them is needed";
    assert_refused(R"({"op":"disconnect"})", targets);
    assert_refused(R"({"op":"disconnect","conn":"c","user":"u"})", targets);
    assert_refused(R"({"op":"disconnect","conn":"c","room":"a"})", targets);
    assert_refused(R"({"op":"disconnect","conn":"c","user":"u","room":"a"})", targets);
    assert_refused(R"({"op":"disconnect","conn":"c","reconnect":1})", "reconnect: must be true or false");
    assert_refused(R"({"op":"disconnect","conn":"c","reason":1})", "reason: must be a string");
    assert_refused(R"({"op":"disconnect","conn":"c","reason":"\ud800"})", "reason: has half a surrogate pair");
    assert_command(R"({"op":"disconnect","conn":"c","reason":")" + string(123, 'x') + "\"}", command_op::disconnect);
    assert_refused(R"({"op":"disconnect","conn":"c","reason":")" + string(124, 'x') + "\"}",
                   "reason: must be 123 bytes at most");
}

void test_codes(void **) {
    for (int code : {1000, 1001, 1008, 1011, 1012, 1013, 3000, 3999, 4000, 4403, 4999}) {
        assert_command(R"({"op":"disconnect","conn":"c","code":)" + std::to_string(code) + "}", command_op::disconnect);
        assert_int_equal(c.code, code);
    }
    for (view code : {"0",
                      "-1",
                      "999",
                      "1002",
                      "1003",
                      "1004",
                      "1005",
                      "1006",
                      "1007",
                      "1009",
                      "1010",
                      "1014",
                      "1015",
                      "2000",
                      "2999",
                      "5000",
                      "66536",
                      "4294971699",
                      "1000.0",
                      "1e3",
                      "\"1000\"",
                      "null",
                      "99999999999999999999"}) {
        assert_refused(R"({"op":"disconnect","conn":"c","code":)" + string(code) + "}",
                       "code: must be 1000, 1001, 1008, 1011 to 1013 or 3000 to 4999");
    }
}

void test_refresh(void **) {
    assert_command(R"({"op":"refresh","conn":"c"})", command_op::refresh);
    ASSERT_TEXT(c.conn, "c");
    assert_command(R"({"op":"refresh","user":"u","code":"ignored","room":7})", command_op::refresh);
    ASSERT_TEXT(c.user, "u");
    assert_int_equal(c.room_count, 0);
    assert_refused(R"({"op":"refresh"})", "conn, user: exactly one of them is needed");
    assert_refused(R"({"op":"refresh","conn":"c","user":"u"})", "conn, user: exactly one of them is needed");
}

void test_unknown(void **) {
    const char *none = "\" is none of publish, join, leave, disconnect, refresh";
    assert_refused(R"({"op":"fly"})", ("op: \"fly" + string(none)).c_str());
    assert_int_equal(c.op, command_op::unknown);
    assert_refused(R"({"op":"a\"b\\\n\u001b[2J\u00fc\u0000"})", ("op: \"a?b???[2J???" + string(none)).c_str());
    assert_refused(R"({"op":")" + string(33, 'x') + "\"}", ("op: \"" + string(32, 'x') + "..." + none).c_str());
    assert_refused(R"({"op":"Publish"})", ("op: \"Publish" + string(none)).c_str());
    assert_refused(R"({"op":""})", ("op: \"" + string(none)).c_str());
    assert_refused(R"({})", "op: is missing");
    assert_refused(R"({"op":1})", "op: must be a string");
    assert_refused("[]", "bad JSON: it is not an object");
    assert_refused("", "bad JSON: it is empty");
    assert_refused(R"({"op":"refresh","conn":"c","conn":"d"})", "bad JSON: a member is named twice");
    assert_command(R"({"op":"refresh","conn":"c","more":{"a":[1]},"op2":null})", command_op::refresh);
}

bool read(view text) {
    e.text[0] = '\0';
    return envelope_parse(harness.reader, source_before(text, "}]\"\n"), &m, &scratch, &e);
}

void assert_no_envelope(view text, const char *reason) {
    if (read(text)) fail_msg("accepted: %.*s", static_cast<int>(text.size()), text.data());
    assert_string_equal(e.text, reason);
}

void test_envelope_write(void **) {
    m = {};
    m.node = "k3Fq9a";
    m.sequence = 17;
    m.kind = payload_kind::json;
    m.time_ms = 1760000000123;
    m.from = "{\n \"a\":\"\\n\"\n}";
    m.except[0] = "c_\"1";
    m.except[1] = "c_2";
    m.except_count = 2;
    m.payload = "{\n}";
    envelope_write(&m, &out);
    ASSERT_TEXT(buffer_view(&out), "{\"v\":1,\"node\":\"k3Fq9a\",\"seq\":17,\"kind\":\"json\",\"except\":[\"c_\\\"1\","
                                   "\"c_2\"],\"from\":{  \"a\":\"\\n\" },"
                                   "\"time\":1760000000123}\n{\n}");
    assert_true(read(string(buffer_view(&out))));
    ASSERT_TEXT(m.node, "k3Fq9a");
    assert_int_equal(m.sequence, 17);
    assert_int_equal(m.kind, payload_kind::json);
    assert_true(m.time_ms == 1760000000123);
    ASSERT_TEXT(m.from, "{  \"a\":\"\\n\" }");
    assert_int_equal(m.except_count, 2);
    ASSERT_TEXT(m.except[0], "c_\"1");
    ASSERT_TEXT(m.except[1], "c_2");
    ASSERT_TEXT(m.payload, "{\n}");
}

void test_envelope_kinds(void **) {
    const string head = R"({"v":1,"node":"_-9","seq":0,"time":0,"kind":")";
    assert_true(read(head + "text\"}\nhello\n\xe2\x82\xac"));
    assert_int_equal(m.kind, payload_kind::text);
    ASSERT_TEXT(m.payload, "hello\n\xe2\x82\xac");
    assert_int_equal(m.except_count, 0);
    ASSERT_TEXT(m.from, "");
    assert_true(read(head + string("binary\"}\n\xff\0\n", 12)));
    assert_int_equal(m.kind, payload_kind::binary);
    ASSERT_TEXT(m.payload, view("\xff\0\n", 3));
    assert_true(read(head + "binary\"}\n"));
    ASSERT_TEXT(m.payload, "");
    assert_true(read(head + "json\"}\n\"\\ud800\""));
    const char *payload = "envelope: payload: is not of its kind";
    assert_no_envelope(head + "text\"}\n\xff", payload);
    for (view bad : {"", "{", "[1,[2]", "1,", "{}}", "NaN", "{\"a\":{}"})
        assert_no_envelope(head + "json\"}\n" + string(bad), payload);
    assert_true(read(head + "any\"}\n\xff{")); // whatever it is
    assert_int_equal(m.kind, payload_kind::any);
    const char *kind = "envelope: kind: must be json, text, binary or any";
    for (view bad : {"", "JSON", "jso"})
        assert_no_envelope(head + string(bad) + "\"}\n1", kind);
}

void test_envelope_refused(void **) {
    assert_no_envelope(R"({"v":1,"node":"a","seq":1,"kind":"text","time":1})",
                       "envelope: head: does not end in a line feed");

    assert_no_envelope("{\"v\":1,\"from\":{}\nx", "bad JSON: a bracket is not closed"); // not with the padding's help
    const string rest = R"(,"seq":1,"kind":"text","time":1})"
                        "\nx";
    for (view v : {"2", "0", "1.0", "\"1\"", "null"})
        assert_no_envelope("{\"v\":" + string(v) + ",\"node\":\"a\"" + rest, "envelope: v: must be 1");
    assert_no_envelope("{\"node\":\"a\"" + rest, "envelope: v: must be 1");
    assert_no_envelope("{\"v\":1" + rest, "envelope: node: must be a string");
    assert_no_envelope("{\"v\":1,\"node\":\"\"" + rest, "envelope: node: must be 1 to 32 characters");
    assert_no_envelope("{\"v\":1,\"node\":\"" + string(33, 'n') + "\"" + rest,
                       "envelope: node: must be 1 to 32 characters");
    assert_true(read("{\"v\":1,\"node\":\"" + string(32, 'n') + "\"" + rest));
    for (view node : {"a+b", "a/b", "a=", "a b", "\\u0061", "\xc3\xa9"})
        assert_no_envelope("{\"v\":1,\"node\":\"" + string(node) + "\"" + rest, "envelope: node: must be base64url");
    const char *seq = "envelope: seq: must be an integer of 0 or more";
    for (view bad : {"-1", "1.5", "\"1\"", "9223372036854775808", "null"})
        assert_no_envelope("{\"v\":1,\"node\":\"a\",\"kind\":\"text\",\"time\":1,\"seq\":" + string(bad) + "}\nx", seq);
    assert_no_envelope("{\"v\":1,\"node\":\"a\",\"kind\":\"text\",\"time\":1}\nx", seq);
    assert_no_envelope("{\"v\":1,\"node\":\"a\",\"kind\":\"text\",\"seq\":1}\nx",
                       "envelope: time: must be an integer of 0 or more");
    const string head = R"({"v":1,"node":"a","seq":1,"kind":"text","time":1,)";
    assert_no_envelope(head + "\"from\":1}\nx", "envelope: from: must be an object");
    assert_no_envelope(head + "\"except\":1}\nx", "envelope: except: must be an array of strings");
    assert_no_envelope(head + "\"except\":[1]}\nx", "envelope: except: an entry is not a string");
    assert_false(read(head + "\"except\":[\"a b\"]}\nx"));
    assert_no_envelope(head + "\"except\":[\"x\"" + repeat(",\"x\"", command_except_max) + "]}\nx",
                       "envelope: except: it has too many entries");
    assert_true(read(head + "\"later\":{}}\nx")); // unknown members are ignored
}

constexpr char plain[] = R"({"v":1,"node":"a","seq":1,"kind":"json","time":1)";

void test_envelope_position(void **) {
    const string rest = string(plain) + "}\n{}";
    assert_true(read("k3Fq 18\n" + rest));
    ASSERT_TEXT(position_epoch(&m.at), "k3Fq");
    assert_int_equal(m.at.offset, 18);
    ASSERT_TEXT(m.payload, "{}");
    assert_true(read("A-_45678 9223372036854775807\n" + rest));
    assert_true(m.at.offset == INT64_MAX);
    assert_true(read(rest));
    assert_true(position_none(&m.at));
    for (view bad : {"", "hello", "hello\nyou", "\n{}", "k3Fq\n", "k3Fq 0\n", " 1\n", "k3Fq  1\n", "k3Fq 1 \n",
                     "k3Fq -1\n", "123456789 1\n", "k3/q 1\n", "k3Fq 9223372036854775808\n", "k3Fq 1\r\n"})
        assert_no_envelope(string(bad) + (bad.ends_with("\n") ? rest : ""),
                           "envelope: position: must be an epoch, a space, an offset and a line feed");
    assert_no_envelope("k3Fq 1\nk3Fq 1\n" + rest, "bad JSON: it is not an object");
}

void test_envelope_key(void **) {
    m = {};
    m.node = "a";
    m.kind = payload_kind::text;
    m.key = "price:\"EUR\n";
    buffer_clear(&out);
    envelope_write(&m, &out);
    ASSERT_TEXT(buffer_view(&out), R"({"v":1,"node":"a","seq":0,"kind":"text","key":"price:\"EUR\n","time":0})"
                                   "\n");
    assert_true(read(string(buffer_view(&out))));
    ASSERT_TEXT(m.key, "price:\"EUR\n");
    assert_true(read(string(plain) + ",\"key\":\"" + string(255, 'k') + "\"}\n1"));
    assert_no_envelope(string(plain) + ",\"key\":\"" + string(256, 'k') + "\"}\n1",
                       "envelope: key: must be 1 to 255 bytes");
    assert_no_envelope(string(plain) + ",\"key\":\"\"}\n1", "envelope: key: must be 1 to 255 bytes");
    for (view bad : {"1", "null", "\"\\ud800\""})
        assert_no_envelope(string(plain) + ",\"key\":" + string(bad) + "}\n1", "envelope: key: must be a string");
}

void test_envelope_ack(void **) {
    m = {};
    m.node = "a";
    m.kind = payload_kind::text;
    m.ack = true;
    buffer_clear(&out);
    envelope_write_head(&m, &out);
    ASSERT_TEXT(buffer_view(&out), R"({"v":1,"node":"a","seq":0,"kind":"text","ack":true,"time":0})");
    assert_true(read(string(buffer_view(&out)) + "\n"));
    assert_true(m.ack);
    assert_true(read(string(plain) + "}\n1"));
    assert_false(m.ack);
    for (view bad : {"false", "1", "\"true\"", "null"})
        assert_no_envelope(string(plain) + ",\"ack\":" + string(bad) + "}\n1",
                           "envelope: ack: must be true, or left out");
}

void test_envelope_member(void **) {
    m = {};
    m.node = "a";
    m.kind = payload_kind::json;
    m.member = true;
    m.payload = R"({"event":"join"})";
    buffer_clear(&out);
    envelope_write(&m, &out);
    ASSERT_TEXT(buffer_view(&out), R"({"v":1,"node":"a","seq":0,"kind":"json","what":"member","time":0})"
                                   "\n"
                                   R"({"event":"join"})");
    assert_true(read(string(buffer_view(&out))));
    assert_true(m.member);
    const string head = string(plain) + R"(,"what":"member"})"
                                        "\n";
    for (view bad : {"{}", "[\"a\"]", "1", "{ }", " {\"a\":1}", "{\"a\":1}\n"}) // its braces are cut off
        assert_no_envelope(head + string(bad), "envelope: payload: is no member event");
    assert_no_envelope(string(plain) + R"(,"what":"other"})"
                                       "\n{}",
                       "envelope: what: must be member, or left out");
    assert_no_envelope(R"({"v":1,"node":"a","seq":1,"kind":"text","time":1,"what":"member"})"
                       "\n{\"a\":1}",
                       "envelope: payload: is no member event");
    assert_true(read(string(plain) + "}\n{}"));
    assert_false(m.member);
}

} // namespace

#define TEST(name) cmocka_unit_test_setup_teardown(name, harness_begin, end)

int main() {
    const CMUnitTest tests[] = {
        TEST(test_publish),
        TEST(test_publish_rooms),
        TEST(test_publish_data64),
        TEST(test_publish_refused),
        TEST(test_membership),
        TEST(test_disconnect),
        TEST(test_codes),
        TEST(test_refresh),
        TEST(test_unknown),
        TEST(test_envelope_write),
        TEST(test_envelope_kinds),
        TEST(test_envelope_refused),
        TEST(test_envelope_position),
        TEST(test_envelope_key),
        TEST(test_envelope_member),
        TEST(test_envelope_ack),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
