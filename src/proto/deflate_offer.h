// The negotiation of permessage-deflate, the server's half: RFC 7692 sections 5 and 7.1.
//
// What Belfry agrees to is the same for everybody, but for the window: no side keeps a window from one message to the
// next (server_no_context_takeover, client_no_context_takeover), so a message is compressed once for all who get it,
// and no connection has zlib state. A server may answer both without being asked (7.1.1.1, 7.1.1.2).
//
// Pure; any thread. Fuzzed.
#pragma once

#include "base/bytes.h"
#include "proto/http1.h"

#include <stdint.h>

namespace belfry {

inline constexpr uint8_t deflate_bits_max = 15; // base-2 logarithm of the window: 32 KiB

struct deflate_agreement {
    bool agreed;
    // What the client's server_max_window_bits asks for: 8 to 15; 0 where it does not ask. The answer repeats it, so
    // no distance in what we send may be above 2^bits.
    uint8_t server_bits;
};

// Chooses the first acceptable offer of permessage-deflate, over all Sec-WebSocket-Extensions fields and their elements
// in order (RFC 7692 section 5.1: that is the order of preference). Passed over, as section 7.1 wants them declined:
// offers with an unknown parameter, one parameter twice, a value that is missing or that may not be there, window bits
// that are no number from 8 to 15 or have leading zeros. Other extensions are passed over, too. Fields that
// handshake_check would refuse: no agreement.
// client_max_window_bits is accepted and not answered: we inflate with the largest window, which fits any.
[[nodiscard]] deflate_agreement deflate_offer_choose(const http1_request *r);

// Appends the answer's field line with its CRLF; nothing where there is no agreement.
void deflate_offer_answer(const deflate_agreement *a, buffer *out);

} // namespace belfry
