// What the dashboard and belfryctl top show, as one JSON object: asked for once (GET /v1/live), or pushed every second
// over a WebSocket to who upgrades there (subprotocol belfry.live). Counters are totals; who shows rates takes
// differences. Main thread.
#pragma once

#include "main/control_context.h"

namespace belfry {

inline constexpr size_t control_watchers_max = 16; // more are answered 503
inline constexpr uint64_t control_live_ms = 1000;

struct control_live; // who watches
[[nodiscard]] control_live *control_live_new(control_api *a);
// After control_http_free: nobody watches any more.
void control_live_free(control_live *l);

// GET /v1/live, a handshake or not.
void control_live_handle(control_api *a, control_conn *c, const control_request *q);

} // namespace belfry
