// Tests of proto/extensions: the grammar of RFC 6455 section 9.1, as the items that come out. What is refused, and that
// nothing takes long, is in test_handshake.cc, too.
//
// One thread.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
extern "C" {
#include <cmocka.h>
}

#include "proto/extensions.h"

#include <string>

using namespace belfry;
using std::string;

namespace {

string held; // what `request` points into
http1_request request;

// Each item as text: "name", ";name", ";name=value"; "!" at the end where it is malformed.
string read_all(const string &fields) {
    held = "GET / HTTP/1.1\r\nHost: a\r\n" + fields + "\r\n";
    http1_scan scan = {};
    const char *why = "";
    if (http1_parse_request(held, &scan, &request, &why) != http1_result::complete)
        fail_msg("not even HTTP (%s): %s", why, held.c_str());
    extension_reader reader = {.request = &request};
    extension_word word;
    string items;
    for (;;) {
        extension_item item = extension_next(&reader, &word);
        if (item == extension_item::end) return items;
        if (item == extension_item::malformed) return items + "!";
        items += item == extension_item::parameter ? ";" : items.empty() ? "" : " ";
        items += word.name;
        if (word.has_value) items += "=" + string(word.value);
    }
}

void expect(const string &value, const char *items) {
    assert_string_equal(read_all("Sec-WebSocket-Extensions: " + value + "\r\n").c_str(), items);
}

void items_come_in_order(void **) {
    expect("a", "a");
    expect("a,b", "a b");
    expect(" a ; b = c , d;e", "a;b=c d;e");
    expect("a\t;\tb\t=\t\"c\"\t,d", "a;b=c d");
    expect("a;b=\"c\";d", "a;b=c;d");
    expect("a;a=a;a", "a;a=a;a");
    expect(",,a,, ,b,", "a b");
}

void fields_follow_each_other(void **) {
    const string name = "sec-websocket-EXTENSIONS: ";
    assert_string_equal(read_all(name + "a;b\r\nX: ;c\r\n" + name + "d\r\n").c_str(), "a;b d");
    assert_string_equal(read_all(name + "a\r\n" + name + ";b\r\n").c_str(), "a!"); // no field goes on in the next
    assert_string_equal(read_all(name + "\r\n" + name + "a\r\n").c_str(), "a");
    assert_string_equal(read_all("X: a\r\n").c_str(), "");
}

void malformed_ones_end_the_reading(void **) {
    expect("a b", "a!");
    expect("a;", "a!");
    expect("a;b=", "a!");
    expect("a;b c", "a;b!");
    expect("a;b=\"\"", "a!");
    expect("a;b=\"c", "a!");
    expect("a;b=\"c\\", "a!");
    expect("a;b=\"c d\"", "a!");
    expect("a;b=\"c\"d,e", "a;b=c!");
    expect("a,;b", "a!");
    expect("=", "!");
    expect("a,\"b\"", "a!");
}

void values_lose_their_backslashes(void **) {
    expect("a;b=\"\\1\\5\"", "a;b=\\1\\5");
    char text[2];
    extension_word word = {"b", "\\1\\5", true};
    assert_string_equal(string(extension_value(&word, text, sizeof text)).c_str(), "15");
    word.value = "1\\50";
    assert_true(extension_value(&word, text, sizeof text).empty()); // too long
    word.value = "9";
    assert_string_equal(string(extension_value(&word, text, sizeof text)).c_str(), "9");
    word.value = view();
    assert_true(extension_value(&word, text, sizeof text).empty());
}

} // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(items_come_in_order),
        cmocka_unit_test(fields_follow_each_other),
        cmocka_unit_test(malformed_ones_end_the_reading),
        cmocka_unit_test(values_lose_their_backslashes),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
