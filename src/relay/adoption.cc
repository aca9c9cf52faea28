// Reloads: what became of each section (main thread), and a shard's part (its own thread). See adoption.h.
#include "relay/adoption.h"

#include "base/log.h"
#include "proto/room_name.h"
#include "relay/conn.h"
#include "relay/conn_record.h"
#include "relay/exchange.h"
#include "relay/notify.h"
#include "relay/presence_worker.h"
#include "relay/room.h"
#include "relay/transport.h"
#include "relay/upstream_pool.h"

#include <algorithm>
#include <tuple>

namespace belfry {

// ---------------------------------------------------------------- what became of each section

// Null where there is none.
template <typename T, typename F> static const T *image(const std::vector<T> &all, F same) {
    const T *retired = nullptr;
    for (const T &one : all) {
        if (!same(one)) continue;
        if (!one.retired) return &one;
        retired = &one;
    }
    return retired;
}

// What sessions take from their route once, or arm a timer with; all else is looked at when it is needed.
static auto taken(const route *r) {
    return std::tie(r->ping_interval, r->pong_timeout, r->idle_timeout, r->poll_wait, r->poll_timeout, r->send_queue,
                    r->send_queue_soft, r->send_queue_soft_time, r->on_slow);
}

static bool same_patterns(const relay_settings *a, const relay_settings *b) {
    bool same = a->rooms.size() == b->rooms.size();
    for (size_t i = 0; same && i < a->rooms.size(); i++)
        same = a->rooms[i].pattern == b->rooms[i].pattern;
    return same;
}

adoption *adoption_new(const relay_settings *from, const relay_settings *to) {
    auto *a = new adoption{};
    a->from = from;
    a->to = to;
    a->same_patterns = same_patterns(from, to);
    for (const route &was : from->routes) {
        const route *now =
            image(to->routes, [&was](const route &r) { return r.path == was.path && r.host == was.host; });
        a->ways.push_back({now, now && taken(now) != taken(&was), now ? chain_need_of(to, now) : chain_need::nothing});
        a->routes.push_back(now);
    }
    for (const listener_settings &was : from->listeners)
        a->listeners.push_back(image(to->listeners, [&was](const listener_settings &l) {
            return l.name == was.name || std::find(l.formerly.begin(), l.formerly.end(), was.name) != l.formerly.end();
        }));
    return a;
}

const room_rule *adoption_rule(const adoption *a, const room_rule *was, view room) {
    if (room_name_reserved(room)) return nullptr;
    if (!a->same_patterns) return room_rule_find(a->to, room);
    return was ? &a->to->rooms[static_cast<size_t>(was - a->from->rooms.data())] : nullptr;
}

// ---------------------------------------------------------------- connections

static const route_image *way_of(const conn *c, const adoption *a) {
    return c->route ? &a->ways[static_cast<size_t>(c->route - a->from->routes.data())] : nullptr;
}

static const listener_settings *listener_of(const conn *c, const adoption *a) {
    return a->listeners[static_cast<size_t>(c->listener - a->from->listeners.data())];
}

// Before anything is aimed: what ends here still belongs to the old settings. Their sections were retired, and they
// have not left in the time that they had.
static void end_orphans(shard *s, const adoption *a) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < s->slot_count; i++) {
        conn *c = s->conns[i];
        if (!c || c->closed) continue;
        const route_image *way = way_of(c, a);
        if (listener_of(c, a) && (!way || way->now)) continue;
        if (transport_of(c) && !c->close_code) counters_close(&s->count, c->close_code = 1012);
        if (!c->told) s->count.drain.dropped++; // else the drain counts it (drain.h)
        conn_record_closing(c, conn_closer::server, "its route or listener is gone");
        conn_abort(c);
        n++;
    }
    if (n) log_warn("reload: %u connections dropped, whose route or listener is gone", n);
}

// A connection that is closed already waits for its slot alone.
static void aim(conn *c, const adoption *a) {
    const route_image *way = way_of(c, a);
    c->listener = listener_of(c, a);
    c->route = way ? way->now : nullptr;
    if (c->closed || !way) return;
    const bool calls_modules = c->modules || transport_of(c) || (c->exchange && c->exchange->chained);
    if (calls_modules) chain_adopt(c, way->need);
    if (way->retuned && c->phase->retuned) c->phase->retuned(c);
}

// ---------------------------------------------------------------- rooms

static void tell_presence(const room *r, const room_rule *was, const room_rule *now) {
    const bool had = was && was->presence, has = now && now->presence;
    if (had == has) return;
    const auto tell = [&](const conn *c) {
        if (has)
            presence_present(c, now, room_name(r));
        else
            presence_exited(c, was, room_name(r));
    };
    for (uint32_t i = 0; i < r->count; i++)
        tell(r->members[i].who);
    for (const link *n = r->waiters.next; n != &r->waiters; n = n->next) {
        const membership *m = BELFRY_CONTAINER_OF(const_cast<link *>(n), membership, waiting);
        if (m->suspended) tell(m->who);
    }
}

static void aim_room(table_node *n, void *context) {
    room *r = BELFRY_CONTAINER_OF(n, room, node);
    const room_rule *was = r->rule;
    r->rule = adoption_rule(static_cast<const adoption *>(context), was, room_name(r));
    tell_presence(r, was, r->rule);
}

// ---------------------------------------------------------------- upstreams

static void aim_upstreams(shard *s, const adoption *a) {
    auto **now = new upstream *[a->upstreams.size()] {};
    std::vector<bool> stays(a->from->upstreams.size());
    for (size_t i = 0; i < a->upstreams.size(); i++) {
        const upstream_settings *settings = &a->to->upstreams[i];
        const auto before = static_cast<size_t>(a->before[i]);
        if (a->kept[i]) {
            stays[before] = true;
            now[i] = s->upstreams[before];
            upstream_aim(now[i], settings);
            continue;
        }
        now[i] = upstream_new(s, settings, a->upstreams[i]);
        if (a->before[i] >= 0) upstream_take_idle(now[i], s->upstreams[before]);
    }
    for (size_t i = 0; i < stays.size(); i++) {
        if (stays[i]) continue;
        upstream_retire(s->upstreams[i]);
        s->retiring.push_back(s->upstreams[i]);
    }
    delete[] s->upstreams;
    s->upstreams = now;
}

void shard_bury_upstreams(shard *s) {
    std::erase_if(s->retiring, [](upstream *u) {
        const bool over = upstream_over(u);
        if (over) upstream_free(u);
        return over;
    });
}

// ---------------------------------------------------------------- the shard

void shard_adopt(shard *s, const adoption *a) {
    end_orphans(s, a);
    s->settings = a->to;
    aim_upstreams(s, a);
    table_each(&s->rooms, aim_room, const_cast<adoption *>(a)); // table_each's context knows no const
    for (uint32_t i = 0; i < s->slot_count; i++)
        if (s->conns[i]) aim(s->conns[i], a);
    notifier_adopt(s->notifier, a->from->routes.data(), a->routes.data());
    if (a->from->compression_min == a->to->compression_min) return;
    deflater_free(s->packer);
    s->packer = deflater_new(static_cast<size_t>(a->to->compression_min));
}

} // namespace belfry
