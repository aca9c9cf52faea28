// A client's connection while its request is for a session that lives elsewhere: reads a POST's body, sends the request
// on its way (carry.h), waits for the answer and writes it. Owner's thread.
#pragma once

#include "relay/exchange.h"
#include "relay/letter.h"

namespace belfry {

// What it keeps meanwhile.
struct carrying;

// For a request that is never answered otherwise: a hook or the broker may be behind it. A poll waits so much longer
// than its own time.
inline constexpr uint64_t carrying_timeout_ms = 60000;

// The chain has passed a poll or a POST.
void carrying_start(exchange *x);
// Waits for an answer that is on its way already (a poll's first). Its letter carries conn_id_of(x->on).
void carrying_wait(exchange *x, uint64_t at_most_ms);
extern const conn_phase carrying_phase; // of that wait
// The answer. Frees the letter.
void carrying_answered(shard *s, carried_letter *l);
// The exchange ends: frees what it keeps.
void carrying_cancel(exchange *x);

} // namespace belfry
