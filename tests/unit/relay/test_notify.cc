// Notifications: batches, repetition, the spool's bound, the end.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
extern "C" {
#include <cmocka.h>
}

#include "hook_bench.h"

using namespace belfry;

namespace {

constexpr uint32_t connected = 1u << notify_connected, joined = 1u << notify_joined, left = 1u << notify_left,
                   occupied = 1u << notify_occupied, disconnected = 1u << notify_disconnected;

notify_counters counted() {
    return notifier_counters(the_shard()->notifier);
}

size_t occurrences(const std::string &in, const std::string &what) {
    size_t n = 0;
    for (size_t at = in.find(what); at != std::string::npos; at = in.find(what, at + 1))
        n++;
    return n;
}

bool has(const std::string &body, const std::string &piece) {
    return body.find(piece) != std::string::npos;
}

// On the route that is notified.
test_client open_notified() {
    test_client c = open_client(form_json);
    c.at->route = &bench->settings.routes[0];
    return c;
}

void events_travel_together(void **) {
    want(connected | joined | left | disconnected);
    test_client c = open_notified();
    client_of(c.at)->user = "56";
    notify_event(c.at, notify_connected, view(), 0);
    enter(c.at, "r");
    enter(c.at, "@user:56"); // no news
    assert_bytes(asked(), "");
    pass(200);
    std::string body = asked();
    std::string who = ",\"conn\":\"" + id_of(c.at) + "\",\"user\":\"56\"";
    assert_true(body.starts_with("{\"event\":\"notify\",\"events\":[{\"id\":\"n_"));
    assert_int_equal(occurrences(body, "\"id\":"), 2);
    assert_true(has(body, "\"type\":\"connected\"" + who + ",\"time\":"));
    assert_true(has(body, "\"type\":\"joined\"" + who + ",\"room\":\"r\",\"time\":"));
    assert_false(field("webhook-signature").empty());
    answer("204 No Content", "");
    assert_int_equal(counted().sent, 2);
    assert_true(notifier_idle(the_shard()->notifier));
    conn_abort(c.at);
    pass(200);
    body = asked();
    assert_true(body.find("\"type\":\"left\"") < body.find("\"type\":\"disconnected\""));
    assert_true(has(body, "\"type\":\"disconnected\"" + who + ",\"code\":1006,"));
    answer("200 OK", "{}");
    assert_int_equal(counted().spooled, 0);
}

void what_nobody_wants_is_not_told(void **) {
    want(connected);
    test_client c = open_notified();
    enter(c.at, "r");
    notify_room(the_shard(), notify_occupied, "r");
    pass(1000);
    assert_bytes(asked(), "");
    assert_true(notifier_idle(the_shard()->notifier));
}

void rooms_have_no_connection(void **) {
    want(occupied);
    notify_room(the_shard(), notify_occupied, "r");
    pass(200);
    assert_true(has(asked(), "\"type\":\"occupied\",\"room\":\"r\",\"time\":"));
    answer("204 No Content", "");
}

std::string first_id(const std::string &body) {
    size_t at = body.find("\"id\":\"") + 6;
    return body.substr(at, body.find('"', at) - at);
}

// At least once: the same events, known by their ids, until the backend has taken them.
void failures_are_repeated_with_patience(void **) {
    want(occupied);
    notify_room(the_shard(), notify_occupied, "a");
    pass(200);
    std::string id = first_id(asked());
    answer("500 No", "");
    notify_room(the_shard(), notify_occupied, "b");
    pass(300);
    assert_bytes(asked(), "");
    pass(300);
    std::string body = asked(); // after 500 ms
    assert_bytes(first_id(body), id);
    assert_true(has(body, "\"room\":\"b\""));
    answer("404 No", "");
    pass(800);
    assert_bytes(asked(), "");
    pass(300);
    assert_bytes(first_id(asked()), id); // after 1 s
    answer("204 No Content", "");
    assert_int_equal(counted().sent, 2);
    assert_int_equal(counted().retried, 2);
    assert_int_equal(counted().dropped, 0);
}

void the_spool_is_bounded(void **) {
    want(occupied);
    std::string name(200, 'x');
    notify_room(the_shard(), notify_occupied, "first");
    pass(200);
    asked();
    answer("500 No", "");
    for (int i = 0; i < 20000; i++)
        notify_room(the_shard(), notify_occupied, name);
    notify_counters n = counted();
    assert_true(n.dropped > 1000);
    assert_int_equal(n.dropped + n.spooled, 20001);
    assert_true(n.spooled * 300 < notify_spool_max * 2);
    size_t told = 0;
    pass(1000);
    for (std::string body = asked(); !body.empty(); body = asked()) {
        assert_false(has(body, "\"room\":\"first\"")); // the oldest went first
        assert_true(occurrences(body, "\"id\":") <= notify_batch_max);
        told += occurrences(body, "\"id\":");
        answer("204 No Content", "");
        pass(200);
    }
    assert_int_equal(told, n.spooled);
    assert_int_equal(counted().dropped, n.dropped);
}

// Clients have gone: each second, until the time is up.
void the_last_ones_are_repeated_in_haste(void **) {
    want(occupied);
    notify_room(the_shard(), notify_occupied, "a");
    for (int i = 0; i < 4; i++) {
        pass(i ? 4000 : 200);
        assert_true(has(asked(), "\"room\":\"a\""));
        answer("500 No", ""); // the next try would be 4 s later
    }
    notifier_hurry(the_shard()->notifier);
    assert_true(has(asked(), "\"room\":\"a\"")); // without a pause
    for (uint64_t ms = 0; ms < notify_hurry_ms; ms += 1100) {
        answer("500 No", "");
        assert_false(notifier_idle(the_shard()->notifier));
        pass(1100);
        assert_true(has(asked(), "\"room\":\"a\""));
    }
    notify_room(the_shard(), notify_occupied, "b");
    answer("500 No", "");
    assert_true(notifier_idle(the_shard()->notifier));
    assert_int_equal(counted().dropped, 2);
}

void the_end_sees_one_try(void **) {
    want(occupied);
    notify_room(the_shard(), notify_occupied, "a");
    notifier_close(the_shard()->notifier);
    assert_true(has(asked(), "\"room\":\"a\"")); // without a pause
    notify_room(the_shard(), notify_occupied, "b");
    assert_false(notifier_idle(the_shard()->notifier));
    answer("204 No Content", "");
    assert_true(has(asked(), "\"room\":\"b\""));
    answer("500 No", "");
    assert_true(notifier_idle(the_shard()->notifier));
    assert_int_equal(counted().dropped, 1);
}

} // namespace

#define with_bench(test) cmocka_unit_test_setup_teardown(test, hook_bench_begin, hook_bench_end)

int main() {
    const CMUnitTest tests[] = {
        with_bench(events_travel_together),   with_bench(what_nobody_wants_is_not_told),
        with_bench(rooms_have_no_connection), with_bench(failures_are_repeated_with_patience),
        with_bench(the_spool_is_bounded),     with_bench(the_last_ones_are_repeated_in_haste),
        with_bench(the_end_sees_one_try),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
