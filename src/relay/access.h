// What the access log says of requests: one line for each that was answered, refused, or given up by its client; and
// what a session or tunnel keeps of the request that it began with, for the line at its end (conn_record.h).
//
// Lines name the path as it was asked for, without its query: tokens and cursors stand there. On the connection's
// thread; all of it costs nothing where access_log = off.
#pragma once

#include "relay/conn_record.h"
#include "relay/exchange.h"

namespace belfry {

// The request becomes a session or tunnel. `transport` is static: sse, poll, tunnel; ws becomes wss over TLS.
void access_begin(exchange *x, const char *transport);
// The server that the request, or its connect hook, goes to; the last one counts. Copied.
void access_upstream(exchange *x, view server);
// A request was answered: its status and how many bytes the answer took, head and all.
void access_answered(exchange *x, int status, uint64_t bytes);
// A request, or bytes that are none (no exchange yet), was refused. Before the exchange goes.
void access_refused(conn *c, int status, refuse_reason reason, view why);
// The session, or the request that is still looked at, is over: keeps whose it was, or writes the line of a request
// that nobody will answer any more.
void access_leave(conn *c);

} // namespace belfry
