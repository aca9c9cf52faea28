// Calls over an upstream against servers that refuse, hang, hang up and answer garbage: what the owner of a call is
// told, when a call goes to another server, how it waits for a place, how it is cancelled.
#include "upstream_bench.h"

using namespace belfry;

namespace {

// ---------------------------------------------------------------- failures

void test_refused_goes_to_the_next(void **) {
    open_upstream(2);
    stub_stop(stub(0));
    for (int i = 0; i < 4; i++)
        assert_ok(run(false));        // nothing was sent to the first
    assert_int_equal(failures(0), 1); // out after the first failure
    assert_int_equal(stub(1)->requests.size(), 4);
    assert_true(says("\"state\":\"down\""));
}

void test_back_after_fail_timeout(void **) {
    open_upstream(2);
    stub_stop(stub(0));
    run();
    run();
    assert_int_equal(failures(0), 1);
    advance(9000);
    for (int i = 0; i < 4; i++)
        run();
    assert_int_equal(failures(0), 1);
    advance(2000);
    for (int i = 0; i < 4; i++)
        assert_ok(run()); // one of them was the trial
    assert_int_equal(failures(0), 2);
    stub_listen(stub(0));
    advance(11000);
    for (int i = 0; i < 4; i++)
        assert_ok(run());
    assert_true(stub(0)->requests.size() >= 2);
    assert_int_equal(failures(0), 2);
    assert_false(status().find("\"down\"") != std::string::npos);
}

void test_one_trial_at_a_time(void **) {
    open_upstream(2, 2);
    stub_stop(stub(0));
    run();
    run();
    stub_listen(stub(0));
    stub(0)->does = stub_does::hang;
    advance(10100);
    for (int i = 0; i < 8; i++)
        start(true, view(), i % 2);
    turn(30);
    assert_int_equal(stub(0)->requests.size(), 1);
    assert_int_equal(stub(1)->requests.size(), 2 + 7);
}

void test_a_trial_that_is_left_is_the_next_calls(void **) {
    open_upstream(2);
    stub_stop(stub(0));
    run();
    run();
    stub_listen(stub(0));
    stub(0)->does = stub_does::hang;
    advance(10100);
    caller *both[] = {run(), run()};
    assert_int_equal(stub(0)->requests.size(), 1);
    for (caller *c : both)
        upstream_call_cancel(&c->call); // the one that waits, and one that is over
    stub(0)->does = stub_does::answer;
    for (int i = 0; i < 4; i++)
        assert_ok(run());
    assert_true(stub(0)->requests.size() >= 2);
    assert_false(status().find("\"down\"") != std::string::npos);
}

void test_max_fails_counts_within_its_window(void **) {
    add_server(&stub(0)->at)->max_fails = 3;
    stub(0)->with = "garbage\r\n\r\n";
    open_upstream(2);
    bench->shared->servers[1].health.sick = true;
    for (int i = 0; i < 2; i++)
        run();
    advance(11000); // these two are forgotten
    for (int i = 0; i < 2; i++)
        run();
    assert_true(says("\"state\":\"up\""));
    run();
    assert_false(status().find("\"state\":\"up\"") != std::string::npos);
}

void test_a_failure_in_one_worker_holds_for_all(void **) {
    open_upstream(2, 2);
    stub_stop(stub(0));
    run();
    run();
    for (int i = 0; i < 4; i++)
        assert_ok(run(true, view(), 1));
    assert_int_equal(number_get(&bench->halves[1]->servers[0].requests), 0);
    assert_int_equal(number_get(&bench->halves[1]->servers[1].requests), 4);
}

void test_all_out_is_tried_all_the_same(void **) {
    open_upstream(1);
    stub_stop(stub(0));
    assert_failed(run(), upstream_failure::connect);
    assert_failed(run(), upstream_failure::connect);
    assert_int_equal(failures(0), 2); // it was asked again
    stub_listen(stub(0));
    assert_ok(run());
    assert_true(says("\"state\":\"up\""));
}

void test_closed_before_an_answer(void **) {
    open_upstream(2);
    stub(0)->does = stub_does::hang_up;
    stub(1)->does = stub_does::hang_up;
    caller *unsafe = run(false);
    assert_failed(unsafe, upstream_failure::closed);
    assert_int_equal(unsafe->readies, 1);
    stub(1)->does = stub_does::answer;
    advance(11000);
    bench->shared->servers[0].health.out_until_ms = 0;
    for (int i = 0; i < 2; i++)
        assert_ok(run()); // safe: the other one
    assert_int_equal(stub(1)->requests.size(), 2);
}

void test_no_repeat_once_a_byte_came(void **) {
    stub(0)->with = "HTTP/1.1 20";
    open_upstream(2);
    bench->shared->servers[1].health.sick = true;
    caller *c = run();
    bench->shared->servers[1].health.sick = false;
    shutdown(stub(0)->peers[0], SHUT_RDWR);
    turn();
    assert_failed(c, upstream_failure::closed);
    assert_false(c->answered);
    assert_int_equal(stub(1)->accepted, 0);
}

void test_cut_short(void **) {
    stub(0)->with = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf";
    open_upstream(2);
    bench->shared->servers[1].health.sick = true;
    caller *c = run();
    shutdown(stub(0)->peers[0], SHUT_RDWR);
    turn();
    assert_failed(c, upstream_failure::closed);
    assert_true(c->answered);
    assert_string_equal(c->body.c_str(), "half");
}

void test_garbage(void **) {
    stub(0)->with = "hello there\r\n\r\n";
    open_upstream(1);
    assert_failed(run(), upstream_failure::malformed);
    assert_int_equal(failures(0), 1);
    turn();
    assert_int_equal(stub(0)->peers.size(), 0);
}

void test_read_timeout(void **) {
    stub(0)->does = stub_does::hang;
    open_upstream(2);
    bench->shared->servers[1].health.sick = true;
    caller *c = run();
    advance(9000);
    assert_int_equal(c->failures, 0);
    const view part = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no";
    assert_int_equal(send(stub(0)->peers[0], part.data(), part.size(), 0), part.size());
    turn();
    advance(9000); // counts from the last byte
    assert_int_equal(c->failures, 0);
    advance(2000);
    assert_failed(c, upstream_failure::timeout);
    assert_true(c->answered);
}

void test_read_timeout_of_the_call(void **) {
    stub(0)->does = stub_does::hang;
    open_upstream(1);
    caller *c = start();
    c->call.read_timeout_ms = 1000;
    turn();
    advance(1200);
    assert_failed(c, upstream_failure::timeout);
    assert_int_equal(c->readies, 1);
}

void test_no_timeout_while_paused(void **) {
    stub(0)->does = stub_does::hang;
    open_upstream(1);
    caller *c = run();
    upstream_call_pause(&c->call);
    advance(30000);
    assert_int_equal(c->failures, 0);
    upstream_call_resume(&c->call);
    advance(9000);
    assert_int_equal(c->failures, 0);
    advance(2000);
    assert_failed(c, upstream_failure::timeout);
}

// Accepted, but never shaken hands with.
void test_connect_timeout(void **) {
    error e;
    stub(0)->does = stub_does::hang;
    bench->settings.tls = tls_client_new(nullptr, false, &e);
    add_server(&stub(0)->at)->tls = true;
    open_upstream(2);
    bench->shared->servers[1].health.sick = true;
    caller *c = run();
    advance(1500);
    assert_int_equal(c->failures, 0);
    bench->shared->servers[1].health.sick = false;
    advance(1000);
    assert_ok(c); // nothing was sent to the first
    assert_int_equal(failures(0), 1);
    bench->shared->servers[1].health.sick = true;
    c = run();
    advance(2500);
    assert_failed(c, upstream_failure::timeout);
}

// ---------------------------------------------------------------- max_inflight

void test_queue(void **) {
    bench->settings.max_inflight = 1;
    bench->settings.queue = 2;
    stub(0)->does = stub_does::hang;
    open_upstream();
    caller *first = start(), *second = start(), *third = start(), *fourth = start();
    assert_int_equal(fourth->failures, 0);
    turn();
    assert_failed(fourth, upstream_failure::queue_full);
    assert_int_equal(first->readies, 1);
    assert_int_equal(second->readies, 0);
    assert_true(says("\"running\":1,\"queued\":2,\"queue_full\":1"));
    assert_int_equal(send(stub(0)->peers[0], stub(0)->with.data(), stub(0)->with.size(), 0), stub(0)->with.size());
    turn();
    assert_ok(first);
    assert_int_equal(second->readies, 1); // in order
    assert_int_equal(third->readies, 0);
    advance(1200);
    assert_failed(third, upstream_failure::queue_timeout);
    assert_int_equal(upstream_failure_status(third->why), 503);
    stub(0)->does = stub_does::answer;
    upstream_call_cancel(&second->call);
    turn();
    assert_ok(run());
    assert_true(says("\"running\":0,\"queued\":0,\"queue_full\":1,\"queue_timeouts\":1"));
}

void test_a_failure_gives_its_place_on(void **) {
    bench->settings.max_inflight = 1;
    bench->settings.queue = 4;
    open_upstream();
    stub_stop(stub(0));
    caller *all[3];
    for (caller *&c : all)
        c = start();
    turn(40);
    for (caller *c : all)
        assert_failed(c, upstream_failure::connect);
}

// ---------------------------------------------------------------- cancel

void assert_nothing_is_left(const caller *c) {
    turn();
    assert_int_equal(c->ends + c->failures, 0);
    assert_true(says("\"running\":0,\"queued\":0"));
    assert_true(says("\"inflight\":0"));
}

void test_cancel_queued(void **) {
    bench->settings.max_inflight = 1;
    bench->settings.queue = 2;
    stub(0)->does = stub_does::hang;
    open_upstream();
    caller *first = run(), *second = run();
    upstream_call_cancel(&second->call);
    upstream_call_cancel(&first->call);
    assert_nothing_is_left(second);
    assert_int_equal(second->readies, 0);
}

void test_cancel_queue_full(void **) {
    bench->settings.max_inflight = 1;
    stub(0)->does = stub_does::hang;
    open_upstream();
    caller *first = run(), *second = start();
    upstream_call_cancel(&second->call);
    upstream_call_cancel(&first->call);
    assert_nothing_is_left(second);
}

void test_cancel_due(void **) {
    open_upstream();
    caller *c = start();
    upstream_call_cancel(&c->call);
    upstream_call_cancel(&c->call); // twice is harmless
    assert_nothing_is_left(c);
    assert_int_equal(stub(0)->accepted, 0);
}

void test_cancel_connecting(void **) {
    error e;
    bench->settings.tls = tls_client_new(nullptr, false, &e);
    add_server(&stub(0)->at)->tls = true;
    stub(0)->does = stub_does::hang;
    open_upstream();
    caller *c = run();
    upstream_call_cancel(&c->call);
    assert_nothing_is_left(c);
    assert_int_equal(c->readies, 0);
    assert_int_equal(stub(0)->peers.size(), 0);
}

void test_cancel_running(void **) {
    stub(0)->does = stub_does::hang;
    open_upstream();
    caller *c = run();
    assert_int_equal(c->readies, 1);
    upstream_call_cancel(&c->call);
    assert_nothing_is_left(c);
    assert_int_equal(stub(0)->peers.size(), 0); // an answer that nobody waits for must not come to the next call
}

void test_cancel_from_callbacks(void **) {
    open_upstream();
    for (const auto where : {caller::at_ready, caller::at_head, caller::at_body}) {
        caller *c = new_caller();
        c->cancels = where;
        start(c);
        turn();
        assert_nothing_is_left(c);
        assert_int_equal(stub(0)->peers.size(), 0);
        assert_int_equal(kept(0), 0);
    }
    caller *c = new_caller();
    c->cancels = caller::at_end; // it is over already
    start(c);
    turn();
    assert_ok(c);
    assert_int_equal(kept(0), 1);
}

void test_freed_from_callbacks(void **) {
    static const upstream_call_ops frees = {caller_ops.ready,
                                            caller_ops.head,
                                            caller_ops.body,
                                            [](upstream_call *c, view) { delete of(c); },
                                            [](upstream_call *c, upstream_failure, bool) { delete of(c); },
                                            nullptr};
    open_upstream();
    upstream_call_start(&(new caller{})->call, bench->halves[0], &frees, nullptr, true);
    turn();
    assert_int_equal(kept(0), 1);
    stub_stop(stub(0));
    upstream_call_start(&(new caller{})->call, bench->halves[0], &frees, nullptr, true);
    turn();
    assert_true(says("\"running\":0"));
}

// ---------------------------------------------------------------- tunnels

void test_tunnel(void **) {
    bench->settings.max_inflight = 1;
    stub(0)->with = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nfirst";
    open_upstream();
    caller *c = new_caller();
    c->tunnels = true;
    start(c, false);
    turn();
    assert_string_equal(c->body.c_str(), "first");
    http_link_send(c->call.link, frame_copy("to the backend"));
    turn();
    assert_string_equal(stub(0)->tunnelled.c_str(), "to the backend");
    advance(60000); // no read_timeout
    assert_int_equal(c->failures, 0);
    stub(0)->with = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    assert_ok(run()); // it does not count for max_inflight
    shutdown(stub(0)->peers[0], SHUT_WR);
    turn();
    assert_int_equal(c->ends, 1);
    assert_int_equal(kept(0), 1); // of the other call
    assert_true(says("\"inflight\":0"));
    assert_true(says("\"running\":0"));
}

void test_tunnel_that_breaks(void **) {
    stub(0)->with = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    open_upstream();
    caller *c = new_caller();
    c->tunnels = true;
    start(c, false);
    turn();
    const struct linger now = {1, 0};
    setsockopt(stub(0)->peers[0], SOL_SOCKET, SO_LINGER, &now, sizeof now);
    close(stub(0)->peers[0]);
    stub(0)->peers.clear();
    turn();
    assert_failed(c, upstream_failure::closed);
    assert_true(c->answered);
    assert_true(says("\"state\":\"up\"")); // no sign of a bad server
}

} // namespace

int main() {
#define TEST(f) cmocka_unit_test_setup_teardown(f, bench_begin, bench_end)
    const struct CMUnitTest tests[] = {
        TEST(test_refused_goes_to_the_next),
        TEST(test_back_after_fail_timeout),
        TEST(test_one_trial_at_a_time),
        TEST(test_a_trial_that_is_left_is_the_next_calls),
        TEST(test_max_fails_counts_within_its_window),
        TEST(test_a_failure_in_one_worker_holds_for_all),
        TEST(test_all_out_is_tried_all_the_same),
        TEST(test_closed_before_an_answer),
        TEST(test_no_repeat_once_a_byte_came),
        TEST(test_cut_short),
        TEST(test_garbage),
        TEST(test_read_timeout),
        TEST(test_read_timeout_of_the_call),
        TEST(test_no_timeout_while_paused),
        TEST(test_connect_timeout),
        TEST(test_queue),
        TEST(test_a_failure_gives_its_place_on),
        TEST(test_cancel_queued),
        TEST(test_cancel_queue_full),
        TEST(test_cancel_due),
        TEST(test_cancel_connecting),
        TEST(test_cancel_running),
        TEST(test_cancel_from_callbacks),
        TEST(test_freed_from_callbacks),
        TEST(test_tunnel),
        TEST(test_tunnel_that_breaks),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
