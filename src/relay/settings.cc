// Look-ups in the immutable settings. Any thread.
#include "relay/settings.h"

#include "base/bytes.h"
#include "proto/room_name.h"

namespace belfry {

// "/ws" covers "/ws" and "/ws/x", not "/wsx"; "/" covers all.
static bool path_covers(view prefix, view path) {
    if (!path.starts_with(prefix)) return false;
    return prefix.ends_with('/') || path.size() == prefix.size() || path[prefix.size()] == '/';
}

// Host fields may carry a port; routes name hosts only.
static view without_port(view host) {
    if (host.starts_with('[')) {
        size_t end = host.find(']');
        return end == view::npos ? host : host.substr(0, end + 1);
    }
    return host.substr(0, host.find(':'));
}

const route *route_find(const relay_settings *s, view path, view host, bool *other_host) {
    const route *best = nullptr;
    *other_host = false;
    host = without_port(host);
    for (const route &r : s->routes) {
        if (!path_covers(r.path, path)) continue;
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

const room_rule *room_rule_find(const relay_settings *s, view name) {
    for (const room_rule &r : s->rooms)
        if (room_pattern_match(r.pattern, name)) return &r;
    return nullptr;
}

} // namespace belfry
