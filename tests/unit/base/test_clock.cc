// Unit tests of base/clock: units, and which clock is which.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
extern "C" {
#include <cmocka.h>
}

#include "base/clock.h"

#include <time.h>

namespace belfry {
namespace {

void wall_time_is_milliseconds_since_1970(void **) {
    clock c;
    uint64_t before = static_cast<uint64_t>(time(nullptr));
    clock_refresh(&c);
    uint64_t after = static_cast<uint64_t>(time(nullptr)) + 1;
    // time(2) reads a coarse clock that may lag behind by a tick.
    assert_in_range(c.wall_ms, before * 1000, after * 1000 + 20);
}

void monotonic_time_moves_with_a_sleep(void **) {
    clock c;
    clock_refresh(&c);
    uint64_t start_ms = c.monotonic_ms, start_ns = clock_monotonic_ns();
    timespec pause = {0, 20 * 1000 * 1000};
    nanosleep(&pause, nullptr);
    clock_refresh(&c);
    assert_in_range(c.monotonic_ms - start_ms, 19, 10000);
    assert_in_range(clock_monotonic_ns() - start_ns, 20000000, 10000000000);
}

void both_readings_are_of_one_clock(void **) {
    clock c;
    uint64_t before = clock_monotonic_ns() / 1000000;
    clock_refresh(&c);
    assert_in_range(c.monotonic_ms, before, clock_monotonic_ns() / 1000000);
}

} // namespace
} // namespace belfry

int main() {
    using namespace belfry;
    const CMUnitTest tests[] = {
        cmocka_unit_test(wall_time_is_milliseconds_since_1970),
        cmocka_unit_test(monotonic_time_moves_with_a_sleep),
        cmocka_unit_test(both_readings_are_of_one_clock),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
