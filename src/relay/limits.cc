// The limiters' two sketches. Any thread; see the header.
#include "relay/limits.h"

#include "base/hash.h"

#include <algorithm>
#include <atomic>
#include <mutex>

namespace belfry {

struct sketch {
    std::atomic<uint64_t> rows[2][limits_cells];
};

// Of each key's theoretical arrival time (ns, monotonic), and of its count. Zero at start; not in any object's hands,
// because whoever limits something limits it for the whole process.
static sketch arrivals;
static sketch counts;
static_assert(std::atomic<uint64_t>::is_always_lock_free);

static constexpr uint64_t ns_a_ms = 1000000;
static constexpr uint64_t ns_most = uint64_t{1} << 61; // 73 years, of a time and of a cost: their sum has room

struct cell_pair {
    std::atomic<uint64_t> *cell[2];
};

static cell_pair find(sketch *s, view key) {
    uint64_t hash = hash_bytes(key);
    return {{&s->rows[0][hash % limits_cells], &s->rows[1][(hash >> 32) % limits_cells]}};
}

// What `amount` takes of the schedule, in ns, rounded up: a rate is never exceeded.
static uint64_t cost_of(const struct rate *rate, int64_t amount) {
    auto each = static_cast<unsigned __int128>(rate->period_ms) * ns_a_ms;
    auto whole = static_cast<unsigned __int128>(rate->amount);
    auto cost = (each * static_cast<uint64_t>(amount) + whole - 1) / whole;
    return cost > ns_most ? ns_most : static_cast<uint64_t>(cost);
}

static uint64_t advance(std::atomic<uint64_t> *cell, uint64_t now, uint64_t cost) {
    uint64_t old = cell->load(std::memory_order_relaxed), next;
    do
        next = std::min(std::max(old, now) + cost, 3 * ns_most); // old + cost stays below 2^64
    while (!cell->compare_exchange_weak(old, next, std::memory_order_relaxed));
    return next;
}

static void take_back(std::atomic<uint64_t> *cell, uint64_t cost) {
    uint64_t old = cell->load(std::memory_order_relaxed);
    while (!cell->compare_exchange_weak(old, old > cost ? old - cost : 0, std::memory_order_relaxed)) {
    }
}

// How long after `now` the schedule lets the next one in, in ms: 0 now. `room`: how far ahead it may be.
static uint64_t wait_ms(uint64_t arrival, uint64_t now, uint64_t room) {
    if (arrival <= now || arrival - now <= room) return 0;
    return (arrival - now - room + ns_a_ms - 1) / ns_a_ms;
}

// Takes of one key wait for each other: two that move two cells in turns could both see the smaller one and both be
// granted the last of a burst. 20 ns where nobody else is there, at a handshake or a limited publish; other keys that
// share a cell need no lock, they only ever make it fuller.
static std::mutex *key_lock(view key) {
    static std::mutex locks[64];
    return &locks[hash_bytes(key) >> 58];
}

uint64_t limits_take(const struct rate *rate, view key, int64_t amount, uint64_t now_ms) {
    if (rate->amount <= 0 || amount <= 0) return 0;
    uint64_t now = std::min(now_ms, ns_most / ns_a_ms) * ns_a_ms;
    uint64_t cost = cost_of(rate, amount), burst = cost_of(rate, std::max<int64_t>(rate->burst, 1));
    uint64_t room = burst > cost ? burst - cost : 0; // how far ahead the schedule may be before this one
    cell_pair at = find(&arrivals, key);
    uint64_t smaller =
        std::min(at.cell[0]->load(std::memory_order_relaxed), at.cell[1]->load(std::memory_order_relaxed));
    if (uint64_t wait = wait_ms(smaller, now, room)) return wait; // the usual refusal writes nothing
    std::lock_guard guard(*key_lock(key));
    smaller = std::min(advance(at.cell[0], now, cost), advance(at.cell[1], now, cost)) - cost;
    uint64_t wait = wait_ms(smaller, now, room);
    if (!wait) return 0;
    take_back(at.cell[0], cost);
    take_back(at.cell[1], cost);
    return wait;
}

static int64_t add(std::atomic<uint64_t> *cell, int64_t delta) {
    uint64_t old = cell->load(std::memory_order_relaxed);
    int64_t next;
    do {
        if (__builtin_add_overflow(static_cast<int64_t>(old), delta, &next)) next = INT64_MAX;
        next = std::max<int64_t>(next, 0); // a count is never negative, so only growing can overflow
    } while (!cell->compare_exchange_weak(old, static_cast<uint64_t>(next), std::memory_order_relaxed));
    return next;
}

int64_t limits_add(view key, int64_t delta) {
    cell_pair at = find(&counts, key);
    int64_t first = add(at.cell[0], delta);
    return std::min(first, add(at.cell[1], delta));
}

} // namespace belfry
