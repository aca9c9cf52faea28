// Streams held for a backend (contracts section 8): its proxied answer to a GET of an EventSource that carries
// Belfry-Hold: ROOM[, ROOM] becomes a session of server-sent events in those rooms, where the route says
// publish_header = yes. Its body, where it is text/event-stream, comes first. That the client may read those rooms the
// backend has said by this, but nobody is put into one of Belfry's own. The field is for Belfry alone:
// http1_forward_response never passes it on.
//
// One answer's, on the thread of its connection.
#pragma once

#include "relay/exchange.h"

#include <string>
#include <vector>

namespace belfry {

inline constexpr size_t hold_rooms_max = 32;   // as many as an event id holds (proto/cursor.h)
inline constexpr size_t hold_body_max = 65536; // bytes, and no more than half of the route's send_queue

struct hold_field {
    std::vector<std::string> rooms;
    buffer body; // owned: so far
    bool with_body;
    bool too_large; // it was: none of it is sent
};

// Null where the answer is none of a held stream: no such field, the route doesn't take it, the request is no
// EventSource's, a status other than 200, or no room that could be joined, which is logged and counted
// (publish_failures).
hold_field *hold_field_new(const exchange *x, const http1_response *r);
// A piece of the body, decoded of its framing.
void hold_field_body(conn *c, hold_field *h, view data);
void hold_field_free(hold_field *h);

} // namespace belfry
