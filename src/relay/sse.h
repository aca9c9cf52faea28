// Sessions of server-sent events (WHATWG HTML, section 9.2): the connection's answer never ends, what the session is
// told stands in it as events, and the client speaks by requests of its own (plain_session.h).
//
//   JSON protocol: each object is the data of an event without a type, so that EventSource.onmessage gets all
//   raw protocol: text is the data of such an event; bytes come as base64 in one of the type "binary"; `bye` in one of
//   the type "bye"
//
// At the end of a turn that has moved it on in a room with history, a reader gets one block of its own: the event id
// that holds all its rooms' positions (proto/cursor.h) and is no event. Whoever comes back with that id (Last-Event-ID,
// or ?last_event_id=) is joined to those rooms again from there, its rights checked anew. Owner's thread.
#pragma once

#include "relay/exchange.h"
#include "relay/plain_session.h"

namespace belfry {

extern const conn_phase sse_phase;

inline constexpr uint64_t sse_retry_ms = 2000; // until a reader whose connection broke comes back

// Appends the head of the answer and its first block.
void sse_write_head(const exchange *x, buffer *out);
// Notes the rooms of the reader's last event id in conn->plain; before the first rooms are joined. An id that is none
// counts as none: it may be another server's.
void sse_read_cursor(const exchange *x);
// Begins after the head is queued: arms the deadlines, takes deliveries.
void sse_open(conn *c);

} // namespace belfry
