// What a worker's connections are counted as: by route, by transport, what waits in their queues.
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>
extern "C" {
#include <cmocka.h>
}

#include "relay/census.h"
#include "relay/query.h"
#include "shard_bench.h"

using namespace belfry;

namespace {

shard_status status;
buffer lines;

int begin(void **state) {
    int result = bench_begin(state);
    bench->settings.routes.resize(2);
    bench->settings.routes[0] = bench->way;
    bench->settings.routes[0].path = "/chat";
    bench->settings.routes[1] = bench->way;
    bench->settings.routes[1].host = "example.com";
    return result;
}
int end(void **state) {
    buffer_free(&lines);
    return bench_end(state);
}

std::string census() {
    status = {};
    buffer_clear(&lines);
    census_take(the_shard(), &status, &lines);
    return std::string(buffer_view(&lines));
}

test_client open_on(size_t route) {
    test_client c = open_client(form_json);
    c.at->route = &bench->settings.routes[route];
    return c;
}

void nobody_is_no_line(void **) {
    assert_string_equal(census().c_str(), "");
    assert_int_equal(status.tls + status.queue_bytes + status.queue_frames + status.blocked, 0);
}

void by_route_and_transport(void **) {
    open_on(0);
    open_on(1);
    open_on(1);
    connect_client();
    assert_string_equal(census().c_str(), "1\tws\t/chat\n2\tws\texample.com/\n1\thandshake\t\n");
}

void who_ends_is_closing_and_then_gone(void **) {
    test_client a = open_on(0);
    conn_linger(a.at);
    assert_string_equal(census().c_str(), "1\tclosing\t/chat\n");
    conn_abort(a.at);
    assert_string_equal(census().c_str(), "");
}

void after_an_answer_it_is_http(void **) {
    test_client a = connect_client();
    a.at->route = &bench->settings.routes[0];
    assert_string_equal(census().c_str(), "1\thandshake\t/chat\n");
    a.at->served = true;
    assert_string_equal(census().c_str(), "1\thttp\t/chat\n");
}

// Not one of these settings: it is counted, and its name is left alone.
void a_route_from_elsewhere_is_none(void **) {
    open_client(form_json);
    assert_string_equal(census().c_str(), "1\tws\t\n");
}

void what_waits_is_added_up(void **) {
    test_client a = open_on(0), b = open_on(0);
    enter(a.at, "news");
    enter(b.at, "news");
    fanout_deliver(the_shard(), make_message("news", "\"12345\"", payload_kind::json));
    fanout_deliver(the_shard(), make_message("news", "\"67890\"", payload_kind::json));
    census();
    const uint64_t each = a.at->outq.bytes;
    assert_true(each > 20);
    assert_int_equal(status.queue_frames, 4);
    assert_int_equal(status.queue_bytes, 2 * each);
    assert_int_equal(status.blocked, 0);
    turn();
    census();
    assert_int_equal(status.queue_frames, 0);
    assert_int_equal(status.queue_bytes, 0);
}

void who_does_not_read_is_blocked(void **) {
    test_client a = open_on(0);
    enter(a.at, "news");
    const std::string payload = "\"" + std::string(60000, 'x') + "\"";
    for (int i = 0; i < 15; i++) {
        fanout_deliver(the_shard(), make_message("news", payload, payload_kind::json));
        turn();
    }
    census();
    assert_int_equal(status.blocked, 1);
    assert_int_equal(status.queue_bytes, a.at->outq.bytes);
    assert_true(status.queue_bytes > 60000);
}

void all_kinds_have_names(void **) {
    const char *const names[] = {"ws", "sse", "poll", "tunnel", "http", "handshake", "closing"};
    for (uint8_t k = 0; k < census_kind_count; k++)
        assert_string_equal(census_kind_name(static_cast<census_kind>(k)), names[k]);
}

} // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(nobody_is_no_line, begin, end),
        cmocka_unit_test_setup_teardown(by_route_and_transport, begin, end),
        cmocka_unit_test_setup_teardown(who_ends_is_closing_and_then_gone, begin, end),
        cmocka_unit_test_setup_teardown(after_an_answer_it_is_http, begin, end),
        cmocka_unit_test_setup_teardown(a_route_from_elsewhere_is_none, begin, end),
        cmocka_unit_test_setup_teardown(what_waits_is_added_up, begin, end),
        cmocka_unit_test_setup_teardown(who_does_not_read_is_blocked, begin, end),
        cmocka_unit_test(all_kinds_have_names),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
