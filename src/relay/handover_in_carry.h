// Requests for sessions without WebSocket while an upgrade's two processes live: they come to the new one, which
// listens, and may be for a session that has stayed in the old one. The new one asks its own worker first, then, over
// the link, the old one. Main thread.
#pragma once

#include "relay/handover.h"
#include "relay/peers.h"

namespace belfry {

struct handover_carries; // the new process's: requests under way

handover_carries *handover_carries_new();
// Whoever waits still is told that there is no such session.
void handover_carries_end(handover_carries *all, node *n);
void handover_carries_free(handover_carries *all);
// Those that waited too long. Once a turn.
void handover_carries_turn(handover_carries *all, node *n);

// A request of this process's client is about to go to a worker: noted, under l->remote. Nothing where
// there is no old process (any more), or the request is not ours to answer.
void handover_carry_note(node *n, carry_letter *l);
// A worker's answer to it: passed on, or, where it knows of no such session, asked of the old process. False: it is
// another's. Takes it over where it is ours.
[[nodiscard]] bool handover_carry_answered(node *n, carried_letter *l);
// The old process's answer.
void handover_carry_told(node *n, uint64_t number, int status, view body);

} // namespace belfry
