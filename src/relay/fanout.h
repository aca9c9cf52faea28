// Deliveries: from one message to every member's queue, and from the queues to the sockets at the end of the turn.
// Owner's thread.
#pragma once

#include "relay/message.h"

namespace belfry {

struct shard;
struct room;

// Queues the message to this worker's members of its room (@all: everybody; @conn:ID: that one). Adds to
// message->receivers. No allocation per delivery: a queue's two inline references, or a chunk from the slab. Who has no
// room left is closed with 4413 afterwards.
void fanout_deliver(shard *s, message *m);

// Tells every room's members that something may have been missed.
void fanout_gap(shard *s);

// Writes at most fanout_slice dirty connections, one write call each; true where more are left.
inline constexpr uint32_t fanout_slice = 256;
bool fanout_flush(shard *s);

} // namespace belfry
