// Unit tests of base/access_log: both forms, off, what is counted.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
extern "C" {
#include <cmocka.h>
}

#include "base/access_log.h"
#include "base/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <string>
#include <unistd.h>

namespace belfry {
namespace {

char path[] = "/tmp/belfry_test_access_log_XXXXXX";

int make_file(void **) {
    strcpy(path, "/tmp/belfry_test_access_log_XXXXXX");
    int fd = mkstemp(path);
    return fd < 0 || close(fd) != 0 ? -1 : 0;
}

int remove_file(void **) {
    error e;
    if (!access_log_open("off", false, &e)) return -1;
    return unlink(path);
}

void open_it(const char *target, bool json) {
    error e;
    if (!access_log_open(target, json, &e)) fail_msg("%s", e.text);
}

void write_one() {
    log_line l;
    access_log_begin(&l, "connection");
    log_line_field(&l, "user", "Ann \"B\"");
    log_line_number(&l, "code", 1000);
    access_log_end(&l);
}

// Without the time, which is looked at by test_log.
std::string only_line(size_t time_at) {
    char text[500] = "";
    FILE *f = fopen(path, "re");
    if (!f) return "(no such file)";
    size_t n = fread(text, 1, sizeof text - 1, f);
    fclose(f);
    return std::string(text, n).erase(time_at, sizeof "2026-11-21T22:07:43.123Z" - 1);
}

void text_form(void **) {
    open_it(path, false);
    write_one();
    assert_string_equal(only_line(0).c_str(), " connection user=\"Ann \\\"B\\\"\" code=1000\n");
}

void json_form(void **) {
    open_it(path, true);
    write_one();
    assert_string_equal(only_line(sizeof "{\"time\":\"" - 1).c_str(),
                        "{\"time\":\"\",\"event\":\"connection\",\"user\":\"Ann \\\"B\\\"\",\"code\":1000}\n");
}

void lines_are_counted_and_those_that_were_lost(void **) {
    uint64_t lines = access_log_lines(), dropped = access_log_dropped(), log = log_dropped();
    assert_false(access_log_enabled());
    open_it("/dev/full", false);
    assert_true(access_log_enabled());
    write_one();
    write_one();
    assert_int_equal(access_log_lines() - lines, 2);
    assert_int_equal(access_log_dropped() - dropped, 2);
    assert_int_equal(log_dropped(), log); // the log is another one
    open_it(path, false);
    access_log_tend();
    assert_string_equal(only_line(0).c_str(),
                        " note text=\"access log: 2 lines could not be written: No space left on device\"\n");
}

} // namespace
} // namespace belfry

int main() {
    using namespace belfry;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(text_form, make_file, remove_file),
        cmocka_unit_test_setup_teardown(json_form, make_file, remove_file),
        cmocka_unit_test_setup_teardown(lines_are_counted_and_those_that_were_lost, make_file, remove_file),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
