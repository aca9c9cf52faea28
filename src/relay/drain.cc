// Goodbyes: the pace (any thread), and a shard's part (its own thread). See drain.h.
#include "relay/drain.h"

#include "base/log.h"
#include "relay/admission.h"
#include "relay/conn_record.h"
#include "relay/handover_worker.h"
#include "relay/plain_session.h"
#include "relay/session.h"
#include "relay/transport.h"
#include "relay/tunnel.h"

#include <unordered_map>

namespace belfry {

static constexpr uint32_t looks_a_turn = 16384; // slots
static constexpr uint64_t round_ms = 1000;      // between two rounds over all slots, once all were looked at
static constexpr uint64_t publish_ms = 250;     // that the broker has for its answer to a publish
static constexpr uint64_t bye_room = 512;       // bytes that a `bye` may take of send_queue
static constexpr uint64_t ms = 1'000'000;       // ns

// ---------------------------------------------------------------- the pace

static uint64_t interval_of(const rate *r) {
    return r->amount ? static_cast<uint64_t>(r->period_ms) * ms / static_cast<uint64_t>(r->amount) : 0;
}
static uint64_t before(uint64_t at, uint64_t by) {
    return at > by ? at - by : 0;
}

void drain_pace_begin(drain_pace *p, const rate *r, uint64_t now_ns) {
    const uint64_t since = before(now_ns, interval_of(r));
    uint64_t last = p->last_ns.load(std::memory_order_relaxed);
    while (last < since && !p->last_ns.compare_exchange_weak(last, since, std::memory_order_relaxed)) {
    }
}

bool drain_pace_claim(drain_pace *p, const rate *r, uint64_t now_ns) {
    if (!r->amount) return true;
    const uint64_t interval = interval_of(r), oldest = before(now_ns, drain_slack_ns);
    uint64_t last = p->last_ns.load(std::memory_order_relaxed);
    for (;;) {
        const uint64_t due = last + interval;
        if (due > now_ns) return false;
        if (p->last_ns.compare_exchange_weak(last, due > oldest ? due : oldest, std::memory_order_relaxed)) return true;
    }
}

uint64_t drain_spread_ms(int64_t left, const rate *r) {
    if (!r->amount || left <= 0) return drain_spread_min_ms;
    const double needed =
        static_cast<double>(left) * static_cast<double>(r->period_ms) / static_cast<double>(r->amount);
    if (needed >= static_cast<double>(drain_spread_max_ms)) return drain_spread_max_ms;
    const auto whole = static_cast<uint64_t>(needed);
    return whole > drain_spread_min_ms ? whole : drain_spread_min_ms;
}

// ---------------------------------------------------------------- a shard's part

// Who was asked for, and can't be told at once.
struct drain_leaver {
    conn_id who;
    bool held; // by us: nothing is read from it
};

// Looks at all slots again and again: who finishes a request becomes idle, an Upgrade becomes a tunnel.
struct drain_round {
    uint32_t slot;
    uint64_t due_ms;
};

struct drain {
    drain_scope scope;
    uint64_t begun_ms;
    drain_round aside;                                  // ends what needs no turn of its own
    drain_round told;                                   // says goodbyes
    bool more;                                          // the last slice was a whole one
    bool looked;                                        // `aside` was once round
    uint32_t seen;                                      // of the scope, in this round of `aside`
    int64_t counted;                                    // this worker's part of drain_pace::left, of `retired`
    std::unordered_map<uint64_t, drain_leaver> waiting; // by tag
    uint64_t waiting_ms;                                // when they were last looked at
};

static uint64_t now_of(const shard *s) {
    return s->loop->clock.monotonic_ms;
}

static bool in_scope(const drain *d, const conn *c) {
    return c && !c->closed && (d->scope == drain_scope::all || conn_retired(c));
}

static const char *reason_of(const drain *d) {
    return d->scope == drain_scope::all ? "restarting" : "reconfigured";
}

// A client that is to be told.
static bool is_owed(const conn *c) {
    if (c->told || c->close_sent || c->phase == &handover_phase) return false;
    return c->tunnel || transport_of(c);
}
static bool is_poll(const conn *c) {
    return c->plain && c->plain->poll;
}
// In its turn.
static bool is_due(const conn *c) {
    return is_owed(c) && !is_poll(c);
}

// ---------------------------------------------------------------- one goodbye

static uint64_t after_ms(const shard *s) {
    int64_t left = s->pace ? s->pace->left.load(std::memory_order_relaxed) : 0;
    const int64_t live = s->process_live->load(std::memory_order_relaxed);
    if (left > live) left = live; // some have left unasked
    return random_below(static_cast<uint32_t>(drain_spread_ms(left, &s->settings->drain_rate)));
}

// A queue that is full up to the last bytes has room for the Close alone.
static void say_goodbye(shard *s, conn *c) {
    drain *d = s->drain;
    const char *reason = reason_of(d);
    const bool counted = d->scope == drain_scope::all || d->counted > 0;
    if (counted && s->pace) s->pace->left.fetch_sub(1, std::memory_order_relaxed);
    if (d->counted) d->counted--;
    if (c->tunnel) return tunnel_stop(c, reason);
    conn_record_closing(c, conn_closer::server, reason);
    if (conn_queued(c) + bye_room <= c->send_queue) c->session->bye(c, 4503, reason, true, after_ms(s));
    transport_close(c, 1012, reason);
}

static void tell(shard *s, conn *c) {
    c->told = true;
    s->count.drain.said++;
    say_goodbye(s, c);
}

// An answer is on its way to this client: somebody works for it, apart from us, or it has just published something; or
// its backend is in the middle of a frame.
static bool is_busy(const conn *c, bool held) {
    if (c->tunnel) return !tunnel_between(c);
    if (c->holds > held || c->asking || (c->plain && !c->plain->posts.empty())) return true;
    return c->published && now_of(c->on) < c->spoke_ms + publish_ms;
}

static void tell_or_wait(shard *s, conn *c) {
    drain *d = s->drain;
    if (!is_busy(c, false)) return tell(s, c);
    const bool hold = !c->tunnel;
    if (hold) conn_hold(c);
    d->waiting[c->tag] = {conn_id_of(c), hold};
}

static void look_at_waiting(shard *s) {
    drain *d = s->drain;
    if (d->waiting.empty() || d->waiting_ms == now_of(s)) return;
    d->waiting_ms = now_of(s);
    std::erase_if(d->waiting, [s](const auto &entry) {
        const drain_leaver &l = entry.second;
        conn *c = conn_find(s, l.who);
        if (!c) return true;
        const bool leaves = is_owed(c);
        if (leaves && is_busy(c, l.held)) return false;
        if (leaves) tell(s, c);
        if (l.held && !c->closed) conn_let_go(c);
        return true;
    });
}

// ---------------------------------------------------------------- rounds

static bool is_idle(const drain *d, const conn *c, uint64_t now) {
    if (!c->served || (d->scope == drain_scope::retired && !c->listener->retired)) return false;
    const bool fetches = d->scope == drain_scope::all && c->route && c->route->mode == mode_rooms && c->route->poll;
    return !fetches || now >= d->begun_ms + drain_polls_ms;
}

// True where it did something about it.
static bool set_aside(shard *s, conn *c) {
    drain *d = s->drain;
    if (is_owed(c) && is_poll(c) && !d->waiting.count(c->tag)) return tell_or_wait(s, c), true;
    if (transport_of(c) || c->tunnel || c->phase == &handover_phase) return false;
    const char *why = d->scope == drain_scope::all ? "shutting down" : "the route or the listener is gone";
    if (admission_refuse_waiting(c, 503, refuse_draining, why)) return true;
    if (is_idle(d, c, now_of(s))) return conn_linger(c), true;
    if (c->exchange || c->served || c->answered || c->stream.tls || c->rest.size) return false;
    conn_abort(c); // has asked nothing yet
    return true;
}

static void end_of_round(shard *s, drain_round *r) {
    r->slot = 0;
    r->due_ms = now_of(s) + round_ms;
}

// The clients of a reload's: how many there are is known after the first round. Of all: the node knows.
static void count(shard *s, const conn *c) {
    drain *d = s->drain;
    d->seen++;
    if (d->looked || d->scope == drain_scope::all || !is_due(c)) return;
    d->counted++;
    if (s->pace) s->pace->left.fetch_add(1, std::memory_order_relaxed);
}

// Returns how many it dealt with. False in *over where nobody of the scope is there.
static uint32_t look_aside(shard *s, uint32_t most, bool *over) {
    drain *d = s->drain;
    uint32_t done = 0;
    if (now_of(s) < d->aside.due_ms) return 0;
    for (uint32_t n = 0; n < looks_a_turn && done < most; n++) {
        if (d->aside.slot >= s->slot_count) {
            *over = d->seen == 0;
            d->looked = true;
            d->seen = 0;
            end_of_round(s, &d->aside);
            return done;
        }
        conn *c = s->conns[d->aside.slot++];
        if (!in_scope(d, c)) continue;
        count(s, c);
        done += set_aside(s, c);
    }
    d->more = true;
    return done;
}

static void say_goodbyes(shard *s, uint32_t most) {
    drain *d = s->drain;
    if (!d->looked || now_of(s) < d->told.due_ms) return;
    for (uint32_t n = 0, done = 0; n < looks_a_turn && done < most; n++) {
        if (d->told.slot >= s->slot_count) return end_of_round(s, &d->told);
        conn *c = s->conns[d->told.slot];
        if (in_scope(d, c) && is_due(c) && !d->waiting.count(c->tag)) {
            if (s->pace && !drain_pace_claim(s->pace, &s->settings->drain_rate, now_of(s) * ms)) return;
            tell_or_wait(s, c);
            done++;
        }
        d->told.slot++;
    }
    d->more = true;
}

// ---------------------------------------------------------------- the turn, and life

static void end(shard *s) {
    drain *d = s->drain;
    if (s->pace) s->pace->left.fetch_sub(d->counted, std::memory_order_relaxed);
    for (const auto &[tag, l] : d->waiting)
        if (conn *c = l.held ? conn_find(s, l.who) : nullptr) conn_let_go(c);
    delete d;
    s->drain = nullptr;
}

void drain_begin(shard *s, drain_scope scope) {
    if (s->drain && s->drain->scope == drain_scope::all) return;
    if (s->drain) end(s);
    s->drain = new drain{};
    s->drain->scope = scope;
    s->drain->begun_ms = now_of(s);
    if (s->pace) drain_pace_begin(s->pace, &s->settings->drain_rate, now_of(s) * ms);
    if (scope == drain_scope::all) s->draining = true;
}

void drain_turn(shard *s) {
    drain *d = s->drain;
    d->more = false;
    bool over = false;
    if (d->scope == drain_scope::retired &&
        now_of(s) >= d->begun_ms + static_cast<uint64_t>(s->settings->drain_timeout)) {
        drain_overdue(s);
        return end(s);
    }
    look_at_waiting(s);
    const uint32_t done = look_aside(s, drain_slice, &over);
    say_goodbyes(s, drain_slice - done);
    if (over && d->scope == drain_scope::retired) end(s);
}

bool drain_busy(const shard *s) {
    return s->drain && s->drain->more;
}

// Not one more word than fits into the socket now.
static void drop(shard *s, conn *c) {
    if (c->told) {
        s->count.drain.timed_out++;
        c->told = false;
    } else {
        s->count.drain.dropped++;
        if (is_owed(c)) say_goodbye(s, c);
        if (c->close_sent) conn_flush(c);
    }
    conn_abort(c);
}

void drain_overdue(shard *s) {
    const drain_counters before = s->count.drain;
    for (uint32_t i = 0; i < s->slot_count; i++)
        if (in_scope(s->drain, s->conns[i])) drop(s, s->conns[i]);
    const drain_counters *now = &s->count.drain;
    const auto dropped = static_cast<unsigned long long>(now->dropped - before.dropped),
               silent = static_cast<unsigned long long>(now->timed_out - before.timed_out);
    if (dropped || silent)
        log_warn(
            "drain_timeout: worker %u dropped %llu connections whose turn had not come, and %llu that had not gone",
            s->index, dropped, silent);
}

void drain_free(shard *s) {
    delete s->drain;
    s->drain = nullptr;
}

} // namespace belfry
