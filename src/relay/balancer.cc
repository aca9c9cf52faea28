// The consistent ring, point for point as nginx 1.22 builds it: ngx_http_upstream_hash_module is the reference for what
// goes into a point and for the walk past a server that is down. Immutable once made.
#include "relay/balancer.h"

#include <algorithm>
#include <array>

namespace belfry {

namespace {

constexpr uint32_t points_a_weight = 160;

constexpr std::array<uint32_t, 256> crc_table() {
    std::array<uint32_t, 256> table = {};
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t c = i;
        for (int bit = 0; bit < 8; bit++)
            c = (c & 1) != 0 ? 0xedb88320u ^ (c >> 1) : c >> 1;
        table[i] = c;
    }
    return table;
}
constexpr std::array<uint32_t, 256> crc = crc_table();

uint32_t crc_update(uint32_t state, view bytes) {
    for (const char c : bytes)
        state = crc[(state ^ static_cast<uint8_t>(c)) & 0xff] ^ (state >> 8);
    return state;
}

constexpr uint32_t crc_begin = 0xffffffffu;

struct ring_point {
    uint32_t hash;
    uint32_t name; // in `names`
};

// "HOST:PORT" is cut at a colon with nothing but digits behind it; "unix:" is no part of a path and has no port.
void split_name(view name, view *host, view *port) {
    *host = name;
    *port = {};
    if (bytes_equal_nocase(name.substr(0, 5), "unix:")) {
        *host = name.substr(5);
        return;
    }
    const size_t last = name.find_last_not_of("0123456789");
    if (last == view::npos || name[last] != ':') return;
    *host = name.substr(0, last);
    *port = name.substr(last + 1);
}

// Each point hashes the one before it: CRC-32 of host, NUL, port and four bytes, little end first.
void add_points(std::vector<ring_point> *points, const balancer_server *server, uint32_t name) {
    view host, port;
    split_name(server->name, &host, &port);
    const uint32_t base = crc_update(crc_update(crc_update(crc_begin, host), view("\0", 1)), port);
    uint32_t previous = 0;
    for (uint32_t i = 0; i < server->weight * points_a_weight; i++) {
        const char bytes[4] = {static_cast<char>(previous), static_cast<char>(previous >> 8),
                               static_cast<char>(previous >> 16), static_cast<char>(previous >> 24)};
        previous = ~crc_update(base, view(bytes, sizeof bytes));
        points->push_back({previous, name});
    }
}

} // namespace

struct balancer_ring {
    std::vector<ring_point> points; // sorted, no hash twice
    std::vector<uint64_t> names;    // the servers (bits by index) that share a name, as several lines may
    uint64_t all;                   // servers in the ring
};

uint32_t balancer_key_hash(view key) {
    return ~crc_update(crc_begin, key);
}

balancer_ring *balancer_ring_new(const balancer_server *servers, size_t count) {
    auto *r = new balancer_ring{};
    std::vector<view> texts; // of `names`
    for (size_t i = 0; i < count && i < balancer_servers_max; i++) {
        if (servers[i].weight == 0) continue;
        const auto known = std::find(texts.begin(), texts.end(), servers[i].name);
        const auto name = static_cast<uint32_t>(known - texts.begin());
        if (known == texts.end()) {
            texts.push_back(servers[i].name);
            r->names.push_back(0);
        }
        r->names[name] |= uint64_t{1} << i;
        r->all |= uint64_t{1} << i;
        add_points(&r->points, &servers[i], name);
    }
    // Where two servers meet in one hash the first in the list keeps it, as with glibc's qsort, which is stable.
    std::stable_sort(r->points.begin(), r->points.end(),
                     [](const ring_point &a, const ring_point &b) { return a.hash < b.hash; });
    const auto same = [](const ring_point &a, const ring_point &b) { return a.hash == b.hash; };
    r->points.erase(std::unique(r->points.begin(), r->points.end(), same), r->points.end());
    r->points.shrink_to_fit();
    return r;
}

void balancer_ring_free(balancer_ring *r) {
    delete r;
}

int balancer_ring_pick(const balancer_ring *r, uint32_t hash, uint64_t excluded) {
    if ((r->all & ~excluded) == 0) return -1; // else the walk meets one within a round
    const auto first = std::lower_bound(r->points.begin(), r->points.end(), hash,
                                        [](const ring_point &p, uint32_t wanted) { return p.hash < wanted; });
    for (size_t at = static_cast<size_t>(first - r->points.begin());; at++) {
        const uint64_t left = r->names[r->points[at % r->points.size()].name] & ~excluded;
        if (left != 0) return __builtin_ctzll(left);
    }
}

} // namespace belfry
