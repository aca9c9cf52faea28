// Servers' addresses and health, for all threads. Made and freed on the main thread; server_* by any.
#include "relay/upstream_shared.h"

#include "base/log.h"

#include <algorithm>
#include <string.h>

namespace belfry {

namespace {

constexpr uint64_t resolve_again_ms = 30000; // well below the usual TTLs' harm: a moved backend is found in that time
constexpr uint64_t resolve_retry_ms = 2000;  // while there is no address at all
constexpr uint32_t ramp_min = 10;

const char *name_of(const shared_server *s) {
    return s->settings->text.c_str();
}

// ---------------------------------------------------------------- addresses

bool same_address(const address &a, const address &b) {
    return a.size == b.size && memcmp(&a.storage, &b.storage, a.size) == 0;
}

void set_addresses(shared_server *s, const address *found, size_t count) {
    const std::lock_guard<std::mutex> hold(s->lock);
    const bool same = s->resolved == resolve_state::known && s->addresses.size() == count &&
                      std::is_permutation(found, found + count, s->addresses.begin(), same_address);
    if (same) return; // a name server that rotates its answers changes nothing
    s->addresses.assign(found, found + count);
    s->resolved = resolve_state::known;
    s->of->generation.fetch_add(1, std::memory_order_release);
}

void resolved(const address *found, size_t count, const char *why, void *context) {
    auto *s = static_cast<shared_server *>(context);
    s->resolving = nullptr;
    bool none = false;
    if (count != 0) {
        set_addresses(s, found, count);
    } else {
        const std::lock_guard<std::mutex> hold(s->lock);
        none = s->addresses.empty();
        if (s->resolved == resolve_state::asked) {
            s->resolved = resolve_state::failed;
            s->of->generation.fetch_add(1, std::memory_order_release);
        }
        static log_limit limit;
        uint64_t held = 0;
        if (log_limit_pass(&limit, &held))
            log_warn("upstream %s: %s is not found: %s%s (%llu more not shown)", s->of->settings->name.c_str(),
                     s->settings->host.c_str(), why, none ? "" : "; its last addresses are kept",
                     static_cast<unsigned long long>(held));
    }
    if (s->of->retired) return;
    wheel_set(s->of->deadlines, &s->resolve_next.timer, s->of->on->clock.monotonic_ms,
              none ? resolve_retry_ms : resolve_again_ms);
}

void ask(shared_server *s) {
    s->resolving = resolve_start(s->of->on, s->settings->host.c_str(), s->settings->port, resolved, s);
}

void ask_again(deadline *d) {
    ask(BELFRY_CONTAINER_OF(d, shared_server, resolve_next));
}

// True where the host is an address, which needs no name server.
bool take_numeric(shared_server *s) {
    const server_settings *o = s->settings;
    std::string text = o->host;
    if (o->unix) {
        if (!text.starts_with("unix:")) text = "unix:" + text;
    } else {
        if (text.find(':') != std::string::npos && text[0] != '[') text = "[" + text + "]";
        text += ":" + std::to_string(o->port);
    }
    address a;
    error e;
    if (!address_parse(text, &a, &e)) return false;
    set_addresses(s, &a, 1);
    return true;
}

// ---------------------------------------------------------------- the rings

balancer_ring *make_ring(const upstream_settings *settings, bool backup) {
    std::vector<balancer_server> servers;
    for (const server_settings &o : settings->servers)
        servers.push_back({o.text, o.backup == backup ? o.weight : 0});
    return balancer_ring_new(servers.data(), servers.size());
}

} // namespace

// ---------------------------------------------------------------- health

bool server_out(const shared_server *s, uint64_t now) {
    return s->health.sick.load(std::memory_order_relaxed) ||
           now < s->health.out_until_ms.load(std::memory_order_relaxed);
}

bool server_enter(shared_server *s, uint64_t now, bool forced, bool *trial) {
    std::atomic<uint64_t> *until = &s->health.out_until_ms;
    uint64_t was = until->load(std::memory_order_relaxed);
    *trial = was != 0;
    if (was == 0 || forced) return true;
    return until->compare_exchange_strong(was, now + static_cast<uint64_t>(s->settings->fail_timeout),
                                          std::memory_order_relaxed);
}

void server_failed(shared_server *s, uint64_t now, bool trial) {
    server_health *h = &s->health;
    const auto fail_timeout = static_cast<uint64_t>(s->settings->fail_timeout);
    if (s->settings->max_fails == 0) return;
    if (now > h->window_ms.load(std::memory_order_relaxed) + fail_timeout) {
        h->window_ms.store(now, std::memory_order_relaxed);
        h->fails.store(0, std::memory_order_relaxed);
    }
    const uint32_t fails = h->fails.fetch_add(1, std::memory_order_relaxed) + 1;
    if (!trial && fails < s->settings->max_fails) return;
    const uint64_t was = h->out_until_ms.exchange(now + fail_timeout, std::memory_order_relaxed);
    if (was == 0)
        log_warn("upstream %s: %s is out for %lld ms after %u failures", s->of->settings->name.c_str(), name_of(s),
                 static_cast<long long>(fail_timeout), fails);
}

void server_untried(shared_server *s, uint64_t now) {
    std::atomic<uint64_t> *until = &s->health.out_until_ms;
    uint64_t was = until->load(std::memory_order_relaxed);
    if (was > now) until->compare_exchange_strong(was, now, std::memory_order_relaxed);
}

void server_back(shared_server *s, uint64_t now) {
    s->health.fails.store(0, std::memory_order_relaxed);
    if (s->health.out_until_ms.exchange(0, std::memory_order_relaxed) == 0) return;
    s->health.back_since_ms.store(now, std::memory_order_relaxed);
    log_info("upstream %s: %s is back", s->of->settings->name.c_str(), name_of(s));
}

uint32_t server_ramp(const shared_server *s, uint64_t now) {
    const auto slow_start = static_cast<uint64_t>(s->of->settings->slow_start);
    const uint64_t since = s->health.back_since_ms.load(std::memory_order_relaxed);
    if (since == 0 || slow_start == 0 || now >= since + slow_start) return 1000;
    const auto share = now > since ? static_cast<uint32_t>((now - since) * 1000 / slow_start) : 0;
    return std::max(share, ramp_min);
}

// ---------------------------------------------------------------- sticky hashing

// Which thousandth of the keys this one is of, for this server: by MurmurHash3's finaliser, since neighbours on the
// ring share most of a CRC's bits.
static uint32_t thousandth(uint32_t hash, int server) {
    uint32_t h = hash + static_cast<uint32_t>(server + 1) * 0x9e3779b9u;
    h = (h ^ (h >> 16)) * 0x85ebca6bu;
    h = (h ^ (h >> 13)) * 0xc2b2ae35u;
    return (h ^ (h >> 16)) % 1000;
}

// What a starting server does not take yet goes where it went while that was out.
static int pick_ramped(const upstream_shared *u, const balancer_ring *ring, uint32_t hash, uint64_t among,
                       uint64_t now) {
    for (uint64_t left = among;;) {
        const int i = balancer_ring_pick(ring, hash, ~left);
        if (i < 0) return balancer_ring_pick(ring, hash, ~among); // all of them are starting
        if (thousandth(hash, i) < server_ramp(&u->servers[i], now)) return i;
        left &= ~(uint64_t{1} << i);
    }
}

int upstream_server_of_key(const upstream_shared *u, uint32_t hash, uint64_t among, uint64_t now) {
    const int i = pick_ramped(u, u->primary, hash, among, now);
    return i >= 0 ? i : pick_ramped(u, u->backup, hash, among, now);
}

// ---------------------------------------------------------------- life

upstream_shared *upstream_shared_new(loop *main_loop, wheel *deadlines, const upstream_settings *settings) {
    auto *u = new upstream_shared{};
    u->tls = settings->tls ? tls_ref(settings->tls) : nullptr;
    u->on = main_loop;
    u->deadlines = deadlines;
    auto *own = new upstream_settings(*settings);
    own->tls = nullptr;
    own->scopes.clear();
    u->settings = settings = own;
    u->count = static_cast<uint32_t>(std::min(settings->servers.size(), balancer_servers_max));
    u->servers = new shared_server[u->count]{};
    u->primary = make_ring(settings, false);
    u->backup = make_ring(settings, true);
    slab_init(&u->chunks, sizeof(outq_chunk), 4096);
    for (uint32_t i = 0; i < u->count; i++) {
        shared_server *s = &u->servers[i];
        s->of = u;
        s->settings = &settings->servers[i];
        deadline_init(&s->resolve_next, ask_again);
        if (!take_numeric(s)) ask(s);
        if (!settings->health_check.empty() && !s->settings->down) s->check = server_check_new(s);
    }
    return u;
}

void upstream_shared_free(upstream_shared *u) {
    for (uint32_t i = 0; i < u->count; i++) {
        shared_server *s = &u->servers[i];
        resolve_cancel(s->resolving);
        wheel_cancel(u->deadlines, &s->resolve_next.timer);
        server_check_free(s->check);
    }
    balancer_ring_free(u->primary);
    balancer_ring_free(u->backup);
    slab_destroy(&u->chunks);
    tls_unref(u->tls);
    delete[] u->servers;
    delete u->settings;
    delete u;
}

// ---------------------------------------------------------------- reloads

void upstream_shared_aim(upstream_shared *u, const upstream_settings *now) {
    tls_unref(u->tls);
    u->tls = now->tls ? tls_ref(now->tls) : nullptr;
}

static void copy(std::atomic<uint64_t> *to, const std::atomic<uint64_t> *from) {
    to->store(from->load(std::memory_order_relaxed), std::memory_order_relaxed);
}

// Workers may count failures on the old one meanwhile: one or two are lost.
static void inherit(shared_server *to, const shared_server *from) {
    if (to->settings->max_fails) {
        to->health.fails.store(from->health.fails.load(std::memory_order_relaxed), std::memory_order_relaxed);
        copy(&to->health.window_ms, &from->health.window_ms);
        copy(&to->health.out_until_ms, &from->health.out_until_ms);
    }
    copy(&to->health.back_since_ms, &from->health.back_since_ms);
    if (to->check) to->health.sick.store(from->health.sick.load(std::memory_order_relaxed), std::memory_order_relaxed);
    if (!from->addresses.empty()) set_addresses(to, from->addresses.data(), from->addresses.size());
}

void upstream_shared_inherit(upstream_shared *to, const upstream_shared *from) {
    for (uint32_t i = 0; i < to->count; i++)
        for (uint32_t k = 0; k < from->count; k++) {
            if (from->servers[k].settings->text != to->servers[i].settings->text) continue;
            inherit(&to->servers[i], &from->servers[k]);
            break;
        }
}

void upstream_shared_retire(upstream_shared *u) {
    u->retired = true;
    for (uint32_t i = 0; i < u->count; i++) {
        shared_server *s = &u->servers[i];
        server_check_free(s->check);
        s->check = nullptr;
        wheel_cancel(u->deadlines, &s->resolve_next.timer);
    }
}

bool upstream_shared_over(const upstream_shared *u) {
    return u->retired && u->halves.load(std::memory_order_acquire) == 0;
}

bool upstream_shared_resolves(const upstream_shared *u) {
    for (uint32_t i = 0; i < u->count; i++)
        if (u->servers[i].resolving != nullptr || timer_armed(&u->servers[i].resolve_next.timer)) return true;
    return false;
}

} // namespace belfry
