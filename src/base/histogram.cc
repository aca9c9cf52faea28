// Histograms of durations. Any thread, each its own.
#include "base/histogram.h"

namespace belfry {

static constexpr uint64_t us = 1000, ms = 1000000, second = 1000000000;

const uint64_t histogram_bounds_ns[histogram_bounds_count] = {
    25 * us, 50 * us, 100 * us, 250 * us, 500 * us, ms,     ms * 5 / 2,     5 * ms,     10 * ms,
    25 * ms, 50 * ms, 100 * ms, 250 * ms, 500 * ms, second, second * 5 / 2, 5 * second, 10 * second};

// From the small end: nearly all that is observed lies there.
static size_t bucket_of(uint64_t ns) {
    size_t i = 0;
    while (i < histogram_bounds_count && ns > histogram_bounds_ns[i])
        i++;
    return i;
}

void histogram_add(histogram *h, uint64_t ns, uint64_t times) {
    h->counts[bucket_of(ns)] += times;
    h->sum_ns += ns * times;
}

void histogram_merge(histogram *sum, const histogram *part) {
    for (size_t i = 0; i <= histogram_bounds_count; i++)
        sum->counts[i] += part->counts[i];
    sum->sum_ns += part->sum_ns;
}

uint64_t histogram_count(const histogram *h) {
    uint64_t n = 0;
    for (uint64_t c : h->counts)
        n += c;
    return n;
}

uint64_t histogram_quantile_ns(const histogram *h, uint32_t thousandths) {
    const uint64_t all = histogram_count(h);
    if (!all) return 0;
    // The place of the observation, from 1: rounded up, since the bucket is told by its upper bound.
    uint64_t place = (all / 1000) * thousandths + ((all % 1000) * thousandths + 999) / 1000;
    if (!place) place = 1;
    size_t i = 0;
    for (uint64_t seen = h->counts[0]; seen < place; seen += h->counts[i])
        i++;
    return histogram_bounds_ns[i < histogram_bounds_count ? i : histogram_bounds_count - 1];
}

} // namespace belfry
