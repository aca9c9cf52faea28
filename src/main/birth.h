// What a worker process is born with: the master forks it, so that all this needs no message. Main thread.
#pragma once

#include <stdint.h>
#include <string>
#include <sys/types.h>
#include <vector>

namespace belfry {

// The listening sockets of one address, as the master keeps them for the next worker process.
struct kept_address {
    bool control;         // of the control API, else of a [listener]
    std::string listener; // its name; of a socket from LISTEN_FDS: the name that it was given
    std::string written;  // the address as the config writes it; from LISTEN_FDS: empty
    std::vector<int> fds; // owned: one a worker thread, or one for all
};

struct birth {
    int channel;         // owned: to the master (channel.h)
    pid_t master;        // whose signals count
    uint32_t generation; // 1 for the first worker process, one more for each that follows
    uint64_t crashes;    // of worker processes before
    bool first;          // the service is not up yet: what is wrong is told on standard error, and ends the master too
    bool upgrade;        // takes over from one that still runs
    std::string node;    // the node's id, which outlives an upgrade; empty: a new one is drawn
    uint64_t alive_ms;   // how often the master wants to hear that all threads turn; 0: never
    std::vector<kept_address> kept; // owned: to be listened on where the config has the address, else closed
};

} // namespace belfry
