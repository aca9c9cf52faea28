// The waits between crashes.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
extern "C" {
#include <cmocka.h>
}

#include "main/backoff.h"

using namespace belfry;

namespace {

void doubles_up_to_the_most(void **) {
    uint64_t wait = 0;
    constexpr uint64_t waits[] = {100, 200, 400, 800, 1600, 3200, 6400, 10000, 10000, 10000};
    for (uint64_t expected : waits) {
        wait = backoff_next(wait, 5);
        assert_int_equal(wait, expected);
    }
}

void a_healthy_minute_makes_up_for_all(void **) {
    assert_int_equal(backoff_next(6400, 59999), 10000);
    assert_int_equal(backoff_next(6400, 60000), 100);
    assert_int_equal(backoff_next(10000, UINT64_MAX), 100);
}

void the_first_one_waits_shortly_however_short_it_lived(void **) {
    assert_int_equal(backoff_next(0, 0), 100);
    assert_int_equal(backoff_next(0, 100000), 100);
}

} // namespace

int main() {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(doubles_up_to_the_most),
        cmocka_unit_test(a_healthy_minute_makes_up_for_all),
        cmocka_unit_test(the_first_one_waits_shortly_however_short_it_lived),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
