// Sessions of long polling: a connection without a socket, whose queue is emptied by requests that come on others, one
// batch each. The request that opens a session is its first poll.
//
//   poll with the last batch's cursor  -> the next one, once there is something, or an empty one after poll_wait
//   poll with the cursor before        -> the last batch again: its answer was lost
//   a newer poll                       -> answers the one that waits with an empty batch
//   no poll for poll_timeout           -> the session ends
//
// A batch is {"cursor":"...","messages":[...]}: of the JSON protocol its objects; of the raw one a string for text,
// {"data64":"..."} for bytes. Owner's thread.
#pragma once

#include "relay/exchange.h"
#include "relay/plain_session.h"

namespace belfry {

extern const conn_phase poll_phase;

inline constexpr size_t poll_batch_bytes = 65536; // of a batch; the message that passes it is its last
inline constexpr size_t poll_batch_messages = 256;

// Takes the socket off the connection, with the request, which waits for its answer as any poll does. From a turn of
// its own (conn_phase's `again`). The connection takes deliveries from here on.
void poll_open(conn *c);
// A poll. Takes the letter over.
void poll_asked(conn *c, carry_letter *l);

} // namespace belfry
