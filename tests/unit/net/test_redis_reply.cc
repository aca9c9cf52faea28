// The RESP2 reader and formatter: values, cut at every byte, and the bounds on what a server may send.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
extern "C" {
#include <cmocka.h>
}

#include "net/redis_reply.h"

#include <string.h>
#include <string>

using namespace belfry;

namespace {

redis_reader *reader;

// With the NULs inside.
template <size_t N> std::string literal(const char (&text)[N]) {
    return std::string(text, N - 1);
}

int drop(void **) {
    redis_reader_free(reader);
    reader = nullptr;
    return 0;
}

// One line for each value, so that a tree can be compared with a text.
void print(const redis_value *v, std::string *out) {
    switch (v->type) {
    case redis_type::nil:
        *out += "nil";
        break;
    case redis_type::integer:
        *out += std::to_string(v->integer);
        break;
    case redis_type::text:
        *out += "\"" + std::string(v->text) + "\"";
        break;
    case redis_type::status:
        *out += "+" + std::string(v->text);
        break;
    case redis_type::error:
        *out += "-" + std::string(v->text);
        break;
    case redis_type::array:
        *out += "[";
        for (size_t i = 0; i < v->count; i++) {
            print(&v->elements[i], out);
            *out += i + 1 < v->count ? " " : "";
        }
        *out += "]";
    }
}

std::string all_of(redis_reader *r) {
    std::string out;
    for (;;) {
        const redis_value *v = nullptr;
        error e;
        switch (redis_reader_next(r, &v, &e)) {
        case redis_next::value:
            print(v, &out);
            out += "\n";
            break;
        case redis_next::more:
            return out;
        case redis_next::broken:
            return out + "broken: " + e.text;
        }
    }
}

std::string read(const std::string &wire, size_t reply_max = 1000) {
    drop(nullptr);
    reader = redis_reader_new(reply_max);
    redis_reader_feed(reader, wire);
    return all_of(reader);
}

const std::string wire = literal("+OK\r\n-ERR no\r\n:-42\r\n$5\r\na\0\r\nb\r\n$0\r\n\r\n$-1\r\n*-1\r\n*0\r\n"
                                 "*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$2\r\nhi\r\n"
                                 "*3\r\n*2\r\n:1\r\n*1\r\n$1\r\nx\r\n$-1\r\n*2\r\n+a\r\n-b\r\n:7\r\n");
const std::string printed = literal("+OK\n-ERR no\n-42\n\"a\0\r\nb\"\n\"\"\nnil\nnil\n[]\n[\"message\" \"c\" \"hi\"]\n"
                                    "[[1 [\"x\"]] nil [+a -b]]\n7\n");

void test_values(void **) {
    assert_string_equal(read(wire).c_str(), printed.c_str());
    assert_true(read(wire) == printed);
}

void test_every_cut(void **) {
    for (size_t cut = 0; cut <= wire.size(); cut++) {
        drop(nullptr);
        reader = redis_reader_new(1000);
        redis_reader_feed(reader, view(wire).substr(0, cut));
        std::string got = all_of(reader);
        redis_reader_feed(reader, view(wire).substr(cut));
        got += all_of(reader);
        assert_true(got == printed);
    }
}

void test_broken(void **) {
    for (const char *bad : {"hello\r\n", "%1\r\n+a\r\n+b\r\n", ">2\r\n+a\r\n+b\r\n", "$abc\r\n", "*-2\r\n"}) {
        const std::string got = read(bad);
        if (got.find("broken: ") != 0) fail_msg("%s gave %s", bad, got.c_str());
        // For good, whatever comes.
        redis_reader_feed(reader, "+OK\r\n");
        assert_true(all_of(reader).find("broken: ") == 0);
    }
    assert_true(read("+good\r\nbad\r\n").find("+good\nbroken: ") == 0);
}

void test_nesting(void **) {
    std::string deep;
    for (int i = 0; i < 7; i++)
        deep += "*1\r\n";
    assert_string_equal(read(deep + ":1\r\n").c_str(), "[[[[[[[1]]]]]]]\n");
    std::string deeper;
    for (int i = 0; i < 30; i++)
        deeper += "*1\r\n";
    assert_true(read(deeper + ":1\r\n").find("broken: ") == 0);
}

void test_reply_max(void **) {
    const std::string fits = "$91\r\n" + std::string(91, 'x') + "\r\n",
                      larger = "$95\r\n" + std::string(95, 'x') + "\r\n";
    assert_int_equal(fits.size(), 98);
    // Each reply counts for itself, not what came together with it.
    assert_true(read(fits + fits + fits, 100).find("broken") == std::string::npos);
    assert_string_equal(read(larger, 100).c_str(), "broken: a reply of more than 100 bytes");
    // Not yet whole.
    assert_string_equal(read("$1000\r\n" + std::string(94, 'x'), 100).c_str(),
                        "broken: a reply of more than 100 bytes");
    // Of many small elements that hiredis has taken in already.
    std::string many = "*25\r\n";
    for (int i = 0; i < 24; i++)
        many += ":1\r\n";
    assert_string_equal(read(many, 100).c_str(), "broken: a reply of more than 100 bytes");
    // A count is not believed before the elements are there.
    assert_string_equal(read("*2147483647\r\n", 64u << 20).c_str(), "broken: a reply of more than 67108864 bytes");
    assert_string_equal(read("*1\r\n*26\r\n", 100).c_str(), "broken: a reply of more than 100 bytes");
}

void test_format(void **) {
    buffer out = {};
    const view words[] = {"SET", view("k\0\r\n", 4), view()};
    redis_format(&out, 3, words);
    redis_format(&out, 1, words);
    const std::string expected = literal("*3\r\n$3\r\nSET\r\n$4\r\nk\0\r\n\r\n$0\r\n\r\n*1\r\n$3\r\nSET\r\n");
    const bool same = buffer_view(&out) == expected;
    buffer_free(&out);
    assert_true(same);
}

void test_verbs(void **) {
    assert_true(redis_verb_of("SUBSCRIBE") == redis_verb::subscribe);
    assert_true(redis_verb_of("sunsubscribe") == redis_verb::sunsubscribe);
    assert_true(redis_verb_of("pmessage") == redis_verb::message);
    assert_true(redis_verb_of("subscribed") == redis_verb::none);
    assert_true(redis_verb_of("") == redis_verb::none);
    assert_true(redis_verb_subscribes(redis_verb::punsubscribe));
    assert_false(redis_verb_subscribes(redis_verb::message));
    assert_false(redis_verb_subscribes(redis_verb::none));
}

} // namespace

int main() {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_values, drop),
        cmocka_unit_test_teardown(test_every_cut, drop),
        cmocka_unit_test_teardown(test_broken, drop),
        cmocka_unit_test_teardown(test_nesting, drop),
        cmocka_unit_test_teardown(test_reply_max, drop),
        cmocka_unit_test(test_format),
        cmocka_unit_test(test_verbs),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
