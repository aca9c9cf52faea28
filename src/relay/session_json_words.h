// What the JSON session says to its client: for the files of session_json alone. Owner's thread.
#pragma once

#include "relay/conn.h"

#include <string>

namespace belfry {

// The thread's scratch buffer, empty: to be filled with one object by proto/server_json.h, then sent by json_say.
buffer *json_fresh(conn *c);
void json_say(conn *c);
// The same for the answer to what the client asked: where a request of its own waits for it (transport.h), it goes
// there.
void json_answer(conn *c, bool has_id, int64_t id);
void json_error(conn *c, bool has_id, int64_t id, int code, view text);
// Nothing where the client wants no answer.
void json_ok(conn *c, bool has_id, int64_t id);
// "WHAT ROOM".
std::string json_about(const char *what, view room);

} // namespace belfry
