// Goodbyes: their pace over several workers, who gets one, in which order, and what becomes of those who don't go.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
extern "C" {
#include <cmocka.h>
}

#include "relay/drain.h"
#include "shard_bench.h"

#include <pthread.h>

using namespace belfry;

namespace {

constexpr uint64_t ms = 1'000'000; // ns

// ---- the pace ----

uint32_t claims(drain_pace *p, const rate *r, uint64_t now_ns) {
    uint32_t n = 0;
    while (n < 100000 && drain_pace_claim(p, r, now_ns))
        n++;
    return n;
}

void goodbyes_are_evenly_spaced(void **) {
    const rate r = {500, 1000, 500};
    drain_pace p = {};
    drain_pace_begin(&p, &r, 5000 * ms);
    assert_int_equal(claims(&p, &r, 5000 * ms), 1); // nothing was saved up
    assert_int_equal(claims(&p, &r, 5001 * ms), 0);
    assert_int_equal(claims(&p, &r, 5002 * ms), 1);
    assert_int_equal(claims(&p, &r, 5102 * ms), 50);
    assert_int_equal(claims(&p, &r, 5102 * ms), 0);
}

// A worker whose turn took long makes up for it, but not for minutes.
void what_was_missed_is_made_up_for_within_bounds(void **) {
    const rate r = {500, 1000, 500};
    drain_pace p = {};
    drain_pace_begin(&p, &r, 5000 * ms);
    assert_int_equal(claims(&p, &r, 5200 * ms), 101);
    assert_int_equal(claims(&p, &r, 65200 * ms), 126); // drain_slack_ns
    drain_pace_begin(&p, &r, 70000 * ms);              // another drain
    assert_int_equal(claims(&p, &r, 70000 * ms), 1);
    drain_pace_begin(&p, &r, 69000 * ms); // a worker whose clock is behind takes nothing back
    assert_int_equal(claims(&p, &r, 70000 * ms), 0);
}

void slow_rates_and_none(void **) {
    const rate none = {}, slow = {2, 60000, 2};
    drain_pace p = {};
    drain_pace_begin(&p, &none, 5000 * ms);
    assert_int_equal(claims(&p, &none, 5000 * ms), 100000);
    drain_pace_begin(&p, &slow, 95000 * ms);
    assert_int_equal(claims(&p, &slow, 95000 * ms), 1);
    assert_int_equal(claims(&p, &slow, 124999 * ms), 0);
    assert_int_equal(claims(&p, &slow, 125000 * ms), 1);
}

// A reload may have brought another rate: the one in force counts.
void a_new_rate_is_felt_at_once(void **) {
    const rate slow = {1, 3600000, 1}, quick = {10, 1000, 10};
    drain_pace p = {};
    drain_pace_begin(&p, &slow, 7200000 * ms);
    assert_int_equal(claims(&p, &slow, 7200000 * ms), 1);
    assert_int_equal(claims(&p, &quick, 7200099 * ms), 0);
    assert_int_equal(claims(&p, &quick, 7200100 * ms), 1);
}

struct racer {
    drain_pace *pace; // borrowed
    rate speed;
    uint64_t end_ns;
    uint64_t said;
    pthread_t thread;
};

void *race(void *context) {
    auto *r = static_cast<racer *>(context);
    for (uint64_t now; (now = clock_monotonic_ns()) < r->end_ns;)
        if (drain_pace_claim(r->pace, &r->speed, now)) r->said++;
    return nullptr;
}

// All of them together say no more than one alone might.
void workers_share_the_rate(void **) {
    drain_pace p = {};
    racer all[4];
    const uint64_t begin = clock_monotonic_ns(), end = begin + 200 * ms;
    const rate speed = {20000, 1000, 20000};
    drain_pace_begin(&p, &speed, begin);
    for (racer &r : all) {
        r = {&p, speed, end, 0, {}};
        assert_int_equal(pthread_create(&r.thread, nullptr, race, &r), 0);
    }
    uint64_t said = 0;
    for (racer &r : all) {
        pthread_join(r.thread, nullptr);
        said += r.said;
    }
    assert_true(said <= 4001);
    assert_true(said >= 100); // unless nobody was given a turn for most of the time
}

void the_return_is_spread_over_what_the_rest_needs(void **) {
    const rate r = {500, 1000, 500}, none = {};
    assert_int_equal(drain_spread_ms(5000, &r), 10000);
    assert_int_equal(drain_spread_ms(10, &r), 1000);
    assert_int_equal(drain_spread_ms(-3, &r), 1000);
    assert_int_equal(drain_spread_ms(INT64_MAX, &r), 60000);
    assert_int_equal(drain_spread_ms(1000000, &none), 1000);
}

// ---- a shard's part ----

drain_pace pace;

int begin(void **state) {
    const int failed = bench_begin(state);
    pace.last_ns = 0;
    pace.left = 0;
    the_shard()->pace = &pace;
    return failed;
}

// As the worker's turn.
void pass(uint64_t later_ms) {
    advance(later_ms);
    if (the_shard()->drain) drain_turn(the_shard());
    turn();
}

const drain_counters *counted() {
    return &the_shard()->count.drain;
}

std::string close_frame(const char *reason) {
    return server_frame(0x88, std::string("\x03\xf4") + reason); // 1012
}

// The object of a bye, with the Close behind it; fails where it is anything else.
void assert_goodbye(const std::string &got, const char *reason) {
    const std::string begins =
        "{\"type\":\"bye\",\"code\":4503,\"reason\":\"" + std::string(reason) + "\",\"reconnect\":true,\"after_ms\":";
    assert_true(got.size() > 2 + begins.size());
    assert_bytes(got.substr(2, begins.size()), begins);
    const size_t end = got.find('}');
    assert_true(end != std::string::npos);
    assert_bytes(got.substr(end + 1), close_frame(reason));
    assert_true(std::stoul(got.substr(2 + begins.size())) < drain_spread_min_ms);
}

void goodbye_comes_behind_what_was_queued(void **) {
    test_client json = open_client(form_json), raw = open_client(form_raw);
    enter(json.at, "r");
    deliver(make_message("r", "1", payload_kind::json));
    drain_begin(the_shard(), drain_scope::all);
    pass(0);
    const std::string got = received(json), first = json_message("r", "1");
    assert_bytes(got.substr(0, first.size()), first);
    assert_goodbye(got.substr(first.size()), "restarting");
    assert_bytes(received(raw), close_frame("restarting"));
    assert_true(the_shard()->draining);
    assert_int_equal(counted()->said, 2);
    assert_int_equal(counted()->closed, 0);
    send_bytes(json, client_frame(0x88, "\x03\xf4"));
    close(raw.fd);
    bench->sockets.pop_back();
    pass(0);
    assert_true(at_end(json));
    pass(6000);
    pass(3000);
    assert_int_equal(counted()->closed, 2);
    assert_int_equal(the_shard()->live, 0);
}

void sessions_go_at_the_rate(void **) {
    bench->settings.drain_rate = {10, 1000, 10};
    for (int i = 0; i < 8; i++)
        open_client(form_json);
    pace.left = 8;
    drain_begin(the_shard(), drain_scope::all);
    pass(0);
    assert_int_equal(counted()->said, 1);
    pass(99);
    assert_int_equal(counted()->said, 1);
    pass(1);
    assert_int_equal(counted()->said, 2);
    pass(200);
    assert_int_equal(counted()->said, 4);
    assert_false(drain_busy(the_shard()));
    assert_int_equal(pace.left.load(), 4);
    for (int i = 0; i < 10; i++)
        pass(100);
    assert_int_equal(counted()->said, 8);
    assert_int_equal(pace.left.load(), 0);
}

void a_turn_says_no_more_than_a_slice(void **) {
    bench->settings.drain_rate = {};
    for (int i = 0; i < 600; i++)
        open_client(form_raw);
    drain_begin(the_shard(), drain_scope::all);
    pass(0);
    assert_int_equal(counted()->said, drain_slice);
    assert_true(drain_busy(the_shard()));
    pass(0);
    pass(0);
    assert_int_equal(counted()->said, 600);
    assert_false(drain_busy(the_shard()));
}

void who_has_asked_nothing_is_not_waited_for(void **) {
    bench->settings.drain_rate = {1, 60000, 1};
    open_client(form_raw);
    test_client silent = connect_client();
    drain_begin(the_shard(), drain_scope::all);
    pass(0);
    pass(0);
    assert_true(at_end(silent));
    assert_int_equal(the_shard()->live, 1);
}

// Who comes out of a waiting request later is found, too.
void rounds_go_on(void **) {
    drain_begin(the_shard(), drain_scope::all);
    pass(0);
    test_client late = open_client(form_raw);
    pass(100);
    assert_bytes(received(late), "");
    pass(1000);
    assert_bytes(received(late), close_frame("restarting"));
}

// ---- what takes longer ----

void an_answer_that_is_waited_for_comes_first(void **) {
    test_client c = open_client(form_json);
    enter(c.at, "r");
    conn_hold(c.at); // as a hook does
    drain_begin(the_shard(), drain_scope::all);
    pass(0);
    send_bytes(c, client_frame(0x81, "{\"type\":\"ping\",\"id\":1}"));
    pass(0);
    assert_bytes(received(c), "");
    deliver(make_message("r", "1", payload_kind::json));
    conn_let_go(c.at); // it has answered
    pass(100);
    const std::string got = received(c), first = json_message("r", "1");
    assert_bytes(got.substr(0, first.size()), first); // and no answer to the ping
    assert_goodbye(got.substr(first.size()), "restarting");
    assert_int_equal(c.at->holds, 0);
}

// The broker's, which nobody is held for, and the node's.
void so_do_those_to_publishes_and_questions(void **) {
    test_client publishes = open_client(form_json), asks = open_client(form_json), was_heard = open_client(form_json);
    for (const test_client &c : {publishes, was_heard})
        c.at->published = true;
    was_heard.at->spoke_ms -= 1000;
    asks.at->asking = 1;
    drain_begin(the_shard(), drain_scope::all);
    pass(0);
    assert_goodbye(received(was_heard), "restarting");
    pass(249);
    assert_bytes(received(publishes), "");
    pass(1);
    assert_goodbye(received(publishes), "restarting");
    assert_bytes(received(asks), "");
    asks.at->asking = 0;
    pass(100);
    assert_goodbye(received(asks), "restarting");
}

void who_waits_may_leave_by_itself(void **) {
    test_client c = open_client(form_json);
    conn_hold(c.at);
    drain_begin(the_shard(), drain_scope::all);
    pass(0);
    conn_abort(c.at);
    pass(100);
    pass(1100);
    assert_int_equal(counted()->said, 0);
    assert_int_equal(the_shard()->live, 0);
}

void a_full_queue_has_room_for_the_close(void **) {
    test_client c = open_client(form_json);
    const int size = 4096;
    setsockopt(c.at->stream.fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
    enter(c.at, "r");
    message *m = make_message("r", "\"" + std::string(60000, 'x') + "\"", payload_kind::json);
    while (conn_queued(c.at) + 61000 < c.at->send_queue)
        deliver(m);
    turn();
    c.at->send_queue = static_cast<uint32_t>(conn_queued(c.at) + 200);
    drain_begin(the_shard(), drain_scope::all);
    pass(0);
    std::string got;
    for (std::string some; some = received(c), got += some, pass(0), !some.empty();) {
    }
    assert_true(got.ends_with(close_frame("restarting")));
    assert_true(got.find("bye") == std::string::npos);
    assert_int_equal(counted()->said, 1);
    assert_int_equal(closed_with(1012), 1);
}

// ---- the end of the time ----

void who_does_not_go_is_dropped_and_counted(void **) {
    bench->settings.drain_rate = {1, 60000, 1};
    test_client told = open_client(form_json), untold = open_client(form_json), silent = connect_client();
    send_bytes(silent, "GET / HT");
    drain_begin(the_shard(), drain_scope::all);
    pass(0);
    assert_goodbye(received(told), "restarting");
    assert_bytes(received(untold), "");
    drain_overdue(the_shard());
    pass(0);
    assert_goodbye(received(untold), "restarting"); // its one last write
    assert_true(at_end(told));
    assert_true(at_end(untold));
    assert_int_equal(counted()->said, 1);
    assert_int_equal(counted()->timed_out, 1);
    assert_int_equal(counted()->dropped, 2);
    assert_int_equal(counted()->closed, 0);
    assert_int_equal(the_shard()->live, 0);
}

// ---- after a reload ----

void retired_routes_alone(void **) {
    route gone = bench->way;
    gone.retired = true;
    test_client leaves = open_client(form_json), stays = open_client(form_json);
    leaves.at->route = &gone;
    drain_begin(the_shard(), drain_scope::retired);
    pass(0);
    assert_goodbye(received(leaves), "reconfigured");
    assert_bytes(received(stays), "");
    assert_false(the_shard()->draining);
    assert_non_null(the_shard()->drain);
    send_bytes(leaves, client_frame(0x88, "\x03\xf4"));
    close(leaves.fd);
    bench->sockets.erase(bench->sockets.end() - 2);
    pass(1000);
    pass(1000);
    pass(1000);
    assert_null(the_shard()->drain); // nobody is left
    assert_int_equal(pace.left.load(), 0);
    send_bytes(stays, client_frame(0x81, "{\"type\":\"ping\",\"id\":1}"));
    assert_bytes(received(stays), server_frame(0x81, "{\"type\":\"pong\",\"id\":1}"));
    assert_int_equal(counted()->closed, 1);
}

void retired_listeners_alone(void **) {
    listener_settings gone = bench->settings.listeners[0];
    gone.retired = true;
    test_client leaves = open_client(form_raw), asks_nothing = connect_client(), stays = connect_client();
    leaves.at->listener = asks_nothing.at->listener = &gone;
    assert_true(conn_leaving(leaves.at));
    drain_begin(the_shard(), drain_scope::retired);
    pass(0);
    assert_bytes(received(leaves), close_frame("reconfigured"));
    assert_true(at_end(asks_nothing));
    assert_false(at_end(stays));
    assert_false(conn_leaving(stays.at));
    leaves.at->listener = &bench->settings.listeners[0]; // for the teardown
}

void a_retired_drain_has_an_end(void **) {
    bench->settings.drain_timeout = 2000;
    bench->settings.drain_rate = {1, 60000, 1};
    route gone = bench->way;
    gone.retired = true;
    test_client told = open_client(form_raw), untold = open_client(form_raw), held = open_client(form_raw);
    for (const test_client &c : {told, untold, held})
        c.at->route = &gone;
    drain_begin(the_shard(), drain_scope::retired);
    pass(0);
    assert_int_equal(pace.left.load(), 2);
    pass(1900);
    assert_int_equal(the_shard()->live, 3);
    pass(100);
    pass(0);
    assert_int_equal(the_shard()->live, 0);
    assert_null(the_shard()->drain);
    assert_int_equal(counted()->timed_out, 1);
    assert_int_equal(counted()->dropped, 2);
    assert_int_equal(pace.left.load(), 0);
}

void the_end_takes_over_from_a_reload(void **) {
    route gone = bench->way;
    gone.retired = true;
    test_client waits = open_client(form_raw), other = open_client(form_raw);
    waits.at->route = &gone;
    conn_hold(waits.at);
    drain_begin(the_shard(), drain_scope::retired);
    pass(0);
    assert_int_equal(waits.at->holds, 2);
    drain_begin(the_shard(), drain_scope::all);
    assert_int_equal(waits.at->holds, 1);
    drain_begin(the_shard(), drain_scope::retired); // changes nothing any more
    pass(0);
    assert_bytes(received(other), close_frame("restarting"));
    conn_let_go(waits.at);
    pass(100);
    assert_bytes(received(waits), close_frame("restarting"));
}

} // namespace

#define with_bench(test) cmocka_unit_test_setup_teardown(test, begin, bench_end)

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(goodbyes_are_evenly_spaced),
        cmocka_unit_test(what_was_missed_is_made_up_for_within_bounds),
        cmocka_unit_test(slow_rates_and_none),
        cmocka_unit_test(a_new_rate_is_felt_at_once),
        cmocka_unit_test(workers_share_the_rate),
        cmocka_unit_test(the_return_is_spread_over_what_the_rest_needs),
        with_bench(goodbye_comes_behind_what_was_queued),
        with_bench(sessions_go_at_the_rate),
        with_bench(a_turn_says_no_more_than_a_slice),
        with_bench(who_has_asked_nothing_is_not_waited_for),
        with_bench(rounds_go_on),
        with_bench(an_answer_that_is_waited_for_comes_first),
        with_bench(so_do_those_to_publishes_and_questions),
        with_bench(who_waits_may_leave_by_itself),
        with_bench(a_full_queue_has_room_for_the_close),
        with_bench(who_does_not_go_is_dropped_and_counted),
        with_bench(retired_routes_alone),
        with_bench(retired_listeners_alone),
        with_bench(a_retired_drain_has_an_end),
        with_bench(the_end_takes_over_from_a_reload),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
