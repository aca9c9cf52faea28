// Slow readers, by each on_slow: looked at in the bytes that they get once they read, and in what is kept for them.
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>
extern "C" {
#include <cmocka.h>
}

#include "shard_bench.h"

#include <map>

using namespace belfry;

namespace {

constexpr uint32_t queue = 20000;
constexpr int payload_size = 100;

// A client whose socket takes hardly anything: the kernel's least, about 4 KB.
test_client narrow_client(wire_form form) {
    test_client c = open_client(form);
    int least = 1;
    assert_int_equal(setsockopt(c.at->stream.fd, SOL_SOCKET, SO_SNDBUF, &least, sizeof least), 0);
    return c;
}

int bench_slow(void **state, slow_policy policy) {
    if (bench_begin(state) != 0) return -1;
    bench->way.send_queue = queue;
    bench->way.on_slow = policy;
    bench->way.send_queue_soft_time = 10000;
    return 0;
}
int bench_close(void **state) {
    return bench_slow(state, slow_close);
}
int bench_drop_oldest(void **state) {
    return bench_slow(state, slow_drop_oldest);
}
int bench_latest(void **state) {
    return bench_slow(state, slow_latest);
}

std::string padded(int number) {
    std::string text = std::to_string(number) + ".";
    text.resize(payload_size, '0'); // "12.000", a number in JSON too
    return text;
}

void publish(view room, int number, view key = view()) {
    const std::string text = padded(number);
    frame *source = frame_copy(text);
    message_parts parts = {.room = room, .source = source, .payload = frame_view(source)};
    parts.key = key;
    message *m = message_new(&parts);
    frame_unref(source);
    fanout_deliver(the_shard(), m);
    message_unref(m);
}

// From `from` up to (not with) `to`, each in a turn of its own.
void publish_range(view room, int from, int to) {
    for (int i = from; i < to; i++) {
        publish(room, i);
        turn();
    }
}

// All that comes when the client reads until nothing more does; frames are whole, or this fails.
std::vector<std::string> read_all(const test_client &c) {
    std::string bytes;
    for (int idle = 0; idle < 3;) {
        std::string some = received(c);
        idle = some.empty() ? idle + 1 : 0;
        bytes += some;
        turn();
    }
    std::vector<std::string> all;
    for (size_t at = 0; at < bytes.size();) {
        const unsigned first = static_cast<unsigned char>(bytes[at]),
                       length = static_cast<unsigned char>(bytes[at + 1]);
        assert_true(first == 0x81 || first == 0x88 || first == 0x8a);
        size_t size = length, header = 2;
        if (length == 126) {
            size = static_cast<size_t>(static_cast<unsigned char>(bytes[at + 2]) << 8 |
                                       static_cast<unsigned char>(bytes[at + 3]));
            header = 4;
        }
        assert_true(length < 127 && at + header + size <= bytes.size());
        all.push_back(bytes.substr(at + header, size));
        at += header + size;
    }
    return all;
}

int number_of(const std::string &text) {
    const size_t data = text.find("\"data\":");
    return atoi(text.c_str() + (data == std::string::npos ? 0 : data + 7));
}

uint64_t dropped(drop_reason why) {
    return the_shard()->count.dropped[why];
}

void the_oldest_are_dropped_behind_what_is_on_its_way(void **) {
    test_client slow = narrow_client(form_raw), fast = open_client(form_raw);
    enter(slow.at, "news");
    enter(fast.at, "news");
    int arrived = 0;
    for (int i = 0; i < 1000; i++) {
        publish("news", i);
        assert_true(conn_queued(slow.at) <= queue);
        turn();
        arrived += static_cast<int>(read_all(fast).size());
    }
    assert_int_equal(arrived, 1000);
    assert_true(slow.at->blocked && slow.at->open);
    const std::vector<std::string> got = read_all(slow);
    int last = -1, holes = 0;
    for (const std::string &text : got) {
        assert_int_equal(text.size(), payload_size);
        const int number = number_of(text);
        assert_string_equal(text.c_str(), padded(number).c_str());
        assert_true(number > last);
        holes += number != last + 1;
        last = number;
    }
    assert_int_equal(last, 999);
    assert_int_equal(holes, 1); // all that is missing is missing in one place
    assert_int_equal(got.size() + dropped(drop_as_oldest), 1000);
    assert_true(got.size() > queue / 200 / 2);         // the queue is used
    assert_int_equal(the_shard()->count.slow.gaps, 0); // the raw protocol has no words for it
    assert_int_equal(slow.at->slow->dropped, dropped(drop_as_oldest));
    publish("news", 1000); // as if nothing had been
    turn();
    assert_int_equal(number_of(read_all(slow).at(0)), 1000);
}

void a_gap_is_told_where_it_is(void **) {
    test_client slow = narrow_client(form_json);
    for (view room : {view("a"), view("b"), view("quiet")})
        enter(slow.at, room);
    for (int i = 0; i < 500; i++) {
        publish("a", i);
        publish("b", i);
        turn();
    }
    const std::vector<std::string> got = read_all(slow);
    std::map<std::string, int> last = {{"a", -1}, {"b", -1}};
    std::map<std::string, bool> told;
    for (const std::string &text : got) {
        const std::string room = text.find("\"room\":\"a\"") != std::string::npos ? "a" : "b";
        if (text == "{\"type\":\"gap\",\"room\":\"" + room + "\"}") {
            assert_false(told[room]); // once
            told[room] = true;
            continue;
        }
        const int number = number_of(text);
        if (number != last[room] + 1) assert_true(told[room]); // before what is newer than the gap
        if (!told[room]) assert_int_equal(number, last[room] + 1);
        last[room] = number;
    }
    assert_true(told["a"] && told["b"] && told.size() == 2);
    assert_int_equal(last["a"], 499);
    assert_int_equal(last["b"], 499);
    assert_int_equal(got.size() - 2 + dropped(drop_as_oldest), 1000);
    assert_int_equal(the_shard()->count.slow.gaps, 2);
}

void a_second_congestion_has_a_gap_of_its_own(void **) {
    test_client slow = narrow_client(form_json);
    enter(slow.at, "a");
    for (int twice = 0; twice < 2; twice++) {
        publish_range("a", 0, 300);
        int gaps = 0;
        for (const std::string &text : read_all(slow))
            gaps += text == "{\"type\":\"gap\",\"room\":\"a\"}";
        assert_int_equal(gaps, 1);
    }
    assert_int_equal(the_shard()->count.slow.gaps, 2);
}

void messages_to_all_and_to_one_have_gaps_by_their_names(void **) {
    test_client slow = narrow_client(form_json);
    const std::string self = conn_room(slow.at);
    for (int i = 0; i < 300; i++) {
        publish("@all", i);
        publish(self, i);
        turn();
    }
    int all = 0, one = 0;
    for (const std::string &text : read_all(slow)) {
        all += text == "{\"type\":\"gap\",\"room\":\"@all\"}";
        one += text == "{\"type\":\"gap\",\"room\":\"" + self + "\"}";
    }
    assert_int_equal(all, 1);
    assert_int_equal(one, 1);
}

void who_has_left_is_told_nothing(void **) {
    test_client slow = narrow_client(form_json);
    enter(slow.at, "a");
    enter(slow.at, "b");
    publish_range("a", 0, 70);
    room_leave(the_shard(), room_membership(slow.at, "a"));
    publish_range("b", 0, 300);
    assert_true(dropped(drop_as_oldest) > 70);
    for (const std::string &text : read_all(slow))
        assert_true(text.find("gap\",\"room\":\"a\"") == std::string::npos);
}

void an_answer_finds_room(void **) {
    test_client slow = narrow_client(form_raw);
    enter(slow.at, "a");
    publish_range("a", 0, 300);
    const std::string answer = "answer" + std::string(2000, 'a');
    for (int i = 0; i < 5; i++)
        websocket_send(slow.at, ws_text, answer);
    assert_true(slow.at->open);
    assert_true(conn_queued(slow.at) <= queue + conn_frame_cost + ws_control_max);
    int answers = 0;
    for (const std::string &text : read_all(slow))
        answers += text == answer;
    assert_int_equal(answers, 5);
}

void who_asks_and_does_not_read_is_closed_by_every_policy(void **) {
    test_client slow = narrow_client(form_raw);
    enter(slow.at, "a");
    publish_range("a", 0, 50);
    assert_true(slow.at->blocked);
    for (int i = 0; i < 30 && slow.at->open; i++)
        websocket_send(slow.at, ws_text, std::string(1000, 'a'));
    assert_false(slow.at->open);
    assert_int_equal(closed_with(4413), 1);
    assert_true(dropped(drop_as_oldest) > 0); // it was tried
}

// A queue of nothing but answers has no room for a message either.
void answers_alone_fill_a_queue(void **) {
    test_client slow = narrow_client(form_raw);
    enter(slow.at, "a");
    while (!slow.at->blocked) {
        websocket_send(slow.at, ws_text, std::string(1000, 'a'));
        turn();
    }
    while (conn_queued(slow.at) + 1200 < queue)
        websocket_send(slow.at, ws_text, std::string(1000, 'a'));
    const uint64_t before = dropped(drop_as_oldest);
    publish_range("a", 0, 20);
    assert_true(slow.at->open); // the messages themselves were dropped
    assert_true(dropped(drop_as_oldest) > before);
    assert_true(conn_queued(slow.at) <= queue);
}

void what_fits_in_no_queue_is_a_gap(void **) {
    test_client c = open_client(form_json), raw = open_client(form_raw);
    enter(c.at, "a");
    enter(raw.at, "a");
    const std::string large = "\"" + std::string(queue, 'x') + "\"";
    deliver(make_message("a", large, payload_kind::any));
    publish("a", 7);
    turn();
    const std::vector<std::string> got = read_all(c);
    assert_int_equal(got.size(), 2);
    assert_string_equal(got[0].c_str(), "{\"type\":\"gap\",\"room\":\"a\"}");
    assert_int_equal(number_of(got[1]), 7);
    assert_int_equal(read_all(raw).size(), 1);
    assert_int_equal(dropped(drop_oversized), 2);
    assert_int_equal(closed_with(4413), 0);
}

void keys_last_values_stay(void **) {
    test_client slow = narrow_client(form_json);
    enter(slow.at, "prices");
    const char *keys[] = {"EUR", "USD", "GBP", "CHF", "JPY"};
    for (int i = 0; i < 3000; i++) {
        publish("prices", i, keys[i % 5]);
        assert_true(conn_queued(slow.at) <= queue);
        turn();
    }
    assert_true(slow.at->open);
    const std::vector<std::string> got = read_all(slow);
    std::map<int, int> last;
    for (const std::string &text : got) {
        assert_true(text.find("gap") == std::string::npos);
        const int number = number_of(text), key = number % 5;
        assert_true(!last.count(key) || number > last[key]); // each key's values in order
        last[key] = number;
    }
    for (int key = 0; key < 5; key++)
        assert_int_equal(last[key], 2995 + key);
    assert_int_equal(dropped(drop_as_oldest), 0);
    assert_int_equal(got.size() + dropped(drop_replaced), 3000);
    assert_int_equal(slow.at->slow->replaced, dropped(drop_replaced));
    assert_int_equal(slow.at->slow->dropped, 0);
}

void a_fast_reader_gets_every_value(void **) {
    test_client fast = open_client(form_raw);
    enter(fast.at, "prices");
    size_t got = 0;
    for (int i = 0; i < 300; i++) { // a burst: the turn comes when the shard says that a queue is half full
        publish("prices", i, "EUR");
        if (!the_shard()->pressed) continue;
        turn();
        the_shard()->pressed = false;
        got += read_all(fast).size();
    }
    turn();
    assert_int_equal(got + read_all(fast).size(), 300);
    assert_int_equal(dropped(drop_replaced), 0);
}

void messages_without_a_key_go_first(void **) {
    test_client slow = narrow_client(form_json);
    enter(slow.at, "mixed");
    publish("mixed", 0, "EUR");
    for (int i = 1; i < 600; i++) {
        publish("mixed", i);
        turn();
    }
    // As many keys as fill the queue beside them: none is lost as long as there is something else to drop.
    for (int i = 600; i < 650; i++) {
        publish("mixed", i, std::to_string(i));
        publish("mixed", 1000 + i);
        turn();
    }
    std::map<int, int> seen;
    int gaps = 0;
    for (const std::string &text : read_all(slow)) {
        gaps += text.find("gap") != std::string::npos;
        seen[number_of(text)]++;
    }
    for (int i = 600; i < 650; i++)
        assert_int_equal(seen[i], 1);
    assert_true(gaps >= 1);
    assert_true(dropped(drop_as_oldest) > 400);
}

void the_same_key_in_two_rooms_is_two(void **) {
    test_client slow = narrow_client(form_raw);
    enter(slow.at, "x");
    enter(slow.at, "y");
    for (int i = 0; i < 1000; i++) {
        publish(i % 2 ? "x" : "y", i, "K");
        turn();
    }
    const std::vector<std::string> got = read_all(slow);
    assert_true(got.size() >= 2);
    int best[2] = {0, 0};
    for (const std::string &text : got)
        best[number_of(text) % 2] = number_of(text);
    assert_int_equal(best[0], 998);
    assert_int_equal(best[1], 999);
}

void what_closes_is_counted_by_its_limit(void **) {
    bench->way.send_queue_soft = 5000;
    test_client hard = narrow_client(form_raw), soft = narrow_client(form_raw);
    enter(hard.at, "a");
    publish_range("a", 0, 300);
    assert_int_equal(closed_with(4413), 1);
    assert_int_equal(the_shard()->count.slow.closed_hard, 1);
    enter(soft.at, "a");
    while (conn_queued(soft.at) <= 5000)
        publish_range("a", 0, 1);
    advance(9900);
    assert_true(soft.at->open);
    advance(300);
    assert_false(soft.at->open);
    assert_int_equal(closed_with(4413), 2);
    assert_int_equal(the_shard()->count.slow.closed_hard, 1);
    assert_int_equal(the_shard()->count.slow.closed_soft, 1);
    const std::vector<std::string> got = read_all(soft);
    assert_string_equal(got.back().c_str(), "\x11\x3dslow consumer");
}

void below_the_soft_limit_in_time_is_forgiven(void **) {
    bench->way.send_queue_soft = 5000;
    test_client c = narrow_client(form_raw);
    enter(c.at, "a");
    for (int twice = 0; twice < 2; twice++) {
        while (conn_queued(c.at) <= 5000)
            publish_range("a", 0, 1);
        assert_non_null(c.at->slow);
        advance(9000);
        read_all(c);
        assert_null(c.at->slow); // nothing is remembered of who has lost nothing
        advance(9000);
        assert_true(c.at->open);
    }
    assert_int_equal(closed_with(4413), 0);
}

// One burst, no delivery behind it: the clock runs all the same.
void the_soft_clock_starts_with_the_burst(void **) {
    bench->way.send_queue_soft = 5000;
    test_client c = narrow_client(form_raw);
    enter(c.at, "a");
    for (int i = 0; i < 95; i++)
        publish("a", i);
    advance(0);
    assert_true(conn_queued(c.at) > 5000);
    advance(10200);
    assert_false(c.at->open);
    assert_int_equal(the_shard()->count.slow.closed_soft, 1);
}

void answers_count_for_the_soft_limit(void **) {
    bench->way.send_queue_soft = 5000;
    test_client c = narrow_client(form_raw);
    for (int i = 0; i < 12; i++) {
        websocket_send(c.at, ws_text, std::string(1000, 'a'));
        turn();
    }
    advance(10200);
    assert_int_equal(the_shard()->count.slow.closed_soft, 1);
}

void at_the_soft_limit_the_oldest_go_too(void **) {
    bench->way.send_queue_soft = 8000;
    test_client c = narrow_client(form_json);
    enter(c.at, "a");
    while (conn_queued(c.at) <= 8000)
        publish_range("a", 0, 1);
    const uint32_t before = c.at->outq.count;
    advance(9800);
    assert_int_equal(c.at->outq.count, before);
    advance(400);
    assert_true(c.at->open);
    assert_true(conn_queued(c.at) <= 8000);
    assert_true(dropped(drop_as_oldest) > 0);
    assert_int_equal(the_shard()->count.slow.gaps, 1);
    while (conn_queued(c.at) <= 8000) // the clock starts anew
        publish_range("a", 0, 1);
    const uint64_t once = dropped(drop_as_oldest);
    advance(10200);
    assert_true(dropped(drop_as_oldest) > once);
    assert_int_equal(the_shard()->count.slow.gaps, 1); // the first one still waits
}

void at_the_soft_limit_newer_values_replace(void **) {
    bench->way.send_queue_soft = 8000;
    test_client c = narrow_client(form_json);
    enter(c.at, "a");
    while (conn_queued(c.at) <= 8000) {
        publish("a", 1, "K");
        turn();
    }
    advance(10200);
    assert_true(dropped(drop_replaced) > 0);
    assert_int_equal(dropped(drop_as_oldest), 0);
}

void closing_drops_the_record(void **) {
    bench->way.send_queue_soft = 5000;
    test_client c = narrow_client(form_json);
    enter(c.at, "a");
    publish_range("a", 0, 300);
    assert_non_null(c.at->slow);
    conn_abort(c.at); // AddressSanitizer tells of what is left
    advance(20000);
    assert_int_equal(the_shard()->count.slow.closed_soft, 0);
}

} // namespace

#define with_bench(test, begin) cmocka_unit_test_setup_teardown(test, begin, bench_end)

int main() {
    const CMUnitTest tests[] = {
        with_bench(the_oldest_are_dropped_behind_what_is_on_its_way, bench_drop_oldest),
        with_bench(a_gap_is_told_where_it_is, bench_drop_oldest),
        with_bench(a_second_congestion_has_a_gap_of_its_own, bench_drop_oldest),
        with_bench(messages_to_all_and_to_one_have_gaps_by_their_names, bench_drop_oldest),
        with_bench(who_has_left_is_told_nothing, bench_drop_oldest),
        with_bench(an_answer_finds_room, bench_drop_oldest),
        with_bench(an_answer_finds_room, bench_latest),
        with_bench(who_asks_and_does_not_read_is_closed_by_every_policy, bench_drop_oldest),
        with_bench(who_asks_and_does_not_read_is_closed_by_every_policy, bench_latest),
        with_bench(answers_alone_fill_a_queue, bench_drop_oldest),
        with_bench(answers_alone_fill_a_queue, bench_latest),
        with_bench(what_fits_in_no_queue_is_a_gap, bench_close),
        with_bench(what_fits_in_no_queue_is_a_gap, bench_drop_oldest),
        with_bench(what_fits_in_no_queue_is_a_gap, bench_latest),
        with_bench(keys_last_values_stay, bench_latest),
        with_bench(a_fast_reader_gets_every_value, bench_latest),
        with_bench(messages_without_a_key_go_first, bench_latest),
        with_bench(the_same_key_in_two_rooms_is_two, bench_latest),
        with_bench(the_oldest_are_dropped_behind_what_is_on_its_way, bench_latest),
        with_bench(a_gap_is_told_where_it_is, bench_latest),
        with_bench(what_closes_is_counted_by_its_limit, bench_close),
        with_bench(below_the_soft_limit_in_time_is_forgiven, bench_close),
        with_bench(below_the_soft_limit_in_time_is_forgiven, bench_drop_oldest),
        with_bench(below_the_soft_limit_in_time_is_forgiven, bench_latest),
        with_bench(the_soft_clock_starts_with_the_burst, bench_close),
        with_bench(answers_count_for_the_soft_limit, bench_close),
        with_bench(at_the_soft_limit_the_oldest_go_too, bench_drop_oldest),
        with_bench(at_the_soft_limit_newer_values_replace, bench_latest),
        with_bench(closing_drops_the_record, bench_drop_oldest),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
