// The end of credentials: the refresh hook, the grace, Close 4401.
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

const std::string goodbye =
    server_frame(0x81, "{\"type\":\"bye\",\"code\":4401,\"reason\":\"credentials expired\",\"reconnect\":false,"
                       "\"after_ms\":0}") +
    server_frame(0x88, "\x11\x31"
                       "credentials expired");

test_client expiring(uint64_t seconds) {
    test_client c = open_client(form_json);
    expiry_set(c.at, seconds);
    expiry_arm(c.at);
    return c;
}

void without_a_hook_there_is_the_grace_alone(void **) {
    bench->way.hook = "";
    test_client c = expiring(60);
    assert_int_equal(expiry_left(c.at), 60);
    pass(84900);
    assert_bytes(received(c), "");
    assert_int_equal(expiry_left(c.at), 1);
    pass(300);
    assert_bytes(received(c), goodbye);
    assert_int_equal(closed_with(4401), 1);
}

void what_never_expires_is_left_alone(void **) {
    test_client c = expiring(0), further = expiring(7000); // beyond the wheel's reach, 6000 s
    assert_int_equal(expiry_left(c.at), 0);
    pass(6999000);
    assert_bytes(asked(), "");
    pass(1200);
    assert_true(asked().find(id_of(further.at)) != std::string::npos);
    answer("204 No Content", "");
    pass(60000);
    assert_bytes(received(c) + received(further), "");
}

void the_refresh_hook_renews(void **) {
    test_client c = expiring(10);
    client_of(c.at)->user = "56";
    client_of(c.at)->state = "[1]";
    pass(9900);
    assert_bytes(asked(), "");
    pass(200);
    assert_bytes(asked(), "{\"event\":\"refresh\",\"conn\":\"" + id_of(c.at) + "\",\"user\":\"56\",\"state\":[1]}");
    send_bytes(c, client_frame(0x81, "{\"type\":\"ping\"}")); // it doesn't hold the client back
    assert_bytes(received(c), server_frame(0x81, "{\"type\":\"pong\"}"));
    answer("200 OK", "{\"expires_in\":100}");
    assert_int_equal(expiry_left(c.at), 100);
    pass(99000);
    assert_bytes(asked(), "");
    pass(1200);
    assert_true(asked().find("refresh") != std::string::npos);
    answer("200 OK", "{}"); // good for ever
    pass(600000);
    assert_bytes(received(c), "");
    assert_int_equal(expiry_left(c.at), 0);
}

void a_no_leaves_the_grace(void **) {
    for (const char *status : {"200 OK", "401 No", "403 No"}) {
        test_client c = expiring(10);
        pass(10100);
        assert_true(asked().find("refresh") != std::string::npos);
        answer(status, "{\"expired\":true}");
        pass(24500);
        assert_bytes(received(c), "");
        assert_bytes(asked(), ""); // it has said so once
        pass(500);
        assert_bytes(received(c), goodbye);
    }
}

void a_backend_out_of_order_is_asked_again(void **) {
    test_client c = expiring(10);
    pass(10100);
    asked();
    answer("503 No", "");
    pass(4800);
    assert_bytes(asked(), "");
    pass(300);
    assert_true(asked().find("refresh") != std::string::npos);
    answer("200 OK", "{\"expires_in\":100}");
    pass(60000);
    assert_bytes(received(c), "");
}

void the_clients_own_token_is_the_newer_word(void **) {
    test_client c = expiring(10);
    pass(10100);
    asked();
    client_of(c.at)->expires_ms = bench->now_ms + 100000; // as `auth` does
    expiry_renewed(c.at);
    answer("200 OK", "{\"expired\":true}");
    pass(60000);
    assert_bytes(received(c), "");
    assert_int_equal(expiry_left(c.at), 40);
}

void behind_a_no_the_clients_own_token_begins_anew(void **) {
    test_client c = expiring(10);
    pass(10100);
    asked();
    answer("200 OK", "{\"expired\":true}");
    client_of(c.at)->expires_ms = bench->now_ms + 10000;
    expiry_renewed(c.at);
    pass(10100);
    assert_true(asked().find("refresh") != std::string::npos); // of the new one the hook has said nothing yet
    answer("200 OK", "{\"expires_in\":100}");
    pass(60000);
    assert_bytes(received(c), "");
}

void a_command_asks_at_once(void **) {
    test_client c = open_client(form_json);
    expiry_refresh(c.at);
    expiry_refresh(c.at); // one at a time
    assert_true(asked().find("refresh") != std::string::npos);
    assert_bytes(asked(), "");
    answer("200 OK", "{\"expired\":true}");
    pass(25300);
    assert_bytes(received(c), goodbye);
}

} // namespace

#define with_bench(test) cmocka_unit_test_setup_teardown(test, hook_bench_begin, hook_bench_end)

int main() {
    const CMUnitTest tests[] = {
        with_bench(without_a_hook_there_is_the_grace_alone),
        with_bench(what_never_expires_is_left_alone),
        with_bench(the_refresh_hook_renews),
        with_bench(a_no_leaves_the_grace),
        with_bench(a_backend_out_of_order_is_asked_again),
        with_bench(the_clients_own_token_is_the_newer_word),
        with_bench(behind_a_no_the_clients_own_token_begins_anew),
        with_bench(a_command_asks_at_once),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
