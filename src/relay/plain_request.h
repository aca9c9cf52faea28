// Requests of clients without WebSocket to a rooms route: which there are, and what is wrong with one. Pure; the
// thread of the connection.
//
//   GET, Accept: text/event-stream         server-sent events
//   GET ?transport=poll                    long polling: the session, and its first messages
//   GET ?transport=poll&cursor=CURSOR      what came for it since
//   POST, Belfry-Connection: CONN.KEY      a message of a session of either kind
//   OPTIONS                                a browser's question whether a page of another site may do one of those
#pragma once

#include "relay/exchange.h"

namespace belfry {

// Whether the client wants server-sent events: by their name alone, since every client takes */*.
bool plain_request_wants_events(const http1_request *q);
// plain_ask_none where it is none of these, or the route takes none of that kind. `q` is no Upgrade.
plain_request plain_request_of(const struct route *r, const http1_request *q);
// Of modules: sessions are opened by BELFRY_EVENTS, what comes for one later is BELFRY_CARRIED, a preflight
// BELFRY_HTTP.
enum belfry_kind plain_request_kind(plain_request p);

struct plain_objection {
    int status = 0; // 0: none
    const char *why = "";
    const char *fields = ""; // for the answer
};
plain_objection plain_request_check(const exchange *x);

inline constexpr const char *plain_allow = "Allow: GET, POST, OPTIONS\r\n";

} // namespace belfry
