// Servers, links and the choice among them, for one worker. On its thread.
#include "relay/upstream_pool.h"

#include <bit>

namespace belfry {

static uint64_t now_of(const upstream *u) {
    return u->on->loop->clock.monotonic_ms;
}

// ---------------------------------------------------------------- which server

static uint64_t fit(const upstream *u, uint64_t among, uint64_t now) {
    uint64_t good = 0;
    for (uint64_t left = among; left; left &= left - 1) {
        const int i = std::countr_zero(left);
        if (!server_out(u->servers[i].shared, now)) good |= uint64_t{1} << i;
    }
    return good;
}

// Those that failed calls, but none that the health checks have taken out.
static uint64_t not_sick(const upstream *u, uint64_t among) {
    uint64_t good = 0;
    for (uint64_t left = among; left; left &= left - 1) {
        const int i = std::countr_zero(left);
        if (!u->servers[i].shared->health.sick.load(std::memory_order_relaxed)) good |= uint64_t{1} << i;
    }
    return good;
}

// Smooth weighted round-robin: each gains its weight, the richest pays the sum.
static int next_in_turn(upstream *u, uint64_t among, uint64_t now) {
    int best = -1;
    int64_t total = 0;
    for (uint64_t left = among; left; left &= left - 1) {
        const int i = std::countr_zero(left);
        upstream_server *s = &u->servers[i];
        const int64_t weight = int64_t{s->shared->settings->weight} * server_ramp(s->shared, now);
        s->balance += weight;
        total += weight;
        if (best < 0 || s->balance > u->servers[best].balance) best = i;
    }
    u->servers[best].balance -= total;
    return best;
}

int upstream_pick(upstream *u, upstream_call *c) {
    const uint64_t now = now_of(u);
    for (uint64_t left = ~c->tried;;) {
        bool forced = false;
        uint64_t good = fit(u, u->primary & left, now);
        if (!good) good = fit(u, u->backup & left, now);
        // Better one more failure than refusing everybody until fail_timeout is over.
        if (!good && (c->attempts == 0 || c->other_address || c->fresh)) {
            forced = true;
            good = not_sick(u, u->primary & left);
            if (!good) good = not_sick(u, u->backup & left);
        }
        if (!good) return -1;
        const int i = c->has_key ? upstream_server_of_key(u->shared, static_cast<uint32_t>(c->hash), good, now)
                                 : next_in_turn(u, good, now);
        bool trial = false;
        if (server_enter(u->servers[i].shared, now, forced, &trial)) {
            c->trial = trial;
            return i;
        }
        left &= ~(uint64_t{1} << i);
    }
}

void upstream_refresh(upstream *u) {
    const uint64_t generation = u->shared->generation.load(std::memory_order_acquire);
    if (generation == u->generation) return;
    u->generation = generation;
    for (uint32_t i = 0; i < u->count; i++) {
        shared_server *s = u->servers[i].shared;
        const std::lock_guard<std::mutex> hold(s->lock);
        u->servers[i].resolved = s->resolved;
        u->servers[i].addresses = s->addresses;
    }
}

// ---------------------------------------------------------------- links

static pooled_link *of_place(struct link *place) {
    return BELFRY_CONTAINER_OF(place, pooled_link, place);
}

static void leave_idle(pooled_link *l) {
    list_remove(&l->place);
    wheel_cancel(&l->of->on->deadlines, &l->expiry.timer);
    number_add(&l->server->kept, -1);
}

static void on_expiry(deadline *d) {
    pool_discard(BELFRY_CONTAINER_OF(d, pooled_link, expiry));
}

pooled_link *pool_take(upstream_server *s) {
    if (list_empty(&s->idle)) return nullptr;
    pooled_link *l = of_place(s->idle.previous);
    leave_idle(l);
    l->kept = true;
    return l;
}

pooled_link *pool_open(upstream *u, upstream_server *s, const http_link_events *events, error *e) {
    const server_settings *o = s->shared->settings;
    const std::string &name = u->settings->tls_name.empty() ? o->host : u->settings->tls_name;
    const address *to = &s->addresses[s->address_next++ % s->addresses.size()];
    auto *l = new pooled_link{};
    l->of = u;
    l->server = s;
    list_init(&l->place);
    deadline_init(&l->expiry, on_expiry);
    if (http_link_open(&l->http, u->on->loop, &u->on->chunk_slab, to, o->tls ? u->tls : nullptr, name.c_str(), events,
                       l, e))
        return l;
    delete l;
    return nullptr;
}

void pool_put(pooled_link *l) {
    upstream *u = l->of;
    l->call = nullptr;
    if (u->retired || !http_link_reusable(&l->http) ||
        number_get(&l->server->kept) >= static_cast<uint64_t>(u->settings->keepalive))
        return pool_discard(l);
    list_push_back(&l->server->idle, &l->place);
    number_add(&l->server->kept, 1);
    wheel_set(&u->on->deadlines, &l->expiry.timer, now_of(u), static_cast<uint64_t>(u->settings->keepalive_timeout));
}

void pool_discard(pooled_link *l) {
    if (!list_empty(&l->place)) leave_idle(l);
    http_link_close(&l->http);
    l->call = nullptr;
    list_push_back(&l->of->buried, &l->place);
    later_post(&l->of->later);
}

void pool_bury(upstream *u) {
    while (!list_empty(&u->buried)) {
        pooled_link *l = of_place(u->buried.next);
        list_remove(&l->place);
        delete l;
    }
}

// ---------------------------------------------------------------- life

upstream *upstream_new(shard *on, const upstream_settings *settings, upstream_shared *shared) {
    auto *u = new upstream{};
    u->on = on;
    u->settings = shared->settings;
    u->shared = shared;
    upstream_aim(u, settings);
    u->count = shared->count;
    u->servers = new upstream_server[u->count]{};
    for (struct link *l : {&u->waiting, &u->due, &u->over, &u->resolving, &u->buried})
        list_init(l);
    deadline_init(&u->poll, upstream_look);
    later_init(&u->later, &on->loop->laters, upstream_work);
    for (uint32_t i = 0; i < u->count; i++) {
        upstream_server *s = &u->servers[i];
        s->shared = &shared->servers[i];
        s->index = static_cast<uint8_t>(i);
        list_init(&s->idle);
        if (s->shared->settings->down) continue;
        (s->shared->settings->backup ? u->backup : u->primary) |= uint64_t{1} << i;
    }
    shared->halves.fetch_add(1, std::memory_order_relaxed);
    shared->workers[on->index].store(u, std::memory_order_release);
    return u;
}

void upstream_free(upstream *u) {
    u->shared->workers[u->on->index].store(nullptr, std::memory_order_relaxed);
    for (uint32_t i = 0; i < u->count; i++)
        while (pooled_link *l = pool_take(&u->servers[i]))
            pool_discard(l);
    pool_bury(u);
    later_cancel(&u->later);
    wheel_cancel(&u->on->deadlines, &u->poll.timer);
    tls_unref(u->tls);
    delete[] u->servers;
    u->shared->halves.fetch_sub(1, std::memory_order_release); // from here on it may be gone
    delete u;
}

// ---------------------------------------------------------------- reloads

void upstream_aim(upstream *u, const upstream_settings *now) {
    tls_unref(u->tls);
    u->tls = now->tls ? tls_ref(now->tls) : nullptr;
}

static bool same_way(const upstream *a, const server_settings *x, const upstream *b, const server_settings *y) {
    if (x->text != y->text || x->tls != y->tls) return false;
    const upstream_settings *one = a->settings, *other = b->settings;
    return !x->tls ||
           (one->tls_ca == other->tls_ca && one->tls_verify == other->tls_verify && one->tls_name == other->tls_name);
}

static void move_idle(upstream_server *from, upstream *u, upstream_server *to) {
    while (!list_empty(&from->idle) && number_get(&to->kept) < static_cast<uint64_t>(u->settings->keepalive)) {
        pooled_link *l = of_place(from->idle.previous);
        list_remove(&l->place);
        number_add(&from->kept, -1);
        l->of = u;
        l->server = to;
        list_push_back(to->idle.next, &l->place); // in front: they come the last used one first
        number_add(&to->kept, 1);
    }
}

void upstream_take_idle(upstream *to, upstream *from) {
    for (uint32_t i = 0; i < to->count; i++) {
        const server_settings *now = to->servers[i].shared->settings;
        for (uint32_t k = 0; k < from->count && !now->down; k++)
            if (same_way(to, now, from, from->servers[k].shared->settings))
                move_idle(&from->servers[k], to, &to->servers[i]);
    }
}

void upstream_retire(upstream *u) {
    u->retired = true;
    for (uint32_t i = 0; i < u->count; i++)
        while (pooled_link *l = pool_take(&u->servers[i]))
            pool_discard(l);
}

// Who waits for an address, or to be told of a failure, is counted by `running` or stands in a list.
bool upstream_over(const upstream *u) {
    uint64_t calls = number_get(&u->running) + number_get(&u->queued);
    for (uint32_t i = 0; i < u->count; i++)
        calls += number_get(&u->servers[i].inflight);
    return calls == 0 && list_empty(&u->over) && list_empty(&u->buried);
}

const upstream_settings *upstream_settings_of(const upstream *u) {
    return u->settings;
}

} // namespace belfry
