// After a pause of a thread (the process was stopped, the machine slept, the CPU was somebody else's) everything is
// overdue at once, while the answers that it waited for stand in the sockets: they are to be read before anybody is
// judged. No state but the struct; of the loop's thread.
#pragma once

#include <stdint.h>

namespace belfry {

inline constexpr uint64_t grace_pause_ms = 1000; // since the last turn: ten times what a loop sleeps at most
inline constexpr uint64_t grace_ms = 1000;       // in which thousands of sockets are read

struct grace {
    uint64_t turned_ms = 0, until_ms = 0;
};

// Once a turn, before timers fire: false where they should not, yet. A thread whose every turn takes that long still
// fires them, every second time.
[[nodiscard]] inline bool grace_is_over(grace *g, uint64_t now_ms) {
    bool paused = g->turned_ms && now_ms - g->turned_ms > grace_pause_ms;
    g->turned_ms = now_ms;
    if (g->until_ms) {
        if (now_ms < g->until_ms) return false;
        g->until_ms = 0;
        return true;
    }
    if (paused) g->until_ms = now_ms + grace_ms;
    return !paused;
}

} // namespace belfry
