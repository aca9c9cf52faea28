// Feeds over a source that the test plays: order, duplicates, holes, epochs, what is trimmed, reads that fail, come
// late or come inside the call; and who joins with `since`. What the feed does is written down as text.
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>
extern "C" {
#include <cmocka.h>
}

#include "relay/feed.h"

#include <string>
#include <utility>

using namespace belfry;

namespace {

struct asked_read {
    uint64_t after, tag;
    uint32_t limit;
};

struct bench_state {
    struct feeds all;
    struct clock clock;
    feed *of;
    std::string seen;              // what the feed did
    std::vector<asked_read> reads; // not answered yet
    bool away;                     // reads are not taken
    bool at_once;                  // reads are answered inside the call, from `store`
    std::vector<message *> store;  // counted
    size_t in_flight_max;
};

bench_state *bench;

constexpr uint32_t limit = 4;

message *make(const char *epoch, uint64_t offset, const char *payload) {
    frame *source = frame_copy(payload);
    message_parts parts = {"r", source, frame_view(source), payload_kind::text};
    if (*epoch) assert_true(position_set(&parts.at, epoch, offset));
    parts.time_ms = 1000 + offset;
    message *m = message_new(&parts);
    frame_unref(source);
    return m;
}
message *make(const char *epoch, uint64_t offset) {
    return make(epoch, offset, ("m" + std::to_string(offset)).c_str());
}

std::string place(const position *p) {
    return position_none(p) ? "-" : std::string(position_epoch(p)) + std::to_string(p->offset);
}
void let_go(message *m) {
    if (m->in_flight) message_landed(m);
    message_unref(m);
}

void answer_at_once(uint64_t after, uint32_t most, uint64_t tag) {
    history_page page = {"r", after, tag, false, true, {}, nullptr, 0};
    std::vector<message *> found;
    for (message *m : bench->store) {
        page.top = m->at;
        if (m->at.offset > after) found.push_back(m);
    }
    while (found.size() > most) {
        found.erase(found.begin());
        page.whole = false;
    }
    page.messages = found.data();
    page.count = found.size();
    feed_page(bench->of, &page);
}

bool on_read(void *, view room, uint64_t after, uint32_t most, uint64_t tag) {
    assert_true(room == "r");
    if (bench->away) return false;
    if (bench->at_once) {
        answer_at_once(after, most, tag);
        return true;
    }
    bench->seen += "read " + std::to_string(after) + " " + std::to_string(most) + "; ";
    bench->reads.push_back({after, tag, most});
    return true;
}
void on_renew(void *, view, const position *seen) {
    bench->seen += "renew " + place(seen) + "; ";
}
void on_hand_over(void *, feed *f, message *m) {
    assert_true(position_none(&m->at) || memcmp(&f->at, &m->at, sizeof m->at) == 0);
    bench->seen += std::string(m->payload) + "; ";
    let_go(m);
}
void on_discard(void *, message *m) {
    bench->seen += "(" + std::string(m->payload) + "); ";
    let_go(m);
}
void on_live(void *, feed *f) {
    bench->seen += "live " + place(&f->at) + "; ";
}
void on_gap(void *, feed *f) {
    bench->seen += "gap " + place(&f->at) + "; ";
}
void on_answer(void *, feed *f, const feed_ask *ask, const feed_answer *a) {
    bench->seen += "answer " + std::to_string(ask->number) + (a->recovered ? " yes" : " no");
    uint64_t offset = ask->since.offset;
    for (size_t i = 0; i < a->count; i++) {
        assert_int_equal(a->replay[i]->at.offset, ++offset);
        bench->seen += " " + std::string(a->replay[i]->payload);
    }
    if (a->recovered) assert_int_equal(offset, f->at.offset);
    bench->seen += "; ";
}

constexpr feed_host host = {on_read, on_renew, on_hand_over, on_discard, on_live, on_gap, on_answer};

std::string seen() {
    return std::exchange(bench->seen, "");
}

#define assert_seen(text) assert_string_equal(seen().c_str(), text)

void live_message(const char *epoch, uint64_t offset) {
    feed_message(bench->of, make(epoch, offset));
}
// Answers the oldest read with messages first..top.
void page(const char *epoch, uint64_t first, uint64_t top, const char *mark = "m") {
    assert_true(!bench->reads.empty());
    asked_read r = bench->reads.front();
    bench->reads.erase(bench->reads.begin());
    history_page p = {"r", r.after, r.tag, false, first <= r.after + 1, {}, nullptr, 0};
    std::vector<message *> found;
    for (uint64_t offset = first; offset <= top && r.limit; offset++)
        found.push_back(make(epoch, offset, (mark + std::to_string(offset)).c_str()));
    if (*epoch) assert_true(position_set(&p.top, epoch, top));
    p.messages = found.data();
    p.count = found.size();
    feed_page(bench->of, &p);
    for (message *m : found)
        message_unref(m);
}
void failed_page() {
    asked_read r = bench->reads.front();
    bench->reads.erase(bench->reads.begin());
    history_page p = {"r", r.after, r.tag, true, false, {}, nullptr, 0};
    feed_page(bench->of, &p);
}
void ask(uint32_t number, const char *epoch, uint64_t offset, uint64_t room_for = 1000) {
    feed_ask a = {{0, number, 1}, number, room_for, {}};
    assert_true(position_set(&a.since, epoch, offset));
    feed_ask_since(bench->of, &a);
}
void pass(uint64_t ms) {
    bench->clock.monotonic_ms += ms;
    feeds_turn(&bench->all);
}
// Live behind offset 10 of epoch E.
void begin() {
    feed_subscribed(bench->of, true);
    page("E", 11, 10);
    assert_seen("read 0 0; live E10; ");
}

int setup_with(uint64_t budget) {
    bench = new bench_state{};
    bench->clock.monotonic_ms = 1000000;
    feeds_init(&bench->all, &host, bench, &bench->clock, budget);
    bench->of = feed_new(&bench->all, "r", limit, nullptr);
    return 0;
}
int setup(void **) {
    return setup_with(1 << 20);
}
int setup_at_once(void **) {
    return setup_with(0);
}
int teardown(void **) {
    feed_free(bench->of);
    for (message *m : bench->store)
        message_unref(m);
    uint64_t left = bench->all.cache_bytes;
    bool lists = list_empty(&bench->all.caching) && list_empty(&bench->all.timed) && list_empty(&bench->all.unread);
    delete bench;
    return left != 0 || !lists || message_bytes_in_flight() != 0;
}

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
    assert_seen("read 9 4; ");
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
    assert_seen("read 9 4; m11; m12; ");
    page("E", 10, 12);
    assert_seen("");
}

void test_trimmed_hole_is_a_gap(void **) {
    begin();
    live_message("E", 16);
    page("E", 13, 16);
    assert_seen("read 9 4; gap E12; m13; m14; m15; m16; ");
    assert_int_equal(bench->all.count.gaps, 1);
}

void test_history_that_lacks_it_too(void **) {
    begin();
    live_message("E", 13);
    page("E", 10, 10);
    assert_seen("read 9 4; gap E12; m13; ");
}

void test_two_holes(void **) {
    begin();
    live_message("E", 12);
    live_message("E", 14);
    page("E", 10, 12); // was read before 13 and 14 were there
    assert_seen("read 9 4; m11; m12; read 11 4; ");
    page("E", 12, 14);
    assert_seen("m13; m14; ");
}

void test_failed_read_is_a_gap(void **) {
    begin();
    live_message("E", 12);
    failed_page();
    assert_seen("read 9 4; gap E11; m12; ");
}

void test_hole_times_out(void **) {
    begin();
    live_message("E", 12);
    live_message("E", 14);
    assert_seen("read 9 4; ");
    pass(feed_wait_ms - 1);
    assert_seen("");
    pass(feed_deadline_ms + 1);
    assert_seen("gap E11; m12; read 11 4; "); // 13 has its own time
    page("E", 10, 14);                        // the late one
    assert_seen("");
    page("E", 12, 14);
    assert_seen("m13; m14; ");
}

void test_too_many_behind_a_hole(void **) {
    begin();
    for (uint64_t i = 0; i < feed_held_max; i++)
        live_message("E", 12 + i);
    assert_seen("read 9 4; ");
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
    assert_seen("read 9 4; (m12); gap F2; m3; ");
    page("E", 10, 12); // of the old epoch: nobody's any more
    assert_seen("");
    live_message("F", 4);
    assert_seen("m4; ");
}

void test_first_message_of_a_room_is_no_gap(void **) {
    feed_subscribed(bench->of, true);
    page("", 1, 0);
    assert_seen("read 0 0; live -; ");
    live_message("E", 1);
    assert_seen("m1; ");
}

void test_new_epoch_of_an_empty_room_is_no_gap(void **) {
    feed_subscribed(bench->of, true);
    page("E", 1, 0);
    live_message("F", 1);
    assert_seen("read 0 0; live E0; m1; ");
}

// ---------------------------------------------------------------- the first read

void test_messages_before_the_first_read(void **) {
    feed_subscribed(bench->of, true);
    live_message("E", 10);
    live_message("E", 11);
    assert_seen("read 0 0; ");
    page("E", 1, 10);
    assert_seen("live E10; (m10); m11; ");
}

void test_first_read_fails(void **) {
    feed_subscribed(bench->of, true);
    failed_page();
    assert_seen("read 0 0; live -; ");
    live_message("E", 7); // members may have missed some
    live_message("E", 8);
    assert_seen("gap E6; m7; m8; ");
}

void test_first_read_times_out(void **) {
    feed_subscribed(bench->of, true);
    ask(1, "E", 5);
    pass(feed_wait_ms + feed_deadline_ms);
    assert_seen("read 0 0; live -; answer 1 no; ");
    page("E", 1, 10); // late
    assert_seen("");
}

void test_without_a_broker(void **) {
    feed_subscribed(bench->of, false);
    assert_seen("live -; ");
    feed_check(bench->of);
    pass(1);
    assert_seen("read 0 0; ");
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
    assert_seen("read 0 0; live E3; ");
    assert_int_equal(bench->all.count.reads, 1);
}

// ---------------------------------------------------------------- after an outage

void check() {
    feed_check(bench->of);
    pass(1);
}

void test_outage_without_loss(void **) {
    begin();
    live_message("E", 11);
    check();
    page("E", 11, 11);
    assert_seen("m11; read 10 4; ");
    live_message("E", 12);
    assert_seen("m12; ");
}

void test_outage_is_filled(void **) {
    begin();
    live_message("E", 11);
    check();
    live_message("E", 14); // waits for the read
    assert_seen("m11; read 10 4; ");
    page("E", 11, 14);
    assert_seen("m12; m13; m14; ");
    assert_int_equal(bench->all.count.gaps, 0);
}

void test_outage_and_history_is_gone(void **) {
    begin();
    check();
    page("", 1, 0);
    assert_seen("read 9 4; gap -; ");
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
    assert_seen("m11; m12; read 11 4; renew E12; gap E11; m12; ");
}

void test_outage_and_another_message_of_that_offset(void **) {
    begin();
    live_message("E", 11);
    check();
    page("E", 11, 13, "other");
    assert_seen("m11; read 10 4; renew E11; gap E13; ");
}

void test_offset_that_is_given_out_again(void **) {
    begin();
    live_message("E", 11);
    live_message("E", 12);
    feed_message(bench->of, make("E", 11, "other"));
    assert_seen("m11; m12; renew E12; gap E10; other; ");
}

void test_outage_that_can_not_be_read(void **) {
    begin();
    check();
    live_message("E", 11);
    failed_page();
    assert_seen("read 9 4; gap E10; m11; ");
}

void test_outage_into_a_new_epoch(void **) {
    begin();
    check();
    page("F", 1, 3);
    assert_seen("read 9 4; gap F3; ");
}

void test_outage_and_the_messages_are_gone_but_not_the_place(void **) {
    begin();
    check();
    page("E", 14, 13); // history_ttl has passed
    assert_seen("read 9 4; gap E13; ");
    live_message("E", 14);
    assert_seen("m14; ");
}

void test_outage_makes_an_older_page_worthless(void **) {
    begin();
    ask(1, "E", 9);
    assert_seen("read 0 4; ");
    check();
    assert_seen("read 9 4; ");
    page("E", 10, 11); // from before the outage
    assert_seen("");
    page("E", 10, 11);
    assert_seen("m11; read 0 4; "); // 10 is not in the cache
    page("E", 10, 11);
    assert_seen("answer 1 yes m10 m11; ");
}

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
    assert_seen("read 0 0; live E10; read 0 4; ");
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
    assert_seen("m11; read 10 4; ");
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
        FEED_TEST(test_in_order),
        FEED_TEST(test_duplicates_go),
        FEED_TEST(test_hole_is_filled),
        FEED_TEST(test_hole_closes_by_itself),
        FEED_TEST(test_trimmed_hole_is_a_gap),
        FEED_TEST(test_history_that_lacks_it_too),
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
        FEED_TEST(test_outage_and_history_is_gone),
        FEED_TEST(test_outage_and_history_is_shorter),
        FEED_TEST(test_outage_and_another_message_of_that_offset),
        FEED_TEST(test_offset_that_is_given_out_again),
        FEED_TEST(test_outage_that_can_not_be_read),
        FEED_TEST(test_outage_into_a_new_epoch),
        FEED_TEST(test_outage_and_the_messages_are_gone_but_not_the_place),
        FEED_TEST(test_outage_makes_an_older_page_worthless),
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
