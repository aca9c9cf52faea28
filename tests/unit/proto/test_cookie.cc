// Tests of proto/cookie.
//
// One thread.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
extern "C" {
#include <cmocka.h>
}

#include "proto/cookie.h"

#include <string>

using namespace belfry;
using std::string;

namespace {

// All pairs as "name=[value]" one behind the other.
string pairs(view field) {
    string text;
    view name;
    view value;
    while (cookie_next(&field, &name, &value))
        text += string(name) + "=[" + string(value) + "]";
    assert_true(field.empty());
    assert_false(cookie_next(&field, &name, &value));
    return text;
}

void test_pairs(void **) {
    const struct {
        const char *field, *want;
    } cases[] = {
        {"", ""},
        {"a=b", "a=[b]"},
        {"a=b; c=d", "a=[b]c=[d]"},
        {"a=b;c=d;", "a=[b]c=[d]"},
        {" \ta = b \t;\t; c=", "a=[b]c=[]"},
        {"a=b=c==", "a=[b=c==]"},
        {"a=\"b c\"; d=\"\"; e=\"", "a=[b c]d=[]e=[\"]"},
        {"a=\"b; c=d\"; e=f", "a=[\"b]c=[d\"]e=[f]"}, // a cookie cannot hide in the quotes of another
        {"a=\"\"b\"\"", "a=[\"b\"]"},
        {"novalue; =b; ; a=1; b c=2; \"d\"=3", "a=[1]"},
        {"a=1, b=2", "a=[1, b=2]"},
        {"A=1; a=2", "A=[1]a=[2]"},
        {"j={\"k\":\"v\"}\xe9", "j=[{\"k\":\"v\"}\xe9]"},
    };
    for (const auto &c : cases) {
        assert_string_equal(pairs(c.field).c_str(), c.want);
    }
}

void test_find(void **) {
    const string head = "GET / HTTP/1.1\r\nHost: a\r\nCookie: sid=1; two=x\r\nX-Cookie: sid=2\r\n"
                        "cookie: two=y; empty=; Sid=3\r\n\r\n";
    http1_scan scan = {};
    http1_request r;
    const char *why;
    assert_int_equal(http1_parse_request(head, &scan, &r, &why), http1_result::complete);
    size_t count = 9;
    assert_true(cookie_find(&r, "sid", &count) == "1");
    assert_int_equal(count, 1);
    assert_true(cookie_find(&r, "Sid", nullptr) == "3");
    assert_true(cookie_find(&r, "two", &count).empty()); // which of them is meant?
    assert_int_equal(count, 2);
    assert_true(cookie_find(&r, "empty", &count).empty());
    assert_int_equal(count, 1);
    assert_true(cookie_find(&r, "si", &count).empty());
    assert_int_equal(count, 0);
    assert_true(cookie_find(&r, "", &count).empty());
    assert_int_equal(count, 0);
}

} // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(test_pairs),
        cmocka_unit_test(test_find),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
