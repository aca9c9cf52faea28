// Counters: every one is added up, every reason has a name, close codes find their places.
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>
extern "C" {
#include <cmocka.h>
}

#include "relay/counters.h"

#include <string.h>

using namespace belfry;

namespace {

uint64_t closed_with(const counters *c, uint16_t code) {
    uint64_t sum = 0;
    for (const close_count &e : c->closed)
        if (e.count && e.code == code) sum += e.count;
    return sum;
}

uint64_t closed_in_all(const counters *c) {
    uint64_t sum = 0;
    for (const close_count &e : c->closed)
        sum += e.count;
    return sum;
}

// What stands before the close codes is plain numbers: a counter that counters_add forgets is found here.
void every_number_is_added(void **) {
    constexpr size_t numbers = offsetof(counters, closed) / sizeof(uint64_t);
    counters part = {}, sum = {};
    uint64_t values[numbers];
    for (size_t i = 0; i < numbers; i++)
        values[i] = 1000 + i;
    memcpy(&part, values, sizeof values);
    counters_add(&sum, &part);
    counters_add(&sum, &part);
    memcpy(values, &sum, sizeof values);
    for (size_t i = 0; i < numbers; i++)
        assert_int_equal(values[i], 2 * (1000 + i));
}

void close_codes_are_counted_apart(void **) {
    counters c = {};
    counters_close(&c, 1000);
    counters_close(&c, 4413);
    counters_close(&c, 1000);
    assert_int_equal(closed_with(&c, 1000), 2);
    assert_int_equal(closed_with(&c, 4413), 1);
    assert_int_equal(closed_with(&c, 1001), 0);
    assert_int_equal(closed_in_all(&c), 3);
}

// Clients choose among two thousand codes: what they make up takes no place from the others.
void made_up_codes_are_counted_by_their_thousand(void **) {
    counters c = {};
    for (uint16_t code = 3000; code < 5000; code++)
        counters_close(&c, code);
    const uint16_t belfrys[] = {4400, 4401, 4403, 4408, 4409, 4413, 4502, 4503};
    for (uint16_t own : belfrys)
        assert_int_equal(closed_with(&c, own), 1);
    assert_int_equal(closed_with(&c, 3000), 1000);
    assert_int_equal(closed_with(&c, 4000), 1000 - 8);
    assert_int_equal(closed_with(&c, 0), 0);
    counters_close(&c, 1000);
    assert_int_equal(closed_with(&c, 1000), 1);
}

void too_many_codes_go_under_zero(void **) {
    counters c = {};
    for (uint16_t i = 0; i < 100; i++)
        for (int n = 0; n < 2; n++)
            counters_close(&c, static_cast<uint16_t>(1000 + i));
    for (uint16_t i = 0; i < close_codes_max - 1; i++)
        assert_int_equal(closed_with(&c, static_cast<uint16_t>(1000 + i)), 2);
    assert_int_equal(closed_with(&c, 1000 + close_codes_max - 1), 0);
    assert_int_equal(closed_with(&c, 0), 2 * (100 - (close_codes_max - 1)));
    assert_int_equal(closed_in_all(&c), 200);
}

void close_codes_of_workers_are_added(void **) {
    counters a = {}, b = {}, sum = {};
    counters_close(&a, 1000);
    counters_close(&a, 1001);
    counters_close(&b, 1001);
    counters_close(&b, 4413);
    a.slow = {1, 2, 3};
    b.slow = {10, 20, 30};
    histogram_add(&a.fanout, 1000);
    histogram_add(&b.fanout, 2000);
    histogram_add(&a.hook_times[0], 10);
    histogram_add(&b.hook_times[hook_kinds - 1], 20);
    counters_add(&sum, &a);
    counters_add(&sum, &b);
    assert_int_equal(sum.slow.closed_hard, 11);
    assert_int_equal(sum.slow.closed_soft, 22);
    assert_int_equal(sum.slow.gaps, 33);
    assert_int_equal(histogram_count(&sum.fanout), 2);
    assert_int_equal(sum.fanout.sum_ns, 3000);
    assert_int_equal(sum.hook_times[0].sum_ns, 10);
    assert_int_equal(sum.hook_times[hook_kinds - 1].sum_ns, 20);
    assert_int_equal(closed_with(&sum, 1000), 1);
    assert_int_equal(closed_with(&sum, 1001), 2);
    assert_int_equal(closed_with(&sum, 4413), 1);
    assert_int_equal(closed_in_all(&sum), 4);
}

void a_full_table_loses_nothing_when_added(void **) {
    counters part = {}, sum = {};
    for (uint16_t i = 0; i < 200; i++)
        counters_close(&part, static_cast<uint16_t>(1100 + i));
    counters_close(&sum, 1000);
    counters_add(&sum, &part);
    counters_add(&sum, &part);
    assert_int_equal(closed_in_all(&sum), 401);
    assert_int_equal(closed_with(&sum, 1000), 1);
    assert_int_equal(closed_with(&sum, 1100), 2);
}

bool is_name(const char *s) {
    return s && *s && strspn(s, "abcdefghijklmnopqrstuvwxyz_") == strlen(s);
}

void reasons_have_names_of_their_own(void **) {
    for (int i = 0; i < refuse_reason_count; i++) {
        const char *name = refuse_reason_name(static_cast<refuse_reason>(i));
        assert_true(is_name(name));
        for (int k = 0; k < i; k++)
            assert_string_not_equal(name, refuse_reason_name(static_cast<refuse_reason>(k)));
    }
    for (int i = 0; i < drop_reason_count; i++) {
        const char *name = drop_reason_name(static_cast<drop_reason>(i));
        assert_true(is_name(name));
        for (int k = 0; k < i; k++)
            assert_string_not_equal(name, drop_reason_name(static_cast<drop_reason>(k)));
    }
    // The order of the names is the order of the enumeration.
    assert_string_equal(refuse_reason_name(refuse_bad_request), "bad_request");
    assert_string_equal(refuse_reason_name(refuse_upgrade_required), "upgrade_required");
    assert_string_equal(refuse_reason_name(refuse_gone), "gone");
    assert_string_equal(drop_reason_name(drop_slow_consumer), "slow_consumer");
    assert_string_equal(drop_reason_name(drop_as_oldest), "oldest");
    assert_string_equal(drop_reason_name(drop_replaced), "replaced");
    assert_string_equal(drop_reason_name(drop_no_right), "no_right");
    assert_string_equal(refuse_reason_name(refuse_too_large), "too_large");
}

} // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(every_number_is_added),
        cmocka_unit_test(close_codes_are_counted_apart),
        cmocka_unit_test(made_up_codes_are_counted_by_their_thousand),
        cmocka_unit_test(too_many_codes_go_under_zero),
        cmocka_unit_test(close_codes_of_workers_are_added),
        cmocka_unit_test(a_full_table_loses_nothing_when_added),
        cmocka_unit_test(reasons_have_names_of_their_own),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
