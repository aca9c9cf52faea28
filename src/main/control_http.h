// A small HTTP/1.1 server for the control API: unix sockets and loopback TCP, keep-alive, one request at a time a
// connection, bodies by Content-Length up to a bound. On the main thread's loop. Not for the public: clients there meet
// relay/.
#pragma once

#include "base/bytes.h"
#include "net/listener.h"
#include "net/loop.h"
#include "net/wheel.h"

#include <string>
#include <vector>

namespace belfry {

inline constexpr size_t control_connections_max = 256;

struct control_http;
struct control_conn; // counted: an answer may come after the client left

// Views are good until the handler returns.
struct control_request {
    view method, path, query, body;
};

// Answers with control_reply, in the handler or later; exactly once.
using control_handler = void (*)(control_conn *c, const control_request *q, void *context);

// Listens on the addresses (already checked by the config). Requests on TCP must carry the token, on unix sockets the
// file's mode guards. Null with a reason. `body_max` in bytes: a larger body is answered 413.
[[nodiscard]] control_http *control_http_new(loop *on, wheel *timers, const std::vector<std::string> &listen,
                                             const std::string &token, size_t body_max, control_handler handler,
                                             void *context, error *e);
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
// {"error":{"code":STATUS,"message":"..."}}
void control_reply_error(control_conn *c, int status, view message, view extra);

} // namespace belfry
