// Unit tests of relay/room_rates: rates over the windows, and that a few busy rooms are found among many.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
extern "C" {
#include <cmocka.h>
}

#include "relay/room_rates.h"

#include <math.h>

namespace belfry {
namespace {

constexpr uint64_t window = room_rates_window_ms;
room_rates *rates;

int setup(void **) {
    rates = new room_rates{};
    return 0;
}
int teardown(void **) {
    delete rates;
    return 0;
}

void add(const std::string &name, uint64_t hash, uint64_t now_ms, uint64_t times = 1) {
    for (uint64_t i = 0; i < times; i++)
        room_rates_add(rates, name, hash, 10, now_ms);
}

void assert_rate(double got, double wanted) {
    if (fabs(got - wanted) > 1e-6) fail_msg("%f is not %f", got, wanted);
}

void nothing_at_first(void **) {
    assert_int_equal(room_rates_top(rates, 12345, 10).size(), 0);
}

void the_busiest_come_first(void **) {
    add("a", 11, 1000, 5);
    add("b", 12, 1000, 50);
    add("c", 13, 1000, 10);
    auto top = room_rates_top(rates, 2000, 2);
    assert_int_equal(top.size(), 2);
    assert_string_equal(top[0].name.c_str(), "b");
    assert_string_equal(top[1].name.c_str(), "c");
    assert_rate(top[0].messages, 5); // 50 in a window of ten seconds
    assert_rate(top[0].bytes, 50);
}

void a_rate_fades_over_one_window(void **) {
    add("a", 11, 5000, 100);
    assert_rate(room_rates_top(rates, window - 1, 1)[0].messages, 10);
    assert_rate(room_rates_top(rates, window + window / 2, 1)[0].messages, 5);
    assert_int_equal(room_rates_top(rates, 2 * window, 1).size(), 0);
}

void a_steady_rate_stays_what_it_is(void **) {
    for (uint64_t ms = 0; ms < 5 * window; ms += 100)
        add("a", 11, ms);
    assert_rate(room_rates_top(rates, 5 * window, 1)[0].messages, 10);
    for (uint64_t ms = 5 * window; ms < 5 * window + 3000; ms += 100)
        add("a", 11, ms);
    assert_rate(room_rates_top(rates, 5 * window + 3000, 1)[0].messages, 10);
}

void silence_empties_it(void **) {
    add("a", 11, 0, 100);
    assert_int_equal(room_rates_top(rates, 100 * window, 1).size(), 0);
    add("b", 12, 100 * window);
    assert_int_equal(room_rates_top(rates, 100 * window, 10).size(), 1);
}

// Two thousand rooms with a message each between those of three busy ones.
void many_rooms_do_not_hide_the_busy_ones(void **) {
    for (uint64_t i = 0; i < 2000; i++) {
        add("one" + std::to_string(i), 1000 + i, 5000);
        add("busy" + std::to_string(i % 3), 1 + i % 3, 5000);
    }
    auto top = room_rates_top(rates, 5000, 10);
    for (size_t i = 0; i < 3; i++) {
        assert_true(top[i].name.starts_with("busy"));
        assert_true(top[i].messages > 60 && top[i].messages <= 66.8);
    }
    for (size_t i = 3; i < top.size(); i++)
        assert_rate(top[i].messages, 0.1); // certain: no more than its own one
}

void a_hash_of_zero_is_a_room_like_others(void **) {
    add("zero", 0, 0, 7);
    assert_string_equal(room_rates_top(rates, 0, 1)[0].name.c_str(), "zero");
}

} // namespace
} // namespace belfry

int main() {
    using namespace belfry;
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(nothing_at_first),
        TEST(the_busiest_come_first),
        TEST(a_rate_fades_over_one_window),
        TEST(a_steady_rate_stays_what_it_is),
        TEST(silence_empties_it),
        TEST(many_rooms_do_not_hide_the_busy_ones),
        TEST(a_hash_of_zero_is_a_room_like_others),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
