// HTTP/1 request heads. Two passes: a scan that looks at each byte once, however the head arrives in pieces, and
// refuses early what no further byte can mend; then, once the head is whole, one parse into views.
//
// Pure functions over the caller's bytes; nothing is owned here. Any thread.
#include "proto/http1.h"

#include <algorithm>
#include <arpa/inet.h>
#include <array>
#include <netinet/in.h>

namespace belfry {

namespace {

// The longest registered method has 17 bytes (UPDATEREDIRECTREF). A bound of its own lets the scan see after a few
// bytes that something else than HTTP is spoken, and keeps what each call looks at again short.
constexpr size_t method_max = 32;

constexpr std::array<bool, 256> make_table(view members) {
    std::array<bool, 256> table = {};
    for (const char c : members) {
        table[static_cast<unsigned char>(c)] = true;
    }
    for (size_t c = 0; c < 128; c++) {
        if ((c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z')) table[c] = true;
    }
    return table;
}

constexpr std::array<bool, 256> tchars = make_table("!#$%&'*+-.^_`|~");      // RFC 9110 section 5.6.2
constexpr std::array<bool, 256> name_chars = make_table("-._~!$&'()*+,;=%"); // RFC 3986 section 3.2.2, reg-name
constexpr std::array<bool, 256> hex_letters_and_digits = [] {
    std::array<bool, 256> table = {};
    for (const char c : view("0123456789abcdefABCDEF")) {
        table[static_cast<unsigned char>(c)] = true;
    }
    return table;
}();

bool in_table(const std::array<bool, 256> &table, char c) {
    return table[static_cast<unsigned char>(c)];
}

bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

bool is_control(char c) {
    return static_cast<unsigned char>(c) < 0x20 || c == 0x7f;
}

http1_result refuse(http1_result result, const char *text, const char **why) {
    *why = text;
    return result;
}

http1_result bad_request(const char *text, const char **why) {
    return refuse(http1_result::bad_request, text, why);
}

// ---- the scan

// Finds the space behind the method; *end is bytes.size() while the bytes end inside the method. At most
// method_max + 1 bytes are looked at, so it may run again with every call.
bool scan_method(view bytes, size_t start, size_t *end, const char **why) {
    size_t i = start;
    for (; i < bytes.size() && in_table(tchars, bytes[i]); i++) {
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

// One byte of the head at `i`, all earlier ones being fine. `complete` where it ends the head.
http1_result scan_byte(view bytes, size_t i, const char **why) {
    const char c = bytes[i];
    const char before = i > 0 ? bytes[i - 1] : '\0';
    if (c == '\n') {
        // RFC 9112 section 2.2 lets a recipient take a bare LF for a line's end; those who do and those who don't
        // see different messages, so it is refused.
        if (before != '\r') return bad_request("a line ends in LF without CR", why);
        return i > 2 && bytes[i - 2] == '\n' ? http1_result::complete : http1_result::incomplete;
    }
    if (before == '\r') return bad_request("CR without LF", why);
    if (before == '\n' && (c == ' ' || c == '\t')) {
        return bad_request("white space at the start of a line", why); // obs-fold, RFC 9112 sections 2.2 and 5.2
    }
    if (is_control(c) && c != '\r' && c != '\t') return bad_request("a control character in the head", why);
    return http1_result::incomplete;
}

// Looks for the end of the head. Every refusal belongs to one byte, so that the answer doesn't depend on how the
// head was cut into pieces.
http1_result scan_head(view bytes, http1_scan *scan, size_t *head_size, const char **why) {
    if (bytes == "\r") return http1_result::incomplete;
    const size_t start = bytes.starts_with("\r\n") ? 2 : 0;
    size_t method_end = 0;
    if (!scan_method(bytes, start, &method_end, why)) return http1_result::bad_request;
    const size_t target_limit = method_end + 1 + http1_target_max; // the first byte that can't belong to a target
    const size_t end = std::min(bytes.size(), http1_head_max);
    for (size_t i = scan->scanned; i < end; i++) {
        const http1_result result = scan_byte(bytes, i, why);
        if (result == http1_result::complete) *head_size = i + 1;
        if (result != http1_result::incomplete) return result;
        if (i == target_limit &&
            bytes.substr(method_end + 1, http1_target_max + 1).find_first_of(" \r") == view::npos) {
            return refuse(http1_result::target_too_long, "the request target is too long", why);
        }
    }
    if (end == http1_head_max) return refuse(http1_result::head_too_large, "the head is too large", why);
    scan->scanned = static_cast<uint32_t>(end);
    return http1_result::incomplete;
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
        if (!in_table(name_chars, name[i])) return false;
        if (name[i] == '%' && (i + 2 >= name.size() || !in_table(hex_letters_and_digits, name[i + 1]) ||
                               !in_table(hex_letters_and_digits, name[i + 2]))) {
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

// ---- lines

// The next line without its CRLF. The scan made sure that every CR is followed by LF.
view take_line(view *rest) {
    const view line = rest->substr(0, rest->find('\r'));
    rest->remove_prefix(line.size() + 2);
    return line;
}

http1_result parse_version(view version, http1_request *out, const char **why) {
    if (version.size() != 8 || !version.starts_with("HTTP/") || !is_digit(version[5]) || version[6] != '.' ||
        !is_digit(version[7])) {
        return bad_request("the request line is not METHOD SP TARGET SP HTTP/1.x", why);
    }
    if (version[5] != '1') {
        return refuse(http1_result::version_not_supported, "only HTTP/1.0 and HTTP/1.1 are spoken here", why);
    }
    // A higher minor version is read as the highest that is known (RFC 9110 section 2.5).
    out->minor_version = version[7] == '0' ? 0 : 1;
    return http1_result::complete;
}

http1_result parse_request_line(view line, http1_request *out, const char **why) {
    const size_t method_end = std::min(line.find(' '), line.size());
    out->method = line.substr(0, method_end);
    line.remove_prefix(std::min(method_end + 1, line.size()));
    const size_t target_end = std::min(line.find(' '), line.size());
    out->target = line.substr(0, target_end);
    line.remove_prefix(std::min(target_end + 1, line.size()));
    const http1_result result = parse_version(line, out, why);
    if (result != http1_result::complete) return result;
    return parse_target(out, why);
}

http1_result parse_fields(view rest, http1_request *out, const char **why) {
    for (;;) {
        const view line = take_line(&rest);
        if (line.empty()) return http1_result::complete;
        if (out->field_count == http1_field_max) {
            return refuse(http1_result::head_too_large, "too many header fields", why);
        }
        const size_t colon = line.find(':');
        if (colon == view::npos) return bad_request("a header line without a colon", why);
        http1_field *field = &out->fields[out->field_count++];
        field->name = line.substr(0, colon);
        field->value = bytes_trim(line.substr(colon + 1));
        // Also refuses white space before the colon (RFC 9112 section 5.1).
        if (!http1_is_token(field->name)) return bad_request("a header field's name is not a token", why);
    }
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

// RFC 9112 section 6: whatever leaves in doubt where the body ends is refused.
http1_result check_framing(http1_request *out, const char **why) {
    size_t lengths = 0;
    size_t encodings = 0;
    const http1_field *length = http1_find(out, "Content-Length", &lengths);
    const http1_field *encoding = http1_find(out, "Transfer-Encoding", &encodings);
    if (lengths > 1) return bad_request("several Content-Length fields", why);
    if (encodings > 1) return bad_request("several Transfer-Encoding fields", why);
    if (lengths + encodings > 1) return bad_request("both Content-Length and Transfer-Encoding", why);
    if (length != nullptr) {
        if (!bytes_parse_uint(length->value, &out->content_length)) {
            return bad_request("Content-Length is not a number", why);
        }
        out->has_content_length = true;
    }
    if (encoding != nullptr) {
        if (out->minor_version == 0) return bad_request("Transfer-Encoding in HTTP/1.0", why);
        if (!bytes_equal_nocase(encoding->value, "chunked")) {
            return bad_request("Transfer-Encoding is not chunked", why);
        }
        out->chunked = true;
    }
    return http1_result::complete;
}

void read_connection(http1_request *out) {
    const bool persistent = out->minor_version >= 1 || http1_list_has(out, "Connection", "keep-alive");
    out->keep_alive = persistent && !http1_list_has(out, "Connection", "close");
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
    result = parse_request_line(take_line(&rest), out, why);
    if (result == http1_result::complete) result = parse_fields(rest, out, why);
    if (result == http1_result::complete) result = check_host(out, why);
    if (result == http1_result::complete) result = check_framing(out, why);
    if (result == http1_result::complete) read_connection(out);
    return result;
}

const http1_field *http1_find(const http1_request *r, view name, size_t *count) {
    const http1_field *found = nullptr;
    size_t n = 0;
    for (uint32_t i = 0; i < r->field_count; i++) {
        if (!bytes_equal_nocase(r->fields[i].name, name)) continue;
        found = &r->fields[i];
        n++;
    }
    if (count != nullptr) *count = n;
    return n == 1 ? found : nullptr;
}

bool http1_next_element(view *rest, view *element) {
    while (!rest->empty()) {
        const size_t comma = std::min(rest->find(','), rest->size());
        *element = bytes_trim(rest->substr(0, comma));
        rest->remove_prefix(std::min(comma + 1, rest->size()));
        if (!element->empty()) return true;
    }
    return false;
}

bool http1_list_has(const http1_request *r, view name, view token) {
    for (uint32_t i = 0; i < r->field_count; i++) {
        if (!bytes_equal_nocase(r->fields[i].name, name)) continue;
        view rest = r->fields[i].value;
        view element;
        while (http1_next_element(&rest, &element)) {
            if (bytes_equal_nocase(element, token)) return true;
        }
    }
    return false;
}

bool http1_is_token(view s) {
    return !s.empty() && std::all_of(s.begin(), s.end(), [](char c) { return in_table(tchars, c); });
}

} // namespace belfry
