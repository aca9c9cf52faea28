// The Redis broker's canary against a real redis-server: it comes back, it is missed, and it counts as no message.
#include "broker_redis_bench.h"
#include "relay/broker_redis_impl.h"

using namespace broker_redis_bench;

namespace {

std::string channel;

// `patience_ms`: ping_timeout, for the canary alone: the links have their own.
void begin_with_canary(int64_t patience_ms = 300) {
    begin("");
    redis_broker *b = redis_broker_of(tested);
    channel = "b:node:" + std::string(node_id());
    b->canary.interval_ms = 20;
    b->settings.redis.ping_timeout_ms = patience_ms;
    assert_true(until([] { return tested->canary.heard != 0; }));
}

uint64_t observed() {
    return histogram_count(&tested->canary.round_trips);
}

// The subscription of the node's own channel goes, or comes again, and Redis says nothing of it to the broker's rooms.
void subscription(const char *command) {
    const view words[] = {command, channel};
    assert_true(redis_command(redis_broker_of(tested)->subscriber, 2, words, nullptr, nullptr, 0));
}

void it_comes_back_again_and_again(void **) {
    begin_with_canary(20000);
    assert_true(until([] { return tested->canary.heard >= 5; }));
    const broker_canary *c = &tested->canary;
    assert_false(c->missing);
    assert_int_equal(c->lost, 0);
    assert_in_range(c->sent, c->heard, c->heard + 1);
    assert_int_equal(observed(), c->heard);
    assert_true(c->heard_ms != 0);
    assert_true(c->round_trips.sum_ns > 0);
}

void it_counts_as_no_message(void **) {
    begin_with_canary();
    assert_true(until([] { return tested->canary.heard >= 3; }));
    assert_int_equal(tested->count.received, 0);
    assert_int_equal(tested->count.published, 0);
    assert_string_equal(events_seen.c_str(), "");
}

void a_subscription_that_is_gone_is_noticed(void **) {
    begin_with_canary();
    subscription("UNSUBSCRIBE");
    assert_true(until([] { return tested->canary.missing; }));
    assert_true(tested->canary.lost >= 1);
    assert_true(tested->ops->ready(tested)); // the links are well, and publishing goes on
    const uint64_t lost = tested->canary.lost, heard = tested->canary.heard;
    assert_true(until([lost] { return tested->canary.lost > lost; })); // it goes on looking
    assert_int_equal(tested->canary.heard, heard);
    subscription("SUBSCRIBE");
    assert_true(until([] { return !tested->canary.missing; }));
    assert_true(tested->canary.heard > heard);
}

// While a process is upgraded, the old one and the new one have the same channel.
void another_process_of_this_node_is_neither_heard_nor_in_the_way(void **) {
    begin_with_canary();
    subscription("UNSUBSCRIBE");
    assert_true(until([] { return tested->canary.missing; }));
    subscription("SUBSCRIBE");
    const uint64_t sent = tested->canary.sent, heard = tested->canary.heard;
    redis_broker_of(tested)->canary.next_ms = UINT64_MAX; // nothing of our own
    for (const char *text : {"canary 0123456789abcdef 1", "canary ", "canary x"})
        ask({"PUBLISH", channel, text});
    settle();
    assert_int_equal(tested->canary.sent, sent);
    assert_int_equal(tested->canary.heard, heard);
    assert_true(tested->canary.missing);
    assert_int_equal(tested->count.received, 0);
    ask({"PUBLISH", channel, "canary? no"}); // what is none goes where it belongs
    assert_true(saw("peer canary? no "));
    assert_int_equal(tested->count.received, 1);
}

// Late is delivered all the same; but how long it took is known of the one under way alone.
void one_that_was_given_up_still_tells_that_it_works(void **) {
    begin_with_canary();
    subscription("UNSUBSCRIBE");
    assert_true(until([] { return tested->canary.missing; }));
    redis_broker *b = redis_broker_of(tested);
    assert_true(until([b] { return b->canary.number > 1; }));
    b->canary.next_ms = UINT64_MAX;
    const uint64_t times = observed();
    const std::string late = "canary " + std::string(b->canary.token) + " " + std::to_string(b->canary.number - 1);
    assert_true(redis_canary_heard(b, late));
    assert_false(tested->canary.missing);
    assert_int_equal(observed(), times);
}

void redis_that_refuses_it_is_no_reason_for_alarm(void **) {
    begin_with_canary(20000);
    ask({"ACL", "SETUSER", "default", "-publish"});
    const uint64_t sent = tested->canary.sent;
    assert_true(until([sent] { return tested->canary.sent >= sent + 3; }));
    settle();
    assert_false(tested->canary.missing);
    assert_int_equal(tested->canary.lost, 0);
    ask({"ACL", "SETUSER", "default", "+publish"});
    const uint64_t heard = tested->canary.heard;
    assert_true(until([heard] { return tested->canary.heard > heard; }));
}

void while_nothing_is_read_none_is_overdue(void **) {
    begin_with_canary();
    const uint64_t lost = tested->canary.lost;
    redis_broker_of(tested)->canary.next_ms = 0;
    tested->ops->turn(tested); // one is under way
    tested->ops->pause(tested, true);
    const uint64_t end = clock_monotonic_ns() + 600000000; // twice ping_timeout
    assert_true(until([end] { return clock_monotonic_ns() > end; }));
    assert_false(tested->canary.missing);
    assert_int_equal(tested->canary.lost, lost);
    assert_true(redis_broker_of(tested)->canary.sent_ns != 0);
    const uint64_t heard = tested->canary.heard;
    tested->ops->pause(tested, false);
    assert_true(until([heard] { return tested->canary.heard > heard; }));
    assert_false(tested->canary.missing);
}

void a_broken_link_ends_the_wait(void **) {
    begin_with_canary();
    subscription("UNSUBSCRIBE");
    assert_true(until([] { return tested->canary.missing; }));
    events_seen.clear();
    ask({"CLIENT", "KILL", "TYPE", "pubsub"});
    assert_true(until([] { return !tested->ops->ready(tested); }));
    assert_false(tested->canary.missing); // what is wrong now is another thing
    const uint64_t heard = tested->canary.heard;
    assert_true(until([] { return tested->ops->ready(tested); }));
    assert_true(until([heard] { return tested->canary.heard > heard; })); // all is subscribed anew
    assert_false(tested->canary.missing);
}

} // namespace

#define with_redis(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main() {
    const CMUnitTest tests[] = {
        with_redis(it_comes_back_again_and_again),
        with_redis(it_counts_as_no_message),
        with_redis(a_subscription_that_is_gone_is_noticed),
        with_redis(another_process_of_this_node_is_neither_heard_nor_in_the_way),
        with_redis(one_that_was_given_up_still_tells_that_it_works),
        with_redis(redis_that_refuses_it_is_no_reason_for_alarm),
        with_redis(while_nothing_is_read_none_is_overdue),
        with_redis(a_broken_link_ends_the_wait),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
