// What a worker answers to a status query (query.h): what it counts, and what it has at the moment. Copied between
// threads as bytes; belongs to whoever holds the copy.
#pragma once

#include "relay/counters.h"
#include "relay/notify.h"

namespace belfry {

// The first bytes of its query_part::out. Behind them come census.h's lines.
struct shard_status {
    counters count;
    notify_counters notify;
    uint64_t connections, rooms, memberships, tls_handshakes;
    uint64_t conn_bytes, chunk_bytes, membership_bytes, table_bytes; // slabs and tables
    uint64_t writes;                                                 // write calls of the loop
    uint64_t accept_exhausted;                                       // times that descriptors ran out
    uint64_t tls;                                                    // connections with it
    uint64_t queue_bytes, queue_frames;                              // that wait to be written
    uint64_t blocked;                                                // connections whose socket is full
    uint64_t lag_peak_ns;                                            // loop_lag_peak
    histogram lag;                                                   // of the loop
};

} // namespace belfry
