// Slots, the slot map, MOVED and ASK; see cluster_slots.h. Any thread.
#include "proto/cluster_slots.h"

#include <string.h>

namespace belfry {

namespace {

constexpr size_t host_max = 253; // RFC 1035 section 2.3.4, without the root's dot

// CRC-16/XMODEM: polynomial 0x1021, from zero, not reflected. A nibble at a time: 32 bytes of table are always cached.
uint16_t crc16(view bytes) {
    static constexpr uint16_t table[16] = {0x0000, 0x1021, 0x2042, 0x3063, 0x4084, 0x50a5, 0x60c6, 0x70e7,
                                           0x8108, 0x9129, 0xa14a, 0xb16b, 0xc18c, 0xd1ad, 0xe1ce, 0xf1ef};
    unsigned crc = 0;
    for (char c : bytes) {
        const unsigned byte = static_cast<unsigned char>(c);
        crc = (crc << 4 & 0xffff) ^ table[crc >> 12 ^ byte >> 4];
        crc = (crc << 4 & 0xffff) ^ table[crc >> 12 ^ (byte & 15)];
    }
    return static_cast<uint16_t>(crc);
}

// What can stand in a host name or a numeric address: it goes into the log and to the resolver.
bool host_fine(view host) {
    if (host.empty() || host.size() > host_max) return false;
    for (char c : host) {
        const bool fine = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
                          c == '-' || c == '_' || c == ':' || c == '%';
        if (!fine) return false;
    }
    return true;
}

// The node's index, new or known; cluster_nobody where there is no room.
uint8_t node_index(cluster_map *m, view host, uint16_t port) {
    for (size_t i = 0; i < m->nodes.size(); i++)
        if (m->nodes[i].port == port && m->nodes[i].host == host) return static_cast<uint8_t>(i);
    if (m->nodes.size() == cluster_nodes_max) return cluster_nobody;
    m->nodes.push_back({std::string(host), port});
    return static_cast<uint8_t>(m->nodes.size() - 1);
}

bool take_word(view *text, view word) {
    if (!text->starts_with(word)) return false;
    text->remove_prefix(word.size());
    return true;
}

// "3999 127.0.0.1:6381"; an IPv6 address stands there without brackets.
bool parse_target(view text, view asked, cluster_redirect *out) {
    const size_t space = text.find(' '), colon = text.rfind(':');
    if (space == view::npos || colon == view::npos || colon < space) return false;
    const view host = text.substr(space + 1, colon - space - 1);
    uint64_t slot = 0, port = 0;
    if (!bytes_parse_uint(text.substr(0, space), &slot) || slot >= cluster_slot_count) return false;
    if (!bytes_parse_uint(text.substr(colon + 1), &port) || port == 0 || port > 65535) return false;
    out->node.host = host.empty() ? asked : host;
    if (!host_fine(out->node.host)) return false;
    out->node.port = static_cast<uint16_t>(port);
    out->slot = static_cast<uint16_t>(slot);
    return true;
}

} // namespace

uint16_t cluster_slot(view key) {
    const size_t open = key.find('{');
    if (open != view::npos) {
        const size_t close = key.find('}', open + 1);
        if (close != view::npos && close != open + 1) key = key.substr(open + 1, close - open - 1);
    }
    return crc16(key) % cluster_slot_count;
}

void cluster_map_clear(cluster_map *m) {
    m->nodes.clear();
    memset(m->owner, cluster_nobody, sizeof m->owner);
    m->covered = 0;
}

bool cluster_map_add(cluster_map *m, int64_t first, int64_t last, view host, int64_t port, view asked, error *e) {
    if (first < 0 || last < first || last >= cluster_slot_count) {
        error_set(e, "slots from %lld to %lld", static_cast<long long>(first), static_cast<long long>(last));
        return false;
    }
    if (port <= 0 || port > 65535) {
        error_set(e, "a node on port %lld", static_cast<long long>(port));
        return false;
    }
    if (host.empty()) host = asked;
    if (!host_fine(host)) {
        error_set(e, "a node whose name or address can't be one");
        return false;
    }
    const uint8_t index = node_index(m, host, static_cast<uint16_t>(port));
    if (index == cluster_nobody) {
        error_set(e, "more than %zu primaries", cluster_nodes_max);
        return false;
    }
    for (int64_t slot = first; slot <= last; slot++) {
        if (m->owner[slot] != cluster_nobody) {
            error_set(e, "slot %lld with two owners", static_cast<long long>(slot));
            return false;
        }
        m->owner[slot] = index;
        m->covered++;
    }
    return true;
}

bool cluster_map_move(cluster_map *m, uint16_t slot, const cluster_node *to) {
    const uint8_t index = node_index(m, to->host, to->port);
    if (index == cluster_nobody) return false;
    if (m->owner[slot] == cluster_nobody) m->covered++;
    m->owner[slot] = index;
    return true;
}

cluster_redirect cluster_advice_of(view text, view asked) {
    cluster_redirect r = {cluster_advice::none, 0, {}};
    if (take_word(&text, "MOVED ")) {
        if (parse_target(text, asked, &r)) r.advice = cluster_advice::moved;
    } else if (take_word(&text, "ASK ")) {
        if (parse_target(text, asked, &r)) r.advice = cluster_advice::ask;
    } else {
        for (view word : {"TRYAGAIN", "CLUSTERDOWN", "MASTERDOWN", "LOADING"})
            if (text == word || (text.starts_with(word) && text[word.size()] == ' '))
                r.advice = cluster_advice::try_again;
    }
    return r;
}

} // namespace belfry
