// What is known of field names: which end at the next hop, which are written anew, which may not be taken away or come
// late. One table, so that heads and trailers, requests and answers go by the same rules.
//
// Pure. Any thread.
#pragma once

#include "base/bytes.h"

#include <stdint.h>

namespace belfry {

// Bits of http1_name_traits.
enum http1_name_trait : uint8_t {
    // Ends here in both directions: connection-specific (RFC 9110 section 7.6.1), framing, or for Belfry alone.
    http1_name_hop = 1,
    // Of a request: answered here, or written anew for the backend.
    http1_name_remade = 2,
    // Tells the backend about the client; believed from trusted proxies alone.
    http1_name_client = 4,
    // Sec-WebSocket-*: makes sense beside an Upgrade alone.
    http1_name_websocket = 8,
    // Must reach whom it is meant for: a Connection field that names it is an attack on who reads it there.
    http1_name_essential = 16,
    // Framing, routing, authentication, request modifiers, response control, content: must be known before the content
    // (RFC 9110 section 6.5.1), so no trailer.
    http1_name_no_trailer = 32,
    // Announces trailers: goes where they can go.
    http1_name_trailer = 64,
    // Not spelt so, but with '_' for a '-': the same name to every backend that puts fields into CGI variables.
    http1_name_respelt = 128,
};

// The traits of a field's name (ASCII case does not count); 0 for the many that are simply passed on.
uint8_t http1_name_traits(view name);

// Equal but for ASCII case and '_' for '-'.
[[nodiscard]] bool http1_name_collides(view a, view b);

} // namespace belfry
