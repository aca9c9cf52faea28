// What clients may do and how often, counted for the whole process by key (an address, a user, a room): rates by GCRA
// and plain counts, for module.h's rate_take and count_add.
//
// Two sketches of fixed size, one for each: two rows of limits_cells numbers, 1 MiB a row pair, touched as they are
// used; nothing is allocated, nothing is ever full, nothing has to be swept. A key has one cell in each row, by a
// SipHash that is keyed at start, so that nobody can choose keys that meet; the smaller of the two counts (a count-min
// sketch). What falls together can only count too much, never too little: two given keys share both cells with odds of
// one in 2^32; with n other busy keys about (n / 65,536)^2 of the keys share both with some of them.
//
// Lock-free, any thread. Each cell is changed by compare-and-swap of a value computed from the one that was read, so
// there is nothing to be recycled unnoticed. hash_init comes first.
#pragma once

#include "base/bytes.h"
#include "base/options.h"

#include <stdint.h>

namespace belfry {

inline constexpr size_t limits_cells = 65536; // in a row, of 8 bytes

// GCRA (ITU-T I.371, the leaky bucket as a virtual schedule). 0: `amount` is taken; else nothing is, and so many ms
// later, if nobody takes meanwhile, it would be. At most rate->burst may be taken at once; an amount above that is
// granted when the whole burst is there, and delays what follows accordingly. A rate without amount grants everything.
// now_ms: monotonic, of any thread's clock. Keys are told apart by their bytes alone: one key is used with one rate.
[[nodiscard]] uint64_t limits_take(const struct rate *rate, view key, int64_t amount, uint64_t now_ms);

// Adds to the key's count and returns it: never below 0, never above INT64_MAX. What was added must be taken off with
// the same key.
int64_t limits_add(view key, int64_t delta);

} // namespace belfry
