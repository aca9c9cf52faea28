// What the access log will say of a session or a tunnel when it ends: who it was, what passed, who ended it and why.
// Made when the session begins, where there is an access log at all, so that without one a connection costs nothing.
// access.h fills in what the request tells; on the connection's thread.
#pragma once

#include "relay/conn.h"
#include "relay/counters.h"

#include <string>

namespace belfry {

// Who ended a connection: the client by word or end of file; Belfry by its rules; a backend, or whoever gives orders in
// its name; or nobody: the network let it down.
enum class conn_closer : uint8_t { none, client, server, backend, network };

struct conn_record {
    uint64_t messages_in, messages_out; // whole ones; of the client, and written to it
    uint64_t bytes_in, bytes_out;       // with all framing, without TLS's
    const char *transport;              // static: ws, wss, sse, poll, tunnel
    const char *protocol;               // static: the subprotocol that is spoken; null: a tunnel
    conn_closer by;
    std::string user, request_id, upstream, reason;
};

// Counts begin here. Null where there is no access log.
conn_record *conn_record_new(conn *c, const char *transport);
// Why the connection is about to end: the first one who says it is believed, so callers need not ask. `reason` is
// copied; it may be the client's own words. Harmless without a record.
void conn_record_closing(conn *c, conn_closer by, view reason);
// Takes off what the queue has counted (outq_counts_full, or the end).
void conn_record_settle(conn *c);
// The line. The connection ends; the record is freed.
void conn_record_end(conn *c);
// Frees it without a line: the connection lives on in another process.
void conn_record_forget(conn *c);
// The line of a connection that was refused before it could ask for anything: TLS, the PROXY header.
void conn_record_refused(const conn *c, refuse_reason reason, view why);

} // namespace belfry
