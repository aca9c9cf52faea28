// A proxied request: the client's connection on one side, an upstream call on the other, bodies streamed both ways with
// back-pressure; and tunnels, once a backend has agreed to an Upgrade. Owner's thread.
#pragma once

#include "relay/exchange.h"

namespace belfry {

// The chain has passed: asks the route's upstream. The answer leaves through the connection; then the connection waits
// for its next request (admission_next) or lingers. x->kind says whether it is a tunnel.
void proxy_start(exchange *x);
// The exchange ends (client gone, shutdown): cancels the call. Frees x->proxy.
void proxy_cancel(exchange *x);

} // namespace belfry
