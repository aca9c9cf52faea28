// Which links are kept, and which server gets a call: by weight, by key, with some of them out, draining, starting.
#include "upstream_bench.h"

using namespace belfry;

namespace {

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
    for (int k = 0; k < 80; k++) { // ports are others each time: with few keys a server may have none
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
        for (int i = 0; i < 5; i++)
            assert_ok(run(true, key));
        all++;
        const size_t served = stub(0)->requests.size() - before;
        assert_true(served == 0 || served == 5); // it doesn't go to and fro
        if (served) home++;
        const view asked = key;
        buffer out = {};
        upstream_status_write(bench->shared, &asked, &out);
        const view told = buffer_view(&out).substr(buffer_view(&out).find("\"key_server\":"));
        assert_true((told.find(bench->settings.servers[0].text) != view::npos) == (served != 0));
        buffer_free(&out);
    }
    assert_in_range(home, all * 2 / 5, all * 3 / 5);
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
        TEST(test_backup),
        TEST(test_draining),
        TEST(test_no_server),
        TEST(test_weights),
        TEST(test_sticky),
        TEST(test_sticky_while_its_server_is_out),
        TEST(test_slow_start),
        TEST(test_slow_start_by_key),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
