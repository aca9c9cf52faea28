// Tests of proto/room_name: which names are refused and why, and the patterns of [room] sections.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

extern "C" {
#include <cmocka.h>
}

#include "proto/room_name.h"

#include <string.h>

using namespace belfry;

namespace {

constexpr char empty[] = "a room name may not be empty";
constexpr char too_long[] = "a room name may not be longer than 255 bytes";
constexpr char not_utf8[] = "a room name must be valid UTF-8";
constexpr char control[] = "a room name may not contain control characters";
constexpr char white_space[] = "a room name may not contain white space";

void check_refused(view name, const char *why) {
    const char *got = room_name_check(name);
    if (!got) fail_msg("accepted: %.*s", static_cast<int>(name.size()), name.data());
    assert_string_equal(got, why);
}

// A name of the one character, and with letters around it.
void check_character(uint32_t character, const char *why) {
    char name[8] = {'a'};
    size_t n = 1;
    if (character < 0x80) {
        name[n++] = static_cast<char>(character);
    } else if (character < 0x800) {
        name[n++] = static_cast<char>(0xc0 | character >> 6);
        name[n++] = static_cast<char>(0x80 | (character & 0x3f));
    } else if (character < 0x10000) {
        name[n++] = static_cast<char>(0xe0 | character >> 12);
        name[n++] = static_cast<char>(0x80 | (character >> 6 & 0x3f));
        name[n++] = static_cast<char>(0x80 | (character & 0x3f));
    } else {
        name[n++] = static_cast<char>(0xf0 | character >> 18);
        name[n++] = static_cast<char>(0x80 | (character >> 12 & 0x3f));
        name[n++] = static_cast<char>(0x80 | (character >> 6 & 0x3f));
        name[n++] = static_cast<char>(0x80 | (character & 0x3f));
    }
    name[n++] = 'z';
    for (view text : {view(name, n), view(name, n - 1), view(name + 1, n - 1), view(name + 1, n - 2)}) {
        const char *got = room_name_check(text);
        if (!got != !why || (why && strcmp(got, why) != 0)) fail_msg("U+%04X: %s", character, got ? got : "accepted");
    }
}

void names_that_are_fine(void **) {
    for (const char *name : {"a", "chat:42", "@user:56", "doc/7/page.2", "r\xc3\xa9union", "\xe6\x97\xa5\xe6\x9c\xac",
                             "\xf0\x9f\x98\x80", "*", "a*b", "{}[]\"\\'", "~!#$%^&()", "\xc2\xa1"})
        assert_null(room_name_check(name));
}

void length_is_1_to_255_bytes(void **) {
    char name[256];
    memset(name, 'x', sizeof name);
    check_refused(view(), empty);
    assert_null(room_name_check(view(name, 1)));
    assert_null(room_name_check(view(name, 255)));
    check_refused(view(name, 256), too_long);
    // Bytes are counted, not characters: 127 of two bytes and one of one fit, 128 of two do not.
    for (size_t i = 0; i < 256; i += 2)
        memcpy(name + i, "\xc3\xa9", 2);
    assert_null(room_name_check(view(name, 254)));
    check_refused(view(name, 256), too_long);
    check_refused(view(name, 255), not_utf8); // cut inside a character
}

void bad_utf8_is_refused(void **) {
    for (const char *name : {"\x80", "a\xc0\xaf", "\xed\xa0\x80", "\xf4\x90\x80\x80", "ab\xe2\x82", "\xff"})
        check_refused(name, not_utf8);
}

// Every character of the two kinds, and no other one of all of Unicode. The list is PropList.txt's.
void control_characters_and_white_space_are_refused(void **) {
    static const uint32_t spaces[] = {0x20,   0xa0,   0x1680, 0x2000, 0x2001, 0x2002, 0x2003, 0x2004, 0x2005, 0x2006,
                                      0x2007, 0x2008, 0x2009, 0x200a, 0x2028, 0x2029, 0x202f, 0x205f, 0x3000};
    for (uint32_t character = 0; character <= 0x10ffff; character++) {
        if (character >= 0xd800 && character <= 0xdfff) continue;
        const char *why = character < 0x20 || (character >= 0x7f && character < 0xa0) ? control : nullptr;
        for (uint32_t space : spaces)
            if (character == space) why = white_space;
        check_character(character, why);
    }
}

void a_nul_does_not_end_the_name(void **) {
    check_refused(view("a\0b", 3), control);
    check_refused(view("\0", 1), control);
}

void reserved_names_begin_with_at(void **) {
    assert_true(room_name_reserved("@"));
    assert_true(room_name_reserved("@all"));
    assert_false(room_name_reserved("all@"));
    assert_false(room_name_reserved(view()));
}

void patterns(void **) {
    static const struct {
        const char *pattern, *name;
        bool match;
    } cases[] = {
        {"chat:*", "chat:42", true},
        {"chat:*", "chat:", true},
        {"chat:*", "chat", false},
        {"chat:*", "xchat:42", false},
        {"*", "", true},
        {"*", "anything", true},
        {"**", "", true},
        {"***", "a", true},
        {"", "", true},
        {"", "a", false},
        {"a", "", false},
        {"a", "a", true},
        {"a", "b", false},
        {"abc", "abcd", false},
        {"abcd", "abc", false},
        {"*:log", "chat:log", true},
        {"*:log", ":log", true},
        {"*:log", "log", false},
        {"*:log", "chat:logs", false},
        {"a*a", "a", false}, // one byte can't be both ends
        {"a*a", "aa", true},
        {"ab*ba", "aba", false},
        {"a*b*c", "abc", true},
        {"a*b*c", "axxbyybzzc", true},
        {"a*b*c", "acb", false},
        {"a*bc*bcd", "abcbcbcd", true},
        {"a*bcd*e", "abcbcde", true}, // back to the star
        {"*a*b*", "ba", false},
        {"*a*b*", "xaxbx", true},
        {"a**b", "ab", true},
        {"a**b", "axb", true},
        {"*ab*ab*ab", "abab", false},
        {"*ab*ab*ab", "ababab", true},
        {"*aab", "aaaab", true},
        {"x*y*", "x", false},
        {"x*y*", "xy", true},
        {"a*", "a*", true}, // a star in the name is only a byte
        {"a?c", "abc", false},
        {"[a]", "a", false},
        {"\xc3*", "\xc3\xa9", true}, // bytes, not characters
    };
    for (const auto &c : cases)
        if (room_pattern_match(c.pattern, c.name) != c.match) fail_msg("%s against %s", c.pattern, c.name);
    assert_true(room_pattern_match(view("a\0*", 3), view("a\0b", 3)));
    assert_false(room_pattern_match(view("a\0*", 3), view("a", 1)));
}

// 2^n steps in a matcher that goes back to every star: this test would not end.
void many_stars_take_no_exponential_time(void **) {
    char pattern[200], name[255];
    for (size_t i = 0; i < sizeof pattern; i += 2)
        memcpy(pattern + i, "*a", 2);
    memset(name, 'a', sizeof name);
    assert_true(room_pattern_match(view(pattern, sizeof pattern), view(name, sizeof name)));
    pattern[sizeof pattern - 1] = 'b';
    assert_false(room_pattern_match(view(pattern, sizeof pattern), view(name, sizeof name)));
    memcpy(pattern + sizeof pattern - 4, "*b*a", 4);
    assert_false(room_pattern_match(view(pattern, sizeof pattern), view(name, sizeof name)));
}

} // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(names_that_are_fine),
        cmocka_unit_test(length_is_1_to_255_bytes),
        cmocka_unit_test(bad_utf8_is_refused),
        cmocka_unit_test(control_characters_and_white_space_are_refused),
        cmocka_unit_test(a_nul_does_not_end_the_name),
        cmocka_unit_test(reserved_names_begin_with_at),
        cmocka_unit_test(patterns),
        cmocka_unit_test(many_stars_take_no_exponential_time),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
