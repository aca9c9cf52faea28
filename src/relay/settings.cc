// Look-ups in the immutable settings. Any thread.
#include "relay/settings.h"

#include "proto/room_name.h"

#include <tuple>

namespace belfry {

// What is left of the path behind the prefix, in which '/'s that follow each other count as one, as in many a backend:
// "//admin" must not get past the route of "/admin". False where it does not begin so.
static bool cut_prefix(view prefix, view *path) {
    for (size_t i = 0; i < prefix.size(); i++) {
        if (i && prefix[i] == '/' && prefix[i - 1] == '/') continue;
        if (path->empty() || (*path)[0] != prefix[i]) return false;
        do
            path->remove_prefix(1);
        while (prefix[i] == '/' && path->starts_with('/'));
    }
    return true;
}

// "/ws" covers "/ws", "/ws/x" and "/ws;x" (parameters of the segment, RFC 3986 section 3.3), not "/wsx"; "/" covers
// all.
static bool path_covers(view prefix, view path) {
    if (!cut_prefix(prefix, &path)) return false;
    return prefix.ends_with('/') || path.empty() || path[0] == '/' || path[0] == ';';
}

// Host fields may carry a port, and the name a dot at its end, which names the same host; routes name hosts only.
static view host_name(view host) {
    if (host.starts_with('[')) {
        size_t end = host.find(']');
        return end == view::npos ? host : host.substr(0, end + 1);
    }
    host = host.substr(0, host.find(':'));
    return host.ends_with('.') ? host.substr(0, host.size() - 1) : host;
}

const route *route_find(const relay_settings *s, view path, view host, bool *other_host) {
    const route *best = nullptr;
    *other_host = false;
    host = host_name(host);
    for (const route &r : s->routes) {
        if (r.retired || !path_covers(r.path, path)) continue;
        if (!r.host.empty() && !bytes_equal_nocase(r.host, host)) {
            *other_host = true;
            continue;
        }
        if (best && best->path.size() > r.path.size()) break;
        if (!best || (best->host.empty() && !r.host.empty())) best = &r;
    }
    return best;
}

const upstream_settings *route_upstream(const relay_settings *s, const route *r) {
    return r->upstream_index < 0 ? nullptr : &s->upstreams[static_cast<size_t>(r->upstream_index)];
}

// Everything but what is made of it (servers, tls, scopes) and `retired`.
static auto written(const upstream_settings *u) {
    return std::tie(u->name, u->server, u->health_check, u->health_interval, u->health_timeout, u->keepalive,
                    u->keepalive_timeout, u->connect_timeout, u->read_timeout, u->max_inflight, u->queue,
                    u->queue_timeout, u->slow_start, u->tls_ca, u->tls_verify, u->tls_name);
}

bool upstream_same(const upstream_settings *a, const upstream_settings *b) {
    return written(a) == written(b);
}

void upstream_host(const upstream_settings *u, const server_settings *s, buffer *out) {
    if (!u->tls_name.empty()) return buffer_append(out, u->tls_name);
    if (s->unix) return buffer_append(out, "localhost");
    bool literal = s->host.find(':') != std::string::npos && s->host[0] != '['; // IPv6
    if (literal) buffer_append_char(out, '[');
    buffer_append(out, s->host);
    if (literal) buffer_append_char(out, ']');
    if (s->port != (s->tls ? 443 : 80)) buffer_printf(out, ":%u", s->port);
}

const room_rule *room_rule_find(const relay_settings *s, view name) {
    for (const room_rule &r : s->rooms)
        if (room_pattern_match(r.pattern, name)) return &r;
    return nullptr;
}

} // namespace belfry
