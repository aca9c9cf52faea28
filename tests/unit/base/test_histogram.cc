// Histograms: which bucket an observation falls into, sums, quantiles.
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>
extern "C" {
#include <cmocka.h>
}

#include "base/histogram.h"

using namespace belfry;

namespace {

constexpr uint64_t us = 1000, ms = 1000000, second = 1000000000;

void bounds_ascend(void **) {
    assert_int_equal(histogram_bounds_ns[0], 25 * us);
    assert_int_equal(histogram_bounds_ns[histogram_bounds_count - 1], 10 * second);
    for (size_t i = 1; i < histogram_bounds_count; i++)
        assert_true(histogram_bounds_ns[i] > histogram_bounds_ns[i - 1]);
}

// "le": a bound belongs to its own bucket.
void each_bound_is_the_last_of_its_bucket(void **) {
    for (size_t i = 0; i < histogram_bounds_count; i++) {
        histogram h = {};
        histogram_add(&h, histogram_bounds_ns[i]);
        histogram_add(&h, histogram_bounds_ns[i] + 1);
        assert_int_equal(h.counts[i], 1);
        assert_int_equal(h.counts[i + 1], 1);
        assert_int_equal(histogram_count(&h), 2);
    }
}

void ends_take_all_that_is_beyond(void **) {
    histogram h = {};
    histogram_add(&h, 0);
    histogram_add(&h, 3600 * second, 2);
    assert_int_equal(h.counts[0], 1);
    assert_int_equal(h.counts[histogram_bounds_count], 2);
    assert_int_equal(h.sum_ns, 7200 * second);
}

void many_at_once_are_as_many(void **) {
    histogram h = {};
    histogram_add(&h, 2 * ms, 5);
    assert_int_equal(histogram_count(&h), 5);
    assert_int_equal(h.sum_ns, 10 * ms);
}

void merged_is_both(void **) {
    histogram a = {}, b = {};
    histogram_add(&a, us);
    histogram_add(&a, 20 * second);
    histogram_add(&b, us, 3);
    histogram_add(&b, ms);
    histogram_merge(&a, &b);
    assert_int_equal(a.counts[0], 4);
    assert_int_equal(histogram_count(&a), 6);
    assert_int_equal(a.sum_ns, 4 * us + ms + 20 * second);
    assert_int_equal(histogram_count(&b), 4);
}

void quantiles_are_the_bounds_above(void **) {
    histogram h = {};
    assert_int_equal(histogram_quantile_ns(&h, 500), 0);
    histogram_add(&h, 40 * us, 98); // to 50 us
    histogram_add(&h, 3 * ms);      // to 5 ms
    histogram_add(&h, 60 * second); // above all
    assert_int_equal(histogram_quantile_ns(&h, 0), 50 * us);
    assert_int_equal(histogram_quantile_ns(&h, 500), 50 * us);
    assert_int_equal(histogram_quantile_ns(&h, 980), 50 * us);
    assert_int_equal(histogram_quantile_ns(&h, 981), 5 * ms);
    assert_int_equal(histogram_quantile_ns(&h, 990), 5 * ms);
    assert_int_equal(histogram_quantile_ns(&h, 1000), 10 * second);
}

// Of two, the middle one is the first; of 2,001 the 99.9 % are 1,999.
void quantiles_of_odd_counts(void **) {
    histogram h = {};
    histogram_add(&h, us);
    histogram_add(&h, ms);
    assert_int_equal(histogram_quantile_ns(&h, 500), 25 * us);
    assert_int_equal(histogram_quantile_ns(&h, 501), ms);
    histogram_add(&h, us, 1998);
    histogram_add(&h, ms);
    assert_int_equal(histogram_quantile_ns(&h, 999), 25 * us);
    assert_int_equal(histogram_quantile_ns(&h, 1000), ms);
}

} // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(bounds_ascend),
        cmocka_unit_test(each_bound_is_the_last_of_its_bucket),
        cmocka_unit_test(ends_take_all_that_is_beyond),
        cmocka_unit_test(many_at_once_are_as_many),
        cmocka_unit_test(merged_is_both),
        cmocka_unit_test(quantiles_are_the_bounds_above),
        cmocka_unit_test(quantiles_of_odd_counts),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
