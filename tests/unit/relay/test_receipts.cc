// relay/receipts.cc
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
extern "C" {
#include <cmocka.h>
}

#include "relay/receipts.h"

using namespace belfry;

namespace {

receipts all;

struct heard {
    int times = 0;
    int64_t receivers = 0;
};

void told(void *context, int64_t receivers) {
    auto *h = static_cast<heard *>(context);
    h->times++;
    h->receivers = receivers;
}

int setup(void **) {
    receipts_init(&all);
    return 0;
}

int teardown(void **) {
    receipts_destroy(&all);
    return 0;
}

void known_before_the_question(void **) {
    heard h;
    receipts_add(&all, "aaaa", 7, 42, 0);
    receipts_ask(&all, "aaaa", 7, 1, told, &h);
    assert_int_equal(h.times, 1);
    assert_int_equal(h.receivers, 42);
}

void known_after_the_question(void **) {
    heard h;
    receipts_ask(&all, "aaaa", 7, 1, told, &h);
    assert_int_equal(h.times, 0);
    receipts_add(&all, "aaaa", 8, 1, 2); // another message
    receipts_add(&all, "bbbb", 7, 2, 2); // another node
    assert_int_equal(h.times, 0);
    receipts_add(&all, "aaaa", 7, 0, 2);
    assert_int_equal(h.times, 1);
    assert_int_equal(h.receivers, 0);
    receipts_turn(&all, receipts_keep_ms + 10);
    assert_int_equal(h.times, 1);
    assert_int_equal(all.by_name.count, 0);
}

void never_known(void **) {
    heard h;
    receipts_ask(&all, "aaaa", 7, 100, told, &h);
    receipts_turn(&all, 99 + receipts_keep_ms);
    assert_int_equal(h.times, 0);
    receipts_turn(&all, 100 + receipts_keep_ms);
    assert_int_equal(h.times, 1);
    assert_int_equal(h.receivers, -1);
}

void a_second_question_takes_the_place(void **) {
    heard first, second;
    receipts_ask(&all, "aaaa", 7, 1, told, &first);
    receipts_ask(&all, "aaaa", 7, 1, told, &second);
    assert_int_equal(first.receivers, -1);
    receipts_add(&all, "aaaa", 7, 3, 2);
    assert_int_equal(first.times, 1);
    assert_int_equal(second.receivers, 3);
}

void the_oldest_goes_first(void **) {
    heard h;
    for (uint64_t n = 0; n <= receipts_max; n++)
        receipts_add(&all, "aaaa", n, n, 0);
    assert_int_equal(all.by_name.count, receipts_max);
    assert_int_equal(all.forgotten, 1);
    receipts_ask(&all, "aaaa", 1, 0, told, &h);
    assert_int_equal(h.receivers, 1);
}

void the_end_tells_who_waits(void **) {
    heard h;
    receipts_ask(&all, "aaaa", 7, 1, told, &h);
    receipts_destroy(&all);
    assert_int_equal(h.receivers, -1);
    receipts_init(&all);
}

} // namespace

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main() {
    hash_init(1);
    const CMUnitTest tests[] = {
        TEST(known_before_the_question), TEST(known_after_the_question),          TEST(never_known),
        TEST(the_oldest_goes_first),     TEST(a_second_question_takes_the_place), TEST(the_end_tells_who_waits),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
