// IP addresses: parsed, printed, compared with ranges. No state: any thread.
#include "base/ip.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>

namespace belfry {

namespace {

constexpr uint8_t mapped_prefix[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
constexpr uint8_t mapped_bits = 96;
constexpr uint8_t all_bits = 128;
constexpr ip none = {};

static_assert(sizeof(ip_text::text) == INET6_ADDRSTRLEN);

// inet_pton of a view: `out` takes 4 or 16 bytes.
bool parse_family(int family, view text, uint8_t *out) {
    char copy[INET6_ADDRSTRLEN];
    // inet_pton would stop at a NUL and take what is before it.
    if (text.size() >= sizeof copy || text.find('\0') != view::npos) return false;
    text.copy(copy, text.size());
    copy[text.size()] = '\0';
    return inet_pton(family, copy, out) == 1;
}

// Like ip_parse, but takes "::", which is the start of a range.
bool parse_any(view text, ip *out) {
    uint8_t bytes[16];
    if (parse_family(AF_INET, text, bytes)) {
        *out = ip_from_ipv4(bytes);
        return true;
    }
    if (text.size() >= 2 && text.front() == '[' && text.back() == ']') text = text.substr(1, text.size() - 2);
    if (!parse_family(AF_INET6, text, bytes)) return false;
    *out = ip_from_ipv6(bytes);
    return true;
}

ip masked(const ip *a, uint8_t bits) {
    ip out = *a;
    for (int i = 0; i < 16; i++) {
        const int kept = bits - 8 * i; // bits of this byte that belong to the prefix
        if (kept <= 0) out.bytes[i] = 0;
        if (kept > 0 && kept < 8) out.bytes[i] &= static_cast<uint8_t>(0xff << (8 - kept));
    }
    return out;
}

bool refuse(error *e, view text, const char *why) {
    error_set(e, "\"%.*s\" is not an address range: %s", static_cast<int>(text.size() < 200 ? text.size() : 200),
              text.data(), why);
    return false;
}

bool is_unix(const ip_range *r) {
    return r->bits == all_bits && ip_is_none(&r->first);
}

bool in_range(const ip *a, const ip_range *r) {
    if (ip_is_none(a) || is_unix(r)) return ip_is_none(a) && is_unix(r);
    // ::/0 and the like span the mapped addresses, too; who wrote it spoke of IPv6.
    if (ip_is_v4(a) != ip_is_v4(&r->first)) return false;
    const ip network = masked(a, r->bits);
    return ip_equal(&network, &r->first);
}

} // namespace

bool ip_parse(view text, ip *out) {
    ip parsed;
    if (!parse_any(text, &parsed) || ip_is_none(&parsed)) return false;
    *out = parsed;
    return true;
}

ip ip_from_ipv4(const uint8_t four[4]) {
    ip out;
    memcpy(out.bytes, mapped_prefix, sizeof mapped_prefix);
    memcpy(out.bytes + sizeof mapped_prefix, four, 4);
    return out;
}

ip ip_from_ipv6(const uint8_t sixteen[16]) {
    ip out;
    memcpy(out.bytes, sixteen, sizeof out.bytes);
    return out;
}

bool ip_is_none(const ip *a) {
    return ip_equal(a, &none);
}

bool ip_is_v4(const ip *a) {
    return memcmp(a->bytes, mapped_prefix, sizeof mapped_prefix) == 0;
}

// inet_ntop goes through sprintf; every proxied request names its client.
static void format_v4(const uint8_t *four, char *out) {
    for (int i = 0; i < 4; i++) {
        const unsigned byte = four[i];
        if (i > 0) *out++ = '.';
        if (byte >= 100) *out++ = static_cast<char>('0' + byte / 100);
        if (byte >= 10) *out++ = static_cast<char>('0' + byte / 10 % 10);
        *out++ = static_cast<char>('0' + byte % 10);
    }
    *out = '\0';
}

ip_text ip_format(const ip *a) {
    ip_text out;
    if (ip_is_none(a)) {
        snprintf(out.text, sizeof out.text, "unix:");
    } else if (ip_is_v4(a)) {
        format_v4(a->bytes + sizeof mapped_prefix, out.text);
    } else {
        inet_ntop(AF_INET6, a->bytes, out.text, sizeof out.text);
    }
    return out;
}

bool ip_range_parse(view text, ip_range *out, error *e) {
    if (text == "unix") {
        *out = {none, all_bits};
        return true;
    }
    const size_t slash = text.find('/');
    const view address = text.substr(0, slash);
    ip first;
    if (!parse_any(address, &first)) {
        return refuse(e, text, "write 10.0.0.0/8, 2001:db8::/32, one address, or unix; no host names, no zone ids");
    }
    const bool v4 = ip_is_v4(&first);
    // Of a prefix behind ::ffff:10.0.0.0 nobody can say which form it counts in.
    if (v4 && address.find(':') != view::npos) return refuse(e, text, "write the IPv4 address, as 10.0.0.0/8");
    const unsigned outside = v4 ? mapped_bits : 0; // what the 16-byte form has in front of what was written
    uint8_t bits = all_bits;
    if (slash != view::npos) {
        uint64_t number;
        const view digits = text.substr(slash + 1);
        if (digits.size() > 3 || !bytes_parse_uint(digits, &number) || number > all_bits - outside) {
            return refuse(e, text, v4 ? "the prefix has 0 to 32 bits" : "the prefix has 0 to 128 bits");
        }
        bits = static_cast<uint8_t>(number + outside);
    }
    const ip network = masked(&first, bits);
    if (!ip_equal(&network, &first)) {
        char why[128];
        snprintf(why, sizeof why, "bits behind the prefix are set; the network is %s/%u",
                 ip_is_none(&network) ? "::" : ip_format(&network).text, bits - outside);
        return refuse(e, text, why);
    }
    if (bits == all_bits && ip_is_none(&first)) return refuse(e, text, "that is nobody's address");
    *out = {first, bits};
    return true;
}

bool ip_in_ranges(const ip *a, const ip_range *ranges, size_t count) {
    for (size_t i = 0; i < count; i++) {
        if (in_range(a, &ranges[i])) return true;
    }
    return false;
}

} // namespace belfry
