// Reading the kernel's clocks. Any thread; each `clock` belongs to the thread that refreshes it.
#include "base/clock.h"

#include <time.h>

namespace belfry {

void clock_refresh(clock *c) {
    const uint64_t before = c->monotonic_ms;
    c->monotonic_ms = clock_monotonic_ms();
    if (c->monotonic_ms == before) return; // a busy loop turns many times a millisecond
    timespec now = {};
    clock_gettime(CLOCK_REALTIME, &now); // can't fail for this clock
    c->wall_ms = static_cast<uint64_t>(now.tv_sec) * 1000 + static_cast<uint64_t>(now.tv_nsec) / 1000000;
}

uint64_t clock_monotonic_ns() {
    timespec now = {};
    clock_gettime(CLOCK_MONOTONIC, &now);
    return static_cast<uint64_t>(now.tv_sec) * 1000000000 + static_cast<uint64_t>(now.tv_nsec);
}

} // namespace belfry
