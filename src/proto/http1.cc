// HTTP/1 request heads. Two passes: a scan that looks at each byte once, however the head arrives in pieces, and
// refuses early what no further byte can mend; then, once the head is whole, one parse into views.
//
// Pure functions over the caller's bytes; nothing is owned here. Any thread.
#include "proto/http1.h"
#include "proto/http1_fields.h"

#include <algorithm>
#include <arpa/inet.h>
#include <array>
#include <netinet/in.h>

namespace belfry {

namespace {

// The longest registered method has 17 bytes (UPDATEREDIRECTREF). A bound of its own lets the scan see after a few
// bytes that something else than HTTP is spoken, and keeps what each call looks at again short.
constexpr size_t method_max = 32;

constexpr std::array<bool, 256> name_chars = http1_make_table("-._~!$&'()*+,;=%"); // RFC 3986 section 3.2.2, reg-name
constexpr std::array<bool, 256> hex_letters_and_digits = [] {
    std::array<bool, 256> table = {};
    for (const char c : view("0123456789abcdefABCDEF")) {
        table[static_cast<unsigned char>(c)] = true;
    }
    return table;
}();

http1_result bad_request(const char *text, const char **why) {
    return http1_refuse(http1_result::bad_request, text, why);
}

// ---- the scan

// Finds the space behind the method; *end is bytes.size() while the bytes end inside the method. At most
// method_max + 1 bytes are looked at, so it may run again with every call.
bool scan_method(view bytes, size_t start, size_t *end, const char **why) {
    size_t i = start;
    for (; i < bytes.size() && http1_in_table(http1_tchars, bytes[i]); i++) {
        if (i - start == method_max) {
            *why = "the method is too long";
            return false;
        }
    }
    if (i < bytes.size() && (bytes[i] != ' ' || i == start)) {
        *why = "the request does not begin with a method and a space";
        return false;
    }
    *end = i;
    return true;
}

http1_result scan_head(view bytes, http1_scan *scan, size_t *head_size, const char **why) {
    if (bytes == "\r") return http1_result::incomplete;
    const size_t start = bytes.starts_with("\r\n") ? 2 : 0;
    size_t method_end = 0;
    if (!scan_method(bytes, start, &method_end, why)) return http1_result::bad_request;
    return http1_scan_head(bytes, scan, method_end + 1, head_size, why);
}

// ---- host and target

bool port_valid(view port) {
    if (port.empty()) return true; // RFC 3986 section 3.2.3
    uint64_t number = 0;
    return port.size() <= 5 && bytes_parse_uint(port, &number) && number <= 65535;
}

bool ipv6_valid(view text) {
    char copy[INET6_ADDRSTRLEN] = {};
    if (text.size() >= sizeof copy) return false;
    text.copy(copy, text.size());
    in6_addr address;
    return inet_pton(AF_INET6, copy, &address) == 1;
}

bool registered_name_valid(view name) {
    for (size_t i = 0; i < name.size(); i++) {
        if (!http1_in_table(name_chars, name[i])) return false;
        if (name[i] == '%' && (i + 2 >= name.size() || !http1_in_table(hex_letters_and_digits, name[i + 1]) ||
                               !http1_in_table(hex_letters_and_digits, name[i + 2]))) {
            return false;
        }
    }
    return !name.empty(); // RFC 9110 section 4.2.1: no http URI without a host
}

// uri-host [ ":" port ]. User information has no place in a Host field and is refused in a target too (RFC 9110
// section 4.2.4): its '@' is no character of a name.
bool authority_valid(view authority, bool port_needed) {
    size_t host_end = 0;
    if (authority.starts_with('[')) {
        const size_t bracket = authority.find(']');
        if (bracket == view::npos || !ipv6_valid(authority.substr(1, bracket - 1))) return false;
        host_end = bracket + 1;
    } else {
        host_end = std::min(authority.find(':'), authority.size());
        if (!registered_name_valid(authority.substr(0, host_end))) return false;
    }
    const view rest = authority.substr(host_end);
    if (rest.empty()) return !port_needed;
    return rest[0] == ':' && port_valid(rest.substr(1)) && !(port_needed && rest.size() == 1);
}

void split_query(view path_and_query, http1_request *out) {
    const size_t mark = std::min(path_and_query.find('?'), path_and_query.size());
    out->path = path_and_query.substr(0, mark);
    if (mark < path_and_query.size()) out->query = path_and_query.substr(mark + 1);
}

// RFC 9112 section 3.2.2. A proxy's form, but every server must take it.
http1_result parse_absolute_form(http1_request *out, const char **why) {
    const view target = out->target;
    const size_t colon = target.find("://");
    const view scheme = target.substr(0, std::min(colon, target.size()));
    if (colon == view::npos || !(bytes_equal_nocase(scheme, "http") || bytes_equal_nocase(scheme, "https"))) {
        return bad_request("the request target is neither a path nor an http URI", why);
    }
    const size_t authority_begin = colon + 3;
    const size_t authority_end = std::min(target.find_first_of("/?", authority_begin), target.size());
    out->authority = target.substr(authority_begin, authority_end - authority_begin);
    if (!authority_valid(out->authority, false)) return bad_request("the request target names no valid host", why);
    split_query(target.substr(authority_end), out);
    // An empty path means "/" (RFC 9110 section 4.2.3); the views point into the request, so one of its own is lent.
    if (out->path.empty()) out->path = target.substr(colon + 1, 1);
    return http1_result::complete;
}

http1_result parse_target(http1_request *out, const char **why) {
    for (const char c : out->target) {
        // A '#' would hide what is behind it from a path match here and not in the backend.
        if (c <= ' ' || c >= 0x7f || c == '#') return bad_request("a byte in the request target that may not be", why);
    }
    if (out->method == "CONNECT") {
        if (!authority_valid(out->target, true)) return bad_request("CONNECT needs HOST:PORT", why);
        out->authority = out->target;
        return http1_result::complete;
    }
    if (out->target == "*") {
        if (out->method != "OPTIONS") return bad_request("the target * is for OPTIONS alone", why);
        out->path = out->target;
        return http1_result::complete;
    }
    if (!out->target.starts_with('/')) return parse_absolute_form(out, why);
    split_query(out->target, out);
    return http1_result::complete;
}

// ---- the request line

http1_result parse_request_line(view line, http1_request *out, const char **why) {
    const size_t method_end = std::min(line.find(' '), line.size());
    out->method = line.substr(0, method_end);
    line.remove_prefix(std::min(method_end + 1, line.size()));
    const size_t target_end = std::min(line.find(' '), line.size());
    out->target = line.substr(0, target_end);
    line.remove_prefix(std::min(target_end + 1, line.size()));
    const http1_result result =
        http1_parse_version(line, "the request line is not METHOD SP TARGET SP HTTP/1.x", &out->minor_version, why);
    if (result != http1_result::complete) return result;
    return parse_target(out, why);
}

// ---- what the fields mean

http1_result check_host(http1_request *out, const char **why) {
    size_t count = 0;
    const http1_field *host = http1_find(out, "Host", &count);
    if (count > 1) return bad_request("several Host fields", why);
    if (host == nullptr) {
        return out->minor_version == 0 ? http1_result::complete : bad_request("no Host field", why);
    }
    if (!authority_valid(host->value, false)) return bad_request("the Host field is not HOST or HOST:PORT", why);
    // An absolute-form's host wins over the field (RFC 9112 section 3.2.2).
    if (out->authority.empty()) out->authority = host->value;
    return http1_result::complete;
}

http1_result read_framing(http1_request *out, const char **why) {
    http1_framing framing = {};
    const http1_result result = http1_parse_framing({out->fields, out->field_count}, out->minor_version, &framing, why);
    out->has_content_length = framing.has_content_length;
    out->content_length = framing.content_length;
    out->chunked = framing.chunked;
    return result;
}

void read_connection(http1_request *out) {
    out->keep_alive = http1_list_persistent({out->fields, out->field_count}, out->minor_version);
    // An HTTP/1.0 client doesn't know 100 (RFC 9110 section 10.1.1).
    out->expect_continue = out->minor_version >= 1 && http1_list_has(out, "Expect", "100-continue");
}

} // namespace

http1_result http1_parse_request(view bytes, http1_scan *scan, http1_request *out, const char **why) {
    *why = "";
    size_t head_size = 0;
    http1_result result = scan_head(bytes, scan, &head_size, why);
    if (result != http1_result::complete) return result;
    *out = {};
    out->head_size = head_size;
    view rest = bytes.substr(0, head_size);
    if (rest.starts_with("\r\n")) rest.remove_prefix(2);
    result = parse_request_line(http1_take_line(&rest), out, why);
    if (result == http1_result::complete) result = http1_parse_fields(rest, out->fields, &out->field_count, why);
    if (result == http1_result::complete) result = check_host(out, why);
    if (result == http1_result::complete) result = read_framing(out, why);
    if (result == http1_result::complete) read_connection(out);
    return result;
}

} // namespace belfry
