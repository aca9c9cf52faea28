// Unit tests of base/log: forms, escaping, levels, one write a line, reopening, limits.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
extern "C" {
#include <cmocka.h>
}

#include "base/log.h"
#include "expect_fatal.h"
#include "log_harness.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>

namespace belfry {
namespace {

char directory[64];
std::string path, moved;

int make_directory(void **) {
    strcpy(directory, "/tmp/belfry_test_log_XXXXXX");
    if (!mkdtemp(directory)) return -1;
    path = std::string(directory) + "/log";
    moved = std::string(directory) + "/log.1";
    return 0;
}

int remove_directory(void **) {
    error e;
    if (!log_open("stderr", log_level::info, false, &e)) return -1; // closes the file
    unlink(path.c_str());
    unlink(moved.c_str());
    return rmdir(directory);
}

void open_log(log_level level, bool json) {
    error e;
    if (!log_open(path.c_str(), level, json, &e)) fail_msg("%s", e.text);
}

constexpr size_t time_size = sizeof "2026-11-21T22:07:43.123Z" - 1;

// The file's content with the time, which is looked at by the tests of it, cut out of its only line.
std::string line_without_time(size_t at) {
    return content(path).erase(at, time_size);
}

void assert_text(const std::string &got, const char *wanted) {
    assert_string_equal(got.c_str(), wanted);
}

void text_form(void **) {
    open_log(log_level::info, false);
    time_t before = time(nullptr);
    log_warn("listener: accept paused, %s", "too many open files");
    time_t after = time(nullptr) + 1;
    std::string line = content(path);
    tm utc = {};
    const char *rest = strptime(line.c_str(), "%Y-%m-%dT%H:%M:%S", &utc);
    assert_non_null(rest);
    assert_in_range(timegm(&utc), before - 1, after);
    assert_int_equal(rest[0], '.');
    assert_int_equal(strspn(rest + 1, "0123456789"), 3);
    assert_string_equal(rest + 4, "Z warn listener: accept paused, too many open files\n");
}

void json_form(void **) {
    open_log(log_level::info, true);
    log_error("upstream app: down");
    std::string line = content(path);
    assert_int_equal(line.find("{\"time\":\"20"), 0);
    assert_text(line_without_time(9), "{\"time\":\"\",\"level\":\"error\",\"message\":\"upstream app: down\"}\n");
}

void the_form_may_change(void **) {
    open_log(log_level::info, false);
    log_set_json(true);
    log_info("x");
    assert_text(line_without_time(9), "{\"time\":\"\",\"level\":\"info\",\"message\":\"x\"}\n");
    open_log(log_level::info, true);
    log_set_json(false);
    remove(path.c_str());
    log_reopen();
    log_info("x");
    assert_text(line_without_time(0), " info x\n");
}

void a_client_can_not_forge_a_line(void **) {
    open_log(log_level::info, false);
    log_info("path \"%s\"", "/x\n2026-01-01T00:00:00.000Z error it's all over\r\x1b[2J\x7f\x01\ttab");
    assert_text(line_without_time(0), " info path \"/x\\x0a2026-01-01T00:00:00.000Z error it's all over\\x0d\\x1b[2J"
                                      "\\x7f\\x01\\x09tab\"\n");
}

void text_form_leaves_utf8_and_escapes_what_is_none(void **) {
    open_log(log_level::info, false);
    // Kept: U+00C0, U+00A0, U+20AC, U+1F514. C1 controls: U+0085, U+009B. Not UTF-8: the rest.
    log_info(
        "\xc3\x80 \xc2\xa0 \xe2\x82\xac \xf0\x9f\x94\x94 | \xc2\x85 \xc2\x9b | \xc0\xaf \xe0\x80\xaf \xf0\x8f\xbf\xbf "
        "\xed\xa0\x80 "
        "\xf4\x90\x80\x80 \xff \xe2\x82");
    assert_text(line_without_time(0),
                " info \xc3\x80 \xc2\xa0 \xe2\x82\xac \xf0\x9f\x94\x94 | \\xc2\\x85 \\xc2\\x9b | "
                "\\xc0\\xaf \\xe0\\x80\\xaf \\xf0\\x8f\\xbf\\xbf \\xed\\xa0\\x80 \\xf4\\x90\\x80\\x80 \\xff "
                "\\xe2\\x82\n");
}

void json_form_is_json_whatever_the_bytes(void **) {
    open_log(log_level::info, true);
    log_info("%s", "\"},{\"level\":\"error\"\\ \n\x01\x1f\x7f \xe2\x82\xac \xc2\x9b \xff\xe2\x82 end");
    assert_text(line_without_time(9),
                "{\"time\":\"\",\"level\":\"info\",\"message\":\"\\\"},{\\\"level\\\":\\\"error\\\"\\\\ "
                "\\u000a\\u0001\\u001f\\u007f \xe2\x82\xac \\u009b \\ufffd\\ufffd\\ufffd end\"}\n");
}

void a_long_message_is_cut(void **) {
    open_log(log_level::info, false);
    log_info("%s", std::string(2000, 'x').c_str());
    assert_text(line_without_time(0), (" info " + std::string(2000, 'x') + "\n").c_str());
    unlink(path.c_str());
    log_reopen();
    log_info("%s", std::string(2001, 'x').c_str());
    assert_text(line_without_time(0), (" info " + std::string(1997, 'x') + "...\n").c_str());
}

void a_long_message_of_the_worst_bytes_is_still_one_whole_line(void **) {
    open_log(log_level::info, true);
    log_info("%s", std::string(5000, '\x01').c_str());
    std::string wanted = "{\"time\":\"\",\"level\":\"info\",\"message\":\"";
    for (int i = 0; i < 1997; i++)
        wanted += "\\u0001";
    assert_text(line_without_time(9), (wanted + "...\"}\n").c_str());
}

void a_cut_leaves_characters_whole(void **) {
    open_log(log_level::info, false);
    std::string bells;
    for (int i = 0; i < 600; i++)
        bells += "\xf0\x9f\x94\x94";
    log_info("%s", bells.c_str());
    assert_text(line_without_time(0), (" info " + bells.substr(0, 1996) + "...\n").c_str());
}

void levels_filter_and_are_counted(void **) {
    constexpr log_level levels[] = {log_level::error, log_level::warn, log_level::info, log_level::debug};
    open_log(log_level::error, false);
    for (log_level chosen : levels) {
        log_set_level(chosen);
        uint64_t counts[4];
        for (size_t i = 0; i < 4; i++)
            counts[i] = log_count(levels[i]);
        log_error("at error");
        log_warn("at warn");
        log_info("at info");
        log_debug("at debug");
        for (size_t i = 0; i < 4; i++) {
            assert_int_equal(log_enabled(levels[i]), levels[i] <= chosen);
            assert_int_equal(log_count(levels[i]) - counts[i], levels[i] <= chosen);
        }
    }
    std::string text = content(path), names;
    for (size_t at = 0; at < text.size(); at = text.find('\n', at) + 1)
        names += text.substr(at + time_size + 1, 2);
    assert_text(names, "ererwaerwainerwainde");
}

void errno_survives(void **) {
    open_log(log_level::info, false);
    errno = EMFILE;
    log_info("accept: %m");
    assert_int_equal(errno, EMFILE);
    assert_true(content(path).ends_with(" info accept: Too many open files\n"));
}

void appends_and_is_not_for_everybody(void **) {
    mode_t mask = umask(0);
    open_log(log_level::info, false);
    log_info("first");
    open_log(log_level::info, false);
    log_info("second");
    umask(mask);
    std::string text = content(path);
    assert_true(text.find(" info first\n") != std::string::npos && text.ends_with(" info second\n"));
    struct stat status;
    assert_int_equal(stat(path.c_str(), &status), 0);
    assert_int_equal(status.st_mode & 07777, 0640);
}

void a_file_that_can_not_be_opened_changes_nothing(void **) {
    open_log(log_level::info, false);
    error e;
    std::string bad = std::string(directory) + "/none/log";
    assert_false(log_open(bad.c_str(), log_level::debug, true, &e));
    assert_non_null(strstr(e.text, "/none/log\" for appending: No such file or directory"));
    log_debug("not this");
    log_info("this");
    assert_text(line_without_time(0), " info this\n");
}

void reopens_after_the_file_was_moved(void **) {
    open_log(log_level::info, false);
    log_info("old");
    assert_int_equal(rename(path.c_str(), moved.c_str()), 0);
    log_info("still old");
    log_reopen();
    log_info("new");
    assert_text(line_without_time(0), " info new\n");
    std::string old = content(moved);
    assert_true(old.find(" info old\n") != std::string::npos && old.ends_with(" info still old\n"));
}

void a_failed_reopening_keeps_the_old_file_and_says_so(void **) {
    open_log(log_level::info, false);
    assert_int_equal(rename(path.c_str(), moved.c_str()), 0);
    assert_int_equal(mkdir(path.c_str(), 0700), 0); // a directory can't be opened for writing, not even by root
    uint64_t errors = log_count(log_level::error);
    log_reopen();
    log_info("after");
    assert_int_equal(rmdir(path.c_str()), 0);
    assert_int_equal(log_count(log_level::error), errors + 1);
    std::string old = content(moved);
    assert_true(old.find("Is a directory; the old file stays in use\n") != std::string::npos);
    assert_true(old.ends_with(" info after\n"));
}

constexpr int lines_a_thread = 300;

void *write_lines(void *name) {
    for (int i = 0; i < lines_a_thread; i++) {
        log_info("%s", std::string(1500, *static_cast<char *>(name)).c_str());
    }
    return nullptr;
}

// With log_reopen beside them: no line may be torn, mixed or lost.
void lines_of_several_threads_stay_whole(void **) {
    open_log(log_level::info, false);
    static char names[] = "ab";
    pthread_t threads[2];
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&threads[i], nullptr, write_lines, &names[i]), 0);
    for (int i = 0; i < 50; i++)
        log_reopen();
    assert_int_equal(rename(path.c_str(), moved.c_str()), 0);
    log_reopen();
    for (pthread_t thread : threads)
        pthread_join(thread, nullptr);
    std::string text = content(moved) + content(path);
    int lines = 0;
    for (size_t at = 0, end; at < text.size(); at = end + 1, lines++) {
        end = text.find('\n', at);
        assert_int_equal(end - at, time_size + sizeof " info " - 1 + 1500);
        char name = text[end - 1];
        assert_int_equal(text.find_first_not_of(name, end - 1500), end);
    }
    assert_int_equal(lines, 2 * lines_a_thread);
}

// A socket that keeps the borders of writes, in standard error's place.
void one_line_is_one_write(void **) {
    error e;
    assert_true(log_open("stderr", log_level::info, false, &e));
    int ends[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends), 0);
    int kept = dup(STDERR_FILENO);
    dup2(ends[0], STDERR_FILENO);
    log_info("one %d", 1);
    log_error("two\n");
    dup2(kept, STDERR_FILENO);
    close(kept);
    close(ends[0]);
    char packet[200];
    ssize_t size = read(ends[1], packet, sizeof packet);
    assert_int_equal(size, time_size + sizeof " info one 1\n" - 1);
    assert_memory_equal(packet + time_size, " info one 1\n", 12);
    size = read(ends[1], packet, sizeof packet);
    assert_memory_equal(packet + time_size, " error two\\x0a\n", 15);
    assert_int_equal(size, time_size + 15);
    close(ends[1]);
}

void until_the_next_second() {
    timespec now = {};
    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    timespec wait = {0, 1000000000 - now.tv_nsec + 10000000};
    if (wait.tv_nsec >= 1000000000) wait = {1, wait.tv_nsec - 1000000000};
    nanosleep(&wait, nullptr);
}

void a_limit_lets_a_burst_pass_and_counts_the_rest(void **) {
    static log_limit limit = {.burst = 3};
    until_the_next_second();
    uint64_t held = 99;
    for (int i = 0; i < 3; i++) {
        assert_true(log_limit_pass(&limit, &held));
        assert_int_equal(held, 0);
    }
    for (int i = 0; i < 1000; i++)
        assert_false(log_limit_pass(&limit, &held));
    until_the_next_second();
    assert_true(log_limit_pass(&limit, &held));
    assert_int_equal(held, 1000);
    assert_true(log_limit_pass(&limit, &held));
    assert_int_equal(held, 0);
}

void *try_limit(void *limit) {
    uintptr_t passed = 0;
    for (int i = 0; i < 10000; i++) {
        uint64_t held;
        passed += log_limit_pass(static_cast<log_limit *>(limit), &held);
    }
    return reinterpret_cast<void *>(passed);
}

void a_limit_is_shared_by_threads(void **) {
    static log_limit limit = {.burst = 5};
    until_the_next_second();
    pthread_t threads[2];
    for (pthread_t &thread : threads)
        assert_int_equal(pthread_create(&thread, nullptr, try_limit, &limit), 0);
    uintptr_t passed = 0;
    for (pthread_t thread : threads) {
        void *result;
        pthread_join(thread, &result);
        passed += reinterpret_cast<uintptr_t>(result);
    }
    // A slow machine may need a few seconds for it, and each gives five (seven at the turn, as log.cc says).
    assert_in_range(passed, 5, 35);
}

} // namespace
} // namespace belfry

int main() {
    using namespace belfry;
    const CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(text_form, make_directory, remove_directory),
        cmocka_unit_test_setup_teardown(json_form, make_directory, remove_directory),
        cmocka_unit_test_setup_teardown(the_form_may_change, make_directory, remove_directory),
        cmocka_unit_test_setup_teardown(a_client_can_not_forge_a_line, make_directory, remove_directory),
        cmocka_unit_test_setup_teardown(text_form_leaves_utf8_and_escapes_what_is_none, make_directory,
                                        remove_directory),
        cmocka_unit_test_setup_teardown(json_form_is_json_whatever_the_bytes, make_directory, remove_directory),
        cmocka_unit_test_setup_teardown(a_long_message_is_cut, make_directory, remove_directory),
        cmocka_unit_test_setup_teardown(a_long_message_of_the_worst_bytes_is_still_one_whole_line, make_directory,
                                        remove_directory),
        cmocka_unit_test_setup_teardown(a_cut_leaves_characters_whole, make_directory, remove_directory),
        cmocka_unit_test_setup_teardown(levels_filter_and_are_counted, make_directory, remove_directory),
        cmocka_unit_test_setup_teardown(errno_survives, make_directory, remove_directory),
        cmocka_unit_test_setup_teardown(appends_and_is_not_for_everybody, make_directory, remove_directory),
        cmocka_unit_test_setup_teardown(a_file_that_can_not_be_opened_changes_nothing, make_directory,
                                        remove_directory),
        cmocka_unit_test_setup_teardown(reopens_after_the_file_was_moved, make_directory, remove_directory),
        cmocka_unit_test_setup_teardown(a_failed_reopening_keeps_the_old_file_and_says_so, make_directory,
                                        remove_directory),
        cmocka_unit_test_setup_teardown(lines_of_several_threads_stay_whole, make_directory, remove_directory),
        cmocka_unit_test(one_line_is_one_write),
        cmocka_unit_test(a_limit_lets_a_burst_pass_and_counts_the_rest),
        cmocka_unit_test(a_limit_is_shared_by_threads),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
