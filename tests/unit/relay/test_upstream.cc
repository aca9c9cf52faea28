// Calls over an upstream against servers that answer, refuse, hang, hang up and answer garbage: which server gets a
// call, what its owner is told, which links are kept.
#include "upstream_bench.h"

using namespace belfry;

namespace {

stub_server *stub(int i) {
    return &bench->stubs[i];
}

// ---------------------------------------------------------------- links

void test_reuse(void **) {
    open_upstream();
    caller *first = start();
    assert_int_equal(first->readies, 0); // never from within
    turn();
    assert_ok(first);
    assert_int_equal(kept(0), 1);
    assert_ok(run());
    assert_ok(run());
    assert_int_equal(stub(0)->accepted, 1);
    assert_int_equal(stub(0)->requests.size(), 3);
}

void test_keepalive_bounds_the_idle_links(void **) {
    bench->settings.keepalive = 2;
    open_upstream();
    caller *all[4];
    for (caller *&c : all)
        c = start();
    turn();
    for (caller *c : all)
        assert_ok(c);
    assert_int_equal(stub(0)->accepted, 4);
    assert_int_equal(kept(0), 2);
    turn();
    assert_int_equal(stub(0)->peers.size(), 2);
}

void test_keepalive_timeout(void **) {
    open_upstream();
    run();
    advance(59000);
    assert_int_equal(kept(0), 1);
    advance(2000);
    assert_int_equal(kept(0), 0);
    assert_int_equal(stub(0)->peers.size(), 0);
}

void test_idle_links_that_end_are_dropped(void **) {
    open_upstream();
    run();
    close(stub(0)->peers[0]);
    stub(0)->peers.clear();
    turn();
    assert_int_equal(kept(0), 0);
    assert_ok(run(false));
    assert_int_equal(stub(0)->accepted, 2);
    assert_int_equal(failures(0), 0);
}

// The server closes a kept link at the moment that a request goes out on it.
void test_stale_link(void **) {
    open_upstream(2);
    stub_stop(stub(1));
    bench->shared->servers[1].health.sick = true; // not to be chosen
    run();
    stub(0)->does = stub_does::hang_up;
    caller *c = start();
    turn(2);
    stub(0)->does = stub_does::answer;
    turn();
    assert_ok(c);
    assert_int_equal(c->readies, 2);
    assert_int_equal(stub(0)->accepted, 2);
    assert_int_equal(failures(0), 0); // no fault of the server
}

void test_stale_link_of_an_unsafe_call(void **) {
    open_upstream();
    run();
    stub(0)->does = stub_does::hang_up;
    caller *c = run(false);
    assert_failed(c, upstream_failure::closed);
    assert_int_equal(c->readies, 1); // the server may have done what it was asked
    assert_int_equal(failures(0), 0);
}

void test_not_kept(void **) {
    stub(0)->with = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok";
    open_upstream();
    assert_ok(run());
    assert_int_equal(kept(0), 0);
    assert_ok(run());
    assert_int_equal(stub(0)->accepted, 2);
}

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

// ---------------------------------------------------------------- which server

void test_backup(void **) {
    add_server(&stub(0)->at);
    add_server(&stub(1)->at)->backup = true;
    open_upstream();
    for (int i = 0; i < 3; i++)
        assert_ok(run());
    assert_int_equal(stub(1)->accepted, 0);
    stub_stop(stub(0));
    for (int i = 0; i < 3; i++)
        assert_ok(run());
    assert_int_equal(stub(1)->requests.size(), 3);
}

void test_draining(void **) {
    add_server(&stub(0)->at)->down = true;
    add_server(&stub(1)->at);
    open_upstream();
    for (int i = 0; i < 3; i++)
        assert_ok(run());
    assert_int_equal(stub(0)->accepted, 0);
    assert_true(says("\"state\":\"draining\""));
}

void test_no_server(void **) {
    add_server(&stub(0)->at)->down = true;
    open_upstream();
    caller *c = start();
    assert_int_equal(c->failures, 0); // never from within
    turn();
    assert_failed(c, upstream_failure::no_server);
}

void test_weights(void **) {
    add_server(&stub(0)->at, 1);
    add_server(&stub(1)->at, 3);
    open_upstream();
    std::string order;
    for (int i = 0; i < 8; i++) {
        const size_t before = stub(0)->requests.size();
        run();
        order += stub(0)->requests.size() > before ? 'a' : 'b';
    }
    assert_string_equal(order.c_str(), "babbbabb"); // smooth, as nginx: the light one is neither first nor last
}

void test_sticky(void **) {
    open_upstream(4);
    int used = 0;
    for (int k = 0; k < 20; k++) {
        const std::string key = "user-" + std::to_string(k);
        size_t before[4];
        for (int i = 0; i < 4; i++)
            before[i] = stub(i)->requests.size();
        const view asked = key;
        const std::string shown = status(&asked);
        run(true, key);
        run(true, key);
        run(true, key);
        int grown = 0;
        for (int i = 0; i < 4; i++) {
            if (stub(i)->requests.size() == before[i]) continue;
            grown++;
            used |= 1 << i;
            assert_int_equal(stub(i)->requests.size(), before[i] + 3);
            const std::string wanted =
                "\"key_server\":\"" + bench->settings.servers[static_cast<size_t>(i)].text + "\"";
            assert_true(shown.find(wanted) != std::string::npos);
        }
        assert_int_equal(grown, 1);
    }
    assert_int_equal(used, 15);
}

void test_sticky_while_its_server_is_out(void **) {
    open_upstream(3);
    run(true, "k");
    int home = 0;
    while (stub(home)->requests.empty())
        home++;
    stub_stop(stub(home));
    turn();
    for (int i = 0; i < 3; i++)
        assert_ok(run(true, "k"));
    const int other = home == 0 ? 1 : 0, third = 3 - home - other;
    assert_true(stub(other)->requests.size() == 3 || stub(third)->requests.size() == 3); // one other, not two
    stub_listen(stub(home));
    advance(11000);
    assert_ok(run(true, "k"));
    assert_int_equal(stub(home)->requests.size(), 2);
}

void test_slow_start(void **) {
    bench->settings.slow_start = 100000;
    open_upstream(2);
    stub_stop(stub(0));
    run();
    run();
    stub_listen(stub(0));
    advance(10100);
    for (int i = 0; i < 4; i++)
        run(); // among them the trial
    assert_true(says("\"state\":\"starting\""));
    const size_t at_first = stub(0)->requests.size();
    for (int i = 0; i < 40; i++)
        run();
    assert_in_range(stub(0)->requests.size() - at_first, 0, 4);
    advance(101000);
    const size_t later = stub(0)->requests.size();
    for (int i = 0; i < 40; i++)
        run();
    assert_in_range(stub(0)->requests.size() - later, 19, 21);
}

void test_slow_start_by_key(void **) {
    bench->settings.slow_start = 100000;
    open_upstream(2);
    bench->shared->servers[0].health.back_since_ms = bench->now_ms - 50000; // half of its share
    int home = 0, all = 0;
    for (int k = 0; k < 300; k++) {
        const std::string key = std::to_string(k);
        if (balancer_ring_pick(bench->shared->primary, balancer_key_hash(key), 0) != 0) continue;
        const size_t before = stub(0)->requests.size();
        assert_ok(run(true, key));
        all++;
        if (stub(0)->requests.size() > before) home++;
    }
    assert_in_range(home, all / 4, all * 3 / 4);
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

// ---------------------------------------------------------------- names and health

void turn_until_over(const caller *c) {
    const uint64_t end = clock_monotonic_ns() + 10000000000ull;
    while (c->ends + c->failures == 0 && clock_monotonic_ns() < end) {
        turn(1);
        usleep(1000);
        if (c->readies == 0) bench->now_ms += 10; // below connect_timeout for the time that a hosts file takes
    }
    assert_int_equal(c->ends + c->failures, 1);
}

// A call that comes before the first answer waits for it; of the addresses (::1 too, on most machines) one is good.
void test_host_name(void **) {
    add_server(&stub(0)->at)->host = "localhost";
    open_upstream();
    caller *c = start();
    assert_true(bench->halves[0]->servers[0].addresses.empty());
    turn_until_over(c);
    assert_ok(c);
    assert_true(says("127.0.0.1:"));
    for (int i = 0; i < 4; i++) {
        c = start();
        turn_until_over(c);
        assert_ok(c);
    }
    assert_true(says("\"failures\":0"));
}

void test_host_name_that_is_not_found(void **) {
    add_server(&stub(0)->at)->host = "no-such-host.invalid";
    open_upstream(2);
    bench->settings.connect_timeout = 3600000;
    for (int i = 0; i < 2; i++) {
        caller *c = start();
        turn_until_over(c);
        assert_ok(c);
    }
    assert_int_equal(stub(1)->requests.size(), 2);
    bench->shared->servers[1].health.sick = true;
    caller *c = start();
    turn_until_over(c);
    assert_failed(c, upstream_failure::connect);
}

void test_waiting_for_a_name_is_bounded(void **) {
    bench->settings.connect_timeout = 500;
    add_server(&stub(0)->at)->host = "no-such-host.invalid";
    open_upstream();
    bench->shared->servers[0].resolved = resolve_state::asked;
    caller *c = start();
    turn(1);
    const uint64_t before = bench->shared->generation;
    bench->now_ms += 700;
    turn(1);
    if (bench->shared->generation == before) assert_failed(c, upstream_failure::timeout);
}

void test_health_checks(void **) {
    bench->settings.health_check = "/healthz";
    stub(0)->with = "HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n";
    open_upstream(2);
    advance(200);
    assert_int_equal(stub(0)->requests.size(), 1);
    assert_string_equal(stub(0)->requests[0].substr(0, 24).c_str(), "GET /healthz HTTP/1.1\r\nH");
    assert_false(status().find("\"down\"") != std::string::npos); // one is none
    advance(1200);
    assert_true(says("\"state\":\"down\""));
    stub(1)->requests.clear();
    for (int i = 0; i < 4; i++)
        assert_ok(run());
    assert_int_equal(stub(1)->requests.size(), 4);
    stub(0)->with = "HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n";
    advance(1200);
    assert_false(status().find("\"down\"") != std::string::npos);
}

void test_health_checks_time_out(void **) {
    bench->settings.health_check = "/healthz";
    stub(0)->does = stub_does::hang;
    open_upstream(1);
    advance(4000);
    assert_true(says("\"state\":\"down\""));
    assert_failed(run(), upstream_failure::no_server); // unlike failed calls, checks are believed
    stub(0)->does = stub_does::answer;
    advance(2000);
    assert_ok(run());
    stub_stop(stub(0));
    advance(3000);
    assert_true(says("\"state\":\"down\""));
}

void test_health_check_ends_a_passive_outage(void **) {
    bench->settings.health_check = "/healthz";
    open_upstream(1);
    stub_stop(stub(0));
    assert_failed(run(), upstream_failure::connect);
    assert_true(says("\"state\":\"down\""));
    stub_listen(stub(0));
    advance(1500);
    assert_true(says("\"state\":\"up\""));
}

void test_status(void **) {
    add_server(&stub(0)->at, 3);
    open_upstream(1, 2);
    run();
    run(true, view(), 1);
    const std::string text = bench->settings.servers[0].text;
    const std::string wanted = "{\"name\":\"app\",\"servers\":[{\"server\":\"" + text +
                               "\",\"state\":\"up\",\"weight\":3,\"backup\":false,\"inflight\":0,\"requests\":2,"
                               "\"failures\":0,\"idle\":2,\"addresses\":[\"" +
                               text + "\"]}],\"running\":0,\"queued\":0,\"queue_full\":0,\"queue_timeouts\":0}";
    assert_string_equal(status().c_str(), wanted.c_str());
}

} // namespace

int main() {
#define TEST(f) cmocka_unit_test_setup_teardown(f, bench_begin, bench_end)
    const struct CMUnitTest tests[] = {
        TEST(test_reuse),
        TEST(test_keepalive_bounds_the_idle_links),
        TEST(test_keepalive_timeout),
        TEST(test_idle_links_that_end_are_dropped),
        TEST(test_stale_link),
        TEST(test_stale_link_of_an_unsafe_call),
        TEST(test_not_kept),
        TEST(test_refused_goes_to_the_next),
        TEST(test_back_after_fail_timeout),
        TEST(test_one_trial_at_a_time),
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
        TEST(test_backup),
        TEST(test_draining),
        TEST(test_no_server),
        TEST(test_weights),
        TEST(test_sticky),
        TEST(test_sticky_while_its_server_is_out),
        TEST(test_slow_start),
        TEST(test_slow_start_by_key),
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
        TEST(test_host_name),
        TEST(test_host_name_that_is_not_found),
        TEST(test_waiting_for_a_name_is_bounded),
        TEST(test_health_checks),
        TEST(test_health_checks_time_out),
        TEST(test_health_check_ends_a_passive_outage),
        TEST(test_status),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
