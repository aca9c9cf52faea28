// Questions of the control API to all workers. The node makes one query object, each worker fills its own part, the
// last one sends it back.
#pragma once

#include "relay/counters.h"
#include "relay/letter.h"
#include "relay/notify.h"

namespace belfry {

struct shard;

// A worker's part of a status query: the first bytes of its query_part::out. Behind them come census.h's lines.
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

// Fills this worker's part. Forms: rooms "NAME\tMEMBERS\n" in name order (Belfry's own left out), names above `after`,
// at most `limit`; room: count; top: how many members each of the rooms in `room` has, which are as many lines, then
// for each slow reader, at most `limit`, "QUEUE\t" and its JSON object, the longest queue first; connections: one JSON
// object a line in slot order; status: shard_status and its census.
void query_answer(shard *s, query *q, uint64_t accept_exhausted);

void query_free(query *q);

} // namespace belfry
