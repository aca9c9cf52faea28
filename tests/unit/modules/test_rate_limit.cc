// Tests of modules/rate_limit: what it counts by which key, that it gives back exactly, and GCRA to the millisecond.
//
// One thread.
#include "fake_host.h"

extern const struct belfry_module belfry_module_rate_limit;

using namespace fake_host;

namespace {

const belfry_module *module = &belfry_module_rate_limit;
std::vector<std::pair<const char *, void *>> scopes;

int finish(void **state) {
    for (const auto &scope : scopes) {
        module->scope_free(&host, scope.first, scope.second);
    }
    scopes.clear();
    return teardown(state);
}

void *scope_of(const char *section, const char *name, const std::vector<setting> &settings) {
    void *scope = scope_with(module, section, name, settings);
    if (scope) scopes.emplace_back(section, scope);
    return scope;
}

void *route(const std::vector<setting> &settings, const char *name = "/ws") {
    return scope_of("route", name, settings);
}

belfry_verdict_type handshake(const void *scope, belfry_kind kind = BELFRY_WEBSOCKET) {
    if (!scope) return BELFRY_PASS; // nobody is called for a route that they made nothing of
    return module->handshake(call_of(kind, scope), &fake->verdict);
}

// A connection's own block of state, to be switched to.
struct block {
    alignas(16) uint8_t bytes[256] = {};
};

void use(block *b) {
    fake->call.connection = b->bytes;
}

void end(block *b) {
    use(b);
    fake->call.request = nullptr;
    module->close(&fake->call);
}

int64_t counted() {
    int64_t all = 0;
    for (const auto &count : fake->counts) {
        all += count.second;
    }
    return all;
}

// ---- addresses ----

void test_connection_rate(void **) {
    void *scope = route({{"connection_rate", rate_value(10, 1000, 20)}});
    fake->call.now_ms = 77;
    assert_int_equal(handshake(scope), BELFRY_PASS);
    assert_int_equal(fake->rates.size(), 1);
    assert_int_equal(fake->rates[0].rate.amount, 10);
    assert_int_equal(fake->rates[0].rate.burst, 20);
    assert_int_equal(fake->rates[0].amount, 1);
    assert_int_equal(fake->rates[0].now_ms, 77);
    for (const auto &[wait_ms, seconds] :
         {std::pair<uint64_t, uint32_t>{1, 1}, {1000, 1}, {1001, 2}, {90000, 90}, {UINT64_MAX, UINT32_MAX}}) {
        fake->rate_wait = wait_ms;
        memset(fake->connection, 0, sizeof fake->connection);
        assert_int_equal(handshake(scope), BELFRY_DENY);
        assert_int_equal(fake->verdict.status, 429);
        assert_int_equal(fake->verdict.retry_after_s, seconds);
        ASSERT_TEXT(reason(), "too many new connections");
    }
    // A tunnel counts likewise; proxied requests don't, nor does a route without the option ask.
    fake->rates.clear();
    assert_int_equal(handshake(scope, BELFRY_TUNNEL), BELFRY_DENY);
    assert_int_equal(handshake(scope, BELFRY_HTTP), BELFRY_PASS);
    assert_int_equal(handshake(route({}), BELFRY_WEBSOCKET), BELFRY_PASS);
    assert_int_equal(fake->rates.size(), 1);
}

string rate_key(const void *scope, belfry_kind kind = BELFRY_WEBSOCKET) {
    fake->rates.clear();
    handshake(scope, kind);
    assert_int_equal(fake->rates.size(), 1);
    return fake->rates[0].key;
}

void test_keys(void **) {
    const std::vector<setting> both = {{"connection_rate", rate_value(1, 1000, 1)},
                                       {"request_rate", rate_value(1, 1000, 1)}};
    void *scope = route(both);
    const string one = rate_key(scope);
    assert_true(one == rate_key(route(both)));        // the same route after a reload
    assert_true(one != rate_key(route(both, "/w2"))); // another route
    assert_true(one != rate_key(scope, BELFRY_HTTP));
    ipv4(203, 0, 113, 8);
    assert_true(one != rate_key(scope));
    // IPv6: by /64.
    ipv6({0x2001, 0xdb8, 1, 2, 3, 4, 5, 6});
    const string six = rate_key(scope);
    ipv6({0x2001, 0xdb8, 1, 2, 0xffff, 9, 9, 9});
    assert_true(six == rate_key(scope));
    ipv6({0x2001, 0xdb8, 1, 3, 3, 4, 5, 6});
    assert_true(six != rate_key(scope));
    // Behind a unix socket nobody has an address: nothing is counted for all of them together.
    ipv6({0, 0, 0, 0, 0, 0, 0, 0});
    fake->rates.clear();
    fake->counts.clear();
    fake->rate_wait = 5;
    assert_int_equal(handshake(scope), BELFRY_PASS);
    assert_int_equal(fake->rates.size(), 0);
    assert_int_equal(fake->counts.size(), 0);
}

void test_request_rate(void **) {
    void *scope = route({{"request_rate", rate_value(5, 1000, 5)}, {"connections_per_ip", number_value(1)}});
    fake->call.user = belfry_text_of("56");
    for (int i = 0; i < 3; i++) { // the same block, as keep-alive has it
        assert_int_equal(handshake(scope, BELFRY_HTTP), BELFRY_PASS);
        assert_int_equal(module->admitted(&fake->call, &fake->verdict), BELFRY_PASS);
        assert_int_equal(counted(), 0); // a request is no connection
        module->close(&fake->call);
        assert_int_equal(counted(), 0);
    }
    assert_int_equal(fake->rates.size(), 3);
    fake->rate_wait = 200;
    assert_int_equal(handshake(scope, BELFRY_HTTP), BELFRY_DENY);
    assert_int_equal(fake->verdict.status, 429);
    assert_int_equal(fake->verdict.retry_after_s, 1);
    ASSERT_TEXT(reason(), "too many requests");
}

// A request that its backend has made a held stream comes to `admitted` again, and is a connection from there on.
void test_held_stream(void **) {
    void *scope = route({{"connections_per_ip", number_value(1)}, {"connections_per_user", number_value(1)}});
    fake->call.user = belfry_text_of("56");
    block first, second;
    for (block *one : {&first, &second}) {
        use(one);
        assert_int_equal(handshake(scope, BELFRY_HTTP), BELFRY_PASS);
        assert_int_equal(module->admitted(&fake->call, &fake->verdict), BELFRY_PASS);
        assert_int_equal(counted(), one == &first ? 0 : 2);
        (void)call_of(BELFRY_EVENTS, scope);
        const belfry_verdict_type verdict = module->admitted(&fake->call, &fake->verdict);
        assert_int_equal(verdict, one == &first ? BELFRY_PASS : BELFRY_DENY);
    }
    assert_int_equal(fake->verdict.status, 429);
    end(&second);
    assert_int_equal(counted(), 2); // the first one's address and user
    end(&first);
    assert_int_equal(counted(), 0);
}

void test_connections_per_ip(void **) {
    void *scope = route({{"connections_per_ip", number_value(2)}});
    block blocks[4];
    for (int i = 0; i < 2; i++) {
        use(&blocks[i]);
        assert_int_equal(handshake(scope), BELFRY_PASS);
    }
    use(&blocks[2]);
    assert_int_equal(handshake(scope), BELFRY_DENY);
    assert_int_equal(fake->verdict.status, 429);
    assert_true(fake->verdict.retry_after_s > 0);
    ASSERT_TEXT(reason(), "too many connections from this address");
    end(&blocks[2]); // refused ones give back too
    assert_int_equal(counted(), 2);
    // Another address, another route: their own.
    ipv4(203, 0, 113, 8);
    use(&blocks[3]);
    assert_int_equal(handshake(scope), BELFRY_PASS);
    end(&blocks[3]);
    ipv4(203, 0, 113, 7);
    end(&blocks[0]);
    blocks[2] = {};
    use(&blocks[2]);
    assert_int_equal(handshake(scope), BELFRY_PASS);
    end(&blocks[1]);
    end(&blocks[2]);
    end(&blocks[2]); // once more does no harm
    for (const auto &count : fake->counts) {
        assert_int_equal(count.second, 0);
    }
}

// What was taken under one config is given back under the next, by the same key.
void test_reload(void **) {
    block b, c;
    use(&b);
    assert_int_equal(handshake(route({{"connections_per_ip", number_value(5)}})), BELFRY_PASS);
    assert_int_equal(counted(), 1);
    void *next = route({{"connections_per_ip", number_value(1)}});
    use(&c);
    assert_int_equal(handshake(next), BELFRY_DENY);
    end(&c);
    fake->call.route = route({}, "/elsewhere");
    ipv4(9, 9, 9, 9); // the request is gone at the end; nothing of it may be looked at
    end(&b);
    assert_int_equal(fake->counts.size(), 1);
    assert_int_equal(counted(), 0);
}

// Refused by the rate: nothing was counted, and nothing is given back.
void test_refused_counts_nothing(void **) {
    void *scope = route({{"connection_rate", rate_value(1, 1000, 1)}, {"connections_per_ip", number_value(5)}});
    block b;
    use(&b);
    fake->rate_wait = 10;
    assert_int_equal(handshake(scope), BELFRY_DENY);
    end(&b);
    assert_int_equal(fake->counts.size(), 0);
}

// ---- users ----

void test_connections_per_user(void **) {
    void *scope = route({{"connections_per_user", number_value(1)}});
    block blocks[4];
    const string long_name(255, 'u');
    const string names[] = {long_name, long_name.substr(1) + "v", long_name};
    const belfry_verdict_type want[] = {BELFRY_PASS, BELFRY_PASS, BELFRY_DENY};
    for (int i = 0; i < 3; i++) {
        use(&blocks[i]);
        assert_int_equal(handshake(scope), BELFRY_PASS);
        fake->call.user = text_of(names[i]);
        assert_int_equal(module->admitted(&fake->call, &fake->verdict), want[i]);
    }
    assert_int_equal(fake->verdict.status, 429);
    assert_true(fake->verdict.retry_after_s > 0);
    ASSERT_TEXT(reason(), "too many connections of this user");
    // Nobody in particular has no limit.
    use(&blocks[3]);
    assert_int_equal(handshake(scope), BELFRY_PASS);
    fake->call.user = {};
    assert_int_equal(module->admitted(&fake->call, &fake->verdict), BELFRY_PASS);
    for (block &b : blocks) {
        end(&b);
    }
    assert_int_equal(fake->counts.size(), 3); // an address, two users
    for (const auto &count : fake->counts) {
        assert_int_equal(count.second, 0);
    }
}

// ---- messages: GCRA ----

belfry_verdict_type message_at(const void *scope, uint64_t now_ms, size_t bytes) {
    call_of(BELFRY_WEBSOCKET, scope);
    fake->call.request = nullptr;
    fake->call.now_ms = now_ms;
    fake->call.data = {nullptr, bytes};
    if (!scope) return BELFRY_PASS; // nobody is called
    return module->message(&fake->call, &fake->verdict);
}

#define ASSERT_MESSAGE(now_ms, bytes, want) assert_int_equal(message_at(scope, now_ms, bytes), want)

void test_message_rate(void **) {
    void *scope = route({{"message_rate", rate_value(10, 1000, 3)}}); // one in 100 ms, three at once
    for (int i = 0; i < 3; i++) {
        ASSERT_MESSAGE(1000, 5, BELFRY_PASS);
        assert_int_equal(fake->verdict.pause_ms, 0);
    }
    ASSERT_MESSAGE(1000, 5, BELFRY_DENY);
    assert_int_equal(fake->verdict.close_code, 4408);
    ASSERT_TEXT(reason(), "rate limit");
    ASSERT_MESSAGE(1099, 5, BELFRY_DENY); // nor has the refused one cost anything
    ASSERT_MESSAGE(1100, 5, BELFRY_PASS);
    ASSERT_MESSAGE(1199, 5, BELFRY_DENY);
    ASSERT_MESSAGE(1200, 5, BELFRY_PASS);
    ASSERT_MESSAGE(1450, 5, BELFRY_PASS); // half of the third is saved up
    ASSERT_MESSAGE(1450, 5, BELFRY_PASS);
    ASSERT_MESSAGE(1499, 5, BELFRY_DENY);
    ASSERT_MESSAGE(1500, 5, BELFRY_PASS);
    // A long rest saves no more than the burst.
    for (int i = 0; i < 3; i++) {
        ASSERT_MESSAGE(90000000, 5, BELFRY_PASS);
    }
    ASSERT_MESSAGE(90000000, 5, BELFRY_DENY);
}

// A third of a second is no whole number of anything: the burst is whole all the same.
void test_uneven_rate(void **) {
    void *scope = route({{"message_rate", rate_value(3, 1000, 3)}});
    for (int i = 0; i < 3; i++) {
        ASSERT_MESSAGE(0, 1, BELFRY_PASS);
    }
    ASSERT_MESSAGE(333, 1, BELFRY_DENY);
    ASSERT_MESSAGE(334, 1, BELFRY_PASS);
    memset(fake->connection, 0, sizeof fake->connection);
    // Over a long time exactly the rate: 7 in a minute, and the burst of 1.
    scope = route({{"message_rate", rate_value(7, 60000, 1)}});
    int passed = 0;
    for (uint64_t now_ms = 0; now_ms < 600000; now_ms++) {
        passed += message_at(scope, now_ms, 1) == BELFRY_PASS;
    }
    assert_int_equal(passed, 70);
}

void test_byte_rate(void **) {
    void *scope = route({{"byte_rate", rate_value(1000, 1000, 4000)}}); // one byte a millisecond
    ASSERT_MESSAGE(50, 4000, BELFRY_PASS);
    ASSERT_MESSAGE(50, 1, BELFRY_DENY);
    ASSERT_MESSAGE(50, 0, BELFRY_PASS); // empty ones cost no bytes
    ASSERT_MESSAGE(51, 1, BELFRY_PASS);
    ASSERT_MESSAGE(51, 1, BELFRY_DENY);
    ASSERT_MESSAGE(1050, 1000, BELFRY_DENY);
    ASSERT_MESSAGE(1051, 1000, BELFRY_PASS);
    ASSERT_MESSAGE(100000000, 4001, BELFRY_DENY); // more than the burst, ever
    ASSERT_MESSAGE(100000000, SIZE_MAX, BELFRY_DENY);
    ASSERT_MESSAGE(100000000, 4000, BELFRY_PASS);
}

// Both limits or none: what one refuses costs nothing of the other.
void test_both(void **) {
    void *scope = route({{"message_rate", rate_value(1, 1000, 2)}, {"byte_rate", rate_value(1000, 1000, 1000)}});
    ASSERT_MESSAGE(0, 1000, BELFRY_PASS);
    for (int i = 0; i < 10; i++) {
        ASSERT_MESSAGE(0, 100, BELFRY_DENY); // bytes; the second message is not spent
    }
    ASSERT_MESSAGE(100, 100, BELFRY_PASS);
    ASSERT_MESSAGE(300, 10, BELFRY_DENY); // messages; the bytes are not spent
    ASSERT_MESSAGE(1000, 900, BELFRY_PASS);
}

void test_on_limit(void **) {
    const std::vector<setting> drop = {{"message_rate", rate_value(1, 1000, 1)}, {"on_limit", number_value(1)}};
    void *scope = route(drop);
    ASSERT_MESSAGE(0, 1, BELFRY_PASS);
    ASSERT_MESSAGE(0, 1, BELFRY_DENY);
    assert_int_equal(fake->verdict.close_code, 0);
    ASSERT_MESSAGE(1000, 1, BELFRY_PASS);

    memset(fake->connection, 0, sizeof fake->connection);
    scope = route({{"message_rate", rate_value(2, 1000, 2)}, {"on_limit", number_value(2)}});
    const uint32_t pauses[] = {0, 0, 500, 1000}; // what is read already passes, and is paid for later
    for (uint32_t pause : pauses) {
        ASSERT_MESSAGE(0, 1, BELFRY_PASS);
        assert_int_equal(fake->verdict.pause_ms, pause);
    }
    ASSERT_MESSAGE(1000, 1, BELFRY_PASS);
    assert_int_equal(fake->verdict.pause_ms, 500);
    // The larger pause of the two, and a minute at most.
    memset(fake->connection, 0, sizeof fake->connection);
    scope = route({{"message_rate", rate_value(2, 1000, 1)},
                   {"byte_rate", rate_value(1000, 1000, 1000)},
                   {"on_limit", number_value(2)}});
    ASSERT_MESSAGE(0, 1000, BELFRY_PASS);
    ASSERT_MESSAGE(0, 1234, BELFRY_PASS);
    assert_int_equal(fake->verdict.pause_ms, 1234);
    ASSERT_MESSAGE(0, 16 << 20, BELFRY_PASS);
    assert_int_equal(fake->verdict.pause_ms, 60000);
}

// The ends of the numbers: nothing wraps around into a grant or an endless refusal.
void test_extremes(void **) {
    const int64_t most = INT64_MAX;
    // A burst without end.
    void *scope = route({{"message_rate", rate_value(1, 3600000, most)}});
    for (int i = 0; i < 100; i++) {
        ASSERT_MESSAGE(5, 1, BELFRY_PASS);
    }
    // A rate without end.
    memset(fake->connection, 0, sizeof fake->connection);
    scope = route({{"byte_rate", rate_value(most, 1000, most)}});
    for (int i = 0; i < 100; i++) {
        ASSERT_MESSAGE(5, 1 << 30, BELFRY_PASS);
    }
    // The slowest rate, the largest message, a clock at its end.
    memset(fake->connection, 0, sizeof fake->connection);
    scope = route({{"byte_rate", rate_value(1, 3600000, 1)}});
    ASSERT_MESSAGE(0, SIZE_MAX, BELFRY_DENY);
    const uint64_t last = UINT64_MAX / 1000000;
    ASSERT_MESSAGE(last - 3600000, 1, BELFRY_PASS);
    ASSERT_MESSAGE(last - 1, 1, BELFRY_DENY);
    ASSERT_MESSAGE(last, 1, BELFRY_PASS);
    ASSERT_MESSAGE(UINT64_MAX, 1, BELFRY_PASS);
    // Slow: the debt saturates, and the pause is bounded still.
    memset(fake->connection, 0, sizeof fake->connection);
    scope = route({{"byte_rate", rate_value(1, 3600000, 1)}, {"on_limit", number_value(2)}});
    for (int i = 0; i < 3; i++) {
        ASSERT_MESSAGE(7, SIZE_MAX, BELFRY_PASS);
        assert_int_equal(fake->verdict.pause_ms, 60000);
    }
    // 2^52 bytes cost a multiple of 2^64 ns, which is no small change.
    memset(fake->connection, 0, sizeof fake->connection);
    ASSERT_MESSAGE(7, size_t{1} << 52, BELFRY_PASS);
    assert_int_equal(fake->verdict.pause_ms, 60000);
    ASSERT_MESSAGE(7, 1, BELFRY_PASS);
    assert_int_equal(fake->verdict.pause_ms, 60000);
    // Without limits the state stays untouched.
    const block zero;
    memset(fake->connection, 0, sizeof fake->connection);
    scope = route({{"on_limit", number_value(2)}});
    ASSERT_MESSAGE(7, SIZE_MAX, BELFRY_PASS);
    assert_int_equal(fake->verdict.pause_ms, 0);
    assert_memory_equal(fake->connection, zero.bytes, sizeof zero.bytes);
    assert_in_range(module->conn_size, 1, 256);
}

// ---- publishes ----

belfry_verdict_type publish(const void *scope, const void *room, const string &room_name) {
    call_of(BELFRY_WEBSOCKET, scope);
    fake->call.request = nullptr;
    fake->call.room = room;
    fake->call.room_name = text_of(room_name);
    fake->rates.clear();
    return module->publish(&fake->call, &fake->verdict);
}

void test_room_rate(void **) {
    void *scope = route({});
    assert_null(scope_of("room", "chat:*", {})); // nothing to keep
    ASSERT_TEXT(fake->error, "");
    void *room = scope_of("room", "chat:*", {{"message_rate", rate_value(5, 1000, 5)}});
    assert_int_equal(publish(scope, nullptr, "chat:1"), BELFRY_PASS);
    assert_int_equal(fake->rates.size(), 0);
    assert_int_equal(publish(scope, room, "chat:1"), BELFRY_PASS);
    assert_int_equal(fake->rates.size(), 1);
    assert_int_equal(fake->rates[0].rate.amount, 5);
    const string one = fake->rates[0].key;
    publish(route({}, "/other"), room, "chat:1");
    assert_true(one == fake->rates[0].key); // a room is one, whichever route leads to it
    publish(scope, room, "chat:2");
    assert_true(one != fake->rates[0].key);
    publish(scope, room, string(255, 'r'));
    assert_int_equal(fake->rates[0].key.size(), 267);
    fake->rate_wait = 1500;
    assert_int_equal(publish(scope, room, "chat:1"), BELFRY_DENY);
    assert_int_equal(fake->verdict.status, 429);
    // One who floods a room must not get its other publishers closed.
    assert_int_equal(fake->verdict.close_code, 0);
    ASSERT_TEXT(reason(), "too many messages in this room");
}

// What was taken at another rate is none of this one's: the counter, or the connection's, begins anew.
void test_rates_that_a_reload_changes(void **) {
    void *scope = route({{"message_rate", rate_value(1, 3600000, 1)}});
    ASSERT_MESSAGE(1000, 1, BELFRY_PASS);
    ASSERT_MESSAGE(1000, 1, BELFRY_DENY);
    scope = route({{"message_rate", rate_value(1, 3600000, 1)}, {"on_limit", number_value(1)}});
    ASSERT_MESSAGE(1000, 1, BELFRY_DENY); // the same rate
    scope = route({{"message_rate", rate_value(1000, 1000, 2)}});
    ASSERT_MESSAGE(1000, 1, BELFRY_PASS);
    ASSERT_MESSAGE(1000, 1, BELFRY_PASS);
    ASSERT_MESSAGE(1000, 1, BELFRY_DENY);
    const string one = rate_key(route({{"connection_rate", rate_value(1, 1000, 1)}}));
    assert_true(one != rate_key(route({{"connection_rate", rate_value(2, 1000, 1)}})));
    const auto room_key = [&](int64_t amount) {
        publish(nullptr, scope_of("room", "chat:*", {{"message_rate", rate_value(amount, 1000, 5)}}), "chat:1");
        return fake->rates[0].key;
    };
    assert_true(room_key(5) == room_key(5));
    assert_true(room_key(5) != room_key(6));
}

// Without a handshake of its own: nothing was counted, nothing is counted down.
void test_limits_that_a_reload_brings(void **) {
    block b;
    use(&b);
    void *scope = route({{"connections_per_ip", number_value(5)}, {"connections_per_user", number_value(5)}});
    call_of(BELFRY_WEBSOCKET, scope);
    fake->call.user = belfry_text_of("56");
    assert_int_equal(module->admitted(&fake->call, &fake->verdict), BELFRY_PASS);
    module->close(&fake->call);
    assert_int_equal(fake->counts.size(), 0);
}

void test_user_rate(void **) {
    void *scope = route({{"user_message_rate", rate_value(5, 1000, 5)}});
    fake->call.user = {};
    assert_int_equal(publish(scope, nullptr, "chat:1"), BELFRY_PASS);
    assert_int_equal(fake->rates.size(), 0); // nobody known
    fake->call.user = belfry_text_of("56");
    assert_int_equal(publish(scope, nullptr, "chat:1"), BELFRY_PASS);
    assert_int_equal(fake->rates.size(), 1);
    const string one = fake->rates[0].key;
    block other;
    use(&other); // the same user's other connection
    publish(scope, nullptr, "chat:2");
    assert_true(one == fake->rates[0].key);
    block third;
    use(&third);
    fake->call.user = belfry_text_of("57");
    publish(scope, nullptr, "chat:1");
    assert_true(one != fake->rates[0].key);
    fake->rate_wait = 1;
    assert_int_equal(publish(scope, nullptr, "chat:1"), BELFRY_DENY);
    assert_int_equal(fake->verdict.status, 429);
    assert_int_equal(fake->verdict.close_code, 4408);
    ASSERT_TEXT(reason(), "too many messages of this user");
    scope = route({{"user_message_rate", rate_value(5, 1000, 5)}, {"on_limit", number_value(1)}});
    assert_int_equal(publish(scope, nullptr, "chat:1"), BELFRY_DENY);
    assert_int_equal(fake->verdict.close_code, 0);
}

} // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_connection_rate, setup, finish),
        cmocka_unit_test_setup_teardown(test_keys, setup, finish),
        cmocka_unit_test_setup_teardown(test_request_rate, setup, finish),
        cmocka_unit_test_setup_teardown(test_held_stream, setup, finish),
        cmocka_unit_test_setup_teardown(test_connections_per_ip, setup, finish),
        cmocka_unit_test_setup_teardown(test_reload, setup, finish),
        cmocka_unit_test_setup_teardown(test_rates_that_a_reload_changes, setup, finish),
        cmocka_unit_test_setup_teardown(test_limits_that_a_reload_brings, setup, finish),
        cmocka_unit_test_setup_teardown(test_refused_counts_nothing, setup, finish),
        cmocka_unit_test_setup_teardown(test_connections_per_user, setup, finish),
        cmocka_unit_test_setup_teardown(test_message_rate, setup, finish),
        cmocka_unit_test_setup_teardown(test_uneven_rate, setup, finish),
        cmocka_unit_test_setup_teardown(test_byte_rate, setup, finish),
        cmocka_unit_test_setup_teardown(test_both, setup, finish),
        cmocka_unit_test_setup_teardown(test_on_limit, setup, finish),
        cmocka_unit_test_setup_teardown(test_extremes, setup, finish),
        cmocka_unit_test_setup_teardown(test_room_rate, setup, finish),
        cmocka_unit_test_setup_teardown(test_user_rate, setup, finish),
    };
    return cmocka_run_group_tests_name("rate_limit", tests, nullptr, nullptr);
}
