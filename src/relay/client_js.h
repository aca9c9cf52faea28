// The browser client (src/web/belfry.js, built into the program), where a route says client_js = yes: at belfry.js
// under the route's path. Public code: neither origin nor auth keep anybody from it, limits do. Pure; any thread.
#pragma once

#include "proto/http1.h"
#include "relay/settings.h"

namespace belfry {

// True where the normalised path is that of the route's client.
[[nodiscard]] bool client_js_named(const route *r, view path);

// Appends the whole answer to a GET or HEAD: 200, or 304 where If-None-Match names what there is (RFC 9110 section
// 13.1.2). False, and nothing written: another method.
[[nodiscard]] bool client_js_write(const http1_request *q, bool keep_alive, buffer *out);

} // namespace belfry
