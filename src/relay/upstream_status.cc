// What GET /v1/upstreams says of one upstream: servers, their health, the load of all workers. Main thread; it reads
// the workers' numbers while they count.
#include "proto/json.h"
#include "relay/upstream_pool.h"

namespace belfry {

const char *upstream_failure_name(upstream_failure f) {
    static const char *const names[] = {"no_server", "queue_full", "queue_timeout", "connect",
                                        "timeout",   "closed",     "malformed"};
    return names[static_cast<size_t>(f)];
}

int upstream_failure_status(upstream_failure f) {
    if (f == upstream_failure::queue_full || f == upstream_failure::queue_timeout) return 503;
    return f == upstream_failure::timeout ? 504 : 502;
}

static const char *state_of(const shared_server *s, uint64_t now) {
    if (s->settings->down) return "draining";
    if (s->health.sick.load(std::memory_order_relaxed) || s->health.out_until_ms.load(std::memory_order_relaxed) != 0)
        return "down";
    return server_ramp(s, now) < 1000 ? "starting" : "up";
}

static uint64_t sum(const upstream_shared *u, uint32_t server, upstream_number upstream_server::*which) {
    uint64_t all = 0;
    for (const std::atomic<upstream *> &one : u->workers)
        if (const upstream *half = one.load(std::memory_order_acquire))
            all += number_get(&(half->servers[server].*which));
    return all;
}

static uint64_t sum(const upstream_shared *u, upstream_number upstream::*which) {
    uint64_t all = 0;
    for (const std::atomic<upstream *> &one : u->workers)
        if (const upstream *half = one.load(std::memory_order_acquire)) all += number_get(&(half->*which));
    return all;
}

static void write_number(buffer *out, const char *name, uint64_t value) {
    buffer_printf(out, ",\"%s\":%llu", name, static_cast<unsigned long long>(value));
}

upstream_status upstream_status_of(const upstream_shared *u) {
    const uint64_t now = u->on->clock.monotonic_ms;
    upstream_status all = {};
    all.name = u->settings->name;
    all.running = sum(u, &upstream::running);
    all.queued = sum(u, &upstream::queued);
    all.queue_full = sum(u, &upstream::queue_full);
    all.queue_timeouts = sum(u, &upstream::queue_timeouts);
    for (uint32_t i = 0; i < u->count; i++)
        all.servers.push_back({u->servers[i].settings->text, state_of(&u->servers[i], now),
                               sum(u, i, &upstream_server::inflight), sum(u, i, &upstream_server::requests),
                               sum(u, i, &upstream_server::failures), sum(u, i, &upstream_server::kept)});
    return all;
}

static void write_server(const upstream_shared *u, uint32_t i, const upstream_server_status *n, buffer *out) {
    const shared_server *s = &u->servers[i];
    buffer_append(out, i ? ",{\"server\":" : "{\"server\":");
    json_write_string(out, s->settings->text);
    buffer_printf(out, ",\"state\":\"%s\"", n->state);
    write_number(out, "weight", s->settings->weight);
    buffer_printf(out, ",\"backup\":%s", s->settings->backup ? "true" : "false");
    write_number(out, "inflight", n->inflight);
    write_number(out, "requests", n->requests);
    write_number(out, "failures", n->failures);
    write_number(out, "idle", n->idle);
    buffer_append(out, ",\"addresses\":[");
    for (size_t a = 0; a < s->addresses.size(); a++) { // this thread alone writes them
        const address *at = &s->addresses[a];
        if (a) buffer_append_char(out, ',');
        json_write_string(out, address_format(reinterpret_cast<const struct sockaddr *>(&at->storage), at->size).text);
    }
    buffer_append(out, "]}");
}

// As a worker would choose, but that no trial is begun.
static int server_of_key(const upstream_shared *u, view key, uint64_t now) {
    uint64_t good = 0;
    for (uint32_t i = 0; i < u->count; i++)
        if (!u->servers[i].settings->down && !server_out(&u->servers[i], now)) good |= uint64_t{1} << i;
    return upstream_server_of_key(u, balancer_key_hash(key), good, now);
}

void upstream_status_write(const upstream_shared *u, const view *key, buffer *out) {
    const upstream_status all = upstream_status_of(u);
    buffer_append(out, "{\"name\":");
    json_write_string(out, all.name);
    buffer_append(out, ",\"servers\":[");
    for (uint32_t i = 0; i < u->count; i++)
        write_server(u, i, &all.servers[i], out);
    buffer_append_char(out, ']');
    write_number(out, "running", all.running);
    write_number(out, "queued", all.queued);
    write_number(out, "queue_full", all.queue_full);
    write_number(out, "queue_timeouts", all.queue_timeouts);
    if (key) {
        const int i = server_of_key(u, *key, u->on->clock.monotonic_ms);
        buffer_append(out, ",\"key_server\":");
        if (i < 0)
            buffer_append(out, "null");
        else
            json_write_string(out, u->settings->servers[static_cast<size_t>(i)].text);
    }
    buffer_append_char(out, '}');
}

} // namespace belfry
