// Connections: reading by phases, pausing, lingering, ending, and the slots that they leave.
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>
extern "C" {
#include <cmocka.h>
}

#include "relay/admission.h"
#include "shard_bench.h"

using namespace belfry;

namespace {

// A phase of lines: takes whole ones and notes what it was given. "!" pauses, "<" goes on in another phase, "." ends.
std::string taken, others_taken, ended;
int closes, deadlines, flushes;

char *other_bytes(conn *, char *begin, char *end) {
    others_taken.append(begin, end);
    return end;
}
void note_eof(conn *c, const char *) {
    ended += "eof ";
    conn_abort(c);
}
void note_deadline(conn *) {
    deadlines++;
}
void note_close(conn *) {
    closes++;
}
void note_flushed(conn *) {
    flushes++;
}
const conn_phase other_phase = {"other", other_bytes, note_eof, note_deadline, nullptr, nullptr};

char *line_bytes(conn *c, char *begin, char *end) {
    for (char *at = begin; at < end; at++) {
        if (*at != '\n') continue;
        taken.append(begin, at + 1);
        if (*begin == '!') conn_pause(c);
        if (*begin == '<') conn_set_phase(c, &other_phase);
        if (*begin == '.') conn_linger(c);
        return at + 1;
    }
    return begin;
}
const conn_phase line_phase = {"line", line_bytes, note_eof, note_deadline, note_close, note_flushed};

int begin(void **state) {
    bench_begin(state);
    taken = others_taken = ended = "";
    closes = deadlines = flushes = 0;
    the_shard()->first_phase = &line_phase;
    return 0;
}

bool queue_text(const test_client &c, const std::string &bytes) {
    return conn_send(c.at, frame_copy(bytes));
}

// The socket takes no more; what was queued is far larger than it.
constexpr size_t much = 4 << 20;
void block(const test_client &c) {
    conn_set_send_queue(c.at, 2 * much);
    assert_true(queue_text(c, std::string(much, 'x')));
    turn();
    turn();
    assert_true(c.at->blocked);
    assert_true(c.at->outq.count > 0);
}

// All that comes while the socket drains, at least `size` bytes.
std::string drain(const test_client &c, size_t size) {
    std::string got;
    for (int i = 0; i < 1000 && got.size() < size; i++) {
        got += received(c);
        turn();
    }
    return got;
}

void assert_freed_after(uint64_t ms) {
    uint32_t live = the_shard()->live;
    advance(ms - 1);
    assert_int_equal(the_shard()->live, live);
    advance(101); // a tick later at the most
    assert_int_equal(the_shard()->live, 0);
}

// ---------------------------------------------------------------- accept

void an_accepted_connection_is_counted_and_found(void **) {
    test_client c = connect_client();
    assert_int_equal(the_shard()->count.accepted, 1);
    assert_int_equal(the_shard()->live, 1);
    assert_int_equal(bench->live.load(), 1);
    assert_string_equal(conn_peer_text(c.at).text, "unix:");
    conn_id id = conn_id_of(c.at);
    assert_ptr_equal(conn_find(the_shard(), id), c.at);
    assert_null(conn_find(the_shard(), {id.worker, id.slot, id.tag ^ 1}));
    assert_null(conn_find(the_shard(), {static_cast<uint8_t>(id.worker ^ 1), id.slot, id.tag}));
    assert_null(conn_find(the_shard(), {id.worker, the_shard()->slot_count, id.tag}));
}

void slots_are_used_again_with_new_tags(void **) {
    test_client a = connect_client(), b = connect_client();
    conn_id first = conn_id_of(a.at), second = conn_id_of(b.at);
    assert_int_not_equal(first.slot, second.slot);
    conn_abort(a.at);
    assert_null(conn_find(the_shard(), first)); // at once, before it is freed
    assert_int_equal(the_shard()->live, 2);
    turn();
    assert_int_equal(the_shard()->live, 1);
    assert_int_equal(bench->live.load(), 1);
    test_client again = connect_client();
    conn_id third = conn_id_of(again.at);
    assert_int_equal(third.slot, first.slot);
    assert_true(third.tag != first.tag);
    assert_null(conn_find(the_shard(), first));
    assert_ptr_equal(conn_find(the_shard(), third), again.at);
    assert_ptr_equal(conn_find(the_shard(), second), b.at);
}

void slots_grow(void **) {
    constexpr uint32_t many = 300; // more than the first 256
    for (uint32_t i = 0; i < many; i++)
        assert_int_equal(connect_client().at->slot, i);
    for (uint32_t i = 0; i < many; i++)
        conn_abort(the_shard()->conns[i]);
    turn();
    assert_int_equal(the_shard()->free_count, many);
    assert_int_equal(the_shard()->live, 0);
    connect_client();
    assert_int_equal(the_shard()->slot_count, many);
}

// ---------------------------------------------------------------- reading

void what_is_left_over_comes_again_with_more_behind_it(void **) {
    test_client c = connect_client();
    send_bytes(c, "one\ntw");
    assert_bytes(taken, "one\n");
    assert_int_equal(c.at->rest.size, 2);
    send_bytes(c, "o\nthree\n");
    assert_bytes(taken, "one\ntwo\nthree\n");
    assert_int_equal(c.at->rest.capacity, 0); // no memory while idle
    assert_int_equal(the_shard()->count.bytes_in, 14);
    send_bytes(c, "<\nrest"); // to the next phase
    assert_bytes(taken, "one\ntwo\nthree\n<\n");
    assert_bytes(others_taken, "rest");
}

void a_pause_stops_and_a_resume_feeds_the_rest(void **) {
    test_client c = connect_client();
    send_bytes(c, "!\n!\nthr");
    assert_bytes(taken, "!\n");
    send_bytes(c, "ee\n");
    turn();
    assert_bytes(taken, "!\n"); // nothing is read
    conn_resume(c.at);
    assert_bytes(taken, "!\n"); // nor fed by the call itself
    turn();
    assert_bytes(taken, "!\n!\n"); // it paused again
    conn_resume(c.at);
    turn(); // the socket brings nothing
    assert_bytes(taken, "!\n!\nthree\n");
    send_bytes(c, "!\nrest\n");
    conn_resume(c.at);
    conn_abort(c.at); // before its rest is fed
    turn();
    assert_bytes(taken, "!\n!\nthree\n!\n");
    assert_int_equal(the_shard()->live, 0);
}

// ---------------------------------------------------------------- the PROXY header

const std::string v1 = "PROXY TCP4 192.0.2.7 198.51.100.1 4000 443\r\n";

void the_proxy_header_names_the_client(void **) {
    bench->settings.listeners[0].proxy_protocol = true;
    test_client c = connect_client();
    send_bytes(c, v1 + "one\n");
    turn();
    assert_bytes(taken, "one\n");
    assert_string_equal(conn_peer_text(c.at).text, "192.0.2.7");
}

void a_proxy_header_may_come_byte_by_byte(void **) {
    bench->settings.listeners[0].proxy_protocol = true;
    test_client c = connect_client();
    for (char byte : v1)
        send_bytes(c, std::string(1, byte));
    assert_int_equal(c.at->rest.capacity, 0);
    send_bytes(c, "one\n");
    assert_bytes(taken, "one\n");
    assert_string_equal(conn_peer_text(c.at).text, "192.0.2.7");
}

void without_its_proxy_header_a_connection_is_dropped(void **) {
    errno = 0;
    bench->settings.listeners[0].proxy_protocol = true;
    test_client other = connect_client(), half = connect_client(), gone = connect_client();
    send_bytes(other, "one\n");
    char one;
    assert_true(recv(other.fd, &one, 1, MSG_DONTWAIT) <= 0 && errno != EAGAIN); // an end, or a reset: nobody read it
    assert_int_equal(the_shard()->count.refused[refuse_preface], 1);
    send_bytes(half, "PROXY TCP4");
    shutdown(gone.fd, SHUT_WR);
    turn();
    assert_true(at_end(gone));
    assert_int_equal(the_shard()->count.refused[refuse_gone], 1);
    assert_false(at_end(half));
    advance(10100);
    assert_true(at_end(half));
    assert_int_equal(the_shard()->count.refused[refuse_timeout], 1);
    assert_bytes(taken, "");
    assert_int_equal(the_shard()->live, 0);
}

void the_phase_hears_that_all_is_written(void **) {
    test_client c = connect_client();
    assert_true(conn_send(c.at, frame_copy("hello")));
    assert_int_equal(flushes, 0);
    turn();
    assert_int_equal(flushes, 1);
    assert_bytes(received(c), "hello");
    conn_flush(c.at);
    turn();
    assert_true(conn_send(c.at, frame_copy(std::string(60000, 'x'))));
    turn();
    assert_true(flushes >= 2);
}

// ---------------------------------------------------------------- the end of the client's side

void an_end_comes_behind_the_last_bytes(void **) {
    test_client c = connect_client();
    send_bytes(c, "!\none\nhalf");
    shutdown(c.fd, SHUT_WR);
    turn();
    assert_bytes(ended, ""); // it is paused
    conn_resume(c.at);
    turn();
    turn();
    assert_bytes(taken, "!\none\n");
    assert_bytes(ended, "eof ");
    assert_int_equal(closes, 1);
    assert_true(at_end(c));
    assert_int_equal(the_shard()->live, 0);
}

// Nobody reads past it: each phase ends the connection in its way.
void an_end_in_each_phase_is_an_end(void **) {
    test_client lines = connect_client(), other = connect_client(), websocket = open_client(form_raw);
    test_client lingering = connect_client();
    the_shard()->first_phase = &head_phase;
    test_client head = connect_client();
    conn_set_phase(other.at, &other_phase);
    conn_linger(lingering.at);
    for (test_client each : {lines, other, websocket, lingering, head})
        shutdown(each.fd, SHUT_WR);
    turn();
    assert_bytes(ended, "eof eof ");
    assert_int_equal(the_shard()->live, 0);
    assert_int_equal(closed_with(1006), 1);
    assert_int_equal(the_shard()->count.refused[refuse_gone], 1);
    for (test_client each : {lines, other, websocket, lingering, head})
        assert_true(at_end(each));
}

// ---------------------------------------------------------------- TLS that does not begin

// max_handshakes is none, so that the first byte only puts it into the queue; nothing looks into the context then.
void who_waits_for_tls_is_closed_at_its_deadline(void **) {
    char nothing;
    bench->settings.listeners[0].context = reinterpret_cast<tls_context *>(&nothing);
    test_client waiting = connect_client(), silent = connect_client();
    send_bytes(waiting, "\x16");
    assert_false(list_empty(&the_shard()->tls_waiting));
    assert_false(conn_may_start(the_shard()));
    assert_freed_after(10000);
    assert_true(list_empty(&the_shard()->tls_waiting));
    assert_true(at_end(silent));
    assert_int_equal(the_shard()->count.refused[refuse_tls_timeout], 2);
    assert_int_equal(the_shard()->tls_under_way, 0);
}

// ---------------------------------------------------------------- writing

void a_queue_is_bounded(void **) {
    test_client c = connect_client();
    conn_set_send_queue(c.at, 1000);
    // An answer may take one control frame (125 bytes) and its cost more than a delivery.
    assert_true(queue_text(c, std::string(1000 + 125, 'a')));
    assert_false(queue_text(c, "b"));
    frame *f = frame_copy("c");
    assert_false(conn_deliver(c.at, f));
    frame_unref(f);
    turn();
    assert_bytes(received(c), std::string(1125, 'a'));
    assert_false(queue_text(c, std::string(1126, 'd')));
}

void to_who_is_over_nothing_is_owed(void **) {
    test_client closed = connect_client(), shut = connect_client();
    conn_abort(closed.at);
    conn_linger(shut.at);
    assert_true(queue_text(closed, "x"));
    assert_true(queue_text(shut, "x"));
    turn();
    assert_bytes(received(shut), "");
    assert_true(at_end(shut));
}

void a_full_socket_is_written_when_it_drains(void **) {
    test_client c = connect_client();
    block(c);
    assert_null(the_shard()->dirty_first); // the writable event flushes, no turn is spent on it
    assert_true(queue_text(c, "end"));
    assert_null(the_shard()->dirty_first);
    assert_bytes(drain(c, much + 3), std::string(much, 'x') + "end");
    assert_int_equal(the_shard()->count.bytes_out, much + 3);
    assert_false(c.at->blocked);
}

void a_client_that_takes_nothing_more_is_closed(void **) {
    test_client c = connect_client();
    shutdown(c.fd, SHUT_RD); // writing fails with EPIPE
    assert_true(queue_text(c, "x"));
    turn();
    assert_int_equal(the_shard()->live, 0);
    assert_int_equal(the_shard()->count.dropped[drop_closing], 1);
    assert_int_equal(closes, 1);
}

// ---------------------------------------------------------------- lingering

void a_linger_writes_then_shuts_then_waits(void **) {
    test_client c = connect_client();
    assert_true(queue_text(c, "last words"));
    send_bytes(c, ".\nnot a line for anybody\n");
    assert_bytes(taken, ".\n");
    assert_int_equal(closes, 1);
    assert_bytes(received(c), "last words");
    assert_true(at_end(c));
    send_bytes(c, "thrown away\n"); // no reset comes of it
    assert_bytes(taken, ".\n");
    assert_int_equal(the_shard()->live, 1);
    conn_linger(c.at); // a second call changes nothing
    shutdown(c.fd, SHUT_WR);
    turn();
    assert_int_equal(the_shard()->live, 0);
    assert_int_equal(closes, 1);
    assert_bytes(ended, "");
    assert_int_equal(the_shard()->count.dropped[drop_closing], 0);
}

void a_linger_ends_after_2_s_or_5_with_a_queue(void **) {
    conn_linger(connect_client().at);
    assert_freed_after(2000);
    test_client c = connect_client();
    block(c);
    conn_linger(c.at);
    assert_freed_after(5000);
    assert_int_equal(the_shard()->count.dropped[drop_closing], 1);
    assert_int_equal(deadlines, 0);
}

// The client's side has ended, but it may still read: all is written first.
void a_linger_after_the_clients_end_still_writes_all(void **) {
    test_client c = connect_client();
    block(c);
    conn_linger(c.at);
    shutdown(c.fd, SHUT_WR);
    turn();
    assert_int_equal(the_shard()->live, 1);
    assert_int_equal(drain(c, much).size(), much);
    assert_int_equal(the_shard()->live, 0); // both sides have ended
}

void a_linger_throws_4_mib_away_at_the_most(void **) {
    test_client c = connect_client();
    conn_linger(c.at);
    const std::string some(65536, 'x');
    for (int i = 0; i < 200; i++) {
        (void)!send(c.fd, some.data(), some.size(), MSG_NOSIGNAL);
        turn();
    }
    assert_true(c.at->paused);
    assert_true(c.at->lingered > 4 << 20 && c.at->lingered <= (4 << 20) + loop_headroom + loop_receive_size);
    assert_int_equal(the_shard()->live, 1); // no reset
    advance(2100);
    assert_int_equal(the_shard()->live, 0);
}

// ---------------------------------------------------------------- aborting

void an_abort_frees_at_the_end_of_the_turn(void **) {
    test_client c = connect_client();
    assert_true(queue_text(c, "never sent"));
    assert_true(queue_text(c, "nor this"));
    send(c.fd, "half", 4, MSG_NOSIGNAL);
    conn_abort(c.at);
    conn_abort(c.at); // a second call changes nothing
    assert_int_equal(closes, 1);
    conn_bury(the_shard());
    assert_int_equal(the_shard()->live, 1); // it stands in the dirty list: after the flush
    turn();
    assert_int_equal(the_shard()->live, 0);
    assert_int_equal(the_shard()->conn_slab.live, 0);
    assert_int_equal(the_shard()->chunk_slab.live, 0);
    assert_int_equal(the_shard()->wheel.armed, 0);
    assert_int_equal(the_shard()->count.dropped[drop_closing], 2);
    advance(20000);
    assert_int_equal(deadlines, 0);
}

void a_deadline_replaces_the_one_before(void **) {
    test_client c = connect_client();
    conn_set_deadline(c.at, 500);
    conn_set_deadline(c.at, 3000);
    advance(2999);
    assert_int_equal(deadlines, 0);
    advance(101);
    assert_int_equal(deadlines, 1);
    advance(20000);
    assert_int_equal(deadlines, 1);
}

} // namespace

#define with_bench(test) cmocka_unit_test_setup_teardown(test, begin, bench_end)

int main() {
    const CMUnitTest tests[] = {
        with_bench(an_accepted_connection_is_counted_and_found),
        with_bench(slots_are_used_again_with_new_tags),
        with_bench(slots_grow),
        with_bench(what_is_left_over_comes_again_with_more_behind_it),
        with_bench(a_pause_stops_and_a_resume_feeds_the_rest),
        with_bench(the_proxy_header_names_the_client),
        with_bench(a_proxy_header_may_come_byte_by_byte),
        with_bench(without_its_proxy_header_a_connection_is_dropped),
        with_bench(the_phase_hears_that_all_is_written),
        with_bench(an_end_comes_behind_the_last_bytes),
        with_bench(an_end_in_each_phase_is_an_end),
        with_bench(who_waits_for_tls_is_closed_at_its_deadline),
        with_bench(a_queue_is_bounded),
        with_bench(to_who_is_over_nothing_is_owed),
        with_bench(a_full_socket_is_written_when_it_drains),
        with_bench(a_client_that_takes_nothing_more_is_closed),
        with_bench(a_linger_writes_then_shuts_then_waits),
        with_bench(a_linger_ends_after_2_s_or_5_with_a_queue),
        with_bench(a_linger_after_the_clients_end_still_writes_all),
        with_bench(a_linger_throws_4_mib_away_at_the_most),
        with_bench(an_abort_frees_at_the_end_of_the_turn),
        with_bench(a_deadline_replaces_the_one_before),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
