// Time. A thread's loop refreshes its `clock` once a turn; nothing per delivery asks the kernel (the node asks once a
// message, for its time stamp).
#pragma once

#include <stdint.h>

namespace belfry {

struct clock {
    uint64_t monotonic_ms = 0; // never jumps, starts anywhere
    uint64_t wall_ms = 0;      // since 1970-01-01 UTC
};

void clock_refresh(clock *c);

// Asks the kernel. Any thread.
uint64_t clock_monotonic_ns();
inline uint64_t clock_monotonic_ms() {
    return clock_monotonic_ns() / 1000000;
}

} // namespace belfry
