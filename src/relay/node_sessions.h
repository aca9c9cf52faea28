// Requests for sessions without WebSocket on their way through the node: from the worker whose connection has the
// request to the one that has the session, and the answers back; what is for another node's session, or comes from one,
// is node_carry's. Main thread.
#pragma once

#include "relay/letter.h"

namespace belfry {

struct node;

// From a worker: to the session's worker, or node.
void node_carry(node *n, carry_letter *l);
// The answer. Takes it over.
void node_carried(node *n, carried_letter *l);

} // namespace belfry
