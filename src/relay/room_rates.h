// Which rooms get the most messages just now: a bounded sketch, whatever the number of rooms (space-saving, Metwally
// and others 2005). Of the node; main thread.
//
// It counts over windows of room_rates_window_ms; a rate is over the current window and the part of the last one that
// lies within one window's length. Rooms that take one another's place count what is certain, never more.
#pragma once

#include "base/bytes.h"

#include <stdint.h>
#include <string>
#include <vector>

namespace belfry {

inline constexpr size_t room_rates_max = 64;
inline constexpr uint64_t room_rates_window_ms = 10000;

struct room_rate_entry {
    uint64_t hash; // of the name; 0: free
    uint64_t now, before;
    uint64_t bytes_now, bytes_before;
    uint64_t doubtful; // of `now`: may be those of the room whose place it has taken
    std::string name;
};

// All zero at the start.
struct room_rates {
    uint64_t hashes[room_rates_max]; // apart, to be looked through at once
    room_rate_entry entries[room_rates_max];
    uint64_t began_ms;
};

// A message of `bytes`. Costs a look through 512 bytes, 20 ns; 150 ns where the room is none of those that are kept.
void room_rates_add(room_rates *r, view name, uint64_t hash, size_t bytes, uint64_t now_ms);

struct room_rate {
    std::string name;
    double messages, bytes; // a second
};
// Those with the most messages first, at most `limit`.
[[nodiscard]] std::vector<room_rate> room_rates_top(room_rates *r, uint64_t now_ms, size_t limit);

} // namespace belfry
