// Questions of the control API to all workers. The node makes one query object, each worker fills its own part, the
// last one sends it back.
#pragma once

#include "relay/counters.h"
#include "relay/letter.h"
#include "relay/notify.h"

namespace belfry {

struct shard;

// A worker's part of a status query: the bytes of its query_part::out.
struct shard_status {
    counters count;
    notify_counters notify;
    uint64_t connections, rooms, memberships, tls_handshakes;
    uint64_t conn_bytes, chunk_bytes, membership_bytes, table_bytes; // slabs and tables
    uint64_t writes;                                                 // write calls of the loop
    uint64_t accept_exhausted;                                       // times that descriptors ran out
};

// Fills this worker's part. Forms: rooms "NAME\tMEMBERS\n" in name order (Belfry's own left out), names above `after`,
// at most `limit`; room: count; connections: one JSON object a line in slot order; status: shard_status.
void query_answer(shard *s, query *q, uint64_t accept_exhausted);

void query_free(query *q);

} // namespace belfry
