// Who may ask the control API: by token, and not by the pages of other sites. Pure; main thread.
#pragma once

#include "proto/http1.h"

namespace belfry {

// The request carries the token: Authorization: Bearer TOKEN, or in a WebSocket handshake, whose fields no page can
// choose, the subprotocol belfry.token.TOKEN with the token as base64url. Constant time. An empty token fits nothing: a
// reload has taken it away, and its address.
[[nodiscard]] bool control_gate_token(const http1_request *q, view token);

// False where a browser asks on behalf of another site's page, by its Origin field: its host and port must be those of
// Host. Where somebody stands in between, X-Forwarded-Host counts as well: no page can set it in a request that its
// browser sends unasked.
[[nodiscard]] bool control_gate_origin(const http1_request *q);

} // namespace belfry
