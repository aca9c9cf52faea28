// The PROXY protocol, versions 1 and 2 (proxy-protocol.txt of HAProxy, sections 2.1 and 2.2): what a proxy that speaks
// no HTTP puts in front of a connection to say who the client is.
//
// The header is believed, so it is asked for only on listeners that say so, and there nothing else is taken: whether
// one is present is never guessed. Pure: bytes in, values out; no allocation, no clock. Any thread. Fuzzed.
#pragma once

#include "base/bytes.h"
#include "base/ip.h"

#include <stddef.h>
#include <stdint.h>

namespace belfry {

inline constexpr size_t proxy_header_v1_max = 107;        // bytes of a line, its CRLF included (section 2.1)
inline constexpr size_t proxy_header_v2_length_max = 536; // the most that the length field of version 2 may say
// A buffer of this size holds every header.
inline constexpr size_t proxy_header_max = 16 + proxy_header_v2_length_max;

enum class proxy_header_result : uint8_t {
    complete,
    incomplete, // give more bytes
    failed,     // no PROXY header, or a bad one: the connection must be dropped (section 2)
};

struct proxy_header {
    // True where the header names no client: health checks and the like (LOCAL), UNKNOWN, unspecified families,
    // datagrams, unix sockets. The socket's own peer is the client then, and family, source and port are zero.
    bool local;
    uint8_t family; // as announced: 4 or 6
    ip source;      // never none where not local; an IPv4-mapped one is IPv4, whatever the family
    uint16_t port;  // of the source, in host byte order
    size_t size;    // bytes of the header; what follows belongs to TLS or HTTP and was not looked at
};

// Parses the header at the start of `bytes`. `incomplete`: call again with the same bytes and more behind them; it
// looks at them again, which the small bounds allow. Refused as soon as the bytes seen show it: a first byte that
// begins neither version, a length above the limit.
//
// Version 1 is read strictly: single spaces, printable ASCII, CRLF, addresses of the announced family, ports without
// leading zeros. Version 2: the address block must fit in the length, the TLVs behind it must end where the header
// does; of those, PP2_TYPE_CRC32C is verified (section 2.2.3) and all others are ignored. The block of a LOCAL or
// unspecified header is passed over unread, as its layout is not specified.
// *out is set where complete. On a refusal *why points to a static text for the log.
[[nodiscard]] proxy_header_result proxy_header_parse(view bytes, proxy_header *out, const char **why);

} // namespace belfry
