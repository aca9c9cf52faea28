// Connections that leave for another process: which, when, and what becomes of them where they may not. On the worker's
// thread.
//
//   picked       not read any more (conn_hold), until what it has published is settled (fence) and nobody waits for it
//   described    frozen; its description is with the node, a duplicate of its socket too; deliveries go on into its
//                queue, for the case that it stays
//   go           it vanishes
//   stay         it thaws, and goes on as if nothing had been
#include "base/log.h"
#include "relay/conn_record.h"
#include "relay/expiry.h"
#include "relay/handover_worker.h"
#include "relay/room.h"
#include "relay/transport.h"
#include "relay/websocket.h"

#include <fcntl.h>
#include <unordered_map>
#include <unordered_set>
#include <vector>

namespace belfry {

static constexpr uint64_t busy_ms = 1000; // that a connection is held until nobody waits for it any more
static constexpr uint64_t look_ms = 50;   // between two looks for more where none could be had

struct departure {
    conn_id who;
    uint64_t fence, since_ms;
    bool frozen, was_blocked;
    size_t bytes;                     // of its description
    std::vector<order_letter> orders; // that came meanwhile
};

struct handover_departures {
    bool counted; // connections may go once all their rooms are
    bool over;
    std::unordered_map<uint64_t, departure> under_way; // by tag
    std::unordered_set<uint64_t> staying;              // that are not to be tried again
    std::unordered_set<uint64_t> gone;
    uint64_t fence_sent, fence_back;
    size_t bytes; // of descriptions under way
    uint64_t looked_ms;
};

static uint64_t now_of(const shard *s) {
    return s->loop->clock.monotonic_ms;
}

static void tell(shard *s, handover_letter *l) {
    mailbox_send(&s->outbox, &l->head);
}

// ---------------------------------------------------------------- picking

static bool candidate(const shard *s, const conn *c) {
    const handover_departures *all = s->departures;
    if (!c || c->closed || !c->open || c->phase != &websocket_phase || c->stream.tls || c->close_sent) return false;
    return !all->under_way.count(c->tag) && !all->staying.count(c->tag);
}

static void pick(shard *s, conn *c) {
    handover_departures *all = s->departures;
    conn_hold(c);
    all->under_way[c->tag] = {conn_id_of(c), all->fence_sent + 1, now_of(s), false, false, 0, {}};
}

// Fills the window. How many are there that could go, or are on their way.
static void look(shard *s) {
    handover_departures *all = s->departures;
    uint64_t left = all->under_way.size();
    bool picked = false;
    all->looked_ms = now_of(s);
    for (uint32_t i = 0; i < s->slot_count; i++) {
        conn *c = s->conns[i];
        if (!candidate(s, c)) continue;
        left++;
        if (all->under_way.size() >= handover_window || s->draining) continue;
        pick(s, c);
        picked = true;
    }
    handover_letter *l = handover_letter_new(handover_op::left, s->index);
    l->serial = left;
    tell(s, l);
    if (!picked) return;
    l = handover_letter_new(handover_op::fence, s->index);
    l->serial = ++all->fence_sent;
    tell(s, l);
}

// ---------------------------------------------------------------- freezing

static void freeze(shard *s, conn *c, departure *d) {
    d->frozen = true;
    d->was_blocked = c->blocked;
    conn_freeze(c);
    conn_set_phase(c, &handover_phase);
    wheel_cancel(&s->wheel, &c->timer);
    if (c->client) wheel_cancel(&s->deadlines, &c->client->expiry.timer);
}

// False: it has to stay.
static bool describe(shard *s, conn *c, departure *d) {
    handover_departures *all = s->departures;
    buffer out = {};
    if (c->record) conn_record_settle(c);
    bool fine = handover_describe_conn(c, &out) && out.size <= handover_describe_max;
    int fd = fine ? fcntl(c->stream.fd, F_DUPFD_CLOEXEC, 0) : -1;
    if (fd >= 0) {
        freeze(s, c, d);
        d->bytes = out.size;
        all->bytes += out.size;
        handover_letter *l = handover_letter_new(handover_op::described, s->index, d->who);
        l->bytes = frame_copy(buffer_view(&out));
        l->fd = fd;
        tell(s, l);
    }
    buffer_free(&out);
    return fd >= 0;
}

static bool room_for_more(const handover_departures *all) {
    return all->bytes < handover_window_bytes;
}

// Where it can't be had now, others get its place in the window for a while.
static void step(shard *s, departure *d, std::vector<uint64_t> *done) {
    handover_departures *all = s->departures;
    conn *c = conn_find(s, d->who);
    if (!c) return done->push_back(d->who.tag); // closed by itself
    if (d->frozen || d->fence > all->fence_back) return;
    bool quiet = handover_quiet(c, 1, all->counted);
    if (quiet && !room_for_more(all)) return;
    if (quiet && describe(s, c, d)) return;
    if (quiet) all->staying.insert(c->tag);
    if (!quiet && now_of(s) < d->since_ms + busy_ms) return;
    conn_let_go(c);
    done->push_back(d->who.tag);
}

void handover_worker_turn(shard *s) {
    handover_departures *all = s->departures;
    if (all->over) return;
    std::vector<uint64_t> done;
    for (auto &[tag, d] : all->under_way)
        step(s, &d, &done);
    for (uint64_t tag : done) {
        all->bytes -= all->under_way[tag].bytes;
        all->under_way.erase(tag);
    }
    bool wants_more = all->under_way.size() < handover_window / 2;
    if ((wants_more && !done.empty()) || now_of(s) >= all->looked_ms + look_ms) look(s);
}

// ---------------------------------------------------------------- what became of it

static void forward(shard *s, const order_letter *o) {
    handover_letter *l = handover_letter_new(handover_op::order, s->index);
    l->bytes = handover_order_frame(o);
    tell(s, l);
}

static void go(shard *s, conn_id who) {
    handover_departures *all = s->departures;
    conn *c = conn_find(s, who);
    auto at = all->under_way.find(who.tag);
    if (!c || at == all->under_way.end() || !at->second.frozen) return; // the process was told to end at once meanwhile
    handover_letter *l = handover_letter_new(handover_op::gone, s->index, who);
    for (const membership *m = c->rooms; m; m = m->next)
        if (m->in->rule && m->in->rule->presence) l->names.emplace_back(room_name(m->in));
    tell(s, l);
    handover_forget_conn(c);
    all->gone.insert(who.tag);
    for (const order_letter &o : at->second.orders)
        forward(s, &o);
    all->bytes -= at->second.bytes;
    all->under_way.erase(at);
    if (all->under_way.size() < handover_window / 2) all->looked_ms = 0;
}

static void thaw(shard *s, conn *c, departure *d) {
    if (!d->frozen) return conn_let_go(c);
    websocket_continue(c);
    conn_thaw(c, d->was_blocked);
    conn_let_go(c);
    expiry_arm(c);
    if (!c->open) return websocket_close_slow(c); // its queue overflowed meanwhile
    for (const order_letter &o : d->orders)
        s->carry_out(s, &o);
}

static void stay(shard *s, conn_id who) {
    handover_departures *all = s->departures;
    auto at = all->under_way.find(who.tag);
    if (at == all->under_way.end()) return;
    departure d = std::move(at->second);
    all->staying.insert(who.tag);
    all->bytes -= d.bytes;
    all->under_way.erase(at);
    if (conn *c = conn_find(s, who)) thaw(s, c, &d);
}

static void uncount(table_node *t, void *) {
    BELFRY_CONTAINER_OF(t, room, node)->ordinal = 0;
}

static void stay_all(shard *s) {
    handover_departures *all = s->departures;
    all->over = true;
    table_each(&s->rooms, uncount, nullptr);
    std::vector<conn_id> rest;
    for (const auto &[tag, d] : all->under_way)
        rest.push_back(d.who);
    for (conn_id who : rest)
        stay(s, who);
}

void handover_departures_letter(shard *s, handover_letter *l) {
    if (l->op == handover_op::move) {
        handover_departures_free(s); // of an upgrade that came to nothing
        s->departures = new handover_departures{};
        s->departures->counted = l->serial != 0;
        s->ordinal = l->serial != 0;
    } else if (!s->departures) {
        // never begun: nothing to undo
    } else if (l->op == handover_op::fenced) {
        s->departures->fence_back = l->serial;
    } else if (l->op == handover_op::go) {
        go(s, l->who);
    } else if (l->serial) {
        stay(s, l->who);
    } else {
        stay_all(s);
    }
    handover_letter_free(l);
}

// ---------------------------------------------------------------- orders

std::vector<order_letter> *handover_departure_orders(shard *s, const conn *c) {
    if (!s->departures) return nullptr;
    auto at = s->departures->under_way.find(c->tag);
    return at != s->departures->under_way.end() && at->second.frozen ? &at->second.orders : nullptr;
}

void handover_worker_passes_on(shard *s, const order_letter *o) {
    const handover_departures *all = s->departures;
    if (!all || o->from_sibling) return;
    bool many = o->by_room || o->by_user || o->all;
    if (many ? !all->gone.empty() : all->gone.count(o->conn.tag) != 0) forward(s, o);
}

void handover_departures_free(shard *s) {
    delete s->departures;
    s->departures = nullptr;
}

} // namespace belfry
