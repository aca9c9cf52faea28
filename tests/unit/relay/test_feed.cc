// Feeds over a source that the test plays: order, duplicates, holes, epochs, what is trimmed, reads that fail, come
// late or come inside the call.
#include "feed_bench.h"

using namespace feed_bench;

namespace {

// ---------------------------------------------------------------- order

void test_in_order(void **) {
    begin();
    live_message("E", 11);
    live_message("E", 12);
    live_message("", 0); // without a position: passes as it is
    live_message("E", 13);
    assert_seen("m11; m12; m0; m13; ");
}

void test_duplicates_go(void **) {
    begin();
    live_message("E", 11);
    live_message("E", 11);
    live_message("E", 9);
    assert_seen("m11; (m11); (m9); ");
    assert_int_equal(bench->all.count.duplicates, 2);
}

void test_hole_is_filled(void **) {
    begin();
    live_message("E", 13);
    assert_seen("read 9 5; ");
    live_message("E", 14);
    live_message("E", 13);
    assert_seen("(m13); ");
    page("E", 10, 13); // its 13 is the one that waits, 14 came behind it
    assert_seen("m11; m12; m13; m14; ");
    assert_int_equal(bench->all.count.filled, 2);
    pass(10000);
    assert_seen("");
}

void test_hole_closes_by_itself(void **) {
    begin();
    live_message("E", 12);
    live_message("E", 11);
    assert_seen("read 9 5; m11; m12; ");
    page("E", 10, 12);
    assert_seen("");
}

void test_trimmed_hole_is_a_gap(void **) {
    begin();
    live_message("E", 16);
    page("E", 13, 16);
    assert_seen("read 9 5; gap E12; m13; m14; m15; m16; ");
    assert_int_equal(bench->all.count.gaps, 1);
}

void test_history_that_lacks_it_too(void **) {
    begin();
    live_message("E", 13);
    page("E", 10, 10);
    assert_seen("read 9 5; gap E12; m13; ");
}

// The room keeps no history any more: nobody's message is lost, what is missing is told.
void test_settled_with_a_hole(void **) {
    begin();
    live_message("E", 12);
    live_message("E", 14);
    ask(7, "E", 9);
    assert_seen("read 9 5; ");
    feed_settle(bench->of);
    assert_seen("gap E11; m12; gap E13; m14; answer 7 no; ");
    page("E", 10, 14); // too late
    assert_seen("");
    assert_int_equal(bench->of->held.size(), 0);
}

void test_settled_before_it_was_live(void **) {
    feed_subscribed(bench->of, true);
    live_message("E", 12);
    ask(7, "E", 11);
    assert_seen("read 0 1; ");
    feed_settle(bench->of);
    assert_seen("live -; gap E11; m12; answer 7 no; ");
}

void test_two_holes(void **) {
    begin();
    live_message("E", 12);
    live_message("E", 14);
    page("E", 10, 12); // was read before 13 and 14 were there
    assert_seen("read 9 5; m11; m12; read 11 5; ");
    page("E", 12, 14);
    assert_seen("m13; m14; ");
}

void test_failed_read_is_a_gap(void **) {
    begin();
    live_message("E", 12);
    failed_page();
    assert_seen("read 9 5; gap E11; m12; ");
}

void test_hole_times_out(void **) {
    begin();
    live_message("E", 12);
    live_message("E", 14);
    assert_seen("read 9 5; ");
    pass(feed_wait_ms - 1);
    assert_seen("");
    pass(feed_deadline_ms + 1);
    assert_seen("gap E11; m12; read 11 5; "); // 13 has its own time
    page("E", 10, 14);                        // the late one
    assert_seen("");
    page("E", 12, 14);
    assert_seen("m13; m14; ");
}

void test_too_many_behind_a_hole(void **) {
    begin();
    for (uint64_t i = 0; i < feed_held_max; i++)
        live_message("E", 12 + i);
    assert_seen("read 9 5; ");
    live_message("E", 12 + feed_held_max);
    std::string all = seen();
    assert_true(all.starts_with("gap E11; m12; m13; "));
    assert_true(all.ends_with("m" + std::to_string(12 + feed_held_max) + "; "));
    assert_int_equal(bench->of->held.size(), 0);
}

void test_what_is_held_counts_for_back_pressure(void **) {
    begin();
    live_message("E", 12);
    assert_int_equal(message_bytes_in_flight(), 3);
    live_message("E", 11);
    assert_int_equal(message_bytes_in_flight(), 0);
}

void test_new_epoch(void **) {
    begin();
    live_message("E", 12); // held
    live_message("F", 3);
    assert_seen("read 9 5; (m12); gap F2; m3; ");
    page("E", 10, 12); // of the old epoch: nobody's any more
    assert_seen("");
    live_message("F", 4);
    assert_seen("m4; ");
}

void test_first_message_of_a_room_is_no_gap(void **) {
    feed_subscribed(bench->of, true);
    page("", 1, 0);
    assert_seen("read 0 1; live -; ");
    live_message("E", 1);
    assert_seen("m1; ");
}

void test_new_epoch_of_an_empty_room_is_no_gap(void **) {
    feed_subscribed(bench->of, true);
    page("E", 1, 0);
    live_message("F", 1);
    assert_seen("read 0 1; live E0; m1; ");
}

// ---------------------------------------------------------------- the first read

void test_messages_before_the_first_read(void **) {
    feed_subscribed(bench->of, true);
    live_message("E", 10);
    live_message("E", 11);
    assert_seen("read 0 1; ");
    page("E", 1, 10);
    assert_seen("live E10; (m10); m11; ");
}

void test_first_read_fails(void **) {
    feed_subscribed(bench->of, true);
    failed_page();
    assert_seen("read 0 1; live -; ");
    live_message("E", 7); // members may have missed some
    live_message("E", 8);
    assert_seen("gap E6; m7; m8; ");
}

void test_first_read_times_out(void **) {
    feed_subscribed(bench->of, true);
    ask(1, "E", 5);
    pass(feed_wait_ms + feed_deadline_ms);
    assert_seen("read 0 1; live -; answer 1 no; ");
    page("E", 1, 10); // late
    assert_seen("");
}

void test_without_a_broker(void **) {
    feed_subscribed(bench->of, false);
    assert_seen("live -; ");
    feed_check(bench->of);
    pass(1);
    assert_seen("read 0 1; ");
    page("E", 11, 10);
    assert_seen("gap E10; ");
    live_message("E", 11);
    assert_seen("m11; ");
}

void test_read_that_is_not_taken_is_tried_again(void **) {
    bench->away = true;
    feed_subscribed(bench->of, true);
    pass(1);
    assert_seen("");
    bench->away = false;
    pass(1);
    page("E", 1, 3);
    assert_seen("read 0 1; live E3; ");
    assert_int_equal(bench->all.count.reads, 1);
}

// ---------------------------------------------------------------- after an outage

void test_outage_without_loss(void **) {
    begin();
    live_message("E", 11);
    check();
    page("E", 11, 11);
    assert_seen("m11; read 10 5; ");
    live_message("E", 12);
    assert_seen("m12; ");
}

void test_outage_is_filled(void **) {
    begin();
    live_message("E", 11);
    check();
    live_message("E", 14); // waits for the read
    assert_seen("m11; read 10 5; ");
    page("E", 11, 14);
    assert_seen("m12; m13; m14; ");
    assert_int_equal(bench->all.count.gaps, 0);
}

// History can't bring back what was never in it, so an outage is told in rooms that get such messages.
void test_outage_and_messages_without_a_place(void **) {
    begin();
    live_message("E", 11);
    message *event = make("", 0, "event");
    event->what = message_member;
    feed_message(bench->of, event);
    check();
    page("E", 11, 11);
    assert_seen("m11; event; read 10 5; ");
    feed_message(bench->of, make("", 0, "bare"));
    check();
    assert_seen("bare; gap E11; read 10 5; ");
    page("E", 11, 11);
}

void test_outage_and_history_is_gone(void **) {
    begin();
    check();
    page("", 1, 0);
    assert_seen("read 9 5; gap -; ");
    live_message("F", 1);
    assert_seen("m1; ");
}

void test_outage_and_history_is_shorter(void **) {
    begin();
    live_message("E", 11);
    live_message("E", 12);
    check();
    live_message("E", 12); // another 12, which would look like a duplicate
    page("E", 12, 11);
    assert_seen("m11; m12; read 11 5; renew E12; (m12); gap E11; read 10 5; ");
    page("F", 8, 11);
    live_message("F", 12);
    assert_seen("gap F11; m12; ");
}

void test_outage_and_another_message_of_that_offset(void **) {
    begin();
    live_message("E", 11);
    check();
    page("E", 11, 13, "other");
    assert_seen("m11; read 10 5; renew E11; gap E13; read 12 5; ");
    ask(1, "E", 11); // has seen the other 11: there is no way from there to here
    assert_seen("");
    page("F", 9, 13);
    assert_seen("gap F13; answer 1 no; ");
}

// It was not handed over here, but read: it is known again all the same.
void test_outage_right_behind_the_first_read(void **) {
    feed_subscribed(bench->of, true);
    page("E", 10, 10);
    check();
    page("E", 10, 11, "other");
    assert_seen("read 0 1; live E10; read 9 5; renew E10; gap E11; read 10 5; ");
}

// As much was published since as the history holds: the last one has to be in the page, too.
void test_outage_that_fills_the_history(void **) {
    begin();
    live_message("E", 11);
    check();
    page("E", 11, 11 + limit, "other");
    assert_seen("m11; read 10 5; renew E11; gap E15; read 14 5; ");
}

// Where Redis does not take the new epoch it goes on in the old one.
void test_history_that_is_not_renewed(void **) {
    begin();
    live_message("E", 11);
    check();
    page("E", 11, 12, "other");
    page("E", 12, 12, "other");
    live_message("E", 13);
    assert_seen("m11; read 10 5; renew E11; gap E12; read 11 5; m13; ");
}

void test_offset_that_is_given_out_again(void **) {
    begin();
    live_message("E", 11);
    live_message("E", 12);
    feed_message(bench->of, make("E", 11, "other"));
    page("F", 8, 11);
    assert_seen("m11; m12; renew E12; gap E10; read 9 5; (other); gap F11; ");
}

void test_outage_that_can_not_be_read(void **) {
    begin();
    check();
    live_message("E", 11);
    failed_page();
    assert_seen("read 9 5; gap E10; m11; ");
}

void test_outage_into_a_new_epoch(void **) {
    begin();
    check();
    page("F", 1, 3);
    assert_seen("read 9 5; gap F3; ");
}

void test_outage_and_the_messages_are_gone_but_not_the_place(void **) {
    begin();
    check();
    page("E", 14, 13); // history_ttl has passed
    assert_seen("read 9 5; gap E13; ");
    live_message("E", 14);
    assert_seen("m14; ");
}

void test_outage_makes_an_older_page_worthless(void **) {
    begin();
    ask(1, "E", 9);
    assert_seen("read 0 4; ");
    check();
    assert_seen("read 9 5; ");
    page("E", 10, 11); // from before the outage
    assert_seen("");
    page("E", 10, 11);
    assert_seen("m11; read 0 4; "); // 10 is not in the cache
    page("E", 10, 11);
    assert_seen("answer 1 yes m10 m11; ");
}

} // namespace

#define FEED_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main() {
    const struct CMUnitTest tests[] = {
        FEED_TEST(test_in_order),
        FEED_TEST(test_duplicates_go),
        FEED_TEST(test_hole_is_filled),
        FEED_TEST(test_hole_closes_by_itself),
        FEED_TEST(test_trimmed_hole_is_a_gap),
        FEED_TEST(test_history_that_lacks_it_too),
        FEED_TEST(test_settled_with_a_hole),
        FEED_TEST(test_settled_before_it_was_live),
        FEED_TEST(test_two_holes),
        FEED_TEST(test_failed_read_is_a_gap),
        FEED_TEST(test_hole_times_out),
        FEED_TEST(test_too_many_behind_a_hole),
        FEED_TEST(test_what_is_held_counts_for_back_pressure),
        FEED_TEST(test_new_epoch),
        FEED_TEST(test_first_message_of_a_room_is_no_gap),
        FEED_TEST(test_new_epoch_of_an_empty_room_is_no_gap),
        FEED_TEST(test_messages_before_the_first_read),
        FEED_TEST(test_first_read_fails),
        FEED_TEST(test_first_read_times_out),
        FEED_TEST(test_without_a_broker),
        FEED_TEST(test_read_that_is_not_taken_is_tried_again),
        FEED_TEST(test_outage_without_loss),
        FEED_TEST(test_outage_is_filled),
        FEED_TEST(test_outage_and_messages_without_a_place),
        FEED_TEST(test_outage_and_history_is_gone),
        FEED_TEST(test_outage_and_history_is_shorter),
        FEED_TEST(test_outage_and_another_message_of_that_offset),
        FEED_TEST(test_outage_right_behind_the_first_read),
        FEED_TEST(test_outage_that_fills_the_history),
        FEED_TEST(test_history_that_is_not_renewed),
        FEED_TEST(test_offset_that_is_given_out_again),
        FEED_TEST(test_outage_that_can_not_be_read),
        FEED_TEST(test_outage_into_a_new_epoch),
        FEED_TEST(test_outage_and_the_messages_are_gone_but_not_the_place),
        FEED_TEST(test_outage_makes_an_older_page_worthless),
    };
    return cmocka_run_group_tests_name("feed", tests, nullptr, nullptr);
}
