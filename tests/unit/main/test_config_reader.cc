// From a file to sections and options, each with its line; and what inih alone would let pass.
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>
extern "C" {
#include <cmocka.h>
}

#include "main/config_reader.h"
#include "temporary_files.h"

using namespace belfry;

namespace {

std::string *told; // a line for each call of the sink

std::string place_text(const config_place *place) {
    size_t slash = place->file.rfind('/');
    return place->file.substr(slash == std::string::npos ? 0 : slash + 1) + ":" + std::to_string(place->line) + ": ";
}

void on_section(void *, const char *name, const config_place *place) {
    *told += place_text(place) + "[" + name + "]\n";
}
void on_option(void *, const char *section, const char *name, const char *value, const config_place *place) {
    *told += place_text(place) + section + "|" + name + "|" + value + "\n";
}
void on_error(void *, const config_place *place, const std::string &text) {
    *told += place_text(place) + "error: " + text + "\n";
}
constexpr config_sink sink = {on_section, on_option, on_error, nullptr};

int setup(void **) {
    directory_begin();
    told = new std::string;
    return 0;
}

int teardown(void **) {
    directory_end();
    delete told;
    unsetenv("BELFRY_TEST_A");
    unsetenv("BELFRY_TEST_B");
    return 0;
}

void check(const std::string &file, const char *want) {
    config_read(file.c_str(), &sink);
    assert_string_equal(told->c_str(), want);
    told->clear();
}

void check_text(std::string_view text, const char *want) {
    check(write_file("a.ini", text), want);
}

void options_come_with_section_and_line(void **) {
    check_text("; a comment\n"
               "[belfry]\n"
               "log = stderr\n"
               "\n"
               "# another\n"
               "workers=2\n"
               "[route /ws]\n"
               "host : a.example  \n"
               "echo =\n",
               "a.ini:2: [belfry]\n"
               "a.ini:3: belfry|log|stderr\n"
               "a.ini:6: belfry|workers|2\n"
               "a.ini:7: [route /ws]\n"
               "a.ini:8: route /ws|host|a.example\n"
               "a.ini:9: route /ws|echo|\n");
}

void a_file_may_be_empty_or_end_without_a_newline(void **) {
    check_text("", "");
    check_text("\n\n", "");
    check_text("[belfry]", "a.ini:1: [belfry]\n");
    check_text("[belfry]\nlog = x", "a.ini:1: [belfry]\na.ini:2: belfry|log|x\n");
}

void lines_may_end_as_on_windows(void **) {
    check_text("[belfry]\r\nlog = x\r\n\r\n", "a.ini:1: [belfry]\na.ini:2: belfry|log|x\n");
}

void an_empty_section_is_told(void **) {
    check_text("[broker]\n[belfry]\n[control]\n", "a.ini:1: [broker]\na.ini:2: [belfry]\na.ini:3: [control]\n");
}

void an_option_before_any_section_has_none(void **) {
    check_text("log = x\n", "a.ini:1: |log|x\n");
}

void mistakes_are_told_and_reading_goes_on(void **) {
    check_text("[belfry\n"
               "log\n"
               "[broker]\n"
               "  type = redis\n"
               "= x\n"
               "url = y\n",
               "a.ini:1: error: a section lacks its ]\n"
               "a.ini:2: error: neither a [section] nor NAME = VALUE: log\n"
               "a.ini:3: [broker]\n"
               "a.ini:4: error: a line must not begin with white space: repeat the option for another value\n"
               "a.ini:5: error: an option's name is missing in front of =\n"
               "a.ini:6: broker|url|y\n");
}

// inih ends a line at " ;", also where that leaves half a name.
void half_a_line_before_a_comment_is_told(void **) {
    check_text("[belfry]\n"
               "log = x ; why\n"
               "log ; = y\n",
               "a.ini:1: [belfry]\n"
               "a.ini:2: belfry|log|x\n"
               "a.ini:3: error: a comment cuts the line in two: \" ;\" begins one\n");
    check_text("[room a ;b]\n"
               "join = anyone\n"
               "[belfry] ; c\n"
               "[broker ;]\n",
               "a.ini:1: error: a comment cuts the line in two: \" ;\" begins one\n"
               "a.ini:2: |join|anyone\n"
               "a.ini:3: [belfry]\n"
               "a.ini:4: error: a comment cuts the line in two: \" ;\" begins one\n");
}

void names_that_inih_would_cut_are_told(void **) {
    std::string fits(49, 'x'), longer(50, 'x');
    check_text("[" + fits + "]\n" + fits + " = 1\n",
               ("a.ini:1: [" + fits + "]\na.ini:2: " + fits + "|" + fits + "|1\n").c_str());
    check_text("[" + longer + "]\n[a]\n" + longer + " = 1\n",
               ("a.ini:1: error: a section's name is longer than 49 characters: " + longer +
                "\na.ini:2: [a]\na.ini:3: error: an option's name is longer than 49 characters\n")
                   .c_str());
}

void a_nul_byte_is_told(void **) {
    static constexpr char text[] = "[belfry]\nlog = a\0b\nworkers = 2\n";
    check_text(std::string_view(text, sizeof text - 1), "a.ini:1: [belfry]\n"
                                                        "a.ini:2: error: the line has a NUL byte: is it a text file?\n"
                                                        "a.ini:3: belfry|workers|2\n");
}

void a_line_that_is_too_long_is_told_once(void **) {
    check_text("[belfry]\nlog = " + std::string(20000, 'x') + "\nworkers = 2\n",
#if defined(HAVE_DECL_INI_MAX_LINE) && !HAVE_DECL_INI_MAX_LINE
               "a.ini:1: [belfry]\n"
               "a.ini:2: error: the line is longer than 198 characters: repeat the option instead\n"
               "a.ini:3: belfry|workers|2\n");
#else
               "a.ini:1: [belfry]\n"
               "a.ini:2: error: the line is longer than 8190 characters: repeat the option instead\n"
               "a.ini:3: belfry|workers|2\n");
    std::string longest(8190 - 6, 'x'); // behind "log = "
    check_text("[belfry]\nlog = " + longest + "\nworkers = 2\n",
               ("a.ini:1: [belfry]\na.ini:2: belfry|log|" + longest + "\na.ini:3: belfry|workers|2\n").c_str());
#endif
}

// ---------------------------------------------------------------- include

void included_files_are_read_in_place(void **) {
    write_file("b.ini", "[broker]\ntype = redis\n");
    check_text("[belfry]\ninclude = b.ini\nlog = x\n",
               "a.ini:1: [belfry]\n"
               "b.ini:1: [broker]\n"
               "b.ini:2: broker|type|redis\n"
               "a.ini:3: belfry|log|x\n"); // the including file's section goes on
}

void an_include_may_stand_first(void **) {
    write_file("b.ini", "[broker]\n");
    check_text("include = " + *directory + "/b.ini\n", "b.ini:1: [broker]\n");
}

void a_pattern_takes_files_in_order(void **) {
    write_file("20.conf", "[route /b]\n");
    write_file("10.conf", "[route /a]\n");
    write_file("30.other", "[route /c]\n");
    check_text("include = *.conf\n", "10.conf:1: [route /a]\n20.conf:1: [route /b]\n");
    check_text("include = *.none\n", ""); // a pattern may match nothing
}

void a_missing_file_is_told(void **) {
    std::string gone = *directory + "/gone.ini";
    check_text(
        "[belfry]\ninclude = gone.ini\nlog = x\n",
        ("a.ini:1: [belfry]\na.ini:2: error: include: no such file: " + gone + "\na.ini:3: belfry|log|x\n").c_str());
    check(gone, "gone.ini:0: error: can't read it: No such file or directory\n");
    check(*directory + "/.", ".:0: error: can't read it: Is a directory\n");
}

void a_circle_of_includes_ends(void **) {
    write_file("b.ini", "include = a.ini\n");
    // a is read at the depths 0, 2, 4, 6 and 8; b at 9 is refused.
    check_text("[x]\ninclude = b.ini\n", "a.ini:1: [x]\na.ini:1: [x]\na.ini:1: [x]\na.ini:1: [x]\na.ini:1: [x]\n"
                                         "b.ini:0: error: includes go deeper than 8: is it a circle?\n");
}

// ---------------------------------------------------------------- values

constexpr config_secret none = config_secret::none, secret = config_secret::secret, keys = config_secret::keys;

void expands(const char *value, config_secret kind, const std::string &want) {
    std::string text = value, why;
    assert_true(config_expand(&text, kind, &why));
    assert_string_equal(text.c_str(), want.c_str());
}

void refuses(const std::string &value, config_secret kind, const std::string &want) {
    std::string text = value, why;
    assert_false(config_expand(&text, kind, &why));
    assert_string_equal(why.c_str(), want.c_str());
}

void the_environment_is_filled_in(void **) {
    setenv("BELFRY_TEST_A", "first", 1);
    setenv("BELFRY_TEST_B", "", 1);
    expands("plain $HOME {x} $", none, "plain $HOME {x} $");
    expands("${BELFRY_TEST_A}", none, "first");
    expands("a${BELFRY_TEST_A}b${BELFRY_TEST_B}c${BELFRY_TEST_A}", none, "afirstbcfirst");
    refuses("${BELFRY_TEST_NONE}", none, "the environment has no BELFRY_TEST_NONE");
    refuses("x${BELFRY_TEST_A", none, "${ lacks its }");
    setenv("BELFRY_TEST_A", "${BELFRY_TEST_B}${", 1); // what comes from there is not looked through again
    expands("${BELFRY_TEST_A}", none, "${BELFRY_TEST_B}${");
}

void a_secret_may_be_in_a_file(void **) {
    std::string file = "file:" + write_file("token", "s3cret \nsecond line\n");
    expands(file.c_str(), secret, "s3cret");
    expands(file.c_str(), none, file); // only secrets
    setenv("BELFRY_TEST_A", directory->c_str(), 1);
    expands("file:${BELFRY_TEST_A}/token", secret, "s3cret");
    expands("profile:x", secret, "profile:x");
    refuses("file:" + *directory + "/none", secret, "can't read " + *directory + "/none: No such file or directory");
    refuses("file:" + write_file("empty", ""), secret, *directory + "/empty is empty");
    refuses("file:" + write_file("first", "\nx\n"), secret, *directory + "/first is empty");
    refuses("file:" + write_file("long", std::string(8193, 'x')), secret,
            *directory + "/long is larger than 8192 bytes");
}

void keys_are_whole_files(void **) {
    std::string file = "file:" + write_file("key.pem", "-----BEGIN\nabc\n-----END\n\n");
    expands(file.c_str(), keys, "-----BEGIN\nabc\n-----END");
    expands(("kid=one " + file).c_str(), keys, "kid=one -----BEGIN\nabc\n-----END");
    expands(("kid=one " + file).c_str(), secret, "kid=one " + file);
    expands("kid=one", keys, "kid=one");
    expands("kid=one plain", keys, "kid=one plain");
    refuses("kid=one file:" + *directory + "/none", keys,
            "can't read " + *directory + "/none: No such file or directory");
    refuses("file:" + write_file("nul", std::string("a\0b", 3)), keys, *directory + "/nul is no text");
    expands(("file:" + write_file("big", std::string(262144, 'x'))).c_str(), keys, std::string(262144, 'x'));
    refuses("file:" + write_file("bigger", std::string(262145, 'x')), keys,
            *directory + "/bigger is larger than 262144 bytes");
}

} // namespace

#define with_files(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main() {
    const CMUnitTest tests[] = {
        with_files(options_come_with_section_and_line),
        with_files(a_file_may_be_empty_or_end_without_a_newline),
        with_files(lines_may_end_as_on_windows),
        with_files(an_empty_section_is_told),
        with_files(an_option_before_any_section_has_none),
        with_files(mistakes_are_told_and_reading_goes_on),
        with_files(half_a_line_before_a_comment_is_told),
        with_files(names_that_inih_would_cut_are_told),
        with_files(a_nul_byte_is_told),
        with_files(a_line_that_is_too_long_is_told_once),
        with_files(included_files_are_read_in_place),
        with_files(an_include_may_stand_first),
        with_files(a_pattern_takes_files_in_order),
        with_files(a_missing_file_is_told),
        with_files(a_circle_of_includes_ends),
        with_files(the_environment_is_filled_in),
        with_files(a_secret_may_be_in_a_file),
        with_files(keys_are_whole_files),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
