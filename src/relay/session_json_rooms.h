// Join, leave and publish of the JSON protocol, with and without a hook: for session_json.cc alone. Owner's thread.
#pragma once

#include "proto/client_json.h"
#include "relay/session.h"

namespace belfry {

// The room's name was checked.
void json_join(conn *c, const client_request *q);
void json_leave(conn *c, const client_request *q);
void json_publish(conn *c, const client_request *q);
// session_ops' joined, recovered, refused and rejoin.
void json_rejoin(conn *c, const plain_rejoin *r);
void json_joined(conn *c, membership *m);
void json_recovered(conn *c, membership *m, const join_answer_letter *a);
void json_refused(conn *c, membership *m, int code, const char *why);

} // namespace belfry
