// The memory broker's store. Main thread.
#include "relay/history.h"

#include "base/error.h"

#include <algorithm>
#include <new>
#include <stdlib.h>
#include <string.h>

namespace belfry {

struct kept_message {
    message *what; // counted
    uint32_t charge;
};

struct history_room {
    table_node node;
    link place;         // in history::keeping or history::places
    struct timer timer; // armed while there are messages; fires early where more came since
    uint64_t until_ms;  // messages, or the place, are kept so long
    position top;
    kept_message *ring; // owned
    uint32_t capacity, first, count;
    uint32_t name_size;
    char name[];
};

static constexpr uint32_t malloc_header = 16; // what malloc adds to an allocation, about
static constexpr uint32_t json_words = 96; // {"type":"message","room":,"epoch":,"offset":,"time":,"data":} and header

static view name_of(const history_room *r) {
    return view(r->name, r->name_size);
}
static bool named(const table_node *t, view key) {
    return name_of(BELFRY_CONTAINER_OF(const_cast<table_node *>(t), history_room, node)) == key;
}
static history_room *find(const history *h, view name, uint64_t hash) {
    table_node *t = table_find(&h->rooms, hash, name, named);
    return t ? BELFRY_CONTAINER_OF(t, history_room, node) : nullptr;
}

uint32_t history_charge(const message *m) {
    size_t texts = m->room.size() + m->from.size() + m->id.size() + m->key.size();
    size_t bytes = sizeof(message) + malloc_header + texts + m->except_count * sizeof(conn_id);
    bytes += sizeof(frame) + frame_padding + malloc_header + m->source->size;
    size_t expected = sizeof(frame) + frame_padding + malloc_header + json_words + m->payload.size() + m->room.size() +
                      m->from.size();
    size_t made = 0;
    for (const auto &form : m->forms)
        if (const frame *f = form.load(std::memory_order_acquire))
            made += sizeof(frame) + frame_padding + malloc_header + f->size;
    bytes += std::max(expected, made) + 2 * sizeof(kept_message); // a ring is half empty at the worst
    return static_cast<uint32_t>(std::min<size_t>(bytes, UINT32_MAX));
}

static size_t room_bytes(const history_room *r) {
    return sizeof(history_room) + malloc_header + r->name_size;
}

static history_room *oldest(const link *list) {
    return list_empty(list) ? nullptr : BELFRY_CONTAINER_OF(list->next, history_room, place);
}

static kept_message *kept_at(const history_room *r, uint32_t i) {
    return &r->ring[(r->first + i) % r->capacity];
}

// ---------------------------------------------------------------- rooms

static void forget(history *h, history_room *r) {
    h->count.places--;
    list_remove(&r->place);
    table_remove(&h->rooms, &r->node);
    free(r);
}

// It keeps nothing (any more) but its place.
static void become_place(history *h, history_room *r, uint64_t now_ms) {
    list_remove(&r->place);
    if (h->count.places == history_places_max) forget(h, oldest(&h->places));
    list_push_back(&h->places, &r->place);
    h->count.places++;
    r->until_ms = now_ms + history_place_ms;
}

static void drop_oldest(history *h, history_room *r) {
    kept_message *k = kept_at(r, 0);
    h->count.bytes -= k->charge;
    h->count.messages--;
    message_unref(k->what);
    r->first = (r->first + 1) % r->capacity;
    r->count--;
}

// The last message is gone.
static void emptied(history *h, history_room *r, uint64_t now_ms) {
    free(r->ring);
    r->ring = nullptr;
    r->capacity = r->first = 0;
    wheel_cancel(&h->expiries, &r->timer);
    h->count.rooms--;
    h->count.bytes -= room_bytes(r);
    become_place(h, r, now_ms);
}

static history_room *room_new(history *h, view name, uint64_t hash, uint64_t now_ms) {
    uint8_t word[history_epoch_size];
    char text[2 * history_epoch_size];
    auto *r = new (memory_get_zeroed(sizeof(history_room) + name.size())) history_room{};
    r->name_size = static_cast<uint32_t>(name.size());
    memcpy(r->name, name.data(), name.size());
    random_fill(word, sizeof word);
    base64url_encode(view(reinterpret_cast<char *>(word), sizeof word), text);
    memcpy(r->top.epoch, text, history_epoch_size);
    timer_init(&r->timer);
    list_init(&r->place);
    table_insert(&h->rooms, &r->node, hash);
    become_place(h, r, now_ms);
    return r;
}

static void grow(history_room *r) {
    uint32_t capacity = r->capacity ? r->capacity * 2 : 4;
    auto *ring = static_cast<kept_message *>(memory_get(capacity * sizeof(kept_message)));
    for (uint32_t i = 0; i < r->count; i++)
        ring[i] = *kept_at(r, i);
    free(r->ring);
    r->ring = ring;
    r->capacity = capacity;
    r->first = 0;
}

// ---------------------------------------------------------------- keeping

static void begin_to_keep(history *h, history_room *r) {
    h->count.places--;
    h->count.rooms++;
    h->count.bytes += room_bytes(r);
}

// By now the workers have made further forms of it: for its members, for who has joined since.
static void charge_again(history *h, kept_message *k) {
    uint32_t charge = history_charge(k->what);
    h->count.bytes += charge;
    h->count.bytes -= k->charge;
    k->charge = charge;
}

static void evict(history *h, uint64_t now_ms) {
    while (h->count.bytes > h->budget) {
        history_room *r = oldest(&h->keeping);
        if (!r) return;
        drop_oldest(h, r);
        h->count.evicted++;
        if (!r->count) emptied(h, r, now_ms);
    }
}

void history_keep(history *h, message *m, uint64_t now_ms) {
    history_room *r = find(h, m->room, m->room_hash);
    if (!r) r = room_new(h, m->room, m->room_hash, now_ms);
    m->at = r->top;
    m->at.offset = ++r->top.offset;
    if (r->count)
        charge_again(h, kept_at(r, r->count - 1));
    else
        begin_to_keep(h, r);
    while (r->count >= m->keep)
        drop_oldest(h, r);
    if (r->count == r->capacity) grow(r);
    uint32_t charge = history_charge(m);
    r->count++;
    *kept_at(r, r->count - 1) = {message_ref(m), charge};
    h->count.messages++;
    h->count.bytes += charge;
    list_remove(&r->place);
    list_push_back(&h->keeping, &r->place);
    r->until_ms = now_ms + static_cast<uint64_t>(m->keep_ttl_ms);
    if (!timer_armed(&r->timer)) wheel_set(&h->expiries, &r->timer, now_ms, r->until_ms - now_ms);
    evict(h, now_ms);
}

history_slice history_read(history *h, view room, uint64_t after, uint32_t limit, uint64_t now_ms) {
    uint64_t hash = hash_bytes(room);
    history_room *r = find(h, room, hash);
    if (!r) r = room_new(h, room, hash, now_ms);
    h->page.clear();
    uint64_t first = r->top.offset - r->count + 1; // of what is kept
    uint64_t from = std::max(std::min(after, r->top.offset) + 1, first);
    if (r->top.offset >= from && r->top.offset - from >= limit) from = r->top.offset - limit + 1;
    for (uint64_t offset = from; offset <= r->top.offset; offset++) {
        kept_message *k = kept_at(r, static_cast<uint32_t>(offset - first));
        charge_again(h, k); // what is above the budget then goes with the next message
        h->page.push_back(k->what);
    }
    bool whole = after <= r->top.offset && from == after + 1;
    return {r->top, whole, h->page.data(), h->page.size()};
}

const position *history_place(const history *h, view room) {
    const history_room *r = find(h, room, hash_bytes(room));
    return r ? &r->top : nullptr;
}

static void drop_room(history *h, history_room *r) {
    if (!r->count) return forget(h, r);
    while (r->count)
        drop_oldest(h, r);
    wheel_cancel(&h->expiries, &r->timer);
    h->count.rooms--;
    h->count.bytes -= room_bytes(r);
    list_remove(&r->place);
    table_remove(&h->rooms, &r->node);
    free(r->ring);
    free(r);
}

void history_forget(history *h, bool (*keeps)(void *, view), void *context) {
    struct choice {
        bool (*keeps)(void *, view);
        void *context;
        std::vector<history_room *> gone;
    } c = {keeps, context, {}};
    table_each(
        &h->rooms,
        [](table_node *t, void *of) {
            auto *all = static_cast<choice *>(of);
            history_room *r = BELFRY_CONTAINER_OF(t, history_room, node);
            if (!all->keeps(all->context, name_of(r))) all->gone.push_back(r);
        },
        &c);
    for (history_room *r : c.gone)
        drop_room(h, r);
}

// ---------------------------------------------------------------- life

// What is due at the wheel: the room's messages, or, where some came since, later.
static void expire(timer *t, void *context) {
    auto *h = static_cast<history *>(context);
    history_room *r = BELFRY_CONTAINER_OF(t, history_room, timer);
    uint64_t now_ms = h->expiries.tick * wheel_tick_ms;
    if (now_ms < r->until_ms) return wheel_set(&h->expiries, t, now_ms, r->until_ms - now_ms);
    h->count.expired += r->count;
    while (r->count)
        drop_oldest(h, r);
    emptied(h, r, now_ms);
}

void history_init(history *h, uint64_t budget, uint64_t now_ms) {
    table_init(&h->rooms);
    list_init(&h->keeping);
    list_init(&h->places);
    wheel_init(&h->expiries, now_ms, expire, h);
    h->budget = budget;
    h->count = {};
}

void history_turn(history *h, uint64_t now_ms) {
    wheel_advance(&h->expiries, now_ms);
    for (history_room *r = oldest(&h->places); r && r->until_ms <= now_ms; r = oldest(&h->places))
        forget(h, r);
}

static void free_room(table_node *t, void *context) {
    auto *h = static_cast<history *>(context);
    history_room *r = BELFRY_CONTAINER_OF(t, history_room, node);
    while (r->count)
        drop_oldest(h, r);
    table_remove(&h->rooms, t);
    free(r->ring);
    free(r);
}

void history_destroy(history *h) {
    table_each(&h->rooms, free_room, h);
    table_destroy(&h->rooms);
    h->page = {};
}

} // namespace belfry
