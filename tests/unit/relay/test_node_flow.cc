// What passes through the node besides messages: letters held back while it is stalled, their charges, orders, commands
// from the broker, questions; and its end.
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>
extern "C" {
#include <cmocka.h>
}

#include "node_bench.h"

#include <poll.h>
#include <string.h>

using namespace node_bench;

namespace {

// ---- back-pressure ----

void a_fence_comes_back_behind_the_messages_before_it(void **) {
    want(1, 1, "news");
    say_publish(1, "news", "echo", 0);
    say(1, &(new fence_letter{{letter_type::fence}, {1, 2, 3}})->head, 0);
    turn();
    assert_heard(1, "active 1 news; message news echo; fence; ");
}

bool rung(uint32_t w) {
    struct pollfd bell = {shard_of(w)->loop->wake_fd, POLLIN, 0};
    return poll(&bell, 1, 0) == 1;
}

void what_a_letter_was_charged_is_taken_off(void **) {
    want(1, 1, "news");
    drop(1, 1, "news");
    say_publish(1, "nobody", "123456789", 0);
    say_publish(0, "nobody", "x", 0);
    turn();
    assert_int_equal(shard_of(0)->outbox_bytes.load(), 0);
    assert_int_equal(shard_of(1)->outbox_bytes.load(), 0);
    assert_false(rung(0)); // nobody waited for that
}

void a_worker_is_woken_when_its_outbox_is_below_the_bound(void **) {
    shard_of(0)->outbox_bytes = outbox_bytes_max + 1;
    say_publish(0, "nobody", "12345678", 0);
    shard_of(0)->outbox_bytes += 1000;
    turn();
    assert_int_equal(shard_of(0)->outbox_bytes.load(), outbox_bytes_max + 1001);
    assert_false(rung(0));
    say_publish(0, "nobody", "1", 0);
    shard_of(0)->outbox_bytes -= 1001;
    turn();
    assert_int_equal(shard_of(0)->outbox_bytes.load(), outbox_bytes_max);
    assert_true(rung(0));
}

// A message of little text in a frame that is more than may be in flight.
message *huge_message(view room) {
    frame *source = frame_new(static_cast<size_t>(node_bytes_in_flight_max) + 1);
    memcpy(source->data, "huge", 4);
    message_parts parts = {room, source, view(source->data, 4), payload_kind::text, view(), 1};
    message *m = message_new(&parts);
    frame_unref(source);
    return m;
}

void on_answered(query *q, void *, uint64_t tag) {
    bench->done_calls++;
    for (uint32_t i = 0; i < q->part_count; i++)
        bench->receivers += q->parts[i].count;
    assert_int_equal(tag, 99);
}

void ask(view room) {
    node_query(&bench->node, query_type::room, room, view(), 0, on_answered, nullptr, 99);
}

// A huge message to worker 0 and to worker 1 each; worker 1 has a question before it.
void stall_by_bytes() {
    const broker_events *events = bench->node.broker->events;
    want(0, 1, "news");
    turn();
    assert_heard(0, "active 1 news; ");
    events->deliver(&bench->node, huge_message("news"));
    ask("news");
    events->deliver(&bench->node, huge_message("@conn:" + id_text(1, 5)));
    asked();
    turn();
    assert_asked("pause ");
    assert_true(bench->node.stalled_for_workers.load());
    assert_int_equal(bench->node.stalls, 1);
}

void too_many_bytes_in_flight_hold_publishes_back(void **) {
    stall_by_bytes();
    say_publish(1, "news", "one", 1);
    want(1, 2, "news");
    say_publish(1, "news", "two", 2);
    turn();
    assert_int_equal(bench->node.held.size(), 3);
    assert_int_equal(shard_of(1)->outbox_bytes.load(), 3 * letter_charge + 6); // not through yet
    assert_false(node_busy(&bench->node));                                     // or the loop would spin
    assert_false(publish("news", "no", nullptr));
    assert_asked("");
    // Worker 0 is through, worker 1 is not: it goes on.
    assert_heard(0, "message news huge; query news; ");
    turn();
    assert_asked("");
    heard(1);
    turn();
    assert_asked("resume publish:news publish:news ");
    assert_heard(0, "message news one; message news two; ");
    assert_heard(1, "answer 1 0; active 2 news; message news two; answer 2 0; ");
    assert_int_equal(shard_of(1)->outbox_bytes.load(), 0);
    assert_false(bench->node.stalled_for_workers.load());
    assert_true(publish("news", "yes", nullptr));
}

void questions_and_receipts_are_read_while_stalled(void **) {
    want(0, 7, "other");
    turn();
    publish_job *job = publish_job_new(on_done, nullptr);
    assert_true(publish("other", "x", job));
    publish_job_settle(job, 0, true);
    bench->members[0] = 3;
    assert_string_equal(heard(0).c_str(), "active 7 other; message other x; "); // the receipt is on its way
    stall_by_bytes();
    assert_int_equal(bench->done_calls, 1);
    assert_int_equal(bench->receivers, 3);
    bench->members[1] = 4;
    heard(0);
    assert_string_equal(heard(1, 1).c_str(), "query news; ");
    turn();
    assert_true(bench->node.stalled);
    assert_int_equal(bench->done_calls, 2);
    assert_int_equal(bench->receivers, 3 + 3 + 4);
}

// More than are taken in a turn, so that new ones come while old ones are held.
void a_full_inbox_holds_publishes_back_in_order(void **) {
    constexpr int many = 5000;
    error e;
    std::string want_heard;
    want(0, 1, "news");
    turn();
    heard(0);
    command c = {};
    c.op = command_op::join;
    std::string conn = id_text(1, 5);
    c.conn = conn;
    c.rooms[c.room_count++] = "a";
    for (uint32_t i = 0; i <= mailbox_capacity; i++)
        assert_int_equal(node_order(&bench->node, &c, &e), 0);
    turn();
    assert_true(bench->node.stalled);
    for (int i = 0; i < many; i++) {
        say_publish(0, "news", std::to_string(i), 0);
        want_heard += "message news " + std::to_string(i) + "; ";
    }
    turn();
    turn();
    assert_int_equal(bench->node.held.size(), many);
    assert_heard(0, "");
    heard(1);
    say_publish(0, "news", "last", 0);
    turn();
    assert_false(bench->node.stalled);
    assert_false(bench->node.held.empty());
    assert_true(node_busy(&bench->node));
    turn();
    assert_heard(0, (want_heard + "message news last; ").c_str());
    assert_heard(1, "join slot 5 room a; ");
    assert_int_equal(shard_of(0)->outbox_bytes.load(), 0);
    assert_false(node_busy(&bench->node));
}

// ---- orders ----

int order(command_op op, view conn, view room) {
    error e = {};
    command c = {};
    c.op = op;
    c.conn = conn;
    if (!room.empty()) c.rooms[c.room_count++] = room;
    if (op == command_op::disconnect) {
        c.code = 4403;
        c.reason = "out";
    }
    int code = node_order(&bench->node, &c, &e);
    assert_int_equal(code != 0, e.text[0] != 0); // a reason where it fails, and only there
    return code;
}

void an_order_goes_to_the_connections_worker(void **) {
    std::string conn = id_text(1, 5);
    assert_int_equal(order(command_op::join, conn, "a"), 0);
    assert_int_equal(order(command_op::leave, conn, "b"), 0);
    assert_int_equal(order(command_op::disconnect, conn, ""), 0);
    assert_heard(0, "");
    assert_heard(1, "join slot 5 room a; leave slot 5 room b; disconnect slot 5 code 4403 out; ");
}

void a_rooms_members_are_disconnected_by_all_workers(void **) {
    assert_int_equal(order(command_op::disconnect, "", "a"), 0);
    assert_int_equal(order(command_op::disconnect, "", "@all"), 0);
    for (uint32_t w = 0; w < workers; w++)
        assert_heard(w, "disconnect members room a code 4403 out; disconnect all room @all code 4403 out; ");
}

void orders_that_can_not_be_carried_out_are_refused(void **) {
    std::string here = id_text(0, 5), elsewhere = here;
    elsewhere[2] = here[2] == 'A' ? 'B' : 'A'; // another node's
    assert_int_equal(order(command_op::join, here, "@all"), 400);
    assert_int_equal(order(command_op::leave, here, "@conn:" + here), 400);
    assert_int_equal(order(command_op::join, elsewhere, "a"), 404);
    assert_int_equal(order(command_op::disconnect, elsewhere, ""), 404);
    assert_int_equal(order(command_op::join, "nonsense", "a"), 404);
    assert_int_equal(order(command_op::join, id_text(workers, 5), "a"), 404);
    assert_int_equal(order(command_op::refresh, elsewhere, ""), 404);
    assert_heard(0, "");
    assert_heard(1, "");
}

// ---- commands ----

void say_command(const std::string &text) {
    frame *source = frame_copy(text);
    bench->node.broker->events->command(&bench->node, source);
    frame_unref(source);
}

void a_commanded_publish_is_delivered_here_alone(void **) {
    want(1, 1, "news");
    turn();
    asked();
    heard(1);
    say_command(R"({"op":"publish","rooms":["news","@all","nobody"],"data": {"a":1} })");
    assert_asked(""); // every node has the command: nothing is sent round again
    assert_heard(0, "message @all {\"a\":1}; ");
    assert_heard(1, "message news {\"a\":1}; message @all {\"a\":1}; ");
    assert_int_equal(bench->node.commands, 1);
    assert_int_equal(bench->node.command_errors, 0);
}

void commands_that_fail_are_counted(void **) {
    std::string here = id_text(0, 5), elsewhere = here;
    elsewhere[2] = here[2] == 'A' ? 'B' : 'A';
    say_command(R"({"op":"join","room":"a","conn":")" + here + "\"}");
    assert_heard(0, "join slot 5 room a; ");
    say_command(R"({"op":"join","room":"a","conn":")" + elsewhere + "\"}"); // its own node carries it out
    assert_int_equal(bench->node.command_errors, 0);
    const char *bad[] = {"{", R"({"op":"publish","room":"@all","data":1,"id":77})", R"({"op":"disconnect"})"};
    for (const char *text : bad)
        say_command(text);
    assert_int_equal(bench->node.command_errors, 3);
    say_command(R"({"op":"join","room":"@all","conn":")" + here + "\"}");
    assert_int_equal(bench->node.command_errors, 4);
    assert_int_equal(bench->node.commands, 6);
    assert_heard(0, "");
}

// ---- the end ----

void the_node_has_stopped_when_all_workers_have(void **) {
    assert_true(node_ready(&bench->node));
    node_stop(&bench->node, true);
    assert_false(node_ready(&bench->node));
    assert_heard(0, "kill; ");
    assert_heard(1, "kill; ");
    say(1, new letter{letter_type::stopped}, 0);
    turn();
    assert_false(node_stopped(&bench->node));
    bench->node.broker->events->deliver(&bench->node, make_message("@all", "x")); // nobody reads it any more
    assert_heard(0, "");
    say(0, new letter{letter_type::stopped}, 0);
    turn();
    assert_true(node_stopped(&bench->node));
}

// A worker that is done goes on answering until all are; and while clients leave, the others publish.
void all_have_left_before_the_workers_end(void **) {
    node_drain(&bench->node);
    node_drain(&bench->node);
    assert_false(node_ready(&bench->node));
    for (uint32_t w = 0; w < workers; w++)
        assert_heard(w, "drain; ");
    want(0, 1, "news");
    say_publish(1, "news", "hello", 12);
    shard_of(1)->drained = true;
    turn();
    assert_heard(0, "active 1 news; message news hello; ");
    assert_heard(1, "answer 12 0; ");
    shard_of(1)->drained = false; // somebody has come from another process
    shard_of(0)->drained = true;
    turn();
    assert_heard(0, "");
    shard_of(1)->drained = true;
    turn();
    for (uint32_t w = 0; w < workers; w++)
        assert_heard(w, "stop; ");
    turn();
    assert_heard(0, "");
}

void who_is_overdue_is_dropped(void **) {
    node_drain(&bench->node);
    node_drain_overdue(&bench->node);
    assert_heard(0, "drain; overdue; ");
    node_stop(&bench->node, true);
    node_drain_overdue(&bench->node);
    assert_heard(0, "kill; ");
}

void whoever_still_waits_at_the_end_is_answered(void **) {
    publish_job *job = publish_job_new(on_done, nullptr);
    assert_true(publish("@all", "x", job));
    publish_job_settle(job, 0, true);
    ask("news");
    heard(0); // worker 1 has read neither
    stall_by_bytes();
    say_publish(1, "news", "held", 1);
    turn();
    assert_int_equal(bench->node.held.size(), 1);
    assert_int_equal(bench->done_calls, 0);
    node_stop(&bench->node, true);
    node_join(&bench->node);
    assert_int_equal(bench->done_calls, 3);
    assert_true(bench->node.held.empty());
    assert_int_equal(message_bytes_in_flight(), 0);
}

} // namespace

#define with_node(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main() {
    const CMUnitTest tests[] = {
        with_node(a_fence_comes_back_behind_the_messages_before_it),
        with_node(what_a_letter_was_charged_is_taken_off),
        with_node(a_worker_is_woken_when_its_outbox_is_below_the_bound),
        with_node(too_many_bytes_in_flight_hold_publishes_back),
        with_node(questions_and_receipts_are_read_while_stalled),
        with_node(a_full_inbox_holds_publishes_back_in_order),
        with_node(an_order_goes_to_the_connections_worker),
        with_node(a_rooms_members_are_disconnected_by_all_workers),
        with_node(orders_that_can_not_be_carried_out_are_refused),
        with_node(a_commanded_publish_is_delivered_here_alone),
        with_node(commands_that_fail_are_counted),
        with_node(the_node_has_stopped_when_all_workers_have),
        with_node(all_have_left_before_the_workers_end),
        with_node(who_is_overdue_is_dropped),
        with_node(whoever_still_waits_at_the_end_is_answered),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
