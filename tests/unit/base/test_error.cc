// Unit tests of base/error: texts that are cut, the fatal end, memory.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
extern "C" {
#include <cmocka.h>
}

#include "base/error.h"
#include "expect_fatal.h"

#include <stdlib.h>
#include <string>

namespace belfry {
namespace {

void sets_a_text(void **) {
    error e;
    assert_string_equal(e.text, "");
    error_set(&e, "%s:%d: %s", "belfry.ini", 7, "no such option");
    assert_string_equal(e.text, "belfry.ini:7: no such option");
}

void an_argument_may_be_the_text_itself(void **) {
    error e;
    error_set(&e, "not a port");
    error_set(&e, "listen: %s", e.text);
    error_set(&e, "line %d: %s", 3, e.text);
    assert_string_equal(e.text, "line 3: listen: not a port");
}

void text_of_the_full_size_is_not_cut(void **) {
    error e;
    char full[sizeof e.text];
    memset(full, 'x', sizeof full);
    full[sizeof full - 1] = 0;
    error_set(&e, "%s", full);
    assert_string_equal(e.text, full);
}

void longer_text_ends_in_dots(void **) {
    error e;
    char longer[sizeof e.text + 1];
    memset(longer, 'x', sizeof longer);
    longer[sizeof longer - 1] = 0;
    error_set(&e, "%s", longer);
    assert_int_equal(strlen(e.text), sizeof e.text - 1);
    assert_string_equal(e.text + sizeof e.text - 5, "x...");
}

void no_character_is_cut_in_two(void **) {
    // U+20AC, three bytes, at each of the three places relative to the cut.
    for (size_t before = 0; before < 3; before++) {
        char text[700];
        memset(text, 'x', before);
        size_t size = before;
        while (size + 4 < sizeof text) {
            memcpy(text + size, "\xe2\x82\xac", 3);
            size += 3;
        }
        text[size] = 0;
        error e;
        error_set(&e, "%s", text);
        size_t kept = strlen(e.text);
        assert_string_equal(e.text + kept - 3, "...");
        assert_int_equal((kept - 3 - before) % 3, 0);
        assert_true(kept > sizeof e.text - 1 - 3);
        assert_memory_equal(e.text, text, kept - 3);
    }
}

void fatal_says_why_and_aborts(void **) {
    assert_true(expect_fatal([] { fatal("port %d is %s", 80, "taken"); }, "port 80 is taken\n"));
}

void fatal_cuts_a_long_text(void **) {
    assert_true(expect_fatal([] { fatal("%s", std::string(5000, 'x').c_str()); }, "xxx...\n"));
}

void memory_of_no_size_is_memory(void **) {
    void *a = memory_get(0), *b = memory_get_zeroed(0), *c = memory_resize(nullptr, 0);
    assert_non_null(a);
    assert_non_null(b);
    assert_non_null(c);
    c = memory_resize(c, 0);
    assert_non_null(c);
    free(a);
    free(b);
    free(c);
}

void zeroed_memory_is_zero_and_resizing_keeps_it(void **) {
    char *memory = static_cast<char *>(memory_get_zeroed(1000));
    for (int i = 0; i < 1000; i++)
        assert_int_equal(memory[i], 0);
    memset(memory, 7, 1000);
    memory = static_cast<char *>(memory_resize(memory, 100000));
    for (int i = 0; i < 1000; i++)
        assert_int_equal(memory[i], 7);
    free(memory);
}

void copies_text_and_adds_a_nul(void **) {
    char *copy = memory_copy_text("abcdef", 3);
    assert_string_equal(copy, "abc");
    free(copy);
    copy = memory_copy_text(nullptr, 0);
    assert_string_equal(copy, "");
    free(copy);
}

} // namespace
} // namespace belfry

int main() {
    using namespace belfry;
    const CMUnitTest tests[] = {
        cmocka_unit_test(sets_a_text),
        cmocka_unit_test(an_argument_may_be_the_text_itself),
        cmocka_unit_test(text_of_the_full_size_is_not_cut),
        cmocka_unit_test(longer_text_ends_in_dots),
        cmocka_unit_test(no_character_is_cut_in_two),
        cmocka_unit_test(fatal_says_why_and_aborts),
        cmocka_unit_test(fatal_cuts_a_long_text),
        cmocka_unit_test(memory_of_no_size_is_memory),
        cmocka_unit_test(zeroed_memory_is_zero_and_resizing_keeps_it),
        cmocka_unit_test(copies_text_and_adds_a_nul),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
