// Unit tests of relay/limits: GCRA to the millisecond, bursts, amounts above them, counts, and many threads at once.
// Every test has keys of its own: the sketches are the process's.
#include <atomic>
#include <string>
#include <thread>
#include <vector>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
extern "C" {
#include <cmocka.h>
}

#include "base/hash.h"
#include "relay/limits.h"

using namespace belfry;

namespace {

constexpr struct rate ten_a_second = {10, 1000, 10};
constexpr uint64_t start = 1000000; // ms; the clock starts anywhere

int seed(void **) {
    hash_init(0x5eed);
    return 0;
}

void a_burst_then_one_at_a_time(void **) {
    struct rate r = {10, 1000, 3};
    for (int i = 0; i < 3; i++)
        assert_int_equal(limits_take(&r, "burst", 1, start), 0);
    assert_int_equal(limits_take(&r, "burst", 1, start), 100);
    assert_int_equal(limits_take(&r, "burst", 1, start + 99), 1);
    assert_int_equal(limits_take(&r, "burst", 1, start + 100), 0);
    assert_int_equal(limits_take(&r, "burst", 1, start + 100), 100);
    // A second of silence fills the burst and no more.
    for (int i = 0; i < 3; i++)
        assert_int_equal(limits_take(&r, "burst", 1, start + 5000), 0);
    assert_int_equal(limits_take(&r, "burst", 1, start + 5000), 100);
}

void a_refusal_takes_nothing(void **) {
    struct rate r = {1, 1000, 1};
    assert_int_equal(limits_take(&r, "refusal", 1, start), 0);
    for (int i = 0; i < 1000; i++)
        assert_int_equal(limits_take(&r, "refusal", 1, start + 400), 600);
    assert_int_equal(limits_take(&r, "refusal", 1, start + 1000), 0);
}

void keys_do_not_share(void **) {
    struct rate r = {1, 3600000, 1};
    size_t refused = 0;
    for (int i = 0; i < 1000; i++)
        refused += limits_take(&r, "key " + std::to_string(i), 1, start) != 0;
    assert_int_equal(refused, 0); // about (1000 / 65536)^2 of them would, were the seed another
    assert_int_equal(limits_take(&r, "key 7", 1, start), 3600000);
}

void amounts_are_weighed(void **) {
    struct rate r = {1000, 1000, 5000}; // bytes
    assert_int_equal(limits_take(&r, "weight", 4000, start), 0);
    assert_int_equal(limits_take(&r, "weight", 1500, start), 500);
    assert_int_equal(limits_take(&r, "weight", 1000, start), 0);
    assert_int_equal(limits_take(&r, "weight", 1, start), 1);
    assert_int_equal(limits_take(&r, "weight", 0, start), 0);
    assert_int_equal(limits_take(&r, "weight", -5, start), 0);
}

void more_than_a_burst_waits_for_all_of_it_and_is_paid_for(void **) {
    struct rate r = {1000, 1000, 1000};
    assert_int_equal(limits_take(&r, "large", 1, start), 0);
    assert_int_equal(limits_take(&r, "large", 10000, start), 1);
    assert_int_equal(limits_take(&r, "large", 10000, start + 1), 0);
    assert_int_equal(limits_take(&r, "large", 1, start + 1), 9001);
    assert_int_equal(limits_take(&r, "large", 1, start + 9002), 0);
}

void no_limit(void **) {
    struct rate none = {0, 0, 0};
    for (int i = 0; i < 100; i++)
        assert_int_equal(limits_take(&none, "none", INT64_MAX, start), 0);
}

void the_largest_numbers_do_not_overflow(void **) {
    struct rate slow = {1, 3600000, rate_most}, fast = {rate_most, 1000, 1};
    assert_int_equal(limits_take(&slow, "slow", rate_most, start), 0);
    assert_int_not_equal(limits_take(&slow, "slow", rate_most, start), 0);
    assert_int_equal(limits_take(&slow, "far", INT64_MAX, start), 0);
    assert_true(limits_take(&slow, "far", INT64_MAX, start) > uint64_t{1000} * 86400 * 365 * 70);
    assert_int_equal(limits_take(&fast, "fast", 1, start), 0);
    assert_int_equal(limits_take(&fast, "fast", 1, start), 1);
    assert_int_equal(limits_take(&fast, "fast", 1, start + 1), 0);
    assert_int_equal(limits_take(&ten_a_second, "late", 1, UINT64_MAX), 0);
    assert_int_equal(limits_take(&ten_a_second, "late", 9, UINT64_MAX), 0);
    assert_int_equal(limits_take(&ten_a_second, "late", 1, UINT64_MAX), 100);
}

void counts(void **) {
    assert_int_equal(limits_add("a", 1), 1);
    assert_int_equal(limits_add("a", 2), 3);
    assert_int_equal(limits_add("b", 1), 1);
    assert_int_equal(limits_add("a", -1), 2);
    assert_int_equal(limits_add("a", -5), 0);
    assert_int_equal(limits_add("a", 1), 1);
    assert_int_equal(limits_add("a", -1), 0);
    assert_int_equal(limits_add("b", INT64_MAX), INT64_MAX);
    assert_int_equal(limits_add("b", 1), INT64_MAX);
    assert_int_equal(limits_add("b", INT64_MIN), 0);
}

constexpr int threads = 4;

void on_threads(void (*work)(int thread)) {
    std::vector<std::thread> all;
    for (int i = 0; i < threads; i++)
        all.emplace_back(work, i);
    for (std::thread &t : all)
        t.join();
}

std::atomic<int64_t> granted;

// However the threads meet, the burst is never exceeded, and a refusal leaves nothing behind.
void threads_never_get_more_than_the_burst(void **) {
    for (int round = 0; round < 20; round++) {
        static std::string key;
        key = "threads " + std::to_string(round);
        granted = 0;
        on_threads([](int) {
            struct rate r = {1, 3600000, 500};
            for (int i = 0; i < 1000; i++)
                granted += limits_take(&r, key, 1, start) == 0;
        });
        assert_true(granted <= 500);
        struct rate r = {1, 3600000, 500};
        while (granted < 500) { // what a meeting of two refused is still there
            assert_int_equal(limits_take(&r, key, 1, start), 0);
            granted++;
        }
        assert_int_not_equal(limits_take(&r, key, 1, start), 0);
    }
}

void threads_count_exactly(void **) {
    on_threads([](int thread) {
        std::string own = "own " + std::to_string(thread);
        for (int i = 0; i < 20000; i++) {
            limits_add("common", 1);
            limits_add(own, 2);
            limits_add("paired", 1);
            limits_add("paired", -1);
        }
    });
    assert_int_equal(limits_add("common", 0), threads * 20000);
    assert_int_equal(limits_add("own 2", 0), 40000);
    assert_int_equal(limits_add("paired", 0), 0);
}

} // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(a_burst_then_one_at_a_time),
        cmocka_unit_test(a_refusal_takes_nothing),
        cmocka_unit_test(keys_do_not_share),
        cmocka_unit_test(amounts_are_weighed),
        cmocka_unit_test(more_than_a_burst_waits_for_all_of_it_and_is_paid_for),
        cmocka_unit_test(no_limit),
        cmocka_unit_test(the_largest_numbers_do_not_overflow),
        cmocka_unit_test(counts),
        cmocka_unit_test(threads_never_get_more_than_the_burst),
        cmocka_unit_test(threads_count_exactly),
    };
    return cmocka_run_group_tests(tests, seed, nullptr);
}
