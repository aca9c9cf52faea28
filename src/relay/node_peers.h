// The node among others: orders for connections of other nodes, and how many members a message got everywhere. With the
// memory broker there are no others. Main thread.
#pragma once

#include "relay/node.h"

namespace belfry {

// Carries out a join, leave, disconnect or refresh here and, where its connections may be elsewhere, on the other
// nodes. `source` is the command as JSON. `done` is called once, at once or within peers_timeout_ms: 0, or an HTTP-like
// code with a text: 400, 404 (no such connection, or none of that user, anywhere), 503 (it could not be asked).
void node_order_everywhere(node *n, const command *c, view source,
                           void (*done)(void *context, int code, const char *why), void *context);

// How many members of other nodes have got these messages of ours, which were published with `ack`. `done` is called
// once, at once or within peers_timeout_ms; a node that does not answer counts as none.
void node_ask_receivers(node *n, const std::vector<publish_ack> *acks, void (*done)(void *context, uint64_t receivers),
                        void *context);

// For the node alone.
void node_peers_init(node *n);
void node_peers_turn(node *n);
// Whoever waits for another node is told that it will not answer.
void node_peers_end(node *n);
// Another node's message that asks for its receivers: they are noted once all workers have queued it.
void node_note_receipt(node *n, message *m);
void node_peers_free(node *n);
// As broker_events->peer.
void node_peer(void *context, view bytes);

} // namespace belfry
