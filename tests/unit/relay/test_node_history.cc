// Rooms with history through the node: places in letters and answers, order, joins with `since`, what the broker
// missed, and ids; over the memory broker, and with pages and messages as another one would bring them.
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>
extern "C" {
#include <cmocka.h>
}

#include "node_bench.h"

using namespace node_bench;

namespace {

const broker_events *events() {
    return bench->node.broker->events;
}

position place(uint64_t offset) {
    position at = node_place(&bench->node, "log"); // of the room's own epoch
    at.offset = offset;
    return at;
}

void ask(uint32_t w, uint32_t number, const position &since) {
    auto *l = new join_ask_letter{{letter_type::join_ask}, {static_cast<uint8_t>(w), 1, 1}, number, 1000, "log", since};
    say(w, &l->head, letter_charge);
}

// A message as Redis brings it.
void arrives(uint64_t offset, const char *payload) {
    message *m = make_message("log", payload);
    m->at = place(offset);
    events()->deliver(&bench->node, m);
}

void node_subscribed_now(view room) {
    events()->subscribed(&bench->node, room);
}

void enter() {
    want(0, 1, "log");
    turn();
    assert_heard(0, "active 1 log @0; ");
    asked();
}

void places_are_told(void **) {
    enter();
    publish_job *job = publish_job_new(on_done, nullptr);
    assert_true(publish("log", "a", job));
    publish_job_settle(job, 0, true);
    assert_heard(0, "message log a @1; ");
    turn();
    assert_int_equal(bench->done_calls, 1);
    assert_int_equal(bench->at.offset, 1);
    assert_false(position_none(&bench->at));
    say_publish(1, "log", "b", 7);
    turn();
    assert_heard(0, "message log b @2; ");
    assert_heard(1, "answer 7 0 @2; ");
    want(1, 5, "log");
    turn();
    assert_heard(1, "active 5 log @2; ");
}

void rooms_without_history_have_none(void **) {
    want(0, 1, "news");
    turn();
    assert_true(publish("news", "a", nullptr));
    assert_heard(0, "active 1 news; message news a; ");
    position at = node_place(&bench->node, "news");
    assert_true(position_none(&at));
}

void a_join_with_since_is_answered_in_its_place(void **) {
    enter();
    for (const char *payload : {"a", "b", "c"})
        assert_true(publish("log", payload, nullptr));
    ask(0, 11, place(1));
    turn();
    assert_true(publish("log", "d", nullptr));
    assert_heard(0, "message log a @1; message log b @2; message log c @3; joined 11 yes b c @3; message log d @4; ");
    assert_int_equal(shard_of(0)->outbox_bytes.load(), 0);
}

void a_join_that_comes_with_its_want(void **) {
    publish_job *job = publish_job_new(on_done, nullptr);
    assert_true(publish("log", "a", job)); // nobody wants it yet
    publish_job_settle(job, 0, true);
    position since = bench->at;
    since.offset = 0;
    want(0, 1, "log");
    ask(0, 11, since);
    ask(1, 12, since); // its worker has dropped the room again, or will: no worker of the room
    turn();
    assert_heard(0, "active 1 log @1; joined 11 yes a @1; ");
    assert_heard(1, "joined 12 yes a @1; ");
}

void a_join_of_a_room_that_nobody_wants_is_forgotten(void **) {
    ask(0, 11, place(0));
    turn();
    assert_heard(0, "");
    assert_int_equal(shard_of(0)->outbox_bytes.load(), 0);
}

void a_dropped_room_settles_its_asks(void **) {
    bench->silent = true; // not subscribed, so that the ask waits
    want(0, 1, "log");
    ask(0, 11, place(0));
    turn();
    assert_int_equal(shard_of(0)->outbox_bytes.load(), letter_charge);
    drop(0, 1, "log");
    turn();
    assert_heard(0, "");
    assert_int_equal(shard_of(0)->outbox_bytes.load(), 0);
}

void a_missing_message_is_read(void **) {
    enter();
    assert_true(publish("log", "a", nullptr));
    assert_heard(0, "message log a @1; ");
    arrives(3, "c"); // history has not got the second one: it is skipped
    assert_heard(0, "gap 1 log @2; message log c @3; ");
    assert_int_equal(bench->node.feeds.count.gaps, 1);
}

void a_duplicate_settles_its_job(void **) {
    enter();
    arrives(1, "a");
    message *again = make_message("log", "a");
    again->at = place(1);
    again->job = publish_job_new(on_done, nullptr);
    events()->deliver(&bench->node, again);
    assert_int_equal(bench->done_calls, 1);
    assert_int_equal(bench->receivers, 0);
    assert_false(bench->failed);
}

void after_an_outage_rooms_with_history_are_read(void **) {
    enter();
    want(0, 2, "news");
    turn();
    heard(0);
    assert_true(publish("log", "a", nullptr));
    uint64_t reads = bench->node.feeds.count.reads;
    events()->up(&bench->node, true);
    turn();
    assert_int_equal(bench->node.feeds.count.reads, reads + 1);
    assert_heard(0, "message log a @1; gap; "); // `gap` is for the others
    assert_heard(1, "gap; ");
    events()->up(&bench->node, false);
    turn();
    assert_int_equal(bench->node.feeds.count.reads, reads + 1);
}

void one_room_missed_something(void **) {
    enter();
    want(0, 2, "news");
    turn();
    heard(0);
    uint64_t reads = bench->node.feeds.count.reads;
    events()->missed(&bench->node, "log");
    events()->missed(&bench->node, "news");
    events()->missed(&bench->node, "unknown");
    turn();
    assert_int_equal(bench->node.feeds.count.reads, reads + 1);
    assert_heard(0, "gap 2 news; ");
}

void a_broker_that_is_away_makes_rooms_live_without_a_place(void **) {
    bench->away = true;
    want(0, 1, "log");
    turn();
    assert_heard(0, "active 1 log; ");
    bench->away = false;
    events()->up(&bench->node, false); // nothing was missed before, but this room does not know where it is
    turn();
    assert_heard(0, "gap 1 log @0; ");
}

void an_id_is_published_once(void **) {
    enter();
    for (int i = 0; i < 2; i++) {
        frame *source = frame_copy("x");
        message_parts parts = {"log", source, frame_view(source), payload_kind::text};
        parts.id = "order-1";
        publish_job *job = publish_job_new(on_done, nullptr);
        assert_true(node_publish(&bench->node, &parts, job));
        publish_job_settle(job, 0, true);
        frame_unref(source);
        std::string first = i ? "" : "message log x @1; ";
        assert_heard(0, first.c_str());
        turn();
        assert_int_equal(bench->done_calls, i + 1);
        assert_int_equal(bench->duplicate, i);
        assert_int_equal(bench->at.offset, 1);
    }
}

void an_id_on_the_command_channel_counts_once_a_node(void **) {
    enter();
    frame *source = frame_copy("{\"op\":\"publish\",\"room\":\"log\",\"data\":1,\"id\":\"x\"}");
    events()->command(&bench->node, source);
    events()->command(&bench->node, source);
    frame_unref(source);
    assert_heard(0, "message log 1; ");
}

// ---- reloads ----

// The settings of the second one stay the node's.
void reload(relay_settings *now, int *done) {
    node_adopt(
        &bench->node, now, {}, [](void *count) { ++*static_cast<int *>(count); }, done);
}
void adopted(uint32_t w) {
    say(w, new letter{letter_type::adopted}, 0);
}

void a_reload_ends_when_all_have_answered(void **) {
    int done = 0;
    static relay_settings now;
    now = bench->settings;
    reload(&now, &done);
    assert_heard(0, "adopt; ");
    assert_heard(1, "adopt; ");
    adopted(1);
    turn();
    assert_int_equal(done, 0);
    assert_non_null(bench->node.adopting);
    adopted(0);
    turn();
    assert_int_equal(done, 1);
    assert_null(bench->node.adopting);
}

void history_ends_and_begins(void **) {
    int done = 0;
    static relay_settings without, with;
    without = with = bench->settings;
    without.rooms[0].history = 0;
    enter();
    assert_true(publish("log", "a", nullptr));
    const position before = place(1);
    reload(&without, &done);
    assert_heard(0, "message log a @1; gap 1 log; adopt; "); // no place any more
    ask(0, 7, before);                                       // it has not heard of it yet
    want(1, 2, "log");
    turn();
    assert_heard(0, "joined 7 no; ");
    assert_heard(1, "adopt; active 2 log; ");
    assert_true(publish("log", "b", nullptr));
    assert_heard(0, "message log b; ");
    for (uint32_t w = 0; w < workers; w++)
        adopted(w);
    turn();
    assert_int_equal(done, 1);
    assert_int_equal(shard_of(0)->outbox_bytes.load(), 0);
    reload(&with, &done);
    assert_heard(0, "gap 1 log @1; adopt; "); // the bench's broker has kept its place
    assert_true(publish("log", "c", nullptr));
    assert_heard(0, "message log c @2; ");
    assert_heard(1, "message log b; gap 2 log @1; adopt; message log c @2; ");
}

void history_begins_before_the_broker_delivers(void **) {
    int done = 0;
    static relay_settings without, with;
    without = with = bench->settings;
    without.rooms[0].history = 0;
    reload(&without, &done);
    bench->silent = true;
    want(0, 1, "log");
    turn();
    for (uint32_t w = 0; w < workers; w++)
        adopted(w);
    turn();
    reload(&with, &done);
    ask(0, 7, place(0));
    turn();
    assert_heard(0, "adopt; adopt; ");
    node_subscribed_now("log");
    assert_heard(0, "active 1 log @0; joined 7 no @0; "); // what was asked for is of no epoch
}

void what_waits_for_history_is_settled_at_the_end(void **) {
    bench->silent = true; // not subscribed: messages wait
    want(0, 1, "log");
    turn();
    message *m = make_message("log", "a");
    m->at = place(7);
    if (position_none(&m->at)) assert_true(position_set(&m->at, "abcd", 7));
    m->job = publish_job_new(on_done, nullptr);
    events()->deliver(&bench->node, m);
    assert_int_equal(bench->done_calls, 0);
    node_join(&bench->node);
    assert_int_equal(bench->done_calls, 1);
}

} // namespace

#define with_node(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main() {
    const struct CMUnitTest tests[] = {
        with_node(places_are_told),
        with_node(rooms_without_history_have_none),
        with_node(a_join_with_since_is_answered_in_its_place),
        with_node(a_join_that_comes_with_its_want),
        with_node(a_join_of_a_room_that_nobody_wants_is_forgotten),
        with_node(a_dropped_room_settles_its_asks),
        with_node(a_missing_message_is_read),
        with_node(a_duplicate_settles_its_job),
        with_node(after_an_outage_rooms_with_history_are_read),
        with_node(one_room_missed_something),
        with_node(a_broker_that_is_away_makes_rooms_live_without_a_place),
        with_node(an_id_is_published_once),
        with_node(an_id_on_the_command_channel_counts_once_a_node),
        with_node(a_reload_ends_when_all_have_answered),
        with_node(history_ends_and_begins),
        with_node(history_begins_before_the_broker_delivers),
        with_node(what_waits_for_history_is_settled_at_the_end),
    };
    return cmocka_run_group_tests_name("node_history", tests, nullptr, nullptr);
}
