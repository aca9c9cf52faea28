// Rooms of one worker. See room.h.
#include "relay/room.h"

#include "proto/room_name.h"
#include "relay/client.h"
#include "relay/conn.h"
#include "relay/notify.h"
#include "relay/presence_worker.h"
#include "relay/replay.h"
#include "relay/shard.h"

#include <new>
#include <stdlib.h>
#include <string.h>

namespace belfry {

static bool named(const table_node *n, view key) {
    const room *r = BELFRY_CONTAINER_OF(const_cast<table_node *>(n), room, node);
    return room_name(r) == key;
}

room *room_find(shard *s, view name, uint64_t hash) {
    table_node *n = table_find(&s->rooms, hash, name, named);
    return n ? BELFRY_CONTAINER_OF(n, room, node) : nullptr;
}

static void tell_node(shard *s, letter_type type, const room *r) {
    auto *l = new room_letter{{type, s->index}, r->serial, std::string(room_name(r))};
    s->outbox_bytes.fetch_add(letter_charge, std::memory_order_relaxed);
    mailbox_send(&s->outbox, &l->head);
}

static room *room_new(shard *s, view name, uint64_t hash) {
    room *r = new (memory_get(sizeof(room) + name.size())) room{};
    r->name_size = static_cast<uint32_t>(name.size());
    memcpy(r->name, name.data(), name.size());
    list_init(&r->waiters);
    r->serial = ++s->next_serial;
    r->rule = room_name_reserved(name) ? nullptr : room_rule_find(s->settings, name); // a user's own room has no limits
    table_insert(&s->rooms, &r->node, hash);
    tell_node(s, letter_type::want, r);
    return r;
}

static void drop_if_empty(shard *s, room *r) {
    if (r->count || r->waiting) return;
    tell_node(s, letter_type::drop, r);
    table_remove(&s->rooms, &r->node);
    free(r->members);
    r->~room();
    free(r);
}

membership *room_membership(const conn *c, view name) {
    for (membership *m = c->rooms; m; m = m->next)
        if (room_name(m->in) == name) return m;
    return nullptr;
}

static membership *enter(shard *s, conn *c, room *r) {
    auto *m = new (slab_get(&s->membership_slab)) membership{};
    m->in = r;
    m->who = c;
    m->next = c->rooms;
    c->rooms = m;
    c->room_count++;
    s->membership_count++;
    list_push_back(&r->waiters, &m->waiting);
    r->waiting++;
    return m;
}

join_result room_join(shard *s, conn *c, view name, membership **out) {
    if ((*out = room_membership(c, name))) return join_result::already;
    uint64_t hash = hash_bytes(name);
    room *r = room_find(s, name, hash);
    if (r && r->rule && r->rule->max_members && r->count + r->waiting >= r->rule->max_members) return join_result::full;
    if (!r) r = room_new(s, name, hash);
    *out = enter(s, c, r);
    return r->active ? join_result::joined : join_result::waiting;
}

void room_admit(membership *m) {
    room *r = m->in;
    if (m->member) return;
    list_remove(&m->waiting);
    r->waiting--;
    if (r->count == r->capacity) {
        r->capacity = r->capacity ? r->capacity * 2 : 4;
        r->members = static_cast<room_member *>(memory_resize(r->members, r->capacity * sizeof *r->members));
    }
    m->member = true;
    m->index = r->count;
    r->members[r->count++] = {m->who, m};
    if (m->suspended) {
        m->suspended = false;
        return;
    }
    notify_event(m->who, notify_joined, room_name(r), 0);
    presence_entered(m->who, r->rule, room_name(r));
}

static void take_from_members(membership *m) {
    room *r = m->in;
    room_member last = r->members[--r->count];
    r->members[m->index] = last;
    last.entry->index = m->index;
    m->member = false;
}

bool room_ask_since(shard *s, membership *m, const struct position *since) {
    return room_ask_from(s, m, since, 0);
}

bool room_ask_from(shard *s, membership *m, const struct position *since, uint64_t ordinal) {
    if (position_none(since) || !m->in->rule || !m->in->rule->history) return false;
    if (m->member) {
        take_from_members(m);
        m->suspended = true;
        list_push_back(&m->in->waiters, &m->waiting);
        m->in->waiting++;
    }
    m->ask = ++s->next_serial;
    auto *l = new join_ask_letter{{letter_type::join_ask, s->index},
                                  conn_id_of(m->who),
                                  m->ask,
                                  replay_room(m->who),
                                  std::string(room_name(m->in)),
                                  *since,
                                  ordinal};
    s->outbox_bytes.fetch_add(letter_charge, std::memory_order_relaxed);
    mailbox_send(&s->outbox, &l->head);
    return true;
}

static void take_out(shard *s, membership *m) {
    room *r = m->in;
    conn *c = m->who;
    if (m->member) {
        take_from_members(m);
    } else {
        list_remove(&m->waiting);
        r->waiting--;
    }
    membership **at = &c->rooms;
    while (*at != m)
        at = &(*at)->next;
    *at = m->next;
    c->room_count--;
    s->membership_count--;
    slab_put(&s->membership_slab, m);
    drop_if_empty(s, r);
}

void room_leave(shard *s, membership *m) {
    if (membership_counts(m)) {
        notify_event(m->who, notify_left, room_name(m->in), 0);
        presence_exited(m->who, m->in->rule, room_name(m->in));
    }
    take_out(s, m);
}

void room_info_changed(const conn *c) {
    for (const membership *m = c->rooms; m; m = m->next)
        if (membership_counts(m)) presence_entered(c, m->in->rule, room_name(m->in));
}

uint32_t room_counted(const conn *c) {
    uint32_t n = 0;
    for (const membership *m = c->rooms; m; m = m->next)
        if (!room_name_reserved(room_name(m->in))) n++;
    return n;
}

void room_leave_all(conn *c) {
    while (c->rooms)
        room_leave(c->on, c->rooms);
}

// `visit` may take waiters out and, with them gone, the room: the list is moved aside, and a waiter of our own keeps
// the room.
static void visit_waiters(shard *s, room *r, void (*visit)(membership *m)) {
    r->waiting++;
    link now;
    list_init(&now);
    list_splice(&now, &r->waiters);
    while (!list_empty(&now)) {
        membership *m = BELFRY_CONTAINER_OF(now.next, membership, waiting);
        list_remove(&m->waiting);
        list_push_back(&r->waiters, &m->waiting);
        visit(m);
    }
    r->waiting--;
    drop_if_empty(s, r);
}

membership *room_arrive(shard *s, conn *c, view name) {
    uint64_t hash = hash_bytes(name);
    room *r = room_find(s, name, hash);
    if (room_membership(c, name)) return nullptr;
    if (!r) r = room_new(s, name, hash);
    membership *m = enter(s, c, r);
    m->suspended = true; // it counts as a member for everybody but the messages
    return m;
}

void room_forget(shard *s, membership *m) {
    take_out(s, m);
}

// Null where it was dropped, or dropped and wanted again, meanwhile.
static room *find_serial(shard *s, view name, uint32_t serial) {
    room *r = room_find(s, name, hash_bytes(name));
    return r && r->serial == serial ? r : nullptr;
}

void room_active(shard *s, view name, uint32_t serial, const struct position *at, void (*admitted)(membership *m)) {
    room *r = find_serial(s, name, serial);
    if (!r) return;
    r->active = true;
    r->at = *at;
    visit_waiters(s, r, admitted);
}

void room_counted_from(shard *s, view name, uint32_t serial, uint64_t ordinal) {
    if (room *r = find_serial(s, name, serial)) r->ordinal = ordinal;
}

void room_refused(shard *s, view name, uint32_t serial, void (*refused)(membership *m)) {
    if (room *r = find_serial(s, name, serial)) visit_waiters(s, r, refused);
}

static room_verdict verdict(bool yes) {
    return yes ? room_verdict::yes : room_verdict::no;
}

// `granted`: a token or the connect hook has given this room to the client.
static room_verdict judge(const conn *c, int32_t right, bool member, bool granted, const char **why) {
    switch (right) {
    case right_anyone:
        return room_verdict::yes;
    case right_members:
        *why = "only members may";
        return verdict(member);
    case right_user:
        *why = "needs an authenticated user";
        return verdict(!client_user(c).empty());
    case right_backend:
        *why = "only the backend may";
        if (granted) return room_verdict::yes;
        return c->route->hook.empty() ? room_verdict::no : room_verdict::ask;
    default:
        *why = "nobody may";
        return room_verdict::no;
    }
}

room_verdict room_may_join(const conn *c, const room_rule *rule, view room, const char **why) {
    return judge(c, rule ? rule->join : right_backend, false, client_may_join(c, room), why);
}

room_verdict room_may_publish(const conn *c, const room_rule *rule, view room, bool member, const char **why) {
    return judge(c, rule ? rule->publish : right_backend, member, client_may_publish(c, room), why);
}

} // namespace belfry
