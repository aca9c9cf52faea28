// Marks of messages in the dirty list: when each is over, and what is observed then.
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>
extern "C" {
#include <cmocka.h>
}

#include "base/clock.h"
#include "relay/fanout_marks.h"

#include <initializer_list>

using namespace belfry;

namespace {

constexpr uint64_t ms = 1000000;
fanout_marks marks;
histogram observed;
// Connections are names here: nothing looks into them.
const conn *const a = reinterpret_cast<const conn *>(64), *const b = reinterpret_cast<const conn *>(128);

int setup(void **) {
    marks = {};
    observed = {};
    return 0;
}

void written(const conn *c) {
    fanout_marks_written(&marks, c, &observed);
}

void a_message_is_over_with_its_last_connection(void **) {
    const uint64_t now = clock_monotonic_ns();
    fanout_marks_add(&marks, now - 30 * ms, b);
    written(a);
    assert_int_equal(histogram_count(&observed), 0);
    written(b);
    assert_int_equal(histogram_count(&observed), 1);
    assert_true(observed.sum_ns >= 30 * ms);
    written(b);
    assert_int_equal(histogram_count(&observed), 1);
    assert_int_equal(marks.count, 0);
}

void without_a_connection_to_write_there_is_nothing_to_wait_for(void **) {
    fanout_marks_add(&marks, clock_monotonic_ns(), nullptr);
    assert_int_equal(marks.count, 0);
}

void who_is_dirty_again_ends_the_earlier_messages_alone(void **) {
    const uint64_t now = clock_monotonic_ns();
    fanout_marks_add(&marks, now - 900 * ms, a);
    fanout_marks_add(&marks, now - 800 * ms, b);
    written(a);
    fanout_marks_add(&marks, now - 700 * ms, a); // in the list again, behind b
    assert_int_equal(histogram_count(&observed), 1);
    written(b);
    assert_int_equal(histogram_count(&observed), 2);
    written(a);
    assert_int_equal(histogram_count(&observed), 3);
}

void several_end_together(void **) {
    const uint64_t now = clock_monotonic_ns();
    for (uint64_t age : {uint64_t{90}, uint64_t{60}, uint64_t{30}})
        fanout_marks_add(&marks, now - age * ms, a);
    assert_int_equal(marks.count, 3);
    written(a);
    assert_int_equal(histogram_count(&observed), 3);
    assert_true(observed.sum_ns >= 180 * ms);
}

void a_burst_shares_a_mark_and_counts_each(void **) {
    const uint64_t now = clock_monotonic_ns() - 10 * ms;
    for (uint64_t i = 0; i < 10; i++)
        fanout_marks_add(&marks, now + i * 1000, i == 9 ? b : a);
    assert_int_equal(marks.count, 1);
    written(a); // the later ones of the burst are not over
    assert_int_equal(histogram_count(&observed), 0);
    written(b);
    assert_int_equal(histogram_count(&observed), 10);
}

void more_than_the_ring_holds_share_the_last(void **) {
    const uint64_t now = clock_monotonic_ns() - fanout_marks_max * 2 * ms;
    for (uint64_t i = 0; i < fanout_marks_max + 20; i++)
        fanout_marks_add(&marks, now + i * ms, i < fanout_marks_max ? a : b);
    assert_int_equal(marks.count, fanout_marks_max);
    written(a);
    assert_int_equal(histogram_count(&observed), fanout_marks_max - 1);
    written(b);
    assert_int_equal(histogram_count(&observed), fanout_marks_max + 20);
    fanout_marks_add(&marks, now, a); // the ring goes round
    assert_int_equal(marks.count, 1);
    written(a);
    assert_int_equal(histogram_count(&observed), fanout_marks_max + 21);
}

void a_time_from_the_future_is_none(void **) {
    fanout_marks_add(&marks, clock_monotonic_ns() + 3600000 * ms, a);
    written(a);
    assert_int_equal(histogram_count(&observed), 1);
    assert_int_equal(observed.sum_ns, 0);
}

} // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test_setup(a_message_is_over_with_its_last_connection, setup),
        cmocka_unit_test_setup(without_a_connection_to_write_there_is_nothing_to_wait_for, setup),
        cmocka_unit_test_setup(who_is_dirty_again_ends_the_earlier_messages_alone, setup),
        cmocka_unit_test_setup(several_end_together, setup),
        cmocka_unit_test_setup(a_burst_shares_a_mark_and_counts_each, setup),
        cmocka_unit_test_setup(more_than_the_ring_holds_share_the_last, setup),
        cmocka_unit_test_setup(a_time_from_the_future_is_none, setup),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
