// What the kernel says of this process, for the metrics' process_*. Any thread.
#pragma once

#include <stdint.h>

namespace belfry {

struct process_stats {
    uint64_t cpu_ns; // user and system
    uint64_t resident_bytes, virtual_bytes;
    uint64_t open_fds, max_fds; // open_fds: of a process with thousands an old kernel needs a millisecond for it
    uint64_t threads;
    uint64_t started_ns; // wall clock, since 1970
};

// What can't be read stays 0.
[[nodiscard]] process_stats process_stats_read();

} // namespace belfry
