// Unit tests of base/log_line: fields in both forms, quoting, what is cut and what is left out.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
extern "C" {
#include <cmocka.h>
}

#include "base/log_line.h"

#include <string>

namespace belfry {
namespace {

std::string field(bool json, view value) {
    log_line l;
    l.json = json;
    log_line_field(&l, "f", value);
    return std::string(l.text, l.size);
}

void assert_field(bool json, view value, const char *wanted) {
    assert_string_equal(field(json, value).c_str(), wanted);
}

void what_needs_no_quotes_has_none_in_text(void **) {
    assert_field(false, "203.0.113.7", " f=203.0.113.7");
    assert_field(false, "/a/b;c@d:e", " f=/a/b;c@d:e");
    assert_field(true, "203.0.113.7", ",\"f\":\"203.0.113.7\"");
}

void a_value_can_not_look_like_another_field(void **) {
    assert_field(false, "x status=200", " f=\"x status=200\"");
    assert_field(false, "a=b", " f=\"a=b\"");
    assert_field(false, "", " f=\"\"");
    assert_field(false, "\" status=200 \"", " f=\"\\\" status=200 \\\"\"");
    assert_field(false, "\\", " f=\"\\\\\"");
}

void a_value_can_not_begin_another_line(void **) {
    assert_field(false, "a\nb\r\x1b[2J\x7f", " f=\"a\\x0ab\\x0d\\x1b[2J\\x7f\"");
    assert_field(true, "a\nb\"\\", ",\"f\":\"a\\u000ab\\\"\\\\\"");
    assert_field(false,
                 "\xc2\x9b"
                 "31m",
                 " f=\"\\xc2\\x9b31m\"");
    assert_field(true, "\xc2\x9b", ",\"f\":\"\\u009b\"");
}

void what_is_not_utf8_is_marked(void **) {
    assert_field(false, "a\xff", " f=\"a\\xff\"");
    assert_field(true, "a\xff", ",\"f\":\"a\\ufffd\"");
    assert_field(true, "\xc3\xa4", ",\"f\":\"\xc3\xa4\"");
    assert_field(false, view("a\0b", 3), " f=\"a\\x00b\"");
}

void numbers_and_seconds(void **) {
    log_line l;
    l.json = false;
    log_line_number(&l, "n", UINT64_MAX);
    log_line_seconds(&l, "s", 12005);
    assert_string_equal(std::string(l.text, l.size).c_str(), " n=18446744073709551615 s=12.005");
    log_line j;
    j.json = true;
    log_line_number(&j, "n", 0);
    log_line_seconds(&j, "s", 7);
    assert_string_equal(std::string(j.text, j.size).c_str(), ",\"n\":0,\"s\":0.007");
}

void a_long_value_is_cut_between_characters(void **) {
    std::string value(log_text_max / 2 - 1, 'x');
    value += "\xe2\x82\xac\xe2\x82\xac";
    std::string wanted = " f=\"" + std::string(log_text_max / 2 - 1, 'x') + "...\"";
    assert_string_equal(field(false, value).c_str(), wanted.c_str());
}

// However much is put in: the closing brace, a number, a newline have their room.
void a_field_that_has_no_room_is_left_out_whole(void **) {
    log_line l;
    l.json = true;
    size_t before;
    int count = 0;
    do {
        before = l.size;
        log_line_field(&l, "f", std::string(log_text_max, '\x01'));
        count++;
        assert_int_equal(l.text[l.size - 1], '"');
    } while (l.size != before);
    assert_int_equal(count, 3); // 6,000 bytes each: a third does not fit into 16,384
    log_line_field(&l, "g", "small");
    assert_true(view(l.text, l.size).ends_with(",\"g\":\"small\""));
    assert_true(l.size < sizeof l.text);
}

} // namespace
} // namespace belfry

int main() {
    using namespace belfry;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_needs_no_quotes_has_none_in_text),
        cmocka_unit_test(a_value_can_not_look_like_another_field),
        cmocka_unit_test(a_value_can_not_begin_another_line),
        cmocka_unit_test(what_is_not_utf8_is_marked),
        cmocka_unit_test(numbers_and_seconds),
        cmocka_unit_test(a_long_value_is_cut_between_characters),
        cmocka_unit_test(a_field_that_has_no_room_is_left_out_whole),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
