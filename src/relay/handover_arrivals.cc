// Connections that come from another process: into their rooms, and to life. On the worker's thread.
//
//   installed   frozen, and not open; waits in its rooms. The node is asked what it has missed (ask)
//   told        what it has missed is in its queue, it is a member again, but of rooms with history, of which it asks
//               as anybody who comes back (room_ask_since)
//   ready       all of that was answered: the old process decides whose it is
//   start       it is ours, and reads and writes
//   drop        it is not
#include "base/log.h"
#include "proto/server_json.h"
#include "relay/chain.h"
#include "relay/client.h"
#include "relay/expiry.h"
#include "relay/handover_worker.h"
#include "relay/message.h"
#include "relay/room.h"
#include "relay/session.h"
#include "relay/session_json_words.h"
#include "relay/websocket.h"

#include <unordered_map>

namespace belfry {

struct arriving_room {
    std::string name;
    uint64_t ordinal;
    struct position at;
    bool history;
};

struct arrival {
    conn_id who;
    bool told, ready;
    std::vector<arriving_room> rooms;
    std::vector<order_letter> orders;
};

struct handover_arrivals {
    std::unordered_map<uint64_t, arrival> under_way; // by tag
};

static arrival *find(const shard *s, uint64_t tag) {
    if (!s->arrivals) return nullptr;
    auto at = s->arrivals->under_way.find(tag);
    return at != s->arrivals->under_way.end() ? &at->second : nullptr;
}

static void tell(shard *s, handover_letter *l) {
    mailbox_send(&s->outbox, &l->head);
}

static void refuse(shard *s, conn_id who, const char *why) {
    handover_letter *l = handover_letter_new(handover_op::refused, s->index, who);
    l->why = why;
    tell(s, l);
}

// ---------------------------------------------------------------- installing

// A room whose history was switched on or off by the upgrade is one of which nothing is known.
static void note_rooms(const conn *c, const handover_conn *d, arrival *a) {
    for (const handover_room &room : d->rooms) {
        const membership *m = room_membership(c, room.name);
        bool history = m->in->rule && m->in->rule->history;
        bool same = history == room.history;
        a->rooms.push_back({std::string(room.name), same ? room.ordinal : 0, same ? room.at : position{}, history});
    }
}

static void install(shard *s, handover_letter *l) {
    const char *why;
    handover_conn d;
    if (!handover_parse(frame_view(l->bytes), &d, &why) || !(handover_conn_id(d.id) == l->who))
        return refuse(s, l->who, why);
    int fd = l->fd;
    l->fd = -1;
    conn *c = handover_restore_conn(s, &d, fd, &why);
    if (!c) return refuse(s, l->who, why);
    if (!s->arrivals) s->arrivals = new handover_arrivals{};
    arrival *a = &s->arrivals->under_way[c->tag];
    a->who = l->who;
    note_rooms(c, &d, a);
    handover_letter *ask = handover_letter_new(handover_op::ask, s->index, l->who);
    for (const arriving_room &room : a->rooms)
        ask->seen.push_back({room.name, room.ordinal, room.history});
    ask->seen.push_back({std::string(), d.ordinal, false});
    tell(s, ask);
}

// ---------------------------------------------------------------- what it has missed

static void tell_gap(conn *c, view room) {
    if (c->session != &session_json) return; // the raw protocol has no words for it
    server_json_gap(json_fresh(c), room);
    json_say(c);
}

static bool sent_to(const message *m, const conn *c) {
    for (uint16_t i = 0; i < m->except_count; i++)
        if (m->except[i] == conn_id_of(c)) return false;
    return m->what == message_data || c->session == &session_json;
}

static void deliver(conn *c, message *m) {
    shard *s = c->on;
    if (!c->open || !sent_to(m, c)) return;
    frame *f = frame_ref(message_form(m, static_cast<wire_form>(c->form), s->reader, &s->scratch, s->packer));
    if (conn_deliver(c, f))
        s->count.replayed++;
    else
        frame_unref(f);
}

// A member again, or, of a room with history, once it was told what it has missed.
static void enter(shard *s, conn *c, const arriving_room *room) {
    membership *m = room_membership(c, room->name);
    if (!m) return; // the broker has refused the room
    m->ask = 0;
    if (!room->history || !room_ask_from(s, m, &room->at, room->ordinal)) {
        if (room->history) tell_gap(c, room->name);
        room_admit(m);
    }
}

static void check_ready(shard *s, conn *c, arrival *a) {
    for (const membership *m = c->rooms; m; m = m->next)
        if (m->ask) return;
    if (a->ready || !a->told) return;
    a->ready = true;
    if (c->room_count != a->rooms.size()) return refuse(s, a->who, "the broker refuses one of its rooms");
    tell(s, handover_letter_new(handover_op::ready, s->index, a->who));
}

static void told(shard *s, const handover_letter *l) {
    conn *c = conn_find(s, l->who);
    arrival *a = c ? find(s, c->tag) : nullptr;
    if (!a || a->told) return;
    a->told = true;
    c->open = true;
    for (const std::string &name : l->names)
        tell_gap(c, name);
    for (message *m : l->replay)
        deliver(c, m);
    for (const arriving_room &room : a->rooms)
        enter(s, c, &room);
    check_ready(s, c, a);
}

void handover_worker_recovered(shard *s, conn *c) {
    if (arrival *a = find(s, c->tag)) check_ready(s, c, a);
}

// ---------------------------------------------------------------- whose it is

// Presence has never heard that it left; it is to know that it is this process's now.
static void tell_presence(shard *s, const conn *c) {
    handover_letter *l = handover_letter_new(handover_op::arrived, s->index, conn_id_of(c));
    for (const membership *m = c->rooms; m; m = m->next)
        if (m->in->rule && m->in->rule->presence) l->names.emplace_back(room_name(m->in));
    l->user = client_user(c);
    if (c->client) l->info = c->client->info;
    tell(s, l);
}

static void start(shard *s, conn_id who) {
    conn *c = conn_find(s, who);
    if (!c || !find(s, who.tag)) return;
    arrival a = std::move(*find(s, who.tag));
    s->arrivals->under_way.erase(who.tag);
    tell_presence(s, c);
    websocket_continue(c);
    conn_thaw(c, false); // where the socket is full, the first write tells
    conn_resume(c);
    expiry_arm(c);
    if (!c->open) return websocket_close_slow(c);
    for (const order_letter &o : a.orders)
        s->carry_out(s, &o);
}

static void drop(shard *s, conn_id who) {
    if (!find(s, who.tag)) return;
    if (conn *c = conn_find(s, who)) {
        chain_close(c); // what `arrived` has counted
        handover_forget_conn(c);
    }
    s->arrivals->under_way.erase(who.tag);
}

void handover_arrivals_letter(shard *s, handover_letter *l) {
    switch (l->op) {
    case handover_op::install:
        install(s, l);
        break;
    case handover_op::told:
        told(s, l);
        break;
    case handover_op::start:
        start(s, l->who);
        break;
    default:
        drop(s, l->who);
        break;
    }
    handover_letter_free(l);
}

std::vector<order_letter> *handover_arrival_orders(shard *s, const conn *c) {
    arrival *a = find(s, c->tag);
    return a ? &a->orders : nullptr;
}

void handover_arrivals_free(shard *s) {
    delete s->arrivals;
    s->arrivals = nullptr;
}

} // namespace belfry
