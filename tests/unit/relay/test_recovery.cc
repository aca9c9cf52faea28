// Joins with `since` on the worker: what is asked of the node, and what becomes of its answer in both protocols.
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>
extern "C" {
#include <cmocka.h>
}

#include "relay/admission.h"
#include "relay/plain_session.h"
#include "shard_bench.h"

using namespace belfry;

namespace {

int setup(void **state) {
    bench_begin(state);
    room_rule log = {}, plain = {};
    log.pattern = "log";
    plain.pattern = "plain";
    log.join = plain.join = log.publish = right_anyone;
    log.publish = right_members;
    log.history = 10;
    bench->settings.rooms = {log, plain};
    return 0;
}

position place(const char *epoch, uint64_t offset) {
    position p;
    assert_true(position_set(&p, epoch, offset));
    return p;
}

std::string object(const std::string &text) {
    return server_frame(0x81, text);
}
void say(const test_client &c, const std::string &text) {
    send_bytes(c, client_frame(0x81, text));
}

const std::string join_since =
    "{\"type\":\"join\",\"id\":1,\"room\":\"log\",\"since\":{\"epoch\":\"abcd\",\"offset\":3}}";
const std::string join_quietly = "{\"type\":\"join\",\"room\":\"log\",\"since\":{\"epoch\":\"abcd\",\"offset\":3}}";

// The room is the broker's, behind offset 5.
void become_active(uint32_t serial) {
    position at = place("abcd", 5);
    room_active(the_shard(), "log", serial, &at, admission_room_active);
    turn();
}

message *kept(uint64_t offset) {
    message *m = make_message("log", std::to_string(offset), payload_kind::json);
    m->at = place("abcd", offset);
    return m;
}
std::string kept_json(uint64_t offset) {
    return object("{\"type\":\"message\",\"room\":\"log\",\"data\":" + std::to_string(offset) +
                  ",\"epoch\":\"abcd\",\"offset\":" + std::to_string(offset) + ",\"time\":1700000000123}");
}
std::string ok_recovered(const char *id, size_t count) {
    return object(std::string("{\"type\":\"ok\",\"id\":") + id +
                  ",\"room\":\"log\",\"epoch\":\"abcd\",\"offset\":5,\"recovered\":true,\"replayed\":" +
                  std::to_string(count) + "}");
}
const std::string ok_not_recovered =
    object("{\"type\":\"ok\",\"id\":1,\"room\":\"log\",\"epoch\":\"abcd\",\"offset\":5,\"recovered\":false}");

// The node's answer, as worker.cc passes it on.
void answer(const test_client &c, bool recovered, std::initializer_list<message *> replay) {
    join_answer_letter a = {
        {letter_type::join_answer}, conn_id_of(c.at), 0, "log", recovered, place("abcd", 5), replay};
    membership *m = room_membership(c.at, "log");
    assert_non_null(m);
    assert_true(m->ask != 0);
    m->ask = 0;
    c.at->session->recovered(c.at, m, &a);
    turn();
}

void since_is_asked_of_the_node(void **) {
    test_client c = open_client(form_json);
    say(c, join_since);
    std::vector<seen_letter> all = letters();
    assert_int_equal(all.size(), 2); // in this order: the node knows the room by then
    assert_true(all[0].type == letter_type::want);
    assert_true(all[1].type == letter_type::join_ask);
    assert_int_equal(bench->asked.since.offset, 3);
    assert_true(position_epoch(&bench->asked.since) == "abcd");
    assert_int_equal(bench->asked.room_for, bench->way.send_queue);
    become_active(all[0].serial);
    assert_bytes(received(c), ""); // the answer is not there yet
    assert_false(room_membership(c.at, "log")->member);
    deliver(kept(5));
    turn();
    assert_bytes(received(c), ""); // it is in the answer
    answer(c, true, {kept(4), kept(5)});
    assert_bytes(received(c), ok_recovered("1", 2) + kept_json(4) + kept_json(5));
    deliver(kept(6));
    turn();
    assert_bytes(received(c), kept_json(6));
    assert_int_equal(the_shard()->count.replayed, 2);
}

void not_recovered_gets_none(void **) {
    test_client c = open_client(form_json), quiet = open_client(form_json);
    say(c, join_since);
    say(quiet, join_quietly);
    become_active(letters().at(0).serial);
    answer(c, false, {});
    answer(quiet, false, {});
    assert_bytes(received(c), ok_not_recovered);
    assert_bytes(received(quiet), object("{\"type\":\"gap\",\"room\":\"log\"}"));
}

void a_replay_that_does_not_fit_is_none(void **) {
    test_client c = open_client(form_json);
    say(c, join_since);
    become_active(letters().at(0).serial);
    c.at->send_queue = 1300; // the answer's own 1,024, and less than two messages
    answer(c, true, {kept(4), kept(5)});
    assert_bytes(received(c), ok_not_recovered);
    assert_true(room_membership(c.at, "log")->member);
}

void a_room_without_history_is_not_asked(void **) {
    test_client c = open_client(form_json);
    say(c, "{\"type\":\"join\",\"id\":1,\"room\":\"plain\",\"since\":{\"epoch\":\"abcd\",\"offset\":3}}");
    std::vector<seen_letter> all = letters();
    assert_int_equal(all.size(), 1);
    room_active(the_shard(), "plain", all[0].serial, &nowhere, admission_room_active);
    turn();
    assert_bytes(received(c), object("{\"type\":\"ok\",\"id\":1,\"room\":\"plain\",\"recovered\":false}"));
}

void an_epoch_that_is_none_is_not_asked(void **) {
    test_client c = open_client(form_json);
    say(c, "{\"type\":\"join\",\"id\":1,\"room\":\"log\",\"since\":{\"epoch\":\"no epoch\",\"offset\":3}}");
    std::vector<seen_letter> all = letters();
    assert_int_equal(all.size(), 1);
    become_active(all[0].serial);
    assert_bytes(received(c), ok_not_recovered);
}

void a_member_that_asks_hears_nothing_until_the_answer(void **) {
    test_client c = open_client(form_json), other = open_client(form_json);
    say(c, "{\"type\":\"join\",\"id\":1,\"room\":\"log\"}");
    say(other, "{\"type\":\"join\",\"room\":\"log\"}");
    become_active(letters().at(0).serial);
    assert_bytes(received(c), object("{\"type\":\"ok\",\"id\":1,\"room\":\"log\",\"epoch\":\"abcd\",\"offset\":5}"));
    say(c, join_since);
    const membership *m = room_membership(c.at, "log");
    assert_false(m->member);
    assert_true(membership_counts(m));
    deliver(kept(5));
    turn();
    assert_bytes(received(c), "");
    assert_bytes(received(other), kept_json(5));
    say(c, "{\"type\":\"publish\",\"id\":2,\"room\":\"log\",\"data\":1}"); // members may
    assert_int_equal(letters().size(), 2);
    assert_int_equal(bench->publishes.size(), 1);
    say(c, join_since);
    assert_bytes(received(c), object("{\"type\":\"error\",\"id\":1,\"code\":409,\"message\":\"already joining log\"}"));
    answer(c, true, {kept(4), kept(5)});
    assert_bytes(received(c), ok_recovered("1", 2) + kept_json(4) + kept_json(5));
    assert_true(m->member);
    assert_false(m->suspended);
}

void a_member_that_asks_may_leave(void **) {
    test_client c = open_client(form_json);
    say(c, "{\"type\":\"join\",\"room\":\"log\"}");
    become_active(letters().at(0).serial);
    say(c, join_since);
    say(c, "{\"type\":\"leave\",\"id\":2,\"room\":\"log\"}");
    assert_bytes(received(c),
                 object("{\"type\":\"error\",\"id\":1,\"code\":409,\"message\":\"not joined log: left before "
                        "the join was complete\"}") +
                     object("{\"type\":\"ok\",\"id\":2}"));
    assert_int_equal(the_shard()->membership_count, 0);
}

void raw_clients_recover_without_words(void **) {
    test_client c = open_client(form_raw);
    plain_rejoin r = {"log", place("abcd", 3), false};
    c.at->session->rejoin(c.at, &r);
    std::vector<seen_letter> all = letters();
    assert_int_equal(all.size(), 2);
    assert_true(all[1].type == letter_type::join_ask);
    become_active(all[0].serial);
    assert_false(room_membership(c.at, "log")->member);
    answer(c, true, {kept(4), kept(5)});
    assert_bytes(received(c), server_frame(0x81, "4") + server_frame(0x81, "5"));
}

void a_gap_moves_the_place(void **) {
    test_client c = open_client(form_json), raw = open_client(form_raw);
    say(c, "{\"type\":\"join\",\"room\":\"log\"}");
    uint32_t serial = letters().at(0).serial;
    become_active(serial);
    enter(raw.at, "log");
    position at = place("wxyz", 9);
    fanout_room_gap(the_shard(), "log", serial + 1, &at); // of another room that had this name
    turn();
    assert_bytes(received(c), "");
    fanout_room_gap(the_shard(), "log", serial, &at);
    turn();
    assert_bytes(received(c), object("{\"type\":\"gap\",\"room\":\"log\"}"));
    assert_bytes(received(raw), "");
    assert_int_equal(room_membership(c.at, "log")->in->at.offset, 9);
}

void a_gap_of_the_broker_is_for_rooms_without_history(void **) {
    test_client c = open_client(form_json);
    say(c, "{\"type\":\"join\",\"room\":\"log\"}");
    become_active(letters().at(0).serial);
    enter(c.at, "plain");
    fanout_gap(the_shard());
    turn();
    assert_bytes(received(c), object("{\"type\":\"gap\",\"room\":\"plain\"}"));
}

} // namespace

#define on_shard(test) cmocka_unit_test_setup_teardown(test, setup, bench_end)

int main() {
    const struct CMUnitTest tests[] = {
        on_shard(since_is_asked_of_the_node),
        on_shard(not_recovered_gets_none),
        on_shard(a_replay_that_does_not_fit_is_none),
        on_shard(a_room_without_history_is_not_asked),
        on_shard(an_epoch_that_is_none_is_not_asked),
        on_shard(a_member_that_asks_hears_nothing_until_the_answer),
        on_shard(a_member_that_asks_may_leave),
        on_shard(raw_clients_recover_without_words),
        on_shard(a_gap_moves_the_place),
        on_shard(a_gap_of_the_broker_is_for_rooms_without_history),
    };
    return cmocka_run_group_tests_name("recovery", tests, nullptr, nullptr);
}
