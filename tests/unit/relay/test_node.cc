// The node: which rooms it asks the broker for, which workers get a message, and who hears what became of it.
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

// ---- rooms ----

void a_wanted_room_becomes_active_with_the_wants_serial(void **) {
    want(1, 70, "news");
    assert_true(node_busy(&bench->node));
    turn();
    assert_false(node_busy(&bench->node));
    assert_asked("+news ");
    assert_heard(0, "");
    assert_heard(1, "active 70 news; ");
}

void a_second_worker_joins_an_active_room_without_the_broker(void **) {
    want(0, 1, "news");
    turn();
    assert_heard(0, "active 1 news; ");
    want(1, 9, "news");
    turn();
    assert_asked("+news ");
    assert_heard(0, "");
    assert_heard(1, "active 9 news; ");
}

void a_room_waits_for_the_brokers_confirmation(void **) {
    bench->silent = true;
    want(0, 1, "news");
    want(1, 2, "news");
    turn();
    assert_asked("+news ");
    assert_heard(0, "");
    bench->memory->subscribe(bench->node.broker, "news");
    assert_heard(0, "active 1 news; ");
    assert_heard(1, "active 2 news; ");
    bench->memory->subscribe(bench->node.broker, "news"); // told once
    bench->memory->subscribe(bench->node.broker, "unknown");
    assert_heard(0, "");
}

void who_waits_for_a_refused_room_is_told(void **) {
    bench->silent = true;
    want(0, 4, "news");
    turn();
    bench->node.broker->events->refused(&bench->node, "news");
    assert_heard(0, "refused 4 news; ");
    assert_heard(1, "");
    bench->memory->subscribe(bench->node.broker, "news"); // it went well later
    assert_heard(0, "active 4 news; ");
    bench->node.broker->events->refused(&bench->node, "news"); // who is in stays in
    assert_heard(0, "");
}

void the_last_drop_unsubscribes(void **) {
    want(0, 1, "news");
    want(1, 2, "news");
    turn();
    drop(0, 1, "news");
    turn();
    assert_asked("+news ");
    assert_heard(0, "active 1 news; ");
    assert_true(publish("news", "x", nullptr)); // to the other worker only
    assert_heard(0, "");
    assert_heard(1, "active 2 news; message news x; ");
    drop(1, 2, "news");
    turn();
    assert_asked("local:news -news ");
    assert_true(publish("news", "y", nullptr));
    assert_heard(1, "");
}

void a_drop_with_an_old_serial_is_ignored(void **) {
    want(0, 1, "news");
    want(0, 2, "news"); // gave it up and wants it again
    drop(0, 1, "news"); // of the first one
    turn();
    assert_asked("+news ");
    assert_heard(0, "active 1 news; active 2 news; ");
    drop(0, 2, "news");
    drop(0, 2, "unknown");
    turn();
    assert_asked("-news ");
}

void a_dropped_room_is_wanted_again(void **) {
    want(0, 1, "news");
    drop(0, 1, "news");
    want(0, 2, "news");
    turn();
    assert_asked("+news -news +news ");
    assert_heard(0, "active 1 news; active 2 news; ");
}

void a_gap_is_told_to_all_workers(void **) {
    bench->node.broker->events->up(&bench->node, false);
    assert_heard(0, "");
    bench->node.broker->events->down(&bench->node, "gone");
    bench->node.broker->events->up(&bench->node, true);
    assert_heard(0, "gap; ");
    assert_heard(1, "gap; ");
}

// ---- publishing ----

void a_message_goes_to_the_workers_that_it_concerns(void **) {
    want(1, 1, "news");
    turn();
    asked();
    heard(1);
    assert_true(publish("news", "a", nullptr));
    assert_true(publish("@all", "b", nullptr));
    assert_true(publish("@conn:" + id_text(0, 5), "c", nullptr));
    assert_true(publish("@conn:" + id_text(workers, 5), "d", nullptr)); // there is no such worker
    assert_true(publish("@conn:nonsense", "e", nullptr));
    assert_true(publish("nobody", "f", nullptr));
    assert_int_equal(message_bytes_in_flight(), 3);
    assert_string_equal(heard(0).c_str(), ("message @all b; message @conn:" + id_text(0, 5) + " c; ").c_str());
    assert_heard(1, "message news a; message @all b; ");
    assert_int_equal(message_bytes_in_flight(), 0);
    assert_int_equal(bench->node.broker->count.published, 6);
}

void a_receipt_settles_the_job(void **) {
    want(0, 1, "news");
    want(1, 1, "news");
    turn();
    bench->members[0] = 3;
    bench->members[1] = 4;
    publish_job *job = publish_job_new(on_done, nullptr);
    assert_true(publish("news", "x", job));
    publish_job_settle(job, 0, true);
    heard(0);
    turn();
    assert_int_equal(bench->done_calls, 0); // the second worker has not queued it
    heard(1);
    turn();
    assert_int_equal(bench->done_calls, 1);
    assert_int_equal(bench->receivers, 7);
    assert_false(bench->failed);
}

void a_job_without_receivers_is_done_at_once(void **) {
    publish_job *job = publish_job_new(on_done, nullptr);
    assert_true(publish("nobody", "x", job));
    publish_job_settle(job, 0, true);
    assert_int_equal(bench->done_calls, 1);
    assert_int_equal(bench->receivers, 0);
}

void nothing_is_published_where_the_broker_is_away(void **) {
    bench->away = true;
    assert_false(node_ready(&bench->node));
    publish_job *job = publish_job_new(on_done, nullptr);
    assert_false(publish("@all", "x", job));
    assert_int_equal(job->awaiting, 1); // not touched
    publish_job_settle(job, 0, false);
    assert_true(bench->failed);
    assert_asked("");
    bench->away = false;
    node_stop(&bench->node, false);
    assert_false(publish("@all", "x", nullptr));
    assert_heard(0, "stop; ");
}

void a_clients_publish_is_delivered_and_answered(void **) {
    want(0, 1, "news");
    say_publish(1, "news", "hello", 12);
    say_publish(1, "news", "quiet", 0);
    turn();
    assert_heard(0, "active 1 news; message news hello; message news quiet; ");
    assert_heard(1, "answer 12 0; ");
    bench->away = true;
    say_publish(1, "news", "lost", 13);
    say_publish(1, "news", "lost", 0);
    turn();
    assert_heard(0, "");
    assert_heard(1, "answer 13 503; ");
    assert_int_equal(bench->node.publishes_dropped, 1);
}

} // namespace

#define with_node(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main() {
    const CMUnitTest tests[] = {
        with_node(a_wanted_room_becomes_active_with_the_wants_serial),
        with_node(a_second_worker_joins_an_active_room_without_the_broker),
        with_node(a_room_waits_for_the_brokers_confirmation),
        with_node(who_waits_for_a_refused_room_is_told),
        with_node(the_last_drop_unsubscribes),
        with_node(a_drop_with_an_old_serial_is_ignored),
        with_node(a_dropped_room_is_wanted_again),
        with_node(a_gap_is_told_to_all_workers),
        with_node(a_message_goes_to_the_workers_that_it_concerns),
        with_node(a_receipt_settles_the_job),
        with_node(a_job_without_receivers_is_done_at_once),
        with_node(nothing_is_published_where_the_broker_is_away),
        with_node(a_clients_publish_is_delivered_and_answered),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
