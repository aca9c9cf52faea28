// IP addresses as clients are counted and trusted by: one form for both families, text both ways, and ranges.
//
// Plain values: nothing is owned, nothing is shared. Any thread.
#pragma once

#include "base/bytes.h"
#include "base/error.h"

#include <stddef.h>
#include <stdint.h>
#include <string.h>

namespace belfry {

// An address in network byte order. IPv4 is held v4-mapped (::ffff:a.b.c.d, RFC 4291 section 2.5.5.2), so that one
// client is one value whichever kind of socket it came by. All zero is none: the peer of a unix socket.
struct ip {
    uint8_t bytes[16];
};

// "192.0.2.1", "2001:db8::1", "[2001:db8::1]"; "::ffff:192.0.2.1" is the IPv4 address. False, and *out as it was, for
// anything else: a port, a zone id ("fe80::1%eth0"), white space, leading zeros in IPv4, and "::", which is nobody's
// address and would mean none.
[[nodiscard]] bool ip_parse(view text, ip *out);

ip ip_from_ipv4(const uint8_t four[4]);
ip ip_from_ipv6(const uint8_t sixteen[16]);

inline bool ip_equal(const ip *a, const ip *b) {
    return memcmp(a->bytes, b->bytes, sizeof a->bytes) == 0;
}
bool ip_is_none(const ip *a);
bool ip_is_v4(const ip *a);

// "192.0.2.1", "2001:db8::1" (RFC 5952), "unix:" for none. NUL-terminated.
struct ip_text {
    char text[46]; // INET6_ADDRSTRLEN
    operator view() const { return view(text); }
};
ip_text ip_format(const ip *a);

// The addresses whose first `bits` bits are those of `first`.
struct ip_range {
    ip first;     // the bits behind the prefix are zero
    uint8_t bits; // 0 to 128, counted in the 16-byte form: 10.0.0.0/8 has 104
};

// "10.0.0.0/8", "2001:db8::/32", "::1" (that address alone), "::/0", and "unix": the peers of unix sockets. False with
// a reason that quotes the text; where bits behind the prefix are set, with the network that was probably meant. IPv4
// in its mapped form is refused here: 10.0.0.0/8 has one way to be written.
[[nodiscard]] bool ip_range_parse(view text, ip_range *out, error *e);

// True where one of the ranges has the address. An IPv6 range has no IPv4 address in it, not even ::/0; none is in
// "unix" alone.
[[nodiscard]] bool ip_in_ranges(const ip *a, const ip_range *ranges, size_t count);

} // namespace belfry
