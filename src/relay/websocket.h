// The WebSocket phase of a connection: frames in, messages to its session; Ping, Pong and Close; the keep-alive
// deadlines. Owner's thread.
#pragma once

#include "relay/conn.h"

namespace belfry {

extern const conn_phase websocket_phase;

// Begins after the 101 is queued: arms the deadlines, takes deliveries.
void websocket_open(conn *c);

// Goes on with a connection that was in this phase in another process.
void websocket_continue(conn *c);

// Our side of the closing handshake: a Close frame with this code (1000-4999) and a reason of at most 123 bytes, then
// the peer's Close is awaited for 5 s, then the connection lingers. A second call changes nothing. `bye` may have been
// sent before.
void websocket_close(conn *c, uint16_t code, view reason);

// The same for a connection that gets no more of what it was due: the queue is dropped (counted as slow_consumer) and a
// Close 4413 takes its place.
void websocket_close_slow(conn *c);

// The answer to the fence of a connection that closes: its own publishes are delivered, the Close can follow them.
void websocket_fenced(conn *c);

// Queues one text or control frame made of `payload`; closes a connection whose queue is full.
void websocket_send(conn *c, uint8_t opcode, view payload);

} // namespace belfry
