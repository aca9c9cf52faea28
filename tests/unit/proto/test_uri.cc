// Tests of proto/uri.
//
// One thread.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
extern "C" {
#include <cmocka.h>
}

#include "proto/uri.h"

#include <string>

using namespace belfry;
using std::string;

namespace {

buffer out;

int clear(void **) {
    buffer_free(&out);
    return 0;
}

// The decoded text, or "refused".
string decode(view in, bool plus) {
    string text(in.size(), '?');
    size_t size = 0;
    if (!uri_decode(in, plus, text.data(), &size)) return "refused";
    return text.substr(0, size);
}

string normalise(view in) {
    string text(in.size(), '?');
    size_t size = 0;
    if (!uri_normalise_path(in, text.data(), &size)) return "refused";
    return text.substr(0, size);
}

#define ASSERT_TEXT(got, want)                                                                                         \
    do {                                                                                                               \
        const string got_text(got);                                                                                    \
        assert_string_equal(got_text.c_str(), want);                                                                   \
    } while (0)

void test_decode(void **) {
    ASSERT_TEXT(decode("", false), "");
    ASSERT_TEXT(decode("a%20b%2Bc%2bd+e", false), "a b+c+d+e");
    ASSERT_TEXT(decode("a%20b%2Bc%2bd+e", true), "a b+c+d e");
    ASSERT_TEXT(decode("%C3%BC%ff%7E", false), "\xc3\xbc\xff~");
    ASSERT_TEXT(decode("%2541", false), "%41"); // once
    assert_true(decode("a%00b", false) == string("a\0b", 3));
    for (const char *bad : {"%", "%4", "a%", "a%4", "%4x", "%x4", "%%41", "%+1", "% 1", "%4%41"}) {
        ASSERT_TEXT(decode(bad, true), "refused");
    }
    // Two digits behind the end of the view are not the view's.
    ASSERT_TEXT(decode(view("%41", 1), false), "refused");
    ASSERT_TEXT(decode(view("%41", 2), false), "refused");
}

void test_encode(void **) {
    string all;
    for (int byte = 0; byte < 256; byte++) {
        all += static_cast<char>(byte);
    }
    uri_encode(all, &out);
    assert_true(decode(buffer_view(&out), false) == all);
    buffer_clear(&out);
    uri_encode("az-AZ._~09 /?#%+&=\xff", &out);
    ASSERT_TEXT(buffer_view(&out), "az-AZ._~09%20%2F%3F%23%25%2B%26%3D%FF");
}

void test_parameters(void **) {
    view rest = "&room=a%26b&&flag&=empty&x==1=&token=";
    const struct {
        const char *name, *value;
    } want[] = {{"room", "a%26b"}, {"flag", ""}, {"", "empty"}, {"x", "=1="}, {"token", ""}};
    view name;
    view value;
    for (const auto &w : want) {
        assert_true(uri_next_parameter(&rest, &name, &value));
        ASSERT_TEXT(name, w.name);
        ASSERT_TEXT(value, w.value);
    }
    assert_false(uri_next_parameter(&rest, &name, &value));
    rest = "";
    assert_false(uri_next_parameter(&rest, &name, &value));
    rest = "&&&";
    assert_false(uri_next_parameter(&rest, &name, &value));
    rest = "a;b=c"; // ';' parts nothing
    assert_true(uri_next_parameter(&rest, &name, &value));
    ASSERT_TEXT(name, "a;b");
}

void test_normalise_path(void **) {
    ASSERT_TEXT(normalise("/"), "/");
    ASSERT_TEXT(normalise("/ws/chat"), "/ws/chat");
    ASSERT_TEXT(normalise("/%77s/a%20b%C3%BC"), "/ws/a b\xc3\xbc");
    ASSERT_TEXT(normalise("/a%252e%252e/b"), "/a%2e%2e/b"); // once
    for (const char *fine : {"/...", "/.a", "/a.", "/..a", "/a../b", "/a//b", "/a/", "/.well-known/x", "/a;.."}) {
        ASSERT_TEXT(normalise(fine), fine);
    }
}

void test_path_refused(void **) {
    for (const char *bad : {"",
                            "*",
                            "a",
                            "%2Fa",
                            "/.",
                            "/..",
                            "/./a",
                            "/../a",
                            "/a/.",
                            "/a/..",
                            "/a/./b",
                            "/a/../b",
                            "/%2e",
                            "/%2E%2e/a",
                            "/.%2e/a",
                            "/a/%2e./b",
                            "/a/..;x/b",
                            "/a/.;/b",
                            "/a/%2e%2e%3bx/b",
                            "/a%2fb",
                            "/a%2Fb",
                            "/a%5cb",
                            "/a\\b",
                            "/a%00",
                            "/a%1f",
                            "/a%0d%0ab",
                            "/a%7f",
                            "/a\x01",
                            "/a\x7f",
                            "/a\tb",
                            "/%",
                            "/%4",
                            "/%zz",
                            "/a%2"}) {
        ASSERT_TEXT(normalise(bad), "refused");
    }
    ASSERT_TEXT(normalise(view("/a\0b", 4)), "refused");
}

void test_parameter(void **) {
    const view query = "a=1&room=x%20y+z&a=2&bad=%zz&empty=";
    assert_string_equal(uri_parameter(query, "a").c_str(), "1"); // the first of them
    assert_string_equal(uri_parameter(query, "room").c_str(), "x y z");
    assert_string_equal(uri_parameter(query, "bad").c_str(), "");
    assert_string_equal(uri_parameter(query, "empty").c_str(), "");
    assert_string_equal(uri_parameter(query, "roo").c_str(), "");
    assert_int_equal(uri_parameter("n=%00x", "n").size(), 2);
}

} // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(test_parameter),
        cmocka_unit_test(test_decode),
        cmocka_unit_test_teardown(test_encode, clear),
        cmocka_unit_test(test_parameters),
        cmocka_unit_test(test_normalise_path),
        cmocka_unit_test(test_path_refused),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
