// Which of option, files and memory bounds the connections.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
extern "C" {
#include <cmocka.h>
}

#include "main/limits.h"

#include <sys/resource.h>

using namespace belfry;

namespace {

constexpr uint64_t gib = 1 << 30;

void the_option(void **) {
    process_limits l = limits_of(1000000, 100, 64 * gib, true, 100000);
    assert_int_equal(l.max_connections, 100000);
    assert_string_equal(l.bound, "max_connections");
    assert_int_equal(l.files, 1000000);
    assert_int_equal(l.memory, 64 * gib);
}

void files(void **) {
    process_limits l = limits_of(1024, 100, 64 * gib, true, 100000);
    assert_int_equal(l.max_connections, 924);
    assert_string_equal(l.bound, "files");
    assert_int_equal(limits_of(100, 100, 64 * gib, true, 5).max_connections, 1);
    assert_int_equal(limits_of(10, 100, 64 * gib, true, 5).max_connections, 1);
    assert_int_equal(limits_of(UINT64_MAX, 100, 64 * gib, true, 5).max_connections, 5);
}

void memory(void **) {
    process_limits l = limits_of(1000000, 100, gib / 2, true, 100000);
    assert_int_equal(l.max_connections, gib / 2 / 4 * 3 / 16384);
    assert_string_equal(l.bound, "memory");
    l = limits_of(1000000, 100, gib / 2, false, 100000); // plain ones are smaller
    assert_int_equal(l.max_connections, 100000);
    assert_int_equal(limits_of(1000000, 100, 0, true, 100000).max_connections, 1);
}

void applied(void **) {
    config c = {};
    c.worker_count = 2;
    c.core.max_connections = 16000000;
    c.relay.listeners.push_back({});
    c.relay.listeners[0].listen = {"127.0.0.1:0", "127.0.0.1:1"};
    process_limits l = limits_apply(&c);
    struct rlimit r;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &r), 0);
    assert_int_equal(r.rlim_cur, r.rlim_max);
    assert_int_equal(l.files, r.rlim_max);
    assert_int_equal(l.files_reserved, 64 + 2 * 2 + 8 * 2);
    assert_int_equal(c.relay.max_connections, l.max_connections);
    assert_int_equal(l.per_connection, connection_bytes_plain);
    c.relay.listeners[0].tls = true;
    assert_int_equal(limits_apply(&c).per_connection, connection_bytes_tls);
    // Idle connections to backends take a quarter at most.
    c.relay.upstreams.push_back({});
    c.relay.upstreams[0].keepalive = 1000000;
    c.relay.upstreams[0].servers.resize(3);
    assert_int_equal(limits_apply(&c).files_reserved, 64 + 4 + 16 + r.rlim_max / 4);
    c.relay.upstreams[0].keepalive = 2;
    assert_int_equal(limits_apply(&c).files_reserved, 64 + 4 + 16 + 2 * 3 * 2);
}

} // namespace

int main() {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_option),
        cmocka_unit_test(files),
        cmocka_unit_test(memory),
        cmocka_unit_test(applied),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
