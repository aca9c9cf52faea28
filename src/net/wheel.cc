// The timer wheel: 1,024 slots of 100 ms; a timer further ahead than one round stays in its slot and is passed over
// until its round comes. One wheel a thread, owned and run by that thread.
#include "net/wheel.h"

namespace belfry {

static_assert(sizeof(timer) <= 24, "a deadline costs 24 bytes");
static_assert((wheel_slots & (wheel_slots - 1)) == 0, "slots are found by masking");

namespace {

// `due` has 16 bits, so no deadline may be further than this from the tick that was last advanced to.
constexpr uint64_t ticks_max = UINT16_MAX;
static_assert(wheel_ms_max / wheel_tick_ms < ticks_max);

link *slot_of(wheel *w, uint64_t tick) {
    return &w->slots[tick & (wheel_slots - 1)];
}

// Moves what is due within `elapsed` ticks from w->tick out of one slot.
void collect(wheel *w, link *slot, uint64_t elapsed, link *due) {
    for (link *node = slot->next; node != slot;) {
        link *next = node->next;
        const timer *t = BELFRY_CONTAINER_OF(node, timer, node);
        uint16_t ahead = static_cast<uint16_t>(t->due - w->tick); // 1 to ticks_max, modulo 65,536 on purpose
        if (ahead <= elapsed) {
            list_remove(node);
            list_push_back(due, node);
        }
        node = next;
    }
}

} // namespace

void wheel_init(wheel *w, uint64_t now_ms, void (*fire)(timer *, void *), void *context) {
    for (link &slot : w->slots)
        list_init(&slot);
    w->tick = now_ms / wheel_tick_ms;
    w->armed = 0;
    w->fire = fire;
    w->context = context;
}

void timer_init(timer *t) {
    list_init(&t->node);
    t->due = 0;
}

void wheel_set(wheel *w, timer *t, uint64_t now_ms, uint64_t after_ms) {
    if (after_ms > wheel_ms_max) after_ms = wheel_ms_max;
    uint64_t due = (now_ms + after_ms + wheel_tick_ms - 1) / wheel_tick_ms;
    // The slot of w->tick was walked already: a deadline put there would wait for a whole round.
    if (due <= w->tick) due = w->tick + 1;
    // Only where the wheel was not advanced for nine minutes, which a running loop does not do.
    if (due - w->tick > ticks_max) due = w->tick + ticks_max;

    if (!timer_armed(t)) w->armed++;
    list_remove(&t->node);
    list_push_back(slot_of(w, due), &t->node);
    t->due = static_cast<uint16_t>(due);
}

void wheel_cancel(wheel *w, timer *t) {
    if (!timer_armed(t)) return;
    list_remove(&t->node);
    w->armed--;
}

void wheel_advance(wheel *w, uint64_t now_ms) {
    uint64_t now = now_ms / wheel_tick_ms;
    if (now <= w->tick) return;
    uint64_t elapsed = now - w->tick;

    link due;
    list_init(&due);
    uint64_t walk = elapsed < wheel_slots ? elapsed : wheel_slots;
    for (uint64_t i = 1; i <= walk; i++)
        collect(w, slot_of(w, w->tick + i), elapsed, &due);
    w->tick = now;

    // One at a time from the front: a callback may cancel, arm again or free any of those that are still waiting here.
    while (!list_empty(&due)) {
        timer *t = BELFRY_CONTAINER_OF(due.next, timer, node);
        list_remove(&t->node);
        w->armed--;
        w->fire(t, w->context);
    }
}

} // namespace belfry
