// Forwarding fields, from the right. Pure functions over the caller's request; nothing is owned here. Any thread.
#include "proto/forwarded.h"

namespace belfry {

namespace {

// Walks the elements of all lines of one list field from the last to the first (RFC 9110 section 5.3: the lines
// joined by commas are the list).
struct backwards {
    const http1_request *request; // borrowed
    view name;
    uint32_t lines_left; // field lines not yet looked at, from the front
    view rest;           // of the current line: what is left of the elements already given
    bool in_line;
};

// The element before the last one given, trimmed, may be empty. False where there is none.
bool previous_element(backwards *b, view *element) {
    while (!b->in_line) {
        if (b->lines_left == 0) return false;
        const http1_field *field = &b->request->fields[--b->lines_left];
        b->in_line = bytes_equal_nocase(field->name, b->name);
        b->rest = field->value;
    }
    const size_t comma = b->rest.rfind(',');
    b->in_line = comma != view::npos;
    *element = bytes_trim(b->rest.substr(b->in_line ? comma + 1 : 0));
    b->rest = b->rest.substr(0, b->in_line ? comma : 0);
    return true;
}

bool port_valid(view port) {
    uint64_t number;
    return port.size() <= 5 && bytes_parse_uint(port, &number) && number <= 65535;
}

// ADDRESS, IPV4:PORT or [IPV6]:PORT.
bool parse_element(view element, ip *out) {
    if (ip_parse(element, out)) return true;
    const size_t colon = element.rfind(':');
    if (colon == view::npos || !port_valid(element.substr(colon + 1))) return false;
    const view host = element.substr(0, colon);
    // Without brackets the last colon of an IPv6 address parts nothing.
    if (host.find(':') != view::npos && !host.starts_with('[')) return false;
    return ip_parse(host, out);
}

ip find_client(const http1_request *r, const ip *peer, const ip_range *trusted, size_t trusted_count) {
    ip client = *peer;
    backwards walk = {r, "X-Forwarded-For", r->field_count, view(), false};
    view element;
    for (size_t seen = 0; seen < forwarded_elements_max && previous_element(&walk, &element); seen++) {
        if (element.empty()) continue; // RFC 9110 section 5.6.1.2
        if (!parse_element(element, &client)) break;
        if (!ip_in_ranges(&client, trusted, trusted_count)) break;
    }
    return client;
}

void find_scheme(const http1_request *r, forwarded *out) {
    backwards walk = {r, "X-Forwarded-Proto", r->field_count, view(), false};
    view scheme;
    if (!previous_element(&walk, &scheme)) return;
    out->https = bytes_equal_nocase(scheme, "https") || bytes_equal_nocase(scheme, "wss");
    out->https_known = out->https || bytes_equal_nocase(scheme, "http") || bytes_equal_nocase(scheme, "ws");
}

} // namespace

forwarded forwarded_client(const http1_request *r, const ip *peer, const ip_range *trusted, size_t trusted_count) {
    forwarded out = {*peer, ip_in_ranges(peer, trusted, trusted_count), false, false};
    if (!out.trusted) return out;
    out.client = find_client(r, peer, trusted, trusted_count);
    find_scheme(r, &out);
    return out;
}

} // namespace belfry
