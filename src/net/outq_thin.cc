// Thinning a queue: the frames behind what is on the wire are taken out, some of them go, the others are put back.
// On the thread of the queue's owner.
#include "net/outq_thin.h"

#include "base/error.h"

#include <stdlib.h>
#include <string.h>

namespace belfry {

namespace {

struct thinning {
    const outq_thinning *how;
    frame **frames; // owned: counted references; null where one is gone
    uint32_t count;
    uint64_t total; // bytes of the whole queue, with `cost` for each frame
    outq_thinned done;
};

// A power of two, at least twice as many as `count`.
size_t slots_for(size_t count) {
    size_t slots = 16;
    while (slots < count * 2)
        slots *= 2;
    return slots;
}

uint64_t charge(const thinning *t, const frame *f) {
    return f->size + t->how->cost;
}

void let_go(thinning *t, uint32_t at) {
    t->total -= charge(t, t->frames[at]);
    frame_unref(t->frames[at]);
    t->frames[at] = nullptr;
}

// The newest message of a key goes to the place of the oldest. The hashes are keyed, so nobody can make them collide.
void replace_by_key(thinning *t) {
    const size_t slots = slots_for(t->count), mask = slots - 1;
    auto *first = static_cast<uint32_t *>(memory_get(slots * sizeof(uint32_t))); // index + 1; 0: none
    memset(first, 0, slots * sizeof(uint32_t));
    for (uint32_t i = 0; i < t->count; i++) {
        frame *f = t->frames[i];
        if (f->key == 0 || !frame_droppable(f)) continue;
        size_t at = (f->room ^ f->key) & mask;
        while (first[at] != 0) {
            const frame *other = t->frames[first[at] - 1];
            if (other->room == f->room && other->key == f->key) break;
            at = (at + 1) & mask;
        }
        if (first[at] == 0) {
            first[at] = i + 1;
            continue;
        }
        let_go(t, first[at] - 1);
        t->frames[first[at] - 1] = f;
        t->frames[i] = nullptr;
        t->done.replaced++;
    }
    free(first);
}

// Rooms whose gap stands in front of where we are.
struct room_set {
    uint64_t *slots; // owned; 0: none
    size_t size, count;
};

uint64_t *find_room(const room_set *s, uint64_t room) {
    size_t at = room & (s->size - 1);
    while (s->slots[at] != 0 && s->slots[at] != room)
        at = (at + 1) & (s->size - 1);
    return &s->slots[at];
}

void set_new(room_set *s, size_t size) {
    s->slots = static_cast<uint64_t *>(memory_get(size * sizeof(uint64_t)));
    memset(s->slots, 0, size * sizeof(uint64_t));
    s->size = size;
}

// False where it was there.
bool add_room(room_set *s, uint64_t room) {
    uint64_t *slot = find_room(s, room);
    if (*slot == room) return false;
    *slot = room;
    s->count++;
    if (s->count * 2 < s->size) return true;
    room_set larger = {nullptr, 0, s->count};
    set_new(&larger, s->size * 2);
    for (size_t i = 0; i < s->size; i++)
        if (s->slots[i] != 0) *find_room(&larger, s->slots[i]) = s->slots[i];
    free(s->slots);
    *s = larger;
    return true;
}

// `keyed` false: spares the messages that have a key.
void drop_oldest(thinning *t, bool keyed) {
    room_set told = {};
    set_new(&told, 16);
    for (uint32_t i = 0; i < t->count && t->total > t->how->most; i++) {
        const frame *f = t->frames[i];
        if (!f || f->room == 0) continue;
        const uint64_t room = f->room;
        if (f->key == frame_gap) {
            if (add_room(&told, room)) continue;
            let_go(t, i); // an older place of the same room's is told already
            continue;
        }
        if (f->key != 0 && !keyed) continue;
        let_go(t, i);
        t->done.dropped++;
        frame *gap = add_room(&told, room) ? t->how->gap(t->how->context, room) : nullptr;
        if (!gap) continue;
        t->frames[i] = gap;
        t->total += charge(t, gap);
        t->done.gaps++;
    }
    free(told.slots);
}

} // namespace

outq_thinned outq_thin(outq *q, slab *chunks, const outq_thinning *how) {
    thinning t = {how, nullptr, q->count - outq_fixed(q), q->bytes + q->count * how->cost, {}};
    if (t.count == 0) return t.done;
    t.frames = static_cast<frame **>(memory_get(t.count * sizeof(frame *)));
    outq_unload(q, chunks, t.frames);
    if (how->by_key) {
        replace_by_key(&t);
        drop_oldest(&t, false);
    }
    drop_oldest(&t, true);
    for (uint32_t i = 0; i < t.count; i++)
        if (t.frames[i]) outq_push(q, chunks, t.frames[i]);
    free(t.frames);
    return t.done;
}

} // namespace belfry
