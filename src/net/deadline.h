// A timer with a function of its own, for wheels whose timers belong to different kinds of owners. One thread.
#pragma once

#include "net/wheel.h"

namespace belfry {

struct deadline {
    struct timer timer;
    void (*fire)(deadline *d); // disarmed before the call; may free the owner
};

inline void deadline_init(deadline *d, void (*fire)(deadline *)) {
    timer_init(&d->timer);
    d->fire = fire;
}
// wheel_init's `fire` for a wheel of deadlines.
inline void deadline_fire(timer *t, void *) {
    deadline *d = BELFRY_CONTAINER_OF(t, deadline, timer);
    d->fire(d);
}

} // namespace belfry
