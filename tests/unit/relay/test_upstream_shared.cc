// What all workers share of an upstream: the addresses of a name, the health checks, the status.
#include "upstream_bench.h"

using namespace belfry;

namespace {

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

// A name server that never says anything.
void test_waiting_for_a_name_is_bounded(void **) {
    bench->settings.connect_timeout = 500;
    add_server(&stub(0)->at)->host = "no-such-host.invalid";
    open_upstream();
    shared_server *s = &bench->shared->servers[0];
    resolve_cancel(s->resolving);
    s->resolving = nullptr;
    wheel_set(&bench->main_deadlines, &s->resolve_next.timer, bench->now_ms, 3600000); // teardown waits for the resolve
    caller *c = start();
    advance(400);
    assert_int_equal(c->failures, 0);
    advance(200);
    assert_failed(c, upstream_failure::timeout);
    assert_true(says("\"running\":0"));
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
        TEST(test_host_name),     TEST(test_host_name_that_is_not_found), TEST(test_waiting_for_a_name_is_bounded),
        TEST(test_health_checks), TEST(test_health_checks_time_out),      TEST(test_health_check_ends_a_passive_outage),
        TEST(test_status),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
