// What ties presence to the node: the workers' letters go in, announcements go out through the broker, and where that
// is Redis, other nodes' leases are watched. For node*.cc. Main thread.
#pragma once

#include "relay/broker.h"
#include "relay/letter.h"
#include "relay/nodes.h"
#include "relay/presence.h"

namespace belfry {

struct node;

// node->presence and, over Redis, node->others; after the broker was made.
void node_presence_init(node *n, const relay_settings *settings, const broker_settings *link);
// Takes the letter over: entered, exited, members. The bytes that it was charged.
int64_t node_presence_take_in(node *n, letter *l);
void node_presence_turn(node *n);
// The broker is up; `missed`: Redis may have lost what was written.
void node_presence_up(node *n, bool missed);
// The node stops: who leaves is not held back any more. When the last one has left, Redis hears that this node is gone.
void node_presence_stop(node *n);
// All that was to be done at the end is done, or there is no hope: then the loop need not turn any more.
[[nodiscard]] bool node_presence_finished(const node *n);
void node_presence_free(node *n); // after the broker

} // namespace belfry
