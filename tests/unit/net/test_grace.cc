// When timers wait after a pause.
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>
extern "C" {
#include <cmocka.h>
}

#include "net/grace.h"

using namespace belfry;

namespace {

void a_healthy_thread_fires_always(void **) {
    grace g;
    for (uint64_t now = 5000000; now < 5010000; now += 100)
        assert_true(grace_is_over(&g, now));
    assert_true(grace_is_over(&g, 5009900 + grace_pause_ms));
}

void after_a_pause_they_wait(void **) {
    grace g;
    assert_true(grace_is_over(&g, 1000));
    assert_false(grace_is_over(&g, 11000));
    for (uint64_t now = 11000; now < 12000; now += 100)
        assert_false(grace_is_over(&g, now));
    assert_true(grace_is_over(&g, 12000));
    assert_true(grace_is_over(&g, 12100));
    assert_false(grace_is_over(&g, 20000)); // the next pause
}

void a_thread_that_is_always_late_fires_all_the_same(void **) {
    grace g;
    int fired = 0;
    for (uint64_t now = 1000; now < 41000; now += 2000)
        fired += grace_is_over(&g, now);
    assert_int_equal(fired, 10);
}

} // namespace

int main() {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_healthy_thread_fires_always),
        cmocka_unit_test(after_a_pause_they_wait),
        cmocka_unit_test(a_thread_that_is_always_late_fires_all_the_same),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
