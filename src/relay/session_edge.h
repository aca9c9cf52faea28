// What the sessions of both protocols ask the edge: the modules' verdict about a message and a publish, the backend's
// data for the first word. Owner's thread.
#pragma once

#include "relay/chain.h"
#include "relay/session.h"

namespace belfry {

// The modules' verdict about a client's message. True: go on with it now. False: it was dropped, the connection is
// closing, or it is kept and `then` gets it once a module that waits has passed it.
[[nodiscard]] bool session_message_passes(conn *c, uint8_t opcode, char *data, size_t size, const chain_waiter *then);
// A chain_waiter's `denied`: counts the message as dropped, closes the connection where the verdict says so.
void session_message_denied(conn *c, const chain_verdict *v);

// The modules' verdict about a publish: false with the reason in `v`, whose status is never 0 then. The caller tells
// the client, then calls session_close_denied.
[[nodiscard]] bool session_publish_passes(conn *c, view room, const room_rule *rule, view data, chain_verdict *v);
// Closes a connection whose verdict says so.
void session_close_denied(conn *c, const chain_verdict *v);

// Of a hook's JSON `data`, what a client of the raw protocol gets as a text frame: a string's content, of anything else
// the JSON itself. Appended to `out`.
void session_raw_text(view data, buffer *out);

} // namespace belfry
