// Deliveries: from one message to every member's queue, and from the queues to the sockets at the end of the turn.
// Owner's thread.
#pragma once

#include "relay/message.h"

namespace belfry {

struct shard;
struct room;
struct slow_hooks;

// Queues the message to this worker's members of its room (@all: everybody; @conn:ID: that one). Adds to
// message->receivers. No allocation per delivery: a queue's two inline references, or a chunk from the slab. Who has no
// room left is closed with 4413 afterwards.
void fanout_deliver(shard *s, message *m);

// What conn_slow.h asks for.
extern const slow_hooks fanout_slow_hooks;

// Tells the members of every room without history that something may have been missed.
void fanout_gap(shard *s);
// Tells one room's; what it gets next follows on `at`. `serial`: an older room of that name is meant by another one.
void fanout_room_gap(shard *s, view room, uint32_t serial, const struct position *at);

// Writes at most fanout_slice dirty connections, one write call each; true where more are left.
inline constexpr uint32_t fanout_slice = 256;
bool fanout_flush(shard *s);

} // namespace belfry
