// Questions of the control API to all workers. The node makes one query object, each worker fills its own part, the
// last one sends it back.
#pragma once

#include "relay/letter.h"
#include "relay/shard_status.h"

namespace belfry {

struct shard;

// Fills this worker's part. Forms: rooms "NAME\tMEMBERS\n" in name order (Belfry's own left out), names above `after`,
// at most `limit`; room: count; top: how many members each of the rooms in `room` has, which are as many lines, then
// for each slow reader, at most `limit`, "QUEUE\t" and its JSON object, the longest queue first; connections: one JSON
// object a line in slot order; status: shard_status and its census.
void query_answer(shard *s, query *q, uint64_t accept_exhausted);

// The next line of a part's lines, without its end; empty where there is none.
view query_line(view *rest);

void query_free(query *q);

} // namespace belfry
