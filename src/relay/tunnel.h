// Upgrade tunnels: a client's WebSocket connection that a backend has agreed to serve itself. Only "websocket" is
// tunnelled; other Upgrade tokens end here, as RFC 9110 section 7.8 allows.
//
// The client's bytes pass unread. Of the backend's frames the boundaries are followed (proto/wsboundary.h), so that the
// client is told of an end that the backend did not announce by a Close frame:
//   1014  the backend ended or broke the connection without a Close
//   1011  it sent what is no WebSocket frame
//   1001  nothing passed either way for tunnel_timeout
//   1012  Belfry asks it to leave (drain.h)
// Within a frame too long to be held back (above ws_held_max) no Close can be put in: the connection is reset. When the
// client goes, the backend sees the end of file. Owner's thread.
#pragma once

#include "relay/proxying.h"

namespace belfry {

extern const conn_phase tunnel_phase;

// Whether a 101 is a good answer to this handshake (RFC 6455 section 4.1): null, or a static text that says what is
// wrong: Upgrade, Connection, Sec-WebSocket-Accept, a subprotocol or an extension that the client didn't offer, a body.
const char *tunnel_refuse(const exchange *x, const http1_response *r);
// Passes the 101 on and opens the tunnel: from the upstream call's head. The exchange is gone, *p is conn->tunnel.
void tunnel_open(proxying *p, const http1_response *r);
// True where tunnel_stop would not cut off a frame of the backend.
[[nodiscard]] bool tunnel_between(const conn *c);
// Says goodbye (1012) and ends it.
void tunnel_stop(conn *c, view reason);

} // namespace belfry
