// Clients' requests for sessions of other nodes, so that no load balancer needs to know which node a client belongs to:
// the session's id names its node. Over peers.h. Main thread.
#pragma once

#include "relay/letter.h"
#include "relay/peers.h"

namespace belfry {

struct node;

// A request of a client of ours, for another node's session. Takes the letter over; its answer goes to the worker.
void node_carry_remote(node *n, carry_letter *l);
// The answer of a worker of ours to another node's request. Takes it over.
void node_carried_remote(node *n, carried_letter *l);
// Another node's request for a session of ours.
void node_carry_asked(node *n, const peers_return *to, view body);

} // namespace belfry
