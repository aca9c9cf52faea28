// The Redis broker's canary: a message to the node's own channel every two seconds, over the publisher, through Redis
// and back over the subscriber. A connection that answers its PINGs may still deliver nothing (a proxy in between, a
// cluster's bus that is cut, a subscriber on a server that nobody publishes to any more); a canary that does not come
// back within ping_timeout says so, and how long it takes otherwise is how late messages are.
//
//   canary TOKEN NUMBER
//
// TOKEN names the process: while one is upgraded, its successor has the same node id and so the same channel. Main
// thread.
#include "relay/broker_redis_impl.h"

#include "base/hash.h"
#include "base/log.h"

#include <stdio.h>

namespace belfry {

static constexpr view word = "canary ";
static constexpr uint64_t interval_ms = 2000;

void redis_canary_init(redis_broker *b) {
    uint64_t random;
    random_bytes(&random, sizeof random);
    b->canary = {};
    b->canary.interval_ms = interval_ms;
    snprintf(b->canary.token, sizeof b->canary.token, "%016llx", static_cast<unsigned long long>(random));
}

// Redis does not let this user publish there: that says nothing about what is subscribed.
static void refused(redis_broker *b, view why) {
    static log_limit limit;
    uint64_t held = 0;
    b->canary.sent_ns = 0;
    b->head.canary.missing = false;
    if (log_limit_pass(&limit, &held))
        log_warn("broker: Redis refuses the canary, so it is not known whether messages come through: %.*s (%llu more "
                 "not shown)",
                 static_cast<int>(why.size()), why.data(), static_cast<unsigned long long>(held));
}

static void on_sent(redis *, const redis_value *reply, void *context, uint64_t number) {
    auto *b = static_cast<redis_broker *>(context);
    if (!b->closing && reply && reply->type == redis_type::error && number == b->canary.number) refused(b, reply->text);
}

static void send(redis_broker *b, uint64_t now_ms) {
    canary_flight *c = &b->canary;
    char text[64];
    int size =
        snprintf(text, sizeof text, "%s%s %llu", word.data(), c->token, static_cast<unsigned long long>(c->number + 1));
    view argv[3] = {"PUBLISH", b->node_channel, view(text, static_cast<size_t>(size))};
    c->next_ms = now_ms + c->interval_ms; // also where it can't be sent now
    if (!redis_broker_send(b, b->node_channel, 3, argv, on_sent, b, c->number + 1)) return;
    c->number++;
    c->sent_ns = clock_monotonic_ns();
    c->since_ms = now_ms;
    b->head.canary.sent++;
}

// The next one is sent all the same: its coming back ends it.
static void give_up(redis_broker *b) {
    broker_canary *n = &b->head.canary;
    b->canary.sent_ns = 0;
    n->lost++;
    if (!n->missing)
        log_warn("broker: the subscription does not deliver: a canary did not come back within %lld ms",
                 static_cast<long long>(b->settings.redis.ping_timeout_ms));
    n->missing = true;
}

void redis_canary_turn(redis_broker *b) {
    canary_flight *c = &b->canary;
    const uint64_t now = b->on->clock.monotonic_ms;
    if (c->paused) return;
    if (c->sent_ns && now >= c->since_ms + static_cast<uint64_t>(b->settings.redis.ping_timeout_ms)) give_up(b);
    if (!c->sent_ns && now >= c->next_ms) send(b, now);
}

void redis_canary_end(redis_broker *b) {
    b->canary.sent_ns = 0;
    b->canary.next_ms = 0;
    b->head.canary.missing = false;
}

// What was not read meanwhile is not overdue; but it is late, and counts so.
void redis_canary_pause(redis_broker *b, bool paused) {
    b->canary.paused = paused;
    b->canary.since_ms = b->on->clock.monotonic_ms;
}

bool redis_canary_heard(redis_broker *b, view bytes) {
    canary_flight *c = &b->canary;
    broker_canary *n = &b->head.canary;
    if (!bytes.starts_with(word)) return false;
    bytes.remove_prefix(word.size());
    const view token(c->token);
    uint64_t number = 0;
    if (!bytes.starts_with(token) || bytes.substr(token.size(), 1) != " " ||
        !bytes_parse_uint(bytes.substr(token.size() + 1), &number))
        return true; // another process's
    if (n->missing) log_info("broker: the subscription delivers again");
    n->missing = false;
    n->heard++;
    n->heard_ms = b->on->clock.monotonic_ms;
    if (number != c->number || !c->sent_ns) return true; // given up before
    histogram_add(&n->round_trips, clock_monotonic_ns() - c->sent_ns);
    c->sent_ns = 0;
    return true;
}

} // namespace belfry
