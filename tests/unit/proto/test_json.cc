// Tests of proto/json and proto/json_text. The cases of the grammar follow the JSONTestSuite's families: y_ must be
// accepted, n_ must be refused; of its i_ (up to the implementation) each is decided here.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
extern "C" {
#include <cmocka.h>
}

#include "json_harness.h"
#include "proto/json_text.h"

#include <string>
#include <vector>

using namespace belfry;
using std::string;

namespace {

buffer out;
error e;
json_object object;

int end(void **state) {
    buffer_free(&out);
    return harness_end(state);
}

// What the next bytes in memory may be; some of them would complete a broken document.
const view paddings[] = {view("\0", 1), "]",  "}",   "\"",  ",",         ":",  "1",
                         " ",           "]}", "\"}", ":1}", "{\"a\":1}", "\\", "\xff"};

// The verdict, which must be the same before any padding.
bool valid(view text) {
    bool verdict = json_valid(harness.reader, source(text));
    for (view padding : paddings) {
        if (json_valid(harness.reader, source_before(text, padding)) == verdict) continue;
        fail_msg("\"%.*s\" depends on the padding \"%.*s\"", static_cast<int>(text.size()), text.data(),
                 static_cast<int>(padding.size()), padding.data());
    }
    return verdict;
}

void assert_valid(std::initializer_list<view> texts) {
    for (view text : texts) {
        if (!valid(text)) fail_msg("refused: %.*s", static_cast<int>(text.size()), text.data());
        (void)harness_end(nullptr);
        (void)harness_begin(nullptr);
    }
}

void assert_refused(std::initializer_list<view> texts) {
    for (view text : texts) {
        if (valid(text)) fail_msg("accepted: %.*s", static_cast<int>(text.size()), text.data());
        (void)harness_end(nullptr);
        (void)harness_begin(nullptr);
    }
}

bool parse(view text) {
    e.text[0] = '\0';
    return json_parse_object(harness.reader, source(text), &object, &e);
}

void assert_reason(view text, const char *reason) {
    assert_false(parse(text));
    assert_string_equal(e.text, reason);
}

#define ASSERT_TEXT(got, want)                                                                                         \
    do {                                                                                                               \
        const string got_text(got);                                                                                    \
        const string want_text(want);                                                                                  \
        assert_int_equal(got_text.size(), want_text.size());                                                           \
        assert_memory_equal(got_text.data(), want_text.data(), want_text.size());                                      \
    } while (0)

string repeat(view text, size_t n) {
    string all;
    for (size_t i = 0; i < n; i++)
        all += text;
    return all;
}

void test_accepts_structures(void **) {
    assert_valid({"[]",
                  "{}",
                  "[[]   ]",
                  " [] ",
                  "[\"a\"]",
                  "[null, 1, \"1\", {}]",
                  "[1\n]",
                  " [1]",
                  "[1,null,null,null,2]",
                  "[2] ",
                  "{\"a\":[]}",
                  "{\"\":0}",
                  "{\"a\":\"b\",\"a\":\"c\"}",
                  "{\n\"a\": \"b\"\n}",
                  "\r\n\t {}\n",
                  "{\"a\":{\"b\":[{},[],{\"c\":[[]]}]}}",
                  "[[[],[]],[]]",
                  "[{},{}]",
                  "[\"]\",\"}\",\",\",\":\"]",
                  "{\"foo\\u0000bar\": 42}",
                  "{\"a\" : 1 , \"b\" : [ 1 , 2 ] }"});
}

void test_accepts_scalars(void **) {
    assert_valid({"true", "false", "null", " null ", "\"\"", "\"a\"", "42", "-0.1", "0", "-0", "[0e+1]", "[0e1]",
                  "[ 4]", "[-0.000000000000000000000000000000000000000000000000000000000000000000000000000001]",
                  "[20e1]", "[-123]", "[-1]", "[1E22]", "[1E-2]", "[1E+2]", "[123e45]", "[123.456e78]", "[123.456789]",
                  // Of any size: what does not fit is relayed all the same.
                  "[123123e100000]", "[0.4e00669999999999999999999999999999999999999999999]", "[-1e+9999]",
                  "[100000000000000000000]", "[-123123123123123123123123123123]", "[1.5e+9999]"});
}

void test_accepts_strings(void **) {
    assert_valid({R"(["\u0060\u012a\u12AB"])", R"(["\uD801\udc37"])", R"(["\"\\\/\b\f\n\r\t"])", R"(["\\u0000"])",
                  R"(["\""])", "[\"a/*b*/c/*d//e\"]", R"(["\\a"])", R"(["\u0012"])", "[\"\xe2\x80\xa8\xe2\x80\xa9\"]",
                  "[\"\x7f\"]", "[\"\xf0\x9f\x98\x80\"]", "[\"\xef\xbf\xbf\xef\xbb\xbf\"]", R"(["\uFFFE\uFEFF"])",
                  "[\"asd \"]", R"("\\")", R"(["\\","\\\\",""])",
                  // Half surrogate pairs are grammatical (RFC 8259 section 8.2); verbatim data may hold them.
                  R"(["\uDADA"])", R"(["\ud800\ud800\n"])", R"(["\uDd1ea"])", R"(["\ud800abc"])", R"(["\uDFAA"])"});
}

void test_refuses_structures(void **) {
    assert_refused({"",
                    " ",
                    "\n",
                    "[",
                    "]",
                    "{",
                    "}",
                    "[1",
                    "[1,",
                    "[1,]",
                    "[,1]",
                    "[1,,2]",
                    "[,]",
                    "[\"\",]",
                    "[\"a\",\n4\n,",
                    "[   , \"\"]",
                    "[1,\n1\n,1",
                    "[{}",
                    "[][]",
                    "[]]",
                    "{}}",
                    "{}{}",
                    "{} []",
                    "{} 1",
                    "1 1",
                    "1 2",
                    "\"a\" \"b\"",
                    "\"a\"\"b\"",
                    "[]a",
                    "{}#",
                    "[1]x",
                    "[3[4]]",
                    "[1 true]",
                    "[1 2]",
                    "[1\"a\"]",
                    "[\"a\"1]",
                    "[\"a\" \"b\"]",
                    "[[]1]",
                    "[{}{}]",
                    "[[][]]",
                    "[1:2]",
                    "[\"a\":1]",
                    "[\"a\":1]]",
                    "[[\"a\":1]]]",
                    "{\"b\":[\"a\":1]]}",
                    "[\"a\":\"b\"]",
                    "[:]",
                    "[\"a\",:]",
                    "[a",
                    "[x",
                    "*"});
    assert_refused({"{\"a\"}",
                    "{\"a\":}",
                    "{\"a\" 1}",
                    "{\"a\":1,}",
                    "{\"a\":1,,\"b\":2}",
                    "{,\"a\":1}",
                    "{1:1}",
                    "{a:1}",
                    "{'a':0}",
                    "{null:1}",
                    "{[]:1}",
                    "{{}:1}",
                    "{\"a\"::1}",
                    "{\"a\":1:2}",
                    "{\"a\":1 \"b\":2}",
                    "{\"a\":1}\"b\"",
                    "{:1}",
                    "{:}",
                    "{,}",
                    "{\"a\",\"b\"}",
                    "{\"a\":\"b\",\"c\"}",
                    "{\"a\":\"b\",\"c\":}",
                    "{\"a\"x:1}",
                    "{\"a\" x:1}",
                    "{\"a\":1x}",
                    "{\"a\":[]x}",
                    "{\"a\":1]",
                    "[1}",
                    "{]",
                    "[}",
                    "{\"a\":[1}]",
                    "[{\"a\":1]}",
                    "[\"a",
                    "[\"a]",
                    "{\"a",
                    "{\"a\"",
                    "{\"a\":",
                    "{\"a\":\"b",
                    "{\"a\":\"b\"",
                    "{\"a\":/*c*/1}",
                    "{}//",
                    "[1]/**/",
                    "#{}"});
}

// These end in the outermost bracket's twin, and the missing one may stand in the padding.
void test_refuses_what_padding_completes(void **) {
    assert_refused({"[1,[2]", "[[]", "[[[]]", "{\"a\":{}", "{\"a\":{\"b\":1}", "{\"a\":{\"b\":{}}", "[{\"a\":[]",
                    "[[1],[2]", "[{\"a\":1},[]", "{\"a\":[{}", "[\"a\",[\"b\"]", "[[\"a\"]"});
}

void test_refuses_scalars(void **) {
    assert_refused(
        {"-",         "+1",          "01",         "-01",     "-012",    "00",        "1.",
         ".1",        "-.1",         "2.e3",       "1e",      "1e+",     "1E-",       "0e",
         "0e+",       "1.0e",        "1.0e+",      "0.1.2",   "1eE2",    "1 000",     "0x1",
         "0x42",      "1_000",       "1a",         "-1x",     "1ea",     "1+2",       "--1",
         "- 1",       "++1",         "1.2a-3",     "NaN",     "-NaN",    "nan",       "Infinity",
         "-Infinity", "inf",         "Inf",        "tru",     "truee",   "True",      "TRUE",
         "nul",       "nulll",       "fals",       "falsee",  "n",       "undefined", "\xef\xbc\x91" /* U+FF11 */,
         "[1.]",      "[01]",        "[-]",        "[NaN]",   "[tru]",   "[nulls]",   "{\"a\":01}",
         "{\"a\":-}", "{\"a\":tru}", "{\"a\":1.}", "[1e1e1]", "[1.1.1]", "[-1.-1]",   "'a'",
         "['a']"});
    assert_refused(
        {view("1\0", 2), view("[1\0]", 4), view("{}\0", 3), view("\0{}", 3), view("[\0]", 3), view("tr\0e", 4)});
    assert_refused({"[\v1]", "[\f1]", "[\xc2\xa0]", "[\xe2\x80\x8b]", "\v{}", "{}\f"});
}

void test_refuses_strings(void **) {
    assert_refused({R"(["\x00"])",
                    R"(["\'"])",
                    R"(["\a"])",
                    R"(["\v"])",
                    R"(["\U0041"])",
                    R"(["\u"])",
                    R"(["\u1"])",
                    R"(["\u12"])",
                    R"(["\u123"])",
                    R"(["\u123g"])",
                    R"(["\u-123"])",
                    R"(["\u+123"])",
                    R"(["\u 123"])",
                    R"(["\uD834\uDd"])",
                    R"(["\uD800\u"])",
                    R"(["\uD800\u1x"])",
                    R"(["\)",
                    R"(["\"])",
                    R"(["\\\"])",
                    R"("\)",
                    R"("\")",
                    "\"",
                    "\"a",
                    R"({"\x":1})",
                    R"({"\u12":1})",
                    "[\"\\\xc3\xa9\"]",
                    R"(["\ "])"});
    for (int c = 0; c < 0x20; c++) {
        string text = "[\"a_b\"]";
        text[3] = static_cast<char>(c);
        assert_refused({text});
        assert_refused({"{" + text.substr(1, 5) + ":1}"});
    }
}

void test_refuses_bad_utf8(void **) {
    assert_refused({"[\"\xff\"]", "[\"\x80\"]", "[\"\xc0\x80\"]", "[\"\xc1\xbf\"]", "[\"\xe0\x80\x80\"]",
                    "[\"\xed\xa0\x80\"]", "[\"\xf0\x80\x80\x80\"]", "[\"\xf4\x90\x80\x80\"]",
                    "[\"\xf8\x88\x80\x80\x80\"]", "[\"\xc3\"]", "[\"\xe2\x82\"]", "[\xff]", "\xff", "{\"\xff\":1}",
                    "\"\xe2\x82", "[\"\xf0\x9f\x98\"]", "\xc3"});
    // A byte order mark (RFC 8259 section 8.1), of UTF-8 and of UTF-16.
    assert_refused({"\xef\xbb\xbf{}", "\xef\xbb\xbf", " \xef\xbb\xbf[]", "\xef\xbb", view("\xff\xfe[\0]\0", 6)});
}

void test_depth(void **) {
    for (size_t depth : {size_t{1}, size_t{63}, size_t{64}}) {
        assert_valid({repeat("[", depth) + repeat("]", depth), repeat("{\"a\":", depth) + "1" + repeat("}", depth),
                      repeat("[1,", depth) + "2" + repeat("]", depth)});
    }
    for (size_t depth : {size_t{65}, size_t{1024}, size_t{1025}, size_t{100000}}) {
        assert_refused({repeat("[", depth) + repeat("]", depth), repeat("{\"a\":", depth) + "1" + repeat("}", depth),
                        repeat("[", depth), repeat("{\"a\":", depth), repeat("[{\"a\":", depth) + "]"});
    }
    assert_true(parse("{\"a\":" + repeat("[", 63) + repeat("]", 63) + "}"));
    assert_reason("{\"a\":" + repeat("[", 64) + repeat("]", 64) + "}", "bad JSON: it is nested too deep");
}

void test_members(void **) {
    view text = source(" { \"a\" : [ 1 , {\"b\":2} ] , \"n\":null,\"t\":true, \"f\" :false ,\"s\":\"x y\" , \"i\":-12 "
                       ", \"d\":1.50 } ");
    assert_true(json_parse_object(harness.reader, text, &object, &e));
    assert_int_equal(object.count, 7);
    const char *names[] = {"a", "n", "t", "f", "s", "i", "d"};
    const char *raws[] = {"[ 1 , {\"b\":2} ]", "null", "true", "false", "\"x y\"", "-12", "1.50"};
    const json_type types[] = {json_type::array,  json_type::null,   json_type::boolean, json_type::boolean,
                               json_type::string, json_type::number, json_type::number};
    for (size_t i = 0; i < 7; i++) {
        ASSERT_TEXT(object.members[i].name, names[i]);
        ASSERT_TEXT(object.members[i].raw, raws[i]);
        assert_true(lies_in(object.members[i].raw, text));
        assert_int_equal(object.members[i].type, types[i]);
        assert_ptr_equal(json_find(&object, names[i]), &object.members[i]);
        assert_int_equal(object.members[i].is_integer, i == 5);
        assert_int_equal(object.members[i].text_valid, i == 4);
    }
    assert_null(json_find(&object, "b"));
    ASSERT_TEXT(json_find(&object, "s")->text, "x y");
    assert_int_equal(json_find(&object, "i")->integer, -12);
    assert_true(parse("{}"));
    assert_int_equal(object.count, 0);
}

void test_integers(void **) {
    assert_true(parse(
        "{\"a\":9223372036854775807,\"b\":-9223372036854775808,\"c\":9223372036854775808,\"d\":-9223372036854775809,"
        "\"e\":-0,\"f\":1e2,\"g\":1.0,\"h\":\"1\",\"i\":123456789012345678901234567890}"));
    const bool integers[] = {true, true, false, false, true, false, false, false, false};
    for (size_t i = 0; i < 9; i++)
        assert_int_equal(object.members[i].is_integer, integers[i]);
    assert_true(object.members[0].integer == INT64_MAX);
    assert_true(object.members[1].integer == INT64_MIN);
    assert_int_equal(object.members[4].integer, 0);
    ASSERT_TEXT(object.members[8].raw, "123456789012345678901234567890");
}

void test_unescapes(void **) {
    assert_true(
        parse(R"({"\u0061\n":"\"\\\/\b\f\n\r\t","b":"\u00e9\u20AC\ud83D\uDE00!\u0000","c":"plain","d":"\u0041"})"));
    ASSERT_TEXT(object.members[0].name, "a\n");
    ASSERT_TEXT(object.members[0].text, "\"\\/\b\f\n\r\t");
    ASSERT_TEXT(object.members[1].text, view("\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80!\0", 11));
    ASSERT_TEXT(object.members[2].text, "plain");
    ASSERT_TEXT(object.members[3].text, "A");
    for (size_t i = 0; i < 4; i++)
        assert_true(object.members[i].text_valid);
}

void test_half_surrogate_pairs(void **) {
    assert_true(
        parse(R"({"a":"x\ud800y","b":"\udc00","c":"\ud800\ud83d\ude00","d":"\ude00\ud83d","e":"\ud800\u0041"})"));
    const char *texts[] = {"x\xef\xbf\xbdy", "\xef\xbf\xbd", "\xef\xbf\xbd\xf0\x9f\x98\x80", "\xef\xbf\xbd\xef\xbf\xbd",
                           "\xef\xbf\xbd\x41"};
    for (size_t i = 0; i < 5; i++) {
        assert_false(object.members[i].text_valid);
        ASSERT_TEXT(object.members[i].text, texts[i]);
    }
    ASSERT_TEXT(object.members[0].raw, R"("x\ud800y")"); // verbatim
    assert_reason(R"({"\ud800":1})", "bad JSON: a member's name has half a surrogate pair");
    assert_true(parse(R"({"a":{"\ud800":1}})"));
}

// Many escaped members: views into scratch must not be left behind by a buffer that moved.
void test_scratch_does_not_move(void **) {
    string text = "{";
    for (int i = 0; i < 32; i++)
        text += (i ? ",\"\\u0061" : "\"\\u0061") + std::to_string(i) + "\":\"\\n" +
                string(static_cast<size_t>(i) * 50, 'x') + "\"";
    assert_true(parse(text + "}"));
    for (size_t i = 0; i < 32; i++) {
        ASSERT_TEXT(object.members[i].name, "a" + std::to_string(i));
        ASSERT_TEXT(object.members[i].text, "\n" + string(i * 50, 'x'));
    }
}

void test_reasons(void **) {
    assert_reason("", "bad JSON: it is empty");
    assert_reason("[]", "bad JSON: it is not an object");
    assert_reason("1", "bad JSON: it is not an object");
    assert_reason("\xef\xbb\xbf{}", "bad JSON: it begins with a byte order mark");
    assert_reason("{\"secret\":\"\xff\"}", "bad JSON: it is not valid UTF-8");
    assert_reason("{\"secret", "bad JSON: a string does not end");
    assert_reason("{\"secret\n\":1}", "bad JSON: a control character stands in a string");
    assert_reason("{\"a\":1,\"\\u0061\":2}", "bad JSON: a member is named twice");
    assert_reason("{\"a\":01}", "bad JSON: a number begins with a superfluous zero");
    assert_reason("{\"a\":secret}", "bad JSON: a value is no string, number, true, false or null");
    assert_reason("{}{}", "bad JSON: there is something behind its end");
    assert_reason("{\"a\":{}", "bad JSON: a bracket is not closed");
    assert_reason("{\"a\" 1}", "bad JSON: brackets, commas and colons are not where they belong");
}

void test_many_members(void **) {
    string text = "{\"0\":0";
    for (size_t i = 1; i < json_members_max; i++)
        text += ",\"" + std::to_string(i) + "\":0";
    assert_true(parse(text + "}"));
    assert_int_equal(object.count, json_members_max);
    assert_reason(text + ",\"x\":0}", "bad JSON: it has too many members");
    assert_true(parse("{\"a\":" + text + ",\"x\":0}}")); // further down there is no limit
}

void test_nested(void **) {
    assert_true(parse(R"({"\u0061":"\u0062","in":{"\u0063":"\u0064","deep":{"e":"\n"}},"other":{"x":1,"x":2}})"));
    json_object inner;
    assert_true(json_parse_nested(harness.reader, json_find(&object, "in")->raw, &inner, &e));
    ASSERT_TEXT(inner.members[0].name, "c");
    ASSERT_TEXT(inner.members[0].text, "d");
    json_object deep;
    assert_true(json_parse_nested(harness.reader, inner.members[1].raw, &deep, &e));
    ASSERT_TEXT(deep.members[0].text, "\n");
    ASSERT_TEXT(inner.members[0].text, "d");
    ASSERT_TEXT(object.members[0].name, "a");
    ASSERT_TEXT(object.members[0].text, "b");
    assert_false(json_parse_nested(harness.reader, json_find(&object, "other")->raw, &deep, &e));
    assert_string_equal(e.text, "bad JSON: a member is named twice");
}

struct seen {
    std::vector<string> raws;
    std::vector<json_type> types;
    size_t stop_at;
};

bool see(view raw, json_type type, void *context) {
    seen *s = static_cast<seen *>(context);
    s->raws.push_back(string(raw));
    s->types.push_back(type);
    // A reader in use: the elements that follow must come all the same.
    json_object inner;
    error ignored;
    (void)json_parse_object(harness.reader, source("{\"\\u0061\":[1,2,3]}"), &inner, &ignored);
    return s->raws.size() != s->stop_at;
}

void test_elements(void **) {
    static seen s;
    s = {};
    view text = source(" [ {\"a\":\"]},\\\"[\"} ,1, \"x,\\\\\" ,[ 1,[2] ],null , true,-1.5e3,\"\"]\n");
    assert_true(json_each_element(harness.reader, text, see, &s, &e));
    const char *raws[] = {"{\"a\":\"]},\\\"[\"}", "1", "\"x,\\\\\"", "[ 1,[2] ]", "null", "true", "-1.5e3", "\"\""};
    const json_type types[] = {json_type::object, json_type::number,  json_type::string, json_type::array,
                               json_type::null,   json_type::boolean, json_type::number, json_type::string};
    assert_int_equal(s.raws.size(), 8);
    for (size_t i = 0; i < 8; i++) {
        ASSERT_TEXT(s.raws[i], raws[i]);
        assert_int_equal(s.types[i], types[i]);
    }
    s = {};
    s.stop_at = 3;
    assert_true(json_each_element(harness.reader, text, see, &s, &e));
    assert_int_equal(s.raws.size(), 3);
    s = {};
    assert_true(json_each_element(harness.reader, source("[ ]"), see, &s, &e));
    for (view bad : {"[1,2,3,]", "[1,2", "[1]]", "{}", "1", "", "[1,[2]"})
        assert_false(json_each_element(harness.reader, source_before(bad, "]"), see, &s, &e));
    assert_int_equal(s.raws.size(), 0); // all or nothing
    s = {};
}

void test_read_strings(void **) {
    view strings[3];
    size_t count;
    buffer_reserve(&out, 100);
    view text = source(R"([ "a" ,"\u0062\n","c"])");
    assert_null(json_read_strings(text, strings, 3, &count, &out));
    assert_int_equal(count, 3);
    ASSERT_TEXT(strings[0], "a");
    assert_true(lies_in(strings[0], text));
    ASSERT_TEXT(strings[1], "b\n");
    ASSERT_TEXT(strings[2], "c");
    assert_null(json_read_strings(source("[]"), strings, 3, &count, &out));
    assert_int_equal(count, 0);
    assert_string_equal(json_read_strings(text, strings, 2, &count, &out), "it has too many entries");
    assert_string_equal(json_read_strings(source("[\"a\",1]"), strings, 3, &count, &out), "an entry is not a string");
    assert_string_equal(json_read_strings(source(R"(["\udead"])"), strings, 3, &count, &out),
                        "an entry has half a surrogate pair");
}

string written(view text) {
    buffer_clear(&out);
    json_write_string(&out, text);
    return string(buffer_view(&out));
}

void test_write_string(void **) {
    ASSERT_TEXT(written(""), "\"\"");
    ASSERT_TEXT(written("chat:42 \xc3\xa9 </script>"), "\"chat:42 \xc3\xa9 </script>\"");
    ASSERT_TEXT(written(view("\"\\\b\f\n\r\t\0\x01\x1f\x7f", 11)),
                "\"\\\"\\\\\\b\\f\\n\\r\\t\\u0000\\u0001\\u001f\x7f\"");
    // Unicode 15 section 3.9, table 3-8: how many U+FFFD each stands for.
    ASSERT_TEXT(written("a\xff"
                        "b"),
                "\"a\xef\xbf\xbd"
                "b\"");
    ASSERT_TEXT(written("\xe2\x82"), "\"\xef\xbf\xbd\"");
    ASSERT_TEXT(written("\xe2\x82\"\n"), "\"\xef\xbf\xbd\\\"\\n\"");
    ASSERT_TEXT(written("\xc0\x80"), "\"\xef\xbf\xbd\xef\xbf\xbd\"");
    ASSERT_TEXT(written("\xf0\x9f\x98\x80\xf0\x9f"), "\"\xf0\x9f\x98\x80\xef\xbf\xbd\"");
    ASSERT_TEXT(written("\xed\xa0\x80"), "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\"");
}

string written_error(int code, view message) {
    buffer_clear(&out);
    json_write_error(&out, code, message);
    return string(buffer_view(&out));
}

void test_write_error(void **) {
    ASSERT_TEXT(written_error(404, "no such room"), R"({"error":{"code":404,"message":"no such room"}})");
    ASSERT_TEXT(written_error(-1, ""), R"({"error":{"code":-1,"message":""}})");
    ASSERT_TEXT(written_error(400, "\"}}\n\xff"), "{\"error\":{\"code\":400,\"message\":\"\\\"}}\\n\xef\xbf\xbd\"}}");
    buffer_clear(&out);
    buffer_append(&out, "before ");
    json_write_error(&out, 503, "late");
    ASSERT_TEXT(string(buffer_view(&out)), R"(before {"error":{"code":503,"message":"late"}})");
    assert_true(json_valid(harness.reader, source(written_error(500, view("\0\"\\", 3)))));
}

// Quotes, escapes and control characters at every place of the eight bytes that are looked at together.
void test_string_words(void **) {
    for (size_t length = 0; length < 20; length++) {
        for (size_t at = 0; at < length; at++) {
            string text(length, 'x');
            json_member member;
            text[at] = '\x1f';
            // simdjson refuses it first; the scan must not depend on that.
            assert_non_null(json_scalar_check("\"" + text + "\"", &member));
            assert_false(json_valid(harness.reader, source("\"" + text + "\"")));
            text[at] = '"';
            assert_false(json_valid(harness.reader, source("\"" + text + "\"")));
            text[at] = '\x7f';
            assert_true(json_valid(harness.reader, source("\"" + text + "\"")));
            text.replace(at, 1, "\\n");
            assert_true(json_valid(harness.reader, source("\"" + text + "\"")));
            text.replace(at, 2, "\\y");
            assert_false(json_valid(harness.reader, source("\"" + text + "\"")));
        }
        (void)harness_end(nullptr);
        (void)harness_begin(nullptr);
    }
}

// Large documents, then small ones, with one reader.
void test_reader_is_reused(void **) {
    for (size_t size : {size_t{10}, size_t{300000}, size_t{1}, size_t{5000}}) {
        string data(size, 'x');
        assert_true(parse("{\"data\":\"" + data + "\"}"));
        ASSERT_TEXT(object.members[0].text, data);
        assert_false(parse("{\"data\":\"" + data + "}"));
    }
    json_reader_free(nullptr);
}

} // namespace

#define TEST(name) cmocka_unit_test_setup_teardown(name, harness_begin, end)

int main() {
    const CMUnitTest tests[] = {
        TEST(test_accepts_structures),
        TEST(test_accepts_scalars),
        TEST(test_accepts_strings),
        TEST(test_refuses_structures),
        TEST(test_refuses_what_padding_completes),
        TEST(test_refuses_scalars),
        TEST(test_refuses_strings),
        TEST(test_refuses_bad_utf8),
        TEST(test_depth),
        TEST(test_members),
        TEST(test_integers),
        TEST(test_unescapes),
        TEST(test_half_surrogate_pairs),
        TEST(test_scratch_does_not_move),
        TEST(test_reasons),
        TEST(test_many_members),
        TEST(test_nested),
        TEST(test_elements),
        TEST(test_read_strings),
        TEST(test_write_string),
        TEST(test_write_error),
        TEST(test_string_words),
        TEST(test_reader_is_reused),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
