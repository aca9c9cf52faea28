// Unit tests of base/log_file: targets, reopening, a full disk, a file that is gone.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
extern "C" {
#include <cmocka.h>
}

#include "base/log_file.h"
#include "log_harness.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <string>
#include <sys/resource.h>
#include <sys/stat.h>
#include <syslog.h>
#include <unistd.h>

namespace belfry {
namespace {

char directory[64];
std::string path, moved;
log_file *file; // made for each test; its descriptor is never given back, that is its way

int make_directory(void **) {
    strcpy(directory, "/tmp/belfry_test_log_file_XXXXXX");
    if (!mkdtemp(directory)) return -1;
    path = std::string(directory) + "/log";
    moved = std::string(directory) + "/log.1";
    file = new log_file{.name = "log", .target = log_target::off};
    return 0;
}

int remove_directory(void **) {
    struct rlimit all = {RLIM_INFINITY, RLIM_INFINITY};
    setrlimit(RLIMIT_FSIZE, &all);
    if (file->fd >= 0) close(file->fd);
    delete file;
    (void)chmod(directory, 0700);
    unlink(path.c_str());
    unlink(moved.c_str());
    return rmdir(directory);
}

void assert_content(const std::string &of, const char *wanted) {
    assert_string_equal(content(of).c_str(), wanted);
}

void open_it(const char *target) {
    error e;
    if (!log_file_open(file, target, &e)) fail_msg("%s", e.text);
}

void write_it(const char *text) {
    log_line l;
    l.json = false;
    log_line_put(&l, text);
    log_file_write(file, &l, LOG_INFO);
}

void make_sentence(log_line *l, const char *sentence) {
    l->json = false;
    log_line_put(l, sentence);
}

void off_writes_nothing(void **) {
    write_it("x");
    assert_int_equal(file->dropped, 0);
    assert_int_equal(file->fd.load(), -1);
}

void a_check_opens_and_changes_nothing(void **) {
    error e;
    assert_true(log_file_check(file, path.c_str(), &e));
    assert_true(log_file_check(file, "off", &e));
    assert_false(log_file_check(file, "/nowhere/log", &e));
    assert_string_equal(e.text, "can't open the log \"/nowhere/log\" for appending: No such file or directory");
    assert_true(file->target == log_target::off);
}

// The number must never be one that a client's socket may get.
void going_over_to_another_file_keeps_the_number(void **) {
    open_it(path.c_str());
    int fd = file->fd;
    write_it("one");
    open_it(moved.c_str());
    write_it("two");
    open_it("off");
    write_it("three");
    open_it(path.c_str());
    write_it("four");
    assert_int_equal(file->fd.load(), fd);
    assert_content(path, "one\nfour\n");
    assert_content(moved, "two\n");
    assert_int_equal(file->dropped, 0);
}

void off_lets_the_file_go(void **) {
    open_it(path.c_str());
    open_it("off");
    struct stat s;
    assert_int_equal(fstat(file->fd, &s), 0);
    assert_true(S_ISCHR(s.st_mode)); // /dev/null
}

void a_path_that_fails_changes_nothing(void **) {
    error e;
    open_it(path.c_str());
    assert_false(log_file_open(file, "/nowhere/log", &e));
    write_it("x");
    assert_content(path, "x\n");
}

// /dev/full takes nothing, as a disk without space.
void a_full_disk_is_counted_and_told_once_it_has_room(void **) {
    open_it("/dev/full");
    errno = EDOM;
    write_it("one");
    write_it("two");
    assert_int_equal(errno, EDOM);
    assert_int_equal(file->dropped, 2);
    log_file_tend(file, make_sentence); // can't say so: that line is not counted
    assert_int_equal(file->dropped, 2);
    open_it(path.c_str());
    log_file_tend(file, make_sentence);
    log_file_tend(file, make_sentence); // once
    write_it("three");
    assert_content(path, "log: 2 lines could not be written: No space left on device\nthree\n");
}

// What was written of a line when the disk was full stays; the next one stands on a line of its own.
void a_torn_line_ends_before_the_next(void **) {
    signal(SIGXFSZ, SIG_IGN);
    open_it(path.c_str());
    struct rlimit few = {6, RLIM_INFINITY};
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &few), 0);
    write_it("a long line");
    write_it("nothing of it");
    few.rlim_cur = RLIM_INFINITY;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &few), 0);
    write_it("whole");
    write_it("and the next");
    assert_content(path, "a long\nwhole\nand the next\n");
    assert_int_equal(file->dropped, 2);
}

void a_moved_file_is_written_until_it_is_reopened(void **) {
    error e;
    open_it(path.c_str());
    rename(path.c_str(), moved.c_str());
    log_file_tend(file, make_sentence); // moved is not deleted: logrotate says when
    write_it("old");
    assert_true(log_file_reopen(file, &e));
    write_it("new");
    assert_content(moved, "old\n");
    assert_content(path, "new\n");
}

void a_deleted_file_is_made_again(void **) {
    open_it(path.c_str());
    write_it("lost");
    unlink(path.c_str());
    log_file_tend(file, make_sentence);
    write_it("kept");
    assert_content(path, "kept\n");
}

void where_it_can_not_be_made_again_lines_are_counted(void **) {
    char other[] = "/tmp/belfry_test_log_gone_XXXXXX";
    assert_non_null(mkdtemp(other));
    std::string inside = std::string(other) + "/log";
    open_it(inside.c_str());
    unlink(inside.c_str());
    rmdir(other);
    log_file_tend(file, make_sentence);
    write_it("lost");
    assert_int_equal(file->dropped, 1);
    assert_int_equal(mkdir(other, 0700), 0);
    log_file_tend(file, make_sentence);
    write_it("kept");
    std::string got = content(inside);
    unlink(inside.c_str());
    rmdir(other);
    assert_string_equal(got.c_str(), "log: 1 lines could not be written: No such file or directory\nkept\n");
}

} // namespace
} // namespace belfry

int main() {
    using namespace belfry;
#define TEST(f) cmocka_unit_test_setup_teardown(f, make_directory, remove_directory)
    const struct CMUnitTest tests[] = {
        TEST(off_writes_nothing),
        TEST(a_check_opens_and_changes_nothing),
        TEST(going_over_to_another_file_keeps_the_number),
        TEST(off_lets_the_file_go),
        TEST(a_path_that_fails_changes_nothing),
        TEST(a_full_disk_is_counted_and_told_once_it_has_room),
        TEST(a_torn_line_ends_before_the_next),
        TEST(a_moved_file_is_written_until_it_is_reopened),
        TEST(a_deleted_file_is_made_again),
        TEST(where_it_can_not_be_made_again_lines_are_counted),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
