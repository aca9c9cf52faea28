// One timer wheel a thread: a deadline costs 24 bytes in its object, no allocation, and is set and cleared in O(1).
//
// A tick is 100 ms; a deadline fires in the first wheel_advance after it passed, never before. Deadlines reach
// wheel_ms_max ahead; who waits longer arms again when it fires. One thread.
#pragma once

#include "base/list.h"

#include <stddef.h>
#include <stdint.h>

namespace belfry {

inline constexpr uint64_t wheel_tick_ms = 100;
inline constexpr size_t wheel_slots = 1024;
inline constexpr uint64_t wheel_ms_max = 60000 * wheel_tick_ms; // 100 minutes, below 65,536 ticks

struct timer {
    link node;    // in a slot's list, or a list of its own when not armed
    uint16_t due; // tick, modulo 65,536
};

struct wheel {
    link slots[wheel_slots];
    uint64_t tick; // the last one that was advanced to
    size_t armed;
    void (*fire)(timer *t, void *context); // the timer is disarmed before the call; may arm, cancel or free any timer
    void *context;                         // borrowed
};

void wheel_init(wheel *w, uint64_t now_ms, void (*fire)(timer *, void *), void *context);
void timer_init(timer *t);
inline bool timer_armed(const timer *t) {
    return !list_empty(&t->node);
}
// Arms (or re-arms) for `after_ms` from now_ms, rounded up to a tick, capped at wheel_ms_max.
void wheel_set(wheel *w, timer *t, uint64_t now_ms, uint64_t after_ms);
void wheel_cancel(wheel *w, timer *t);
// Fires all that is due at now_ms. Catches up over many ticks after a pause without walking a slot twice.
void wheel_advance(wheel *w, uint64_t now_ms);

} // namespace belfry
