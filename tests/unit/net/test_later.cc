// Work put off: run by the loop and never by the call that posts it, once, again when posted from within, not after a
// cancel; after a while, in order; and the loop does not sleep while it is due.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
extern "C" {
#include <cmocka.h>
}

#include "base/list.h"
#include "net/loop.h"

#include <string.h>
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
    later_init(&work.later, &on->laters, run);
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

uint64_t now_ms() {
    return clock_monotonic_ns() / 1000000;
}

void test_after_a_while(void **) {
    const uint64_t from = now_ms();
    later_post_in(&work.later, 30);
    loop_turn(on, false);
    assert_int_equal(work.runs, 0);
    assert_true(later_posted(&work.later));
    while (!work.runs)
        loop_turn(on, true); // sleeps until then and no longer: alarm()
    assert_true(now_ms() - from >= 30);
    assert_false(later_posted(&work.later));
    later_post_in(&work.later, 3600000);
    later_post_in(&work.later, 0); // the last word counts
    loop_turn(on, true);
    while (work.runs < 2)
        loop_turn(on, true);
    later_post_in(&work.later, 3600000);
    later_post(&work.later);
    loop_turn(on, true);
    assert_int_equal(work.runs, 3);
}

char order[8];

struct letter {
    struct later later;
    char name;
};

void note(later *l) {
    order[strlen(order)] = BELFRY_CONTAINER_OF(l, letter, later)->name;
}

void test_in_the_order_of_their_time(void **) {
    struct letter letters[4] = {};
    const struct {
        char name;
        uint64_t ms;
    } posted[] = {{'c', 20}, {'a', 1}, {'d', 20}, {'b', 10}};
    for (size_t i = 0; i < 4; i++) {
        letters[i].name = posted[i].name;
        later_init(&letters[i].later, &on->laters, note);
        later_post_in(&letters[i].later, posted[i].ms);
    }
    memset(order, 0, sizeof order);
    while (strlen(order) < 4)
        loop_turn(on, true);
    assert_string_equal(order, "abcd");
}

void other_is_cancelled(later *l) {
    later_cancel(&work.later);
    later_cancel(l);
}

void test_cancelled_by_one_that_is_due_with_it(void **) {
    struct later first;
    later_init(&first, &on->laters, other_is_cancelled);
    later_post(&first);
    later_post(&work.later);
    loop_turn(on, false);
    loop_turn(on, false);
    assert_int_equal(work.runs, 0);
}

} // namespace

int main() {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_runs_once_from_the_loop, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_again_from_within, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_cancelled, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_after_a_while, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_in_the_order_of_their_time, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_cancelled_by_one_that_is_due_with_it, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
