// How long the master waits before it starts a crashed worker process again: 100 ms, doubled from crash to crash up to
// 10 s, and 100 ms again once one has lived for a minute. No state, no thread.
#pragma once

#include <stdint.h>

namespace belfry {

inline constexpr uint64_t backoff_first_ms = 100, backoff_most_ms = 10000, backoff_healthy_ms = 60000;

// `last_ms`: what was waited before the one that has crashed now; 0: it was not the successor of a crashed one.
inline uint64_t backoff_next(uint64_t last_ms, uint64_t lived_ms) {
    if (last_ms == 0 || lived_ms >= backoff_healthy_ms) return backoff_first_ms;
    return last_ms * 2 < backoff_most_ms ? last_ms * 2 : backoff_most_ms;
}

} // namespace belfry
