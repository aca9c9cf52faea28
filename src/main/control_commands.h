// Commands over the control API: one or an array of them, and a body to a room. Main thread.
#pragma once

#include "main/control_context.h"

namespace belfry {

inline constexpr size_t control_commands_max = 1000; // in one request

// Answers {"results":[...]}: for a publish {"receivers":N}, for the others {}, or {"error":{"code","message"}}. The
// status is 200; for a single command its error's; 503 with Retry-After where a publish found the broker out of reach.
// `all`: the receivers of all nodes are summed, which waits for the other nodes' answers (peers_timeout_ms).
void control_run_commands(control_api *a, control_conn *c, view body, bool all);

// POST /v1/rooms/ROOM: the body, verbatim.
void control_publish_body(control_api *a, control_conn *c, view room, view body, bool all);

} // namespace belfry
