// Rooms that come and go. Main thread.
#include "relay/occupancy.h"

#include "proto/room_name.h"

#include <string>

namespace belfry {

struct held_room {
    table_node node;
    link place;
    uint64_t due_ms;
    std::string name;
};

static bool named(const table_node *n, view key) {
    return BELFRY_CONTAINER_OF(const_cast<table_node *>(n), held_room, node)->name == key;
}

static void forget(occupancy *o, held_room *h) {
    table_remove(&o->held, &h->node);
    list_remove(&h->place);
    delete h;
}

static held_room *oldest(const occupancy *o) {
    return list_empty(&o->order) ? nullptr : BELFRY_CONTAINER_OF(o->order.next, held_room, place);
}

static void tell_oldest(occupancy *o) {
    held_room *h = oldest(o);
    o->tell(o->context, false, h->name);
    forget(o, h);
}

void occupancy_init(occupancy *o, void (*tell)(void *, bool, view), void *context) {
    table_init(&o->held);
    list_init(&o->order);
    o->tell = tell;
    o->context = context;
}

void occupancy_destroy(occupancy *o) {
    while (held_room *h = oldest(o))
        forget(o, h);
    table_destroy(&o->held);
}

void occupancy_occupied(occupancy *o, view room) {
    if (room_name_reserved(room)) return;
    table_node *t = table_find(&o->held, hash_bytes(room), room, named);
    if (t) return forget(o, BELFRY_CONTAINER_OF(t, held_room, node)); // nobody was told that it was empty
    o->tell(o->context, true, room);
}

void occupancy_vacated(occupancy *o, view room, uint64_t now_ms) {
    if (room_name_reserved(room)) return;
    if (o->held.count == occupancy_held_max) tell_oldest(o);
    auto *h = new held_room{{}, {}, now_ms + occupancy_hold_ms, std::string(room)};
    table_insert(&o->held, &h->node, hash_bytes(room));
    list_push_back(&o->order, &h->place);
}

void occupancy_each_held(const occupancy *o, void (*visit)(view room, void *context), void *context) {
    for (const link *at = o->order.next; at != &o->order; at = at->next)
        visit(BELFRY_CONTAINER_OF(const_cast<link *>(at), held_room, place)->name, context);
}

void occupancy_turn(occupancy *o, uint64_t now_ms) {
    for (held_room *h = oldest(o); h && h->due_ms <= now_ms; h = oldest(o))
        tell_oldest(o);
}

} // namespace belfry
