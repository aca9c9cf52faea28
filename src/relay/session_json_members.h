// The question for a room's members: for session_json.cc, which gets it, and worker.cc, to which the node's answer
// comes. On the thread of the connection.
#pragma once

#include "proto/client_json.h"
#include "relay/conn.h"

namespace belfry {

struct members_letter;

// Members alone may ask (403 else), where the room has presence (404 else).
void json_members(conn *c, const client_request *q);
// The node's answer, borrowed: the client gets as many members as its queue has room for.
void json_members_told(conn *c, const members_letter *l);

} // namespace belfry
