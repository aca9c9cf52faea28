// The sketch of the busiest rooms. See room_rates.h. Main thread.
#include "relay/room_rates.h"

#include <algorithm>

namespace belfry {

static void forget(room_rates *r, size_t at) {
    r->hashes[at] = 0;
    r->entries[at] = {};
}

static void roll(room_rates *r, uint64_t now_ms) {
    const uint64_t windows = (now_ms - r->began_ms) / room_rates_window_ms;
    if (!windows) return;
    for (size_t i = 0; i < room_rates_max; i++) {
        room_rate_entry *e = &r->entries[i];
        e->before = windows == 1 ? e->now - e->doubtful : 0;
        e->bytes_before = windows == 1 ? e->bytes_now : 0;
        e->now = e->doubtful = e->bytes_now = 0;
        if (e->hash && !e->before) forget(r, i);
    }
    r->began_ms += windows * room_rates_window_ms;
}

static size_t find(const room_rates *r, uint64_t hash) {
    for (size_t i = 0; i < room_rates_max; i++)
        if (r->hashes[i] == hash) return i;
    return room_rates_max;
}

// A free place, or that of the room with the fewest messages.
static size_t give_way(const room_rates *r) {
    size_t least = 0;
    uint64_t fewest = UINT64_MAX;
    for (size_t i = 0; i < room_rates_max; i++) {
        const room_rate_entry *e = &r->entries[i];
        if (e->now + e->before >= fewest) continue;
        fewest = e->now + e->before;
        least = i;
    }
    return least;
}

void room_rates_add(room_rates *r, view name, uint64_t hash, size_t bytes, uint64_t now_ms) {
    if (!hash) hash = 1; // 0 is a free place
    roll(r, now_ms);
    size_t at = find(r, hash);
    room_rate_entry *e = &r->entries[at < room_rates_max ? at : 0];
    if (at == room_rates_max) {
        at = give_way(r);
        e = &r->entries[at];
        e->now = e->doubtful = e->now + e->before;
        e->before = e->bytes_before = e->bytes_now = 0;
        e->hash = r->hashes[at] = hash;
        e->name = name;
    }
    e->now++;
    e->bytes_now += bytes;
}

std::vector<room_rate> room_rates_top(room_rates *r, uint64_t now_ms, size_t limit) {
    roll(r, now_ms);
    const auto into = static_cast<double>(now_ms - r->began_ms), window = static_cast<double>(room_rates_window_ms);
    const double left = 1 - into / window; // how much of the last window counts still
    auto rate = [&](uint64_t now, uint64_t before) {
        return (static_cast<double>(now) + static_cast<double>(before) * left) * 1000 / window;
    };
    std::vector<room_rate> all;
    for (const room_rate_entry &e : r->entries) {
        if (!e.hash) continue;
        all.push_back({e.name, rate(e.now - e.doubtful, e.before), rate(e.bytes_now, e.bytes_before)});
    }
    std::stable_sort(all.begin(), all.end(),
                     [](const room_rate &a, const room_rate &b) { return a.messages > b.messages; });
    if (all.size() > limit) all.resize(limit);
    return all;
}

} // namespace belfry
