// Work put off: run by the loop and never by the call that posts it, once, again when posted from within, not after a
// cancel; and the loop does not sleep while it is due.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
extern "C" {
#include <cmocka.h>
}

#include "base/list.h"
#include "net/later.h"

#include <unistd.h>

using namespace belfry;

namespace {

struct task {
    struct later later;
    int runs, again;
};

loop *on;
task work;

void run(later *l) {
    task *t = BELFRY_CONTAINER_OF(l, task, later);
    t->runs++;
    if (t->again-- > 0) later_post(l);
}

int set_up(void **) {
    alarm(20);
    on = loop_new();
    work = {};
    later_init(&work.later, on, run);
    return 0;
}

int tear_down(void **) {
    later_cancel(&work.later);
    loop_free(on);
    return 0;
}

void test_runs_once_from_the_loop(void **) {
    later_post(&work.later);
    later_post(&work.later);
    assert_int_equal(work.runs, 0);
    loop_turn(on, true); // alarm() ends a loop that sleeps
    assert_int_equal(work.runs, 1);
    loop_turn(on, false);
    assert_int_equal(work.runs, 1);
}

void test_again_from_within(void **) {
    work.again = 2;
    later_post(&work.later);
    for (int i = 0; i < 3; i++)
        loop_turn(on, false);
    assert_int_equal(work.runs, 3);
}

void test_cancelled(void **) {
    later_post(&work.later);
    later_cancel(&work.later);
    loop_turn(on, false);
    assert_int_equal(work.runs, 0);
    later_post(&work.later);
    loop_turn(on, false);
    assert_int_equal(work.runs, 1);
}

} // namespace

int main() {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_runs_once_from_the_loop, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_again_from_within, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_cancelled, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
