// What is read from /proc of this very process.
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>
extern "C" {
#include <cmocka.h>
}

#include "main/process_stats.h"

#include <sys/prctl.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

using namespace belfry;

namespace {

void all_of_it_is_plausible(void **) {
    process_stats p = process_stats_read();
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    assert_int_equal(p.max_fds, files.rlim_cur);
    assert_true(p.cpu_ns > 0);
    assert_true(p.resident_bytes >= 100000);
    assert_true(p.virtual_bytes >= p.resident_bytes);
    assert_true(p.threads >= 1);
    const auto now = static_cast<uint64_t>(time(nullptr));
    assert_in_range(p.started_ns / 1000000000, now - 3600, now + 1);
    assert_int_equal(process_stats_read().started_ns, p.started_ns);
}

void files_are_counted(void **) {
    const uint64_t before = process_stats_read().open_fds;
    int fds[] = {dup(2), dup(2), dup(2)};
    const uint64_t after = process_stats_read().open_fds;
    for (int fd : fds)
        close(fd);
    assert_int_equal(after, before + 3);
    assert_int_equal(process_stats_read().open_fds, before);
}

void a_name_with_blanks_and_parentheses_misleads_nobody(void **) {
    const uint64_t threads = process_stats_read().threads;
    char old[16];
    assert_int_equal(prctl(PR_GET_NAME, old), 0);
    assert_int_equal(prctl(PR_SET_NAME, "a) R 1 2 (b"), 0);
    process_stats p = process_stats_read();
    prctl(PR_SET_NAME, old);
    assert_int_equal(p.threads, threads);
    assert_true(p.resident_bytes >= 100000);
}

} // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(all_of_it_is_plausible),
        cmocka_unit_test(files_are_counted),
        cmocka_unit_test(a_name_with_blanks_and_parentheses_misleads_nobody),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
