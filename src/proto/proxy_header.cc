// PROXY protocol headers. Every refusal belongs to one byte or to the whole header, so that the answer doesn't depend
// on how the header was cut into pieces.
//
// Pure functions over the caller's bytes; nothing is owned here. Any thread.
#include "proto/proxy_header.h"

#include <algorithm>

namespace belfry {

namespace {

using enum proxy_header_result;

constexpr view v1_start("PROXY ");
constexpr view v2_signature("\r\n\r\n\0\r\nQUIT\n", 12);
constexpr size_t v2_fixed_size = 16; // signature, version and command, family and transport, length

enum v2_command : uint8_t { command_local = 0, command_proxy = 1 };
enum v2_family : uint8_t { family_unspecified = 0, family_ipv4 = 1, family_ipv6 = 2, family_unix = 3 };
enum v2_transport : uint8_t { transport_unspecified = 0, transport_stream = 1, transport_datagram = 2 };

constexpr uint8_t tlv_crc32c = 3; // PP2_TYPE_CRC32C
constexpr size_t tlv_fixed_size = 3;

proxy_header_result refuse(const char *text, const char **why) {
    *why = text;
    return failed;
}

// True where both agree as far as they go.
bool begins_like(view bytes, view start) {
    const size_t size = std::min(bytes.size(), start.size());
    return bytes.substr(0, size) == start.substr(0, size);
}

proxy_header_result complete_local(size_t size, proxy_header *out) {
    *out = {};
    out->local = true;
    out->size = size;
    return complete;
}

// ---- version 1

// The next word of a line whose words are parted by exactly one space each: two in a row give an empty word.
view next_word(view *rest) {
    const size_t space = std::min(rest->find(' '), rest->size());
    const view word = rest->substr(0, space);
    rest->remove_prefix(std::min(space + 1, rest->size()));
    return word;
}

bool written_as(view address, uint8_t family) {
    const bool colon = address.find(':') != view::npos;
    return colon == (family == 6) && !address.starts_with('[');
}

bool parse_port(view word, uint16_t *out) {
    uint64_t number;
    if (word.size() > 5 || (word.size() > 1 && word[0] == '0')) return false;
    if (!bytes_parse_uint(word, &number) || number > 65535) return false;
    *out = static_cast<uint16_t>(number);
    return true;
}

// What is behind "PROXY TCP4 " or "PROXY TCP6 ", without the CRLF.
bool parse_v1_addresses(view rest, proxy_header *out) {
    const view source = next_word(&rest);
    const view destination = next_word(&rest);
    const view source_port = next_word(&rest);
    uint16_t unused_port;
    ip unused;
    if (!written_as(source, out->family) || !ip_parse(source, &out->source)) return false;
    // Senders that don't know where the client meant to go write zeros; only the source may not be nobody.
    if (!written_as(destination, out->family) || !(destination == "::" || ip_parse(destination, &unused))) return false;
    return parse_port(source_port, &out->port) && parse_port(rest, &unused_port);
}

proxy_header_result parse_v1_line(view line, proxy_header *out, const char **why) {
    const size_t size = line.size() + 2;
    view rest = line.substr(v1_start.size());
    // "the receiver must ignore anything presented before the CRLF"
    if (rest == "UNKNOWN" || rest.starts_with("UNKNOWN ")) return complete_local(size, out);
    const view protocol = next_word(&rest);
    if (protocol != "TCP4" && protocol != "TCP6")
        return refuse("PROXY: the protocol is not TCP4, TCP6 or UNKNOWN", why);
    proxy_header parsed = {};
    parsed.family = protocol == "TCP4" ? 4 : 6;
    parsed.size = size;
    if (!parse_v1_addresses(rest, &parsed)) {
        return refuse("PROXY: not two addresses of the protocol and two ports behind it", why);
    }
    *out = parsed;
    return complete;
}

proxy_header_result parse_v1(view bytes, proxy_header *out, const char **why) {
    const view line = bytes.substr(0, proxy_header_v1_max);
    for (size_t i = v1_start.size(); i < line.size(); i++) {
        const char c = line[i];
        const bool behind_cr = line[i - 1] == '\r';
        if (behind_cr && c == '\n') return parse_v1_line(line.substr(0, i - 1), out, why);
        if (behind_cr || (c != '\r' && (c < ' ' || c > '~'))) {
            return refuse("PROXY: a byte in the line that may not be", why);
        }
    }
    if (line.size() == proxy_header_v1_max) return refuse("PROXY: the line is too long", why);
    return incomplete;
}

// ---- version 2

uint8_t byte_at(view bytes, size_t i) {
    return static_cast<uint8_t>(bytes[i]);
}

uint16_t uint16_at(view bytes, size_t i) {
    return static_cast<uint16_t>(byte_at(bytes, i) << 8 | byte_at(bytes, i + 1));
}

uint32_t uint32_at(view bytes, size_t i) {
    return static_cast<uint32_t>(uint16_at(bytes, i)) << 16 | uint16_at(bytes, i + 2);
}

// CRC32c (RFC 4960 appendix B) with the four bytes at `zeroed` taken as zero. Once a connection and over 552 bytes at
// most: no table is worth its cache lines.
uint32_t crc32c_but(view bytes, size_t zeroed) {
    uint32_t crc = 0xffffffff;
    for (size_t i = 0; i < bytes.size(); i++) {
        const bool zero = i >= zeroed && i < zeroed + 4;
        crc ^= zero ? 0 : byte_at(bytes, i);
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78 : 0); // the polynomial 0x1edc6f41, reflected
    }
    return ~crc;
}

// The TLVs from `at` to the end of the header. False where they don't end with it, and where a checksum is wrong.
bool check_tlvs(view header, size_t at, const char **why) {
    while (at < header.size()) {
        if (header.size() - at < tlv_fixed_size || header.size() - at - tlv_fixed_size < uint16_at(header, at + 1)) {
            *why = "PROXY: a TLV ends behind the header";
            return false;
        }
        const size_t value = at + tlv_fixed_size;
        const size_t value_size = uint16_at(header, at + 1);
        // Of several each is verified as if it were the only one.
        if (byte_at(header, at) == tlv_crc32c &&
            (value_size != 4 || crc32c_but(header, value) != uint32_at(header, value))) {
            *why = "PROXY: the checksum is wrong";
            return false;
        }
        at = value + value_size;
    }
    return true;
}

// The 13th to 16th byte, as far as they are there.
bool check_v2_fixed(view bytes, const char **why) {
    const size_t at = v2_signature.size();
    if (bytes.size() <= at) return true;
    const uint8_t command = byte_at(bytes, at) & 15;
    if (byte_at(bytes, at) >> 4 != 2 || command > command_proxy) {
        *why = "PROXY: an unknown version or command";
        return false;
    }
    if (bytes.size() <= at + 1) return true;
    // LOCAL: "discard the protocol block including the family which is ignored"
    const uint8_t family = byte_at(bytes, at + 1) >> 4;
    const uint8_t transport = byte_at(bytes, at + 1) & 15;
    if (command == command_proxy && (family > family_unix || transport > transport_datagram)) {
        *why = "PROXY: an unknown family or transport";
        return false;
    }
    if (bytes.size() >= v2_fixed_size && uint16_at(bytes, at + 2) > proxy_header_v2_length_max) {
        *why = "PROXY: the header is too long";
        return false;
    }
    return true;
}

// A whole header of command PROXY, its family and transport specified.
proxy_header_result parse_v2_addresses(view header, uint8_t family, uint8_t transport, proxy_header *out,
                                       const char **why) {
    const size_t source_size = family == family_ipv4 ? 4 : family == family_ipv6 ? 16 : 108;
    const size_t ports = v2_fixed_size + 2 * source_size;
    const size_t tlvs = ports + (family == family_unix ? 0 : 4);
    if (header.size() < tlvs) return refuse("PROXY: the addresses end behind the header", why);
    if (!check_tlvs(header, tlvs, why)) return failed;
    // A datagram's source is no client of a TCP listener, and anyone could have written it.
    if (family == family_unix || transport != transport_stream) return complete_local(header.size(), out);
    const uint8_t *source = reinterpret_cast<const uint8_t *>(header.data()) + v2_fixed_size;
    proxy_header parsed = {};
    parsed.family = family == family_ipv4 ? 4 : 6;
    parsed.source = family == family_ipv4 ? ip_from_ipv4(source) : ip_from_ipv6(source);
    parsed.port = uint16_at(header, ports);
    parsed.size = header.size();
    // "::" would read as the peer of a unix socket, who may be trusted.
    if (ip_is_none(&parsed.source)) return refuse("PROXY: the source is nobody's address", why);
    *out = parsed;
    return complete;
}

proxy_header_result parse_v2(view bytes, proxy_header *out, const char **why) {
    if (!check_v2_fixed(bytes, why)) return failed;
    if (bytes.size() < v2_fixed_size) return incomplete;
    const size_t size = v2_fixed_size + uint16_at(bytes, v2_fixed_size - 2);
    if (bytes.size() < size) return incomplete;
    const uint8_t command = byte_at(bytes, v2_signature.size()) & 15;
    const uint8_t family = byte_at(bytes, v2_signature.size() + 1) >> 4;
    const uint8_t transport = byte_at(bytes, v2_signature.size() + 1) & 15;
    if (command == command_local || family == family_unspecified || transport == transport_unspecified) {
        return complete_local(size, out);
    }
    return parse_v2_addresses(bytes.substr(0, size), family, transport, out, why);
}

} // namespace

proxy_header_result proxy_header_parse(view bytes, proxy_header *out, const char **why) {
    if (bytes.empty()) return incomplete;
    if (begins_like(bytes, v1_start)) return parse_v1(bytes, out, why);
    if (begins_like(bytes, v2_signature)) return parse_v2(bytes, out, why);
    return refuse("PROXY: the connection does not begin with a PROXY header", why);
}

} // namespace belfry
