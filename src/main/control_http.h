// A small HTTP/1.1 server for the control API: unix sockets and loopback TCP, keep-alive, one request at a time a
// connection, bodies by Content-Length up to a bound. On the main thread's loop. Not for the public: clients there meet
// relay/.
#pragma once

#include "base/bytes.h"
#include "net/listener.h"
#include "net/loop.h"
#include "net/wheel.h"
#include "proto/http1.h"

#include <string>
#include <vector>

namespace belfry {

inline constexpr size_t control_connections_max = 256;
inline constexpr size_t control_connections_own = 32; // of those, kept for unix sockets: over TCP comes whoever can

struct control_http;
struct control_conn; // counted: an answer may come after the client left
struct control_change;

// Views are good until the handler returns.
struct control_request {
    view method, path, query, body;
    const http1_request *head; // borrowed: the fields
};

// Answers with control_reply, in the handler or later; exactly once.
using control_handler = void (*)(control_conn *c, const control_request *q, void *context);

// Listens on the addresses (already checked by the config). Requests on TCP must carry the token, but for GET /, whose
// page holds nothing and asks for it; on unix sockets the file's mode guards. A WebSocket handshake, whose fields no
// page can choose, may carry it as base64url in the subprotocol belfry.token.TOKEN. Requests that a browser sends for
// another site's page (Origin) are answered 403. Null with a reason. `body_max` in bytes: a larger body is answered
// 413.
[[nodiscard]] control_http *control_http_new(loop *on, wheel *timers, const std::vector<std::string> &listen,
                                             const std::string &token, size_t body_max, control_handler handler,
                                             void *context, error *e);
// A listening socket of the control API.
struct control_socket {
    std::string written; // its address as the config writes it
    int fd;
};
// One that is open already, from another process that served before: the next control_http_change takes it where it
// names the address; what its commit leaves is closed. The descriptor is the server's from here on.
void control_http_inherit(control_http *h, const std::string &written, int fd);
// The sockets, borrowed.
std::vector<control_socket> control_http_sockets(const control_http *h);
// Listens no more, but leaves the addresses to the process that serves from now on: connections go on, paths stay.
void control_http_leave(control_http *h);

// A reload, in two steps: opens those of the addresses that are not listened on yet, and changes nothing else. Null
// with a reason; `which` of the addresses it is about. What it returns goes to one of the next two.
[[nodiscard]] control_change *control_http_change(control_http *h, const std::vector<std::string> &listen,
                                                  size_t *which, error *e);
// From now on these addresses, and this token, also for connections that are there; none of those is closed.
void control_http_commit(control_change *change, const std::string &token);
void control_http_discard(control_change *change);
// The wheel of the main thread must fire through this.
void control_http_fire(timer *t, void *context);
// Closes everything, also requests under way.
void control_http_free(control_http *h);
// Which addresses are listened on (port 0 resolved), and whether they are TCP.
const std::vector<std::string> &control_http_addresses(const control_http *h);

control_conn *control_ref(control_conn *c);
void control_unref(control_conn *c);
// `type` is the Content-Type; `extra` field lines with CRLF, or empty.
void control_reply(control_conn *c, int status, view type, view body, view extra);
// What an upgraded connection tells.
struct control_upgraded {
    // The client's bytes behind its request; takes what it can off `in`, the rest comes again with more.
    void (*bytes)(control_conn *c, buffer *in, void *context);
    void (*gone)(control_conn *c, void *context); // once, the last call: closed by either side
};
// Instead of a reply, from the handler: `answer` (a 101) is sent, then the connection is the caller's, with a reference
// until `gone`. One that takes nothing of what it was sent for control_stall_ms is closed.
void control_upgrade(control_conn *c, view answer, const control_upgraded *events, void *context);
inline constexpr uint64_t control_stall_ms = 30000;
// Bytes that were sent and not taken yet. For upgraded connections, until they are gone.
size_t control_queued(const control_conn *c);
void control_send(control_conn *c, view bytes);
void control_end(control_conn *c); // behind what was sent
// {"error":{"code":STATUS,"message":"..."}}
void control_reply_error(control_conn *c, int status, view message, view extra);

} // namespace belfry
