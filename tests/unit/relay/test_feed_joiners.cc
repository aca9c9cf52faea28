// Who joins with `since`: from the cache, by one read for many, not at all.
#include "feed_bench.h"

using namespace feed_bench;

namespace {

// ---------------------------------------------------------------- joiners

void test_join_exact(void **) {
    begin();
    ask(1, "E", 10);
    assert_seen("answer 1 yes; ");
}

void test_join_from_the_cache(void **) {
    begin();
    for (uint64_t i = 11; i < 15; i++)
        live_message("E", i);
    seen();
    ask(1, "E", 12);
    ask(2, "E", 10);
    assert_seen("answer 1 yes m13 m14; answer 2 yes m11 m12 m13 m14; ");
    live_message("E", 15); // 11 goes
    ask(3, "E", 10);
    assert_seen("m15; answer 3 no; ");
}

void test_joiners_share_one_read(void **) {
    feed_subscribed(bench->of, true);
    for (uint32_t i = 1; i <= 3; i++)
        ask(i, "E", 6 + i);
    page("E", 7, 10);
    assert_seen("read 0 1; live E10; read 0 4; ");
    page("E", 7, 10);
    assert_seen("answer 1 yes m8 m9 m10; answer 2 yes m9 m10; answer 3 yes m10; ");
    ask(4, "E", 6);
    ask(5, "E", 5);
    assert_seen("answer 4 yes m7 m8 m9 m10; answer 5 no; ");
    assert_int_equal(bench->all.count.reads, 2);
    assert_int_equal(bench->all.count.recovered, 4);
}

void test_joiners_before_the_subscription_are_one_read(void **) {
    ask(1, "E", 8);
    ask(2, "E", 3);
    assert_seen("");
    feed_subscribed(bench->of, true);
    page("E", 7, 10);
    assert_seen("read 0 4; live E10; answer 1 yes m9 m10; answer 2 no; ");
}

void test_join_while_messages_come(void **) {
    begin();
    ask(1, "E", 8);
    live_message("E", 11);
    assert_seen("read 0 4; m11; ");
    page("E", 7, 10); // read before 11 was there
    assert_seen("answer 1 yes m9 m10 m11; ");
    ask(2, "E", 7);
    assert_seen("answer 2 yes m8 m9 m10 m11; ");
}

void test_join_with_a_page_that_is_ahead(void **) {
    begin();
    ask(1, "E", 9);
    page("E", 9, 12); // 11 and 12 are on their way to the subscriber
    assert_seen("read 0 4; answer 1 yes m10; ");
    live_message("E", 11);
    live_message("E", 12);
    assert_seen("m11; m12; ");
}

void test_join_from_another_node_that_is_ahead(void **) {
    begin();
    ask(1, "E", 12);
    live_message("E", 11);
    assert_seen("m11; ");
    live_message("E", 12);
    assert_seen("m12; answer 1 yes; ");
    ask(2, "E", 13); // of an offset that never comes
    pass(feed_wait_ms + feed_deadline_ms);
    assert_seen("answer 2 no; ");
}

void test_join_behind_what_time_has_left(void **) {
    begin();
    ask(1, "E", 8);
    page("E", 10, 10); // of the four that may be there
    assert_seen("read 0 4; answer 1 no; ");
    ask(2, "E", 8); // known by now
    assert_seen("answer 2 no; ");
}

void test_join_of_another_epoch(void **) {
    begin();
    ask(1, "F", 10);
    assert_seen("answer 1 no; ");
}

void test_join_where_the_read_fails(void **) {
    begin();
    ask(1, "E", 9);
    failed_page();
    assert_seen("read 0 4; answer 1 no; ");
}

void test_join_where_the_read_never_comes(void **) {
    begin();
    ask(1, "E", 9);
    pass(feed_wait_ms + feed_deadline_ms);
    assert_seen("read 0 4; answer 1 no; ");
}

void test_join_that_does_not_fit_gets_none(void **) {
    begin();
    live_message("E", 11);
    live_message("E", 12);
    seen();
    ask(1, "E", 10, 5);
    ask(2, "E", 10, 6);
    assert_seen("answer 1 no; answer 2 yes m11 m12; ");
}

void test_join_during_a_check_waits(void **) {
    begin();
    live_message("E", 11);
    check();
    ask(1, "E", 10);
    assert_seen("m11; read 10 5; ");
    page("E", 11, 12);
    assert_seen("m12; answer 1 yes m11 m12; ");
}

void test_cache_stays_in_its_budget(void **) {
    begin();
    bench->all.cache_budget = 2000; // two or three messages
    for (uint64_t i = 11; i < 100; i++) {
        live_message("E", i);
        assert_true(bench->all.cache_bytes <= 2000);
    }
    seen();
    ask(1, "E", 96); // given up, so read
    assert_seen("read 0 4; ");
    page("E", 96, 99);
    assert_seen("answer 1 yes m97 m98 m99; ");
}

void test_at_once_without_a_cache(void **) {
    bench->at_once = true;
    for (uint64_t i = 1; i <= 10; i++)
        bench->store.push_back(make("E", i));
    feed_subscribed(bench->of, true);
    ask(1, "E", 8);
    ask(2, "E", 6);
    ask(3, "E", 5); // more than the limit
    ask(4, "E", 11);
    assert_seen("live E10; answer 1 yes m9 m10; answer 2 yes m7 m8 m9 m10; answer 3 no; answer 4 no; ");
    assert_int_equal(bench->all.cache_bytes, 0);
}

} // namespace

#define FEED_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main() {
    const struct CMUnitTest tests[] = {
        FEED_TEST(test_join_exact),
        FEED_TEST(test_join_from_the_cache),
        FEED_TEST(test_joiners_share_one_read),
        FEED_TEST(test_joiners_before_the_subscription_are_one_read),
        FEED_TEST(test_join_while_messages_come),
        FEED_TEST(test_join_with_a_page_that_is_ahead),
        FEED_TEST(test_join_from_another_node_that_is_ahead),
        FEED_TEST(test_join_behind_what_time_has_left),
        FEED_TEST(test_join_of_another_epoch),
        FEED_TEST(test_join_where_the_read_fails),
        FEED_TEST(test_join_where_the_read_never_comes),
        FEED_TEST(test_join_that_does_not_fit_gets_none),
        FEED_TEST(test_join_during_a_check_waits),
        FEED_TEST(test_cache_stays_in_its_budget),
        cmocka_unit_test_setup_teardown(test_at_once_without_a_cache, setup_at_once, teardown),
    };
    return cmocka_run_group_tests_name("feed", tests, nullptr, nullptr);
}
