// Names to addresses: numeric ones and the hosts file; a name that does not exist; a question that is dropped.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
extern "C" {
#include <cmocka.h>
}

#include "base/clock.h"
#include "net/resolve.h"

#include <string>
#include <unistd.h>
#include <vector>

using namespace belfry;

namespace {

loop *on;
struct {
    int calls;
    std::vector<std::string> found;
    std::string why;
} answer;

void on_done(const address *found, size_t count, const char *why, void *context) {
    assert_ptr_equal(context, &answer);
    answer.calls++;
    for (size_t i = 0; i < count; i++)
        answer.found.push_back(
            address_format(reinterpret_cast<const sockaddr *>(&found[i].storage), found[i].size).text);
    answer.why = why != nullptr ? why : "";
}

void turn_until_called(int ms) {
    const uint64_t end = clock_monotonic_ns() + static_cast<uint64_t>(ms) * 1000000;
    while (answer.calls == 0 && clock_monotonic_ns() < end) {
        loop_turn(on, false);
        usleep(500);
    }
}

void ask(const char *host) {
    answer = {};
    resolve *r = resolve_start(on, host, 6379, on_done, &answer);
    assert_non_null(r);
    assert_int_equal(answer.calls, 0); // never from within
    turn_until_called(10000);
    assert_int_equal(answer.calls, 1);
}

void test_numeric(void **) {
    ask("192.0.2.7");
    assert_int_equal(answer.found.size(), 1);
    assert_string_equal(answer.found[0].c_str(), "192.0.2.7:6379");
    ask("2001:db8::7");
    assert_int_equal(answer.found.size(), 1);
    assert_string_equal(answer.found[0].c_str(), "[2001:db8::7]:6379");
}

void test_hosts_file(void **) {
    ask("localhost");
    bool loopback = false;
    for (const std::string &a : answer.found)
        loopback = loopback || a == "127.0.0.1:6379" || a == "[::1]:6379";
    assert_true(loopback);
}

void test_unknown(void **) {
    ask("no-such-host.invalid"); // RFC 6761 section 6.4; also right where there is no name server at all
    assert_int_equal(answer.found.size(), 0);
    assert_true(answer.why.size() > 3);
}

void test_cancel(void **) {
    for (const char *host : {"192.0.2.7", "localhost", "no-such-host.invalid"})
        for (int turns : {0, 1}) {
            answer = {};
            resolve *r = resolve_start(on, host, 1, on_done, &answer);
            for (int i = 0; i < turns && answer.calls == 0; i++)
                loop_turn(on, false);
            if (answer.calls == 0) resolve_cancel(r);
            const int before = answer.calls;
            turn_until_called(before == 0 ? 200 : 0);
            assert_int_equal(answer.calls, before);
        }
    resolve_cancel(nullptr);
}

int set_up(void **) {
    on = loop_new();
    return 0;
}

int tear_down(void **) {
    answer.calls = 0;
    turn_until_called(2 * resolve_linger_ms); // so that a leak would be one
    loop_free(on);
    return 0;
}

} // namespace

int main() {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_numeric, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_hosts_file, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_unknown, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_cancel, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
