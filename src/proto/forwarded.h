// Who the client of a request is behind proxies that speak HTTP: X-Forwarded-For, read from the right as far as it can
// be believed, and X-Forwarded-Proto. RFC 7239's Forwarded is not read: of two fields that can contradict each other,
// one decides.
//
// Pure: nothing is kept. Any thread. Fuzzed.
#pragma once

#include "base/ip.h"
#include "proto/http1.h"

#include <stddef.h>

namespace belfry {

inline constexpr size_t forwarded_elements_max = 64; // of X-Forwarded-For, empty ones included, from the right

struct forwarded {
    ip client;        // the peer itself where nobody else could be told; none for an untold one behind a unix socket
    bool trusted;     // the peer is in the trusted ranges: its fields counted
    bool https_known; // a trusted peer named the scheme that the client used
    bool https;
};

// `peer` is the other end of the socket (or what a PROXY header said), `trusted` the ranges of trusted_proxies.
//
// A peer outside the ranges is the client, and both fields are ignored. Otherwise the elements of all X-Forwarded-For
// lines are looked at from the last to the first: each was written by who stood to its right, so the first one that is
// not trusted itself is the client; everything to the left of it is hearsay. An element may have a port
// ("192.0.2.1:5678", "[2001:db8::1]:80"). Where all are trusted, and where something else than an address or the
// forwarded_elements_max end the walk, the client is the last address that was good.
//
// X-Forwarded-Proto: its last element, which the trusted peer wrote itself; "https" and "wss" (any case) are https,
// "http" and "ws" are not, and anything else is unknown.
forwarded forwarded_client(const http1_request *r, const ip *peer, const ip_range *trusted, size_t trusted_count);

} // namespace belfry
