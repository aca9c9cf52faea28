// Active health checks: a GET over a connection of its own, again and again, from the main loop. A check belongs to its
// server; main thread.
#include "base/hash.h"
#include "base/log.h"
#include "relay/upstream_shared.h"

namespace belfry {

static constexpr uint8_t failures_out = 2; // in a row

struct server_check {
    shared_server *of; // borrowed
    http_link link;
    deadline next, limit; // of the next check; of the one that runs
    uint32_t turn;        // through the addresses
    uint8_t failures;
};

static const upstream_settings *settings_of(const server_check *c) {
    return c->of->of->settings;
}

static uint64_t now_of(const server_check *c) {
    return c->of->of->on->clock.monotonic_ms;
}

// A tenth more or less, so that the checks of many nodes do not fall into step.
static void schedule(server_check *c) {
    const auto interval = static_cast<uint64_t>(settings_of(c)->health_interval);
    const uint64_t jitter = interval / 5 ? random_below(static_cast<uint32_t>(interval / 5)) : 0;
    wheel_set(c->of->of->deadlines, &c->next.timer, now_of(c), interval - interval / 10 + jitter);
}

static void done(server_check *c, bool good, const char *why) {
    server_health *h = &c->of->health;
    const char *upstream_name = settings_of(c)->name.c_str(), *server = c->of->settings->text.c_str();
    wheel_cancel(c->of->of->deadlines, &c->limit.timer);
    http_link_close(&c->link);
    schedule(c);
    if (good) {
        c->failures = 0;
        if (h->sick.exchange(false, std::memory_order_relaxed)) {
            h->back_since_ms.store(now_of(c), std::memory_order_relaxed);
            log_info("upstream %s: %s passes its health checks again", upstream_name, server);
        }
        server_back(c->of, now_of(c));
        return;
    }
    if (c->failures < failures_out) c->failures++;
    if (c->failures == failures_out && !h->sick.exchange(true, std::memory_order_relaxed))
        log_warn("upstream %s: %s is out by its health checks: %s", upstream_name, server, why);
}

static server_check *check_of(http_link *l) {
    return static_cast<server_check *>(l->owner);
}

static void on_connected(http_link *l) {
    server_check *c = check_of(l);
    buffer head = {};
    buffer_append(&head, "GET ");
    buffer_append(&head, settings_of(c)->health_check);
    buffer_append(&head, " HTTP/1.1\r\nHost: ");
    upstream_host(settings_of(c), c->of->settings, &head);
    buffer_append(&head, "\r\nUser-Agent: belfry\r\nConnection: close\r\n\r\n");
    http_link_begin(l, "GET");
    http_link_send(l, frame_copy(buffer_view(&head)));
    http_link_request_done(l);
    buffer_free(&head);
}

static void on_head(http_link *l, const http1_response *r) {
    if (r->status < 200 && r->status != 101) return;
    char why[32];
    snprintf(why, sizeof why, "status %d", r->status);
    done(check_of(l), r->status >= 200 && r->status < 400, why);
}

static void on_body(http_link *, view) {} // the head closes the link
static void on_end(http_link *) {}

static void on_failed(http_link *l, http_failure, const char *why) {
    done(check_of(l), false, why);
}

static const http_link_events events = {on_connected, on_head, on_body, on_end, on_failed, nullptr};

static void on_limit(deadline *d) {
    done(BELFRY_CONTAINER_OF(d, server_check, limit), false, "health_timeout passed");
}

static void begin(deadline *d) {
    server_check *c = BELFRY_CONTAINER_OF(d, server_check, next);
    upstream_shared *u = c->of->of;
    const server_settings *o = c->of->settings;
    const std::vector<address> &addresses = c->of->addresses; // this thread alone writes them
    if (addresses.empty())
        return c->of->resolved == resolve_state::failed ? done(c, false, "no address is known") : schedule(c);
    const address *to = &addresses[c->turn++ % addresses.size()];
    const std::string &name = settings_of(c)->tls_name.empty() ? o->host : settings_of(c)->tls_name;
    error e;
    if (!http_link_open(&c->link, u->on, &u->chunks, to, o->tls ? u->tls : nullptr, name.c_str(), &events, c, &e))
        return done(c, false, e.text);
    wheel_set(u->deadlines, &c->limit.timer, now_of(c), static_cast<uint64_t>(settings_of(c)->health_timeout));
}

server_check *server_check_new(shared_server *s) {
    auto *c = new server_check{};
    c->of = s;
    deadline_init(&c->next, begin);
    deadline_init(&c->limit, on_limit);
    // The first ones come at once: a server that was dead before the start is known after two of them.
    wheel_set(s->of->deadlines, &c->next.timer, now_of(c), 0);
    return c;
}

void server_check_free(server_check *c) {
    if (!c) return;
    wheel_cancel(c->of->of->deadlines, &c->next.timer);
    wheel_cancel(c->of->of->deadlines, &c->limit.timer);
    http_link_close(&c->link);
    delete c;
}

} // namespace belfry
