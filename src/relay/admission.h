// From the first byte of a request to its answer: head, route, handshake, first rooms, 101. Every refusal leaves
// through one function and is a complete HTTP answer. Owner's thread.
#pragma once

#include "relay/conn.h"
#include "relay/room.h"

namespace belfry {

extern const conn_phase head_phase;

// A room that a connection waits for has become active (room_active's callback, for connections of any phase).
void admission_room_active(membership *m);

// The same where the broker can't deliver the room: 503 for a handshake, an error for a join.
void admission_room_refused(membership *m);

// Refuses a connection that waits for its first rooms; false where it does not wait.
bool admission_refuse_waiting(conn *c, int status, refuse_reason reason, view why);

// Frees what upper nouns keep with a connection (shard::release): its exchange, its modules' state, its client.
void admission_release(conn *c);

// Answers with this status, logs it once and counts it; the connection lingers. `extra`: field lines with their CRLF,
// or empty.
void admission_refuse(conn *c, int status, refuse_reason reason, view why, view extra);

} // namespace belfry
