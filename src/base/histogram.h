// How durations are distributed: counts in fixed buckets, the same for all, so that those of several threads add up.
// Plain numbers of one thread; who asks gets a copy.
#pragma once

#include <stddef.h>
#include <stdint.h>

namespace belfry {

inline constexpr size_t histogram_bounds_count = 18;
// Upper bounds of the buckets, in nanoseconds: 25 us to 10 s, by 1, 2.5, 5. The last bucket has none.
extern const uint64_t histogram_bounds_ns[histogram_bounds_count];

struct histogram {
    uint64_t counts[histogram_bounds_count + 1]; // each bucket's own
    uint64_t sum_ns;
};

// `times` observations of that duration.
void histogram_add(histogram *h, uint64_t ns, uint64_t times = 1);
void histogram_merge(histogram *sum, const histogram *part);
uint64_t histogram_count(const histogram *h);
// The upper bound of the bucket that the observation at that share (in thousandths, to 1000) lies in; above the last
// bound it is that. 0 where nothing was observed.
uint64_t histogram_quantile_ns(const histogram *h, uint32_t thousandths);

} // namespace belfry
