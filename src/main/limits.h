// What the machine allows: how many files may be open, how much memory there is, and so how many connections at most,
// whatever max_connections says. Main thread.
#pragma once

#include "main/config.h"

namespace belfry {

struct process_limits {
    uint64_t files;          // that may be open (RLIMIT_NOFILE, raised as far as it goes)
    uint64_t files_reserved; // of these: listening sockets, connections to backends and Redis, the log
    uint64_t memory;         // bytes: of the machine, of the control group, or RLIMIT_AS, whichever is least
    uint64_t per_connection; // bytes that an idle connection takes at most
    int64_t max_connections; // in force
    const char *bound;       // static: by what: "max_connections", "files" or "memory"
};

// Three quarters of the memory are for connections, and each takes what the budget says: TLS is the dearer by far.
inline constexpr uint64_t connection_bytes_plain = 2048, connection_bytes_tls = 16384;

// From what is known: which of the three is least, at least 1.
process_limits limits_of(uint64_t files, uint64_t reserved, uint64_t memory, bool tls, int64_t wanted);
// Raises the limit of open files as far as it goes, and brings relay.max_connections down to what the machine allows.
process_limits limits_apply(config *c);
// Says so in the log where that is less than the config wants.
void limits_tell(const process_limits *l, const config *c);

} // namespace belfry
