// Deliveries, looked at where they come out: the bytes at the members' sockets.
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>
extern "C" {
#include <cmocka.h>
}

#include "shard_bench.h"

using namespace belfry;

namespace {

constexpr unsigned char text = 0x81, binary = 0x82, close_frame = 0x88;
const std::string slow_close = server_frame(close_frame, "\x11\x3dslow consumer"); // 4413

void members_get_the_form_that_they_speak(void **) {
    test_client a = open_client(form_json), b = open_client(form_raw), c = open_client(form_json);
    for (test_client each : {a, b, c})
        enter(each.at, "news");
    uint64_t encodes = message_encodes();
    message *m = make_message("news", "{\"a\":1}", payload_kind::any);
    deliver(m);
    assert_bytes(received(a), ""); // written at the end of the turn
    turn();
    assert_bytes(received(a), json_message("news", "{\"a\":1}"));
    assert_bytes(received(b), server_frame(text, "{\"a\":1}"));
    assert_bytes(received(c), json_message("news", "{\"a\":1}"));
    assert_int_equal(m->receivers.load(), 3);
    assert_int_equal(the_shard()->count.deliveries, 3);
    assert_int_equal(message_encodes() - encodes, 2); // one a form
    assert_int_equal(a.at->outq.count, 0);
}

void bytes_come_as_base64_or_as_they_are(void **) {
    test_client a = open_client(form_json), b = open_client(form_raw);
    enter(a.at, "news");
    enter(b.at, "news");
    deliver(make_message("news", "\xff\xfe", payload_kind::any));
    turn();
    assert_bytes(received(a), server_frame(text, "{\"type\":\"message\",\"room\":\"news\",\"data64\":\"//4=\","
                                                 "\"time\":1700000000123}"));
    assert_bytes(received(b), server_frame(binary, "\xff\xfe"));
}

void a_form_that_nobody_reads_is_not_made(void **) {
    test_client b = open_client(form_raw);
    enter(b.at, "news");
    uint64_t encodes = message_encodes();
    deliver(make_message("empty", "1", payload_kind::any));
    assert_int_equal(message_encodes() - encodes, 0);
    deliver(make_message("news", "1", payload_kind::any));
    assert_int_equal(message_encodes() - encodes, 1);
}

void only_the_rooms_members_get_it(void **) {
    test_client in = open_client(form_raw), out = open_client(form_raw), waiting = open_client(form_raw);
    enter(in.at, "news");
    enter(out.at, "other");
    membership *m;
    room_join(the_shard(), waiting.at, "news", &m); // not admitted
    message *one = make_message("news", "1", payload_kind::any);
    deliver(one);
    deliver(make_message("nobody-here", "2", payload_kind::any));
    turn();
    assert_bytes(received(in), server_frame(text, "1"));
    assert_bytes(received(out), "");
    assert_bytes(received(waiting), "");
    assert_int_equal(one->receivers.load(), 1);
    room_leave(the_shard(), room_membership(in.at, "news"));
    deliver(make_message("news", "3", payload_kind::any));
    turn();
    assert_bytes(received(in), "");
}

void who_is_excepted_is_left_out(void **) {
    test_client a = open_client(form_raw), b = open_client(form_raw), c = open_client(form_raw);
    for (test_client each : {a, b, c})
        enter(each.at, "news");
    conn_id_text ida = conn_id_format(conn_id_of(a.at)), idc = conn_id_format(conn_id_of(c.at));
    conn_id stranger = conn_id_of(b.at);
    stranger.tag ^= 1; // b's place, but not b: an id of a connection that was there before
    conn_id_text idb = conn_id_format(stranger);
    const view except[] = {ida, idb, idc};
    message *m = make_message("news", "x", payload_kind::any, except, 3);
    deliver(m);
    const view only_a[] = {ida};
    deliver(make_message("@all", "y", payload_kind::any, only_a, 1));
    turn();
    assert_bytes(received(a), "");
    assert_bytes(received(b), server_frame(text, "x") + server_frame(text, "y"));
    assert_bytes(received(c), server_frame(text, "y"));
    assert_int_equal(m->receivers.load(), 1);
}

void at_all_is_everybody_who_is_open(void **) {
    test_client member = open_client(form_raw), roomless = open_client(form_json);
    test_client early = connect_client(); // has not asked for anything yet
    test_client gone = open_client(form_raw);
    enter(member.at, "news");
    conn_abort(gone.at);
    message *m = make_message("@all", "1", payload_kind::any);
    deliver(m);
    turn();
    assert_bytes(received(member), server_frame(text, "1"));
    assert_bytes(received(roomless), json_message("@all", "1"));
    assert_bytes(received(early), "");
    assert_int_equal(m->receivers.load(), 2);
}

void at_conn_is_that_one(void **) {
    test_client a = open_client(form_raw), b = open_client(form_raw);
    message *m = make_message(conn_room(b.at), "1", payload_kind::any);
    deliver(m);
    deliver(make_message("@conn:", "2", payload_kind::any));
    deliver(make_message("@conn:c_AAAAAAAAAAAAAAAAAAAA", "3", payload_kind::any));
    deliver(make_message("@user:7", "4", payload_kind::any));
    turn();
    assert_bytes(received(a), "");
    assert_bytes(received(b), server_frame(text, "1"));
    assert_int_equal(m->receivers.load(), 1);
}

// The next one in a slot has another id.
void at_conn_of_a_closed_one_reaches_nobody(void **) {
    test_client old = open_client(form_raw);
    std::string name = conn_room(old.at);
    conn_abort(old.at);
    deliver(make_message(name, "1", payload_kind::any));
    turn();
    test_client heir = open_client(form_raw);
    assert_int_equal(heir.at->slot, 0);
    message *m = make_message(name, "2", payload_kind::any);
    deliver(m);
    turn();
    assert_bytes(received(heir), "");
    assert_int_equal(m->receivers.load(), 0);
}

void nothing_follows_a_close(void **) {
    test_client a = open_client(form_raw);
    enter(a.at, "news");
    deliver(make_message("news", "1", payload_kind::any));
    websocket_close(a.at, 1001, "idle");
    message *late = make_message("news", "2", payload_kind::any);
    deliver(late);
    deliver(make_message("@all", "3", payload_kind::any));
    deliver(make_message(conn_room(a.at), "4", payload_kind::any));
    fanout_gap(the_shard());
    turn();
    assert_bytes(received(a), server_frame(text, "1") + server_frame(close_frame, "\x03\xe9idle"));
    assert_int_equal(late->receivers.load(), 0);
}

// The members' references are taken at once, and what is not used of them is given back.
void no_reference_is_left_over(void **) {
    test_client a = open_client(form_raw), gone = open_client(form_raw), full = open_client(form_raw);
    for (test_client each : {a, gone, full})
        enter(each.at, "news");
    enter(open_client(form_json).at, "news");
    websocket_close(gone.at, 1001, "");
    conn_set_send_queue(full.at, 10);
    message *m = make_message("news", "1", payload_kind::any);
    deliver(m);
    frame *raw = m->forms[form_raw].load(), *json = m->forms[form_json].load();
    assert_int_equal(raw->references.load(), 1 + 1); // the message's, and a's queue's
    assert_int_equal(json->references.load(), 1 + 1);
    turn();
    assert_int_equal(raw->references.load(), 1);
    assert_int_equal(json->references.load(), 1);
}

// ---------------------------------------------------------------- writing

void many_messages_are_one_write_a_connection(void **) {
    test_client c[3] = {open_client(form_raw), open_client(form_json), open_client(form_raw)};
    for (test_client each : c)
        enter(each.at, "news");
    std::string raw, json;
    for (int i = 0; i < 100; i++) {
        std::string payload = std::to_string(i);
        deliver(make_message("news", payload, payload_kind::any));
        raw += server_frame(text, payload);
        json += json_message("news", payload);
    }
    uint64_t before = the_shard()->loop->writes;
    turn();
    assert_int_equal(the_shard()->loop->writes - before, 3);
    assert_bytes(received(c[0]), raw); // in the order of their delivery
    assert_bytes(received(c[1]), json);
    assert_bytes(received(c[2]), raw);
    assert_int_equal(the_shard()->count.bytes_out, 2 * raw.size() + json.size());
    turn();
    assert_int_equal(the_shard()->loop->writes - before, 3); // nothing due, nothing called
    assert_int_equal(the_shard()->chunk_slab.live, 0);
}

void the_flush_goes_by_slices(void **) {
    constexpr uint32_t n = fanout_slice + 10;
    test_client c[n];
    for (test_client &each : c) {
        each = open_client(form_raw);
        enter(each.at, "news");
    }
    deliver(make_message("news", "1", payload_kind::any));
    uint64_t before = the_shard()->loop->writes;
    assert_true(fanout_flush(the_shard()));
    assert_int_equal(the_shard()->loop->writes - before, fanout_slice);
    assert_false(fanout_flush(the_shard()));
    assert_int_equal(the_shard()->loop->writes - before, n);
    for (const test_client &each : c)
        assert_bytes(received(each), server_frame(text, "1"));
}

// Two messages, the second one while the first is still being written: each is observed once, when its last member has
// been written.
void how_long_it_took_is_known_once_all_have_it(void **) {
    constexpr uint32_t n = fanout_slice + 10;
    const histogram *observed = &the_shard()->count.fanout;
    test_client first = {};
    for (uint32_t i = 0; i < n; i++) {
        test_client c = open_client(form_raw);
        enter(c.at, "news");
        if (!i) first = c;
    }
    enter(first.at, "one");
    message *m = make_message("news", "1", payload_kind::any);
    m->received_ns -= 3000000000; // 3 s ago
    deliver(m);
    assert_true(fanout_flush(the_shard()));
    assert_int_equal(histogram_count(observed), 0);
    deliver(make_message("one", "2", payload_kind::any)); // its member has been written, and is again
    assert_false(fanout_flush(the_shard()));
    assert_int_equal(histogram_count(observed), 2);
    assert_in_range(observed->sum_ns, 3000000000, 60000000000);
    deliver(make_message("nobody-here", "3", payload_kind::any));
    turn();
    assert_int_equal(histogram_count(observed), 2);
}

// ---------------------------------------------------------------- slow consumers

void who_overflows_is_closed_with_4413(void **) {
    test_client slow = open_client(form_raw), fast = open_client(form_raw);
    enter(slow.at, "news");
    enter(fast.at, "news");
    conn_set_send_queue(slow.at, 2 * (102 + conn_frame_cost)); // two of the frames below
    std::string payload(100, 'x'), fast_bytes;
    message *last = nullptr;
    for (int i = 0; i < 5; i++) {
        deliver(last = make_message("news", payload, payload_kind::any));
        fast_bytes += server_frame(text, payload);
    }
    assert_int_equal(last->receivers.load(), 1);
    assert_int_equal(the_shard()->count.deliveries, 2 + 5);
    assert_int_equal(the_shard()->count.dropped[drop_slow_consumer], 2);
    assert_int_equal(closed_with(4413), 1);
    turn();
    assert_bytes(received(slow), slow_close);
    assert_bytes(received(fast), fast_bytes);
    assert_true(list_empty(&the_shard()->doomed));
}

// The limit is what waits, not what was ever sent.
void the_queue_may_be_filled_to_its_last_byte(void **) {
    test_client a = open_client(form_raw);
    enter(a.at, "news");
    conn_set_send_queue(a.at, 2 * (102 + conn_frame_cost));
    std::string payload(100, 'x'), both = server_frame(text, payload) + server_frame(text, payload);
    for (int i = 0; i < 3; i++) {
        deliver(make_message("news", payload, payload_kind::any));
        deliver(make_message("news", payload, payload_kind::any));
        turn();
        assert_bytes(received(a), both);
    }
    assert_int_equal(the_shard()->count.dropped[drop_slow_consumer], 0);
    assert_int_equal(closed_with(4413), 0);
}

// A frame whose first bytes are on the wire is finished: a Close in its middle would be taken for its content.
void a_begun_frame_is_finished_before_the_close(void **) {
    test_client slow = open_client(form_raw);
    int small = 4096;
    setsockopt(slow.at->stream.fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof small);
    enter(slow.at, "news");
    std::string payload(300000, 'x');
    deliver(make_message("news", payload, payload_kind::any));
    turn();
    turn();
    assert_true(slow.at->blocked);
    assert_true(slow.at->outq.offset > 0);
    for (int i = 0; i < 5; i++)
        deliver(make_message("news", payload, payload_kind::any)); // 1 MB is the bound
    assert_int_equal(closed_with(4413), 1);
    assert_int_equal(the_shard()->count.dropped[drop_slow_consumer], 2);
    std::string got;
    for (int i = 0; i < 1000 && got.size() < payload.size() + 10 + slow_close.size(); i++) {
        got += received(slow);
        turn();
    }
    assert_bytes(got, server_frame(text, payload) + slow_close);
}

void at_all_and_at_conn_close_who_overflows_too(void **) {
    test_client a = open_client(form_raw), z = open_client(form_raw);
    conn_set_send_queue(a.at, 1 + 2 + conn_frame_cost);
    conn_set_send_queue(z.at, 1 + 2 + conn_frame_cost);
    std::string name = conn_room(z.at);
    for (int i = 0; i < 2; i++) {
        deliver(make_message(i ? "@all" : name, "1", payload_kind::any));
        deliver(make_message(i ? name : "@all", "2", payload_kind::any));
    }
    turn();
    assert_bytes(received(a), slow_close);
    assert_bytes(received(z), slow_close);
    assert_int_equal(closed_with(4413), 2);
}

// Its reader is not slow: no queue of its size could take the message.
void what_fits_in_no_queue_is_dropped_alone(void **) {
    test_client small = open_client(form_raw), large = open_client(form_raw);
    enter(small.at, "news");
    enter(large.at, "news");
    conn_set_send_queue(small.at, 200);
    std::string payload(105, 'x'); // 107 bytes of frame and 96 for keeping it
    message *m = make_message("news", payload, payload_kind::any);
    deliver(m);
    deliver(make_message("news", "1", payload_kind::any));
    turn();
    assert_bytes(received(small), server_frame(text, "1"));
    assert_bytes(received(large), server_frame(text, payload) + server_frame(text, "1"));
    assert_int_equal(m->receivers.load(), 1);
    assert_int_equal(the_shard()->count.dropped[drop_oversized], 1);
    assert_int_equal(the_shard()->count.dropped[drop_slow_consumer], 0);
    assert_true(small.at->open);
}

// A connection that was paused with bytes left over is to be read again in this turn: an overflow must not make it
// forget that, or the client's Close waits for a deadline.
void an_overflow_does_not_stop_reading(void **) {
    test_client a = open_client(form_raw);
    enter(a.at, "news");
    conn_set_send_queue(a.at, 1 + 2 + conn_frame_cost);
    conn_pause(a.at);
    buffer_append(&a.at->rest, view("\x88\x82\0\0\0\0\x0f\xa0", 8)); // Close 4000
    conn_resume(a.at);
    deliver(make_message("news", "1", payload_kind::any));
    deliver(make_message("news", "2", payload_kind::any));
    for (int i = 0; i < 4; i++)
        turn();
    assert_bytes(received(a), slow_close);
    assert_true(at_end(a)); // both Close frames are through
}

void a_gap_is_told_to_json_members_of_each_room(void **) {
    test_client a = open_client(form_json), b = open_client(form_raw), roomless = open_client(form_json);
    test_client waiting = open_client(form_json);
    enter(a.at, "x");
    enter(b.at, "x");
    membership *m;
    room_join(the_shard(), waiting.at, "y", &m);
    fanout_gap(the_shard());
    turn();
    assert_bytes(received(a), server_frame(text, "{\"type\":\"gap\",\"room\":\"x\"}"));
    assert_bytes(received(b), "");
    assert_bytes(received(roomless), "");
    assert_bytes(received(waiting), "");
}

void a_gap_comes_once_a_room(void **) {
    test_client a = open_client(form_json);
    enter(a.at, "x");
    enter(a.at, "y");
    fanout_gap(the_shard());
    turn();
    std::string x = server_frame(text, "{\"type\":\"gap\",\"room\":\"x\"}"), got = received(a);
    std::string y = server_frame(text, "{\"type\":\"gap\",\"room\":\"y\"}");
    if (got == y + x) return; // the table's order is nobody's business
    assert_bytes(got, x + y);
}

void who_has_no_room_for_a_gap_is_closed(void **) {
    test_client a = open_client(form_json);
    enter(a.at, "x");
    enter(a.at, "y");
    conn_set_send_queue(a.at, 10);
    fanout_gap(the_shard());
    turn();
    assert_bytes(received(a), slow_close);
    assert_int_equal(closed_with(4413), 1);
}

} // namespace

#define with_bench(test) cmocka_unit_test_setup_teardown(test, bench_begin, bench_end)

int main() {
    const CMUnitTest tests[] = {
        with_bench(members_get_the_form_that_they_speak),
        with_bench(bytes_come_as_base64_or_as_they_are),
        with_bench(a_form_that_nobody_reads_is_not_made),
        with_bench(only_the_rooms_members_get_it),
        with_bench(who_is_excepted_is_left_out),
        with_bench(at_all_is_everybody_who_is_open),
        with_bench(at_conn_is_that_one),
        with_bench(at_conn_of_a_closed_one_reaches_nobody),
        with_bench(nothing_follows_a_close),
        with_bench(no_reference_is_left_over),
        with_bench(many_messages_are_one_write_a_connection),
        with_bench(the_flush_goes_by_slices),
        with_bench(how_long_it_took_is_known_once_all_have_it),
        with_bench(who_overflows_is_closed_with_4413),
        with_bench(the_queue_may_be_filled_to_its_last_byte),
        with_bench(a_begun_frame_is_finished_before_the_close),
        with_bench(at_all_and_at_conn_close_who_overflows_too),
        with_bench(what_fits_in_no_queue_is_dropped_alone),
        with_bench(an_overflow_does_not_stop_reading),
        with_bench(a_gap_is_told_to_json_members_of_each_room),
        with_bench(a_gap_comes_once_a_room),
        with_bench(who_has_no_room_for_a_gap_is_closed),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
