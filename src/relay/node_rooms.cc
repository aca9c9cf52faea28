// Which worker wants which room, and the feeds of those with history. Main thread.
#include "relay/node_impl.h"

#include "base/error.h"
#include "proto/room_name.h"
#include "relay/adoption.h"
#include "relay/broker_memory.h"
#include "relay/handover.h"
#include "relay/handover_in.h"
#include "relay/notify.h"

#include <bit>
#include <new>
#include <stdlib.h>
#include <string.h>

namespace belfry {

static view name_of(const node_room *r, uint32_t workers) {
    return view(reinterpret_cast<const char *>(r->serials + workers), r->name_size);
}

static uint32_t workers_for_equal; // table_equal takes no context; set once, one node a process

static bool named(const table_node *t, view key) {
    return name_of(BELFRY_CONTAINER_OF(const_cast<table_node *>(t), node_room, node), workers_for_equal) == key;
}

node_room *node_room_find(const node *n, view name, uint64_t hash) {
    table_node *t = table_find(&n->rooms, hash, name, named);
    return t ? BELFRY_CONTAINER_OF(t, node_room, node) : nullptr;
}

view node_room_name(const node *n, const node_room *r) {
    return name_of(r, n->worker_count);
}

position node_place(const node *n, view room) {
    const node_room *r = node_room_find(n, room, hash_bytes(room));
    if (r && r->feed) return r->feed->at;
    const position *kept = broker_memory_place(n->broker, room);
    return kept ? *kept : position{};
}

static void tell_room(node *n, uint32_t worker, letter_type type, const node_room *r) {
    auto *l = new room_letter{{type}, r->serials[worker], std::string(name_of(r, n->worker_count))};
    if (r->feed) l->at = r->feed->at;
    l->ordinal = r->ordinal;
    node_send(n, worker, &l->head);
}

static void tell_active(node *n, node_room *r) {
    for (uint64_t left = r->wanted & ~r->told; left; left &= left - 1)
        tell_room(n, static_cast<uint32_t>(std::countr_zero(left)), letter_type::active, r);
    r->told = r->wanted;
}

static node_room *room_new(node *n, view name, uint64_t hash) {
    size_t serials = n->worker_count * sizeof(uint32_t);
    auto *r = new (memory_get_zeroed(sizeof(node_room) + serials + name.size())) node_room{};
    r->name_size = static_cast<uint32_t>(name.size());
    memcpy(reinterpret_cast<char *>(r->serials + n->worker_count), name.data(), name.size());
    r->rule = room_name_reserved(name) ? nullptr : room_rule_find(n->settings, name);
    if (r->rule && r->rule->history) r->feed = feed_new(&n->feeds, name, static_cast<uint32_t>(r->rule->history), r);
    table_insert(&n->rooms, &r->node, hash);
    return r;
}

static void feed_end(node *n, node_room *r) {
    if (!r->feed) return;
    for (const feed_ask &ask : r->feed->asks) // nobody waits any more
        node_discharge(n, ask.from.worker, letter_charge);
    feed_free(r->feed);
    r->feed = nullptr;
}

void node_want(node *n, const room_letter *l) {
    uint64_t hash = hash_bytes(l->room);
    node_room *r = node_room_find(n, l->room, hash);
    bool fresh = !r;
    if (fresh) r = room_new(n, l->room, hash);
    if (fresh && n->tells_occupancy && !handover_node_shares(n, l->room)) occupancy_occupied(&n->occupancy, l->room);
    r->wanted |= uint64_t{1} << l->head.worker;
    r->told &= ~(uint64_t{1} << l->head.worker);
    r->serials[l->head.worker] = l->serial;
    if (r->active)
        tell_active(n, r);
    else if (fresh)
        n->broker->ops->subscribe(n->broker, l->room);
}

static void room_end(node *n, node_room *r) {
    view name = name_of(r, n->worker_count);
    if (n->tells_occupancy && !handover_node_shares(n, name))
        occupancy_vacated(&n->occupancy, name, n->on->clock.monotonic_ms);
    n->broker->ops->unsubscribe(n->broker, name);
    table_remove(&n->rooms, &r->node);
    feed_end(n, r);
    free(r);
}

void node_drop(node *n, const room_letter *l) {
    node_room *r = node_room_find(n, l->room, hash_bytes(l->room));
    if (!r || r->serials[l->head.worker] != l->serial) return;
    r->wanted &= ~(uint64_t{1} << l->head.worker);
    r->told &= r->wanted;
    if (!r->wanted && !r->held) room_end(n, r);
}

void node_hold(node *n, view name) {
    uint64_t hash = hash_bytes(name);
    node_room *r = node_room_find(n, name, hash);
    bool fresh = !r;
    if (fresh) r = room_new(n, name, hash);
    r->held = true;
    if (fresh) n->broker->ops->subscribe(n->broker, name);
}

void node_release(node *n, view name) {
    node_room *r = node_room_find(n, name, hash_bytes(name));
    if (!r) return;
    r->held = false;
    if (!r->wanted) room_end(n, r);
}

void node_tell_counted(node *n, const node_room *r) {
    for (uint64_t left = r->told; left; left &= left - 1)
        tell_room(n, static_cast<uint32_t>(std::countr_zero(left)), letter_type::counted, r);
}

// Worker 0 tells the backends.
static void tell_occupancy(void *context, bool occupied, view room) {
    auto *n = static_cast<node *>(context);
    letter_type type = occupied ? letter_type::occupied : letter_type::vacated;
    node_send(n, 0, &(new room_letter{{type}, 0, std::string(room)})->head);
}

static bool wants_occupancy(const relay_settings *settings) {
    constexpr uint32_t bits = 1u << notify_occupied | 1u << notify_vacated;
    for (const route &r : settings->routes)
        if (!r.retired && (r.notify_bits & bits)) return true;
    return false;
}

// ---------------------------------------------------------------- the broker

void node_subscribed(void *context, view room) {
    auto *n = static_cast<node *>(context);
    node_room *r = node_room_find(n, room, hash_bytes(room));
    if (!r) return;
    if (r->feed) return feed_subscribed(r->feed, n->broker->ops->ready(n->broker));
    r->active = true;
    tell_active(n, r);
}

// Who waits for this room is told that it can't be had now; members stay, and the broker tries again.
void node_refused(void *context, view room) {
    auto *n = static_cast<node *>(context);
    const node_room *r = node_room_find(n, room, hash_bytes(room));
    if (!r) return;
    for (uint64_t left = r->wanted & ~r->told; left; left &= left - 1)
        tell_room(n, static_cast<uint32_t>(std::countr_zero(left)), letter_type::refused, r);
}

void node_history(void *context, const history_page *page) {
    auto *n = static_cast<node *>(context);
    node_room *r = node_room_find(n, page->room, hash_bytes(page->room));
    if (r && r->feed) feed_page(r->feed, page);
}

static void check_missed(table_node *t, void *) {
    const node_room *r = BELFRY_CONTAINER_OF(t, node_room, node);
    if (r->feed) feed_check(r->feed);
}

static void check_unknown(table_node *t, void *) {
    const node_room *r = BELFRY_CONTAINER_OF(t, node_room, node);
    if (r->feed && !r->feed->known) feed_check(r->feed);
}

// Rooms with history read what they have missed; the others are told that there may be something.
void node_up(void *context, bool missed) {
    auto *n = static_cast<node *>(context);
    node_presence_up(n, missed);
    if (missed) handover_node_missed(n);
    table_each(&n->rooms, missed ? check_missed : check_unknown, nullptr);
    for (uint32_t w = 0; missed && w < n->worker_count; w++)
        node_send(n, w, new letter{letter_type::gap});
}

static void tell_gap(node *n, const node_room *r) {
    for (uint64_t left = r->told; left; left &= left - 1)
        tell_room(n, static_cast<uint32_t>(std::countr_zero(left)), letter_type::room_gap, r);
}

void node_missed(void *context, view room) {
    auto *n = static_cast<node *>(context);
    presence_resync_room(n->presence, room);
    const node_room *r = node_room_find(n, room, hash_bytes(room));
    if (r && r->feed)
        feed_check(r->feed);
    else if (r)
        tell_gap(n, r);
}

// ---------------------------------------------------------------- feeds

static bool feed_reads(void *context, view room, uint64_t after, uint32_t limit, uint64_t tag) {
    broker *b = static_cast<node *>(context)->broker;
    return b->ops->read(b, room, after, limit, tag);
}

static void feed_renews(void *context, view room, const position *seen) {
    broker *b = static_cast<node *>(context)->broker;
    if (b->ops->renew) b->ops->renew(b, room, seen);
}

static void feed_hands_over(void *context, feed *f, message *m) {
    node_hand_over(static_cast<node *>(context), m, static_cast<node_room *>(f->owner)->wanted);
}

static void feed_discards(void *context, message *m) {
    node_hand_over(static_cast<node *>(context), m, 0);
}

// Who was told before, when the room kept no history, learns its place by a gap.
static void feed_lives(void *context, feed *f) {
    auto *n = static_cast<node *>(context);
    auto *r = static_cast<node_room *>(f->owner);
    r->active = true;
    if (r->told) tell_gap(n, r);
    tell_active(n, r);
}

static void feed_gaps(void *context, feed *f) {
    tell_gap(static_cast<node *>(context), static_cast<const node_room *>(f->owner));
}

static void feed_answers(void *context, feed *f, const feed_ask *ask, const feed_answer *a) {
    auto *n = static_cast<node *>(context);
    auto *l =
        new join_answer_letter{{letter_type::join_answer}, ask->from, ask->number, f->room, a->recovered, f->at, {}};
    l->replay.assign(a->replay, a->replay + a->count);
    for (message *m : l->replay)
        message_ref(m);
    if (ask->ordinal && n->arriving) handover_in_kept(n, f->room, ask->ordinal, &l->replay);
    node_send(n, ask->from.worker, &l->head);
    node_discharge(n, ask->from.worker, letter_charge);
}

static const feed_host host = {feed_reads, feed_renews, feed_hands_over, feed_discards,
                               feed_lives, feed_gaps,   feed_answers};

static void refuse_ask(node *n, const join_ask_letter *l) {
    auto *answer = new join_answer_letter{{letter_type::join_answer}, l->from, l->number, l->room, false, {}, {}};
    node_send(n, l->from.worker, &answer->head);
    node_discharge(n, l->head.worker, letter_charge);
}

void node_join_ask(node *n, const join_ask_letter *l) {
    const node_room *r = node_room_find(n, l->room, hash_bytes(l->room));
    if (!r) return node_discharge(n, l->head.worker, letter_charge); // it has left again
    if (!r->feed) return refuse_ask(n, l);                           // it was asked just before a reload
    feed_ask ask = {l->from, l->number, l->room_for, l->since, 0, l->ordinal};
    feed_ask_since(r->feed, &ask);
}

// ---------------------------------------------------------------- reloads

// The broker delivers the room (or is about to): the feed begins with a read of where its history is, and holds what
// comes meanwhile.
static void begin_history(node *n, node_room *r) {
    r->feed = feed_new(&n->feeds, name_of(r, n->worker_count), static_cast<uint32_t>(r->rule->history), r);
    if (!r->active) return;
    r->active = false;
    feed_subscribed(r->feed, n->broker->ops->ready(n->broker));
}

static void end_history(node *n, node_room *r) {
    const bool subscribed = r->feed->subscribed;
    feed_settle(r->feed);
    feed_free(r->feed);
    r->feed = nullptr;
    r->active = subscribed;
    tell_gap(n, r); // its messages have no place any more
    if (r->active) tell_active(n, r);
}

struct rooms_adoption {
    node *on;          // borrowed
    const adoption *a; // borrowed
};

static void adopt_room(table_node *t, void *context) {
    const auto *how = static_cast<const rooms_adoption *>(context);
    node_room *r = BELFRY_CONTAINER_OF(t, node_room, node);
    r->rule = adoption_rule(how->a, r->rule, name_of(r, how->on->worker_count));
    const bool keeps = r->rule && r->rule->history;
    if (keeps && r->feed)
        r->feed->limit = static_cast<uint32_t>(r->rule->history);
    else if (keeps)
        begin_history(how->on, r);
    else if (r->feed)
        end_history(how->on, r);
}

void node_rooms_adopt(node *n, const adoption *a) {
    const bool told = n->tells_occupancy;
    n->tells_occupancy = wants_occupancy(n->settings);
    if (told && !n->tells_occupancy) { // nobody is to hear of what is held back
        occupancy_destroy(&n->occupancy);
        occupancy_init(&n->occupancy, tell_occupancy, n);
    }
    handover_node_missed(n); // what is numbered may change
    rooms_adoption how = {n, a};
    table_each(&n->rooms, adopt_room, &how);
}

// ---------------------------------------------------------------- life

void node_rooms_init(node *n, const broker_settings *broker) {
    workers_for_equal = n->worker_count;
    table_init(&n->rooms);
    occupancy_init(&n->occupancy, tell_occupancy, n);
    n->tells_occupancy = wants_occupancy(n->settings);
    // The memory broker's history is at hand: a cache of it would only hold what the budget wants to let go.
    uint64_t budget = broker->type == 1 ? static_cast<uint64_t>(broker->history_memory) : 0;
    feeds_init(&n->feeds, &host, n, &n->on->clock, budget);
}

static void end_feed(table_node *t, void *context) {
    feed_end(static_cast<node *>(context), BELFRY_CONTAINER_OF(t, node_room, node));
}

void node_rooms_end(node *n) {
    table_each(&n->rooms, end_feed, n);
}

static void free_room(table_node *t, void *context) {
    table_remove(static_cast<table *>(context), t);
    free(BELFRY_CONTAINER_OF(t, node_room, node));
}

void node_rooms_free(node *n) {
    table_each(&n->rooms, free_room, &n->rooms);
    table_destroy(&n->rooms);
    occupancy_destroy(&n->occupancy);
}

} // namespace belfry
