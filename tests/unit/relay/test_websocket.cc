// The WebSocket phase, looked at from the client's socket: closing, violations, Pings, deadlines.
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

constexpr unsigned char part = 0x01, last = 0x80, text = 0x81, binary = 0x82, close_frame = 0x88, ping = 0x89,
                        pong = 0x8a;

std::string close_payload(uint16_t code, const std::string &reason = "") {
    return std::string{static_cast<char>(code >> 8), static_cast<char>(code)} + reason;
}
std::string server_close(uint16_t code, const std::string &reason = "") {
    return server_frame(close_frame, close_payload(code, reason));
}
std::string client_close(uint16_t code, const std::string &reason = "") {
    return client_frame(close_frame, close_payload(code, reason));
}

// Where everybody may publish.
test_client open_in_room() {
    room_rule rule = {};
    rule.pattern = "*";
    rule.join = rule.publish = right_anyone;
    bench->settings.rooms = {rule};
    test_client c = open_client(form_raw);
    enter(c.at, "news");
    letters();
    return c;
}

// ---------------------------------------------------------------- the closing handshake

void the_peers_close_is_echoed(void **) {
    test_client c = open_client(form_raw);
    send_bytes(c, client_close(1000, "bye") + client_frame(ping, "late"));
    assert_bytes(received(c), server_close(1000)); // the code without the reason, and nothing behind it
    assert_true(at_end(c));
    assert_int_equal(closed_with(1000), 1);
    assert_true(letters().empty()); // nothing was published: no fence
    assert_int_equal(the_shard()->live, 1);
    shutdown(c.fd, SHUT_WR);
    turn();
    assert_int_equal(the_shard()->live, 0);
}

void a_close_without_a_code_is_answered_by_one(void **) {
    test_client c = open_client(form_raw);
    send_bytes(c, client_frame(close_frame, ""));
    assert_bytes(received(c), server_frame(close_frame, ""));
    assert_true(at_end(c));
    assert_int_equal(closed_with(1005), 1);
}

void our_close_waits_for_the_peers(void **) {
    test_client c = open_in_room();
    websocket_close(c.at, 4000, "go");
    websocket_close(c.at, 4001, "a second one changes nothing");
    turn();
    assert_bytes(received(c), server_close(4000, "go"));
    assert_false(at_end(c));
    deliver(make_message("news", "1", payload_kind::any));
    send_bytes(c, client_frame(text, "ignored") + client_frame(ping, "x"));
    assert_bytes(received(c), "");
    assert_true(letters().empty());
    send_bytes(c, client_close(1000));
    assert_bytes(received(c), "");
    assert_true(at_end(c));
    assert_int_equal(closed_with(4000), 1);
    assert_int_equal(closed_with(1000), 0);
}

void a_peer_that_does_not_close_is_left_after_5_s(void **) {
    test_client c = open_client(form_raw);
    websocket_close(c.at, 4000, "");
    turn();
    assert_bytes(received(c), server_close(4000));
    advance(4999);
    assert_false(at_end(c));
    advance(101);
    assert_true(at_end(c));
    assert_int_equal(the_shard()->live, 1); // lingers 2 s
    advance(2100);
    assert_int_equal(the_shard()->live, 0);
}

void a_long_reason_is_cut_to_a_control_frames_size(void **) {
    test_client c = open_client(form_raw);
    websocket_close(c.at, 4000, std::string(200, 'r'));
    turn();
    assert_bytes(received(c), server_close(4000, std::string(123, 'r')));
}

void an_end_without_a_close_counts_as_1006(void **) {
    test_client c = open_in_room();
    shutdown(c.fd, SHUT_WR);
    turn();
    assert_bytes(received(c), "");
    assert_true(at_end(c));
    assert_int_equal(closed_with(1006), 1);
    assert_int_equal(the_shard()->live, 0);
    assert_int_equal(the_shard()->rooms.count, 0);
}

// ---------------------------------------------------------------- violations

void assert_violation(const std::string &bytes, uint16_t code, const std::string &why) {
    uint64_t before = closed_with(code);
    test_client c = open_client(form_raw);
    send_bytes(c, bytes + client_frame(ping, "not read any more"));
    assert_bytes(received(c), server_close(code, why));
    assert_true(at_end(c));
    assert_int_equal(closed_with(code) - before, 1);
    assert_int_equal(the_shard()->count.pings_in, 0);
}

void violations_close(void **) {
    bench->way.max_message = 10;
    assert_violation(server_frame(text, "x"), 1002, "an unmasked frame (RFC 6455 5.1)");
    assert_violation(client_frame(0xc1, "x"), 1002,
                     "a reserved bit is set, but no extension was agreed on (RFC 6455 5.2)");
    assert_violation(client_frame(0x83, "x"), 1002, "a reserved opcode (RFC 6455 5.2)");
    assert_violation(client_frame(last, "x"), 1002,
                     "a continuation frame without a message to continue (RFC 6455 5.4)");
    assert_violation(client_frame(0x09, "x"), 1002, "a fragmented control frame (RFC 6455 5.5)");
    assert_violation(client_frame(close_frame, "x"), 1002, "a close frame with half a code (RFC 6455 5.5.1)");
    assert_violation(client_close(1006), 1002, "a close code that may not be sent (RFC 6455 7.4)");
    assert_violation(client_frame(text, "\xff"), 1007, "text that is not UTF-8 (RFC 6455 8.1)");
    assert_violation(client_frame(binary, "01234567890"), 1009, "a message larger than this route allows");
    assert_violation(client_frame(part, "012345") + client_frame(last, "67890"), 1009,
                     "a message larger than this route allows");
}

void after_our_close_a_violation_adds_none(void **) {
    test_client c = open_client(form_raw);
    websocket_close(c.at, 4000, "");
    send_bytes(c, server_frame(text, "x"));
    assert_bytes(received(c), server_close(4000));
    assert_true(at_end(c));
    assert_int_equal(closed_with(1002), 0);
}

// ---------------------------------------------------------------- messages

void pieces_are_one_message(void **) {
    test_client c = open_in_room();
    send_bytes(c, client_frame(part, "ab") + client_frame(ping, "1") + client_frame(last, "cd"));
    send_bytes(c, client_frame(binary, ""));
    assert_int_equal(letters().size(), 2);
    assert_bytes(bench->publishes[0].payload, "abcd");
    assert_true(bench->publishes[0].kind == payload_kind::text);
    assert_bytes(bench->publishes[1].payload, "");
    assert_true(bench->publishes[1].kind == payload_kind::binary);
    assert_bytes(received(c), server_frame(pong, "1"));
    assert_int_equal(c.at->message.capacity, 0); // no memory while idle
    assert_int_equal(the_shard()->count.messages_in, 2);
}

// Nothing is dropped where the node can't follow: this client is read later.
void a_backlog_stops_reading(void **) {
    bench->way.ping_interval = 1000;
    bench->way.pong_timeout = 500;
    test_client c = open_in_room();
    the_shard()->outbox_bytes += outbox_bytes_max;
    send_bytes(c, client_frame(text, "1") + client_frame(text, "2"));
    assert_true(c.at->paused);
    assert_false(list_empty(&the_shard()->paused));
    advance(5000); // it is not silent, it is not heard
    advance(5000);
    assert_bytes(received(c), "");
    assert_int_equal(letters().size(), 1);
    the_shard()->outbox_bytes -= outbox_bytes_max;
    conn_resume(c.at);
    turn();
    assert_int_equal(letters().size(), 1);
    assert_bytes(bench->publishes[0].payload, "2");
    assert_false(c.at->paused);
}

// ---------------------------------------------------------------- the fence

void who_published_is_answered_behind_its_own_echo(void **) {
    test_client c = open_in_room();
    send_bytes(c, client_frame(text, "1") + client_close(1000) + client_frame(text, "not read"));
    assert_int_equal(letters().size(), 2);
    assert_true(bench->letters[0].type == letter_type::publish);
    assert_true(bench->letters[1].type == letter_type::fence);
    assert_bytes(received(c), "");
    deliver(make_message("news", "1", payload_kind::any)); // the echo
    for (int i = 0; i < 2; i++)
        websocket_fenced(c.at); // a second answer changes nothing
    turn();
    assert_bytes(received(c), server_frame(text, "1") + server_close(1000));
    assert_true(at_end(c));
    assert_int_equal(closed_with(1000), 1);
}

void a_violation_waits_for_the_fence_too(void **) {
    test_client c = open_in_room();
    send_bytes(c, client_frame(text, "1") + server_frame(text, "x"));
    assert_int_equal(letters().size(), 2);
    assert_bytes(received(c), "");
    websocket_fenced(c.at);
    turn();
    assert_bytes(received(c), server_close(1002, "an unmasked frame (RFC 6455 5.1)"));
    assert_true(at_end(c));
}

void a_fence_that_does_not_come_back_is_given_up_after_1_s(void **) {
    test_client c = open_in_room();
    send_bytes(c, client_frame(text, "1") + client_close(1000));
    letters();
    advance(999);
    assert_bytes(received(c), "");
    advance(101);
    assert_bytes(received(c), server_close(1000));
    assert_true(at_end(c));
}

// A slow consumer, or the backend's order, while the fence is out.
void our_close_overtakes_the_fence(void **) {
    test_client a = open_in_room(), b = open_in_room();
    send_bytes(a, client_frame(text, "1") + client_close(1000));
    send_bytes(b, client_frame(text, "1") + server_frame(text, "x"));
    letters();
    for (test_client each : {a, b}) {
        websocket_close(each.at, 4403, "");
        turn();
        assert_bytes(received(each), server_close(4403));
        assert_true(at_end(each)); // nothing more is expected of either
        websocket_fenced(each.at);
        turn();
        assert_bytes(received(each), "");
    }
    assert_int_equal(closed_with(4403), 2);
}

// ---------------------------------------------------------------- Pings

void a_ping_is_answered_with_its_payload(void **) {
    test_client c = open_client(form_raw);
    send_bytes(c, client_frame(ping, "hello") + client_frame(ping, ""));
    assert_bytes(received(c), server_frame(pong, "hello") + server_frame(pong, ""));
    send_bytes(c, client_frame(pong, "unasked"));
    assert_bytes(received(c), "");
    assert_int_equal(the_shard()->count.pings_in, 2);
}

std::string pongs(int first, int count) {
    std::string all;
    for (int i = 0; i < count; i++)
        all += server_frame(pong, std::to_string(first + i));
    return all;
}
std::string pings(int first, int count) {
    std::string all;
    for (int i = 0; i < count; i++)
        all += client_frame(ping, std::to_string(first + i));
    return all;
}

void of_a_flood_of_pings_the_latest_is_answered(void **) {
    constexpr int most = static_cast<int>(conn_pongs_max);
    test_client c = open_client(form_raw);
    send_bytes(c, pings(100, most + 4));
    assert_bytes(received(c), pongs(100, most) + pongs(100 + most + 3, 1));
    assert_int_equal(the_shard()->count.dropped[drop_pong], 3);
    assert_int_equal(the_shard()->count.pings_in, most + 4);
    send_bytes(c, pings(200, most)); // all were written: it begins anew
    assert_bytes(received(c), pongs(200, most));
    assert_int_equal(the_shard()->count.dropped[drop_pong], 3);
}

void no_pong_follows_a_close(void **) {
    constexpr int most = static_cast<int>(conn_pongs_max);
    test_client c = open_client(form_raw);
    send_bytes(c, pings(100, most + 1) + client_close(1000));
    assert_bytes(received(c), pongs(100, most) + server_close(1000));
    assert_true(at_end(c));
}

// ---------------------------------------------------------------- deadlines

void who_is_silent_is_pinged_then_closed(void **) {
    bench->way.ping_interval = 1000;
    bench->way.pong_timeout = 500;
    test_client c = open_client(form_raw);
    advance(999);
    assert_bytes(received(c), "");
    advance(101);
    assert_bytes(received(c), server_frame(ping, ""));
    assert_int_equal(the_shard()->count.pings_out, 1);
    advance(499);
    assert_bytes(received(c), "");
    advance(101);
    assert_bytes(received(c), server_close(1011, "no pong"));
    assert_true(at_end(c));
    assert_int_equal(closed_with(1011), 1);
}

void any_byte_answers_the_ping(void **) {
    bench->way.ping_interval = 1000;
    bench->way.pong_timeout = 500;
    test_client c = open_client(form_raw);
    for (int i = 0; i < 3; i++) {
        advance(1100);
        assert_bytes(received(c), server_frame(ping, ""));
        advance(400);
        send_bytes(c, client_frame(pong, "")); // 1,100 ms from here it is silent again
    }
    advance(900);
    send_bytes(c, client_frame(pong, "").substr(0, 1));
    advance(999);
    assert_bytes(received(c), "");
    assert_true(c.at->open);
    assert_int_equal(the_shard()->count.pings_out, 3);
}

void who_says_nothing_is_closed_as_idle(void **) {
    bench->way.idle_timeout = 2000;
    test_client c = open_in_room(), other = open_client(form_raw);
    advance(1500);
    send_bytes(c, client_frame(text, "1"));
    send_bytes(other, client_frame(ping, "1")); // a Ping is not a word
    letters();
    advance(600);
    assert_bytes(received(other), server_frame(pong, "1") + server_close(1001, "idle"));
    assert_bytes(received(c), "");
    advance(1399);
    assert_bytes(received(c), "");
    advance(101);
    assert_bytes(received(c), server_close(1001, "idle"));
    assert_false(at_end(c)); // its Close is awaited
    assert_int_equal(closed_with(1001), 2);
}

// ---------------------------------------------------------------- slow consumers

void a_slow_close_drops_the_queue_and_counts_it(void **) {
    test_client c = open_in_room();
    for (int i = 0; i < 3; i++)
        deliver(make_message("news", "1", payload_kind::any));
    websocket_close_slow(c.at);
    websocket_close_slow(c.at);
    turn();
    assert_bytes(received(c), server_close(4413, "slow consumer"));
    assert_int_equal(the_shard()->count.dropped[drop_slow_consumer], 3);
    assert_int_equal(closed_with(4413), 1);
}

void an_answer_that_finds_no_room_closes(void **) {
    test_client c = open_client(form_raw);
    conn_set_send_queue(c.at, 0); // ws_control_max and a frame's cost are left for an answer
    websocket_send(c.at, ws_text, std::string(100, 'a'));
    websocket_send(c.at, ws_text, "b");
    turn();
    assert_bytes(received(c), server_close(4413, "slow consumer"));
    assert_int_equal(the_shard()->count.dropped[drop_slow_consumer], 1);
    assert_false(c.at->open);
}

} // namespace

#define with_bench(test) cmocka_unit_test_setup_teardown(test, bench_begin, bench_end)

int main() {
    const CMUnitTest tests[] = {
        with_bench(the_peers_close_is_echoed),
        with_bench(a_close_without_a_code_is_answered_by_one),
        with_bench(our_close_waits_for_the_peers),
        with_bench(a_peer_that_does_not_close_is_left_after_5_s),
        with_bench(a_long_reason_is_cut_to_a_control_frames_size),
        with_bench(an_end_without_a_close_counts_as_1006),
        with_bench(violations_close),
        with_bench(after_our_close_a_violation_adds_none),
        with_bench(pieces_are_one_message),
        with_bench(a_backlog_stops_reading),
        with_bench(who_published_is_answered_behind_its_own_echo),
        with_bench(a_violation_waits_for_the_fence_too),
        with_bench(a_fence_that_does_not_come_back_is_given_up_after_1_s),
        with_bench(our_close_overtakes_the_fence),
        with_bench(a_ping_is_answered_with_its_payload),
        with_bench(of_a_flood_of_pings_the_latest_is_answered),
        with_bench(no_pong_follows_a_close),
        with_bench(who_is_silent_is_pinged_then_closed),
        with_bench(any_byte_answers_the_ping),
        with_bench(who_says_nothing_is_closed_as_idle),
        with_bench(a_slow_close_drops_the_queue_and_counts_it),
        with_bench(an_answer_that_finds_no_room_closes),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
