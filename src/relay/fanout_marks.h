// How long messages take from their receipt to the last write of this worker that carries them.
//
// A delivery leaves a mark: when the message came, and which connection stood last in the dirty list then. When that
// one has been written, all of this worker's members have. One observation a message and worker, one look at the clock
// for all that end together; nothing is done for a delivery. Members whose socket was full at that time are not waited
// for: what becomes of those is counted as slow readers. Owner's thread.
#pragma once

#include "base/histogram.h"

#include <stdint.h>

namespace belfry {

struct conn;

// Marks that wait. Beyond that, and within fanout_marks_together_ns, messages share the mark of the one before, whose
// time is the earlier one: what is observed is never too little.
inline constexpr uint32_t fanout_marks_max = 256;
inline constexpr uint64_t fanout_marks_together_ns = 10000;

struct fanout_mark {
    const conn *last; // borrowed: in the dirty list for as long as the mark waits
    uint64_t received_ns;
    uint64_t messages;
};

// All zero is empty.
struct fanout_marks {
    fanout_mark ring[fanout_marks_max];
    uint32_t first, count;
};

// A message has been queued; `last`: the end of the dirty list, null: nobody is to be written.
void fanout_marks_add(fanout_marks *m, uint64_t received_ns, const conn *last);
// What fanout_marks_written finds at its front; not to be called.
void fanout_marks_end(fanout_marks *m, const conn *c, histogram *observed);
// This connection was taken out of the dirty list, and written.
inline void fanout_marks_written(fanout_marks *m, const conn *c, histogram *observed) {
    if (m->count && m->ring[m->first].last == c) [[unlikely]]
        fanout_marks_end(m, c, observed);
}

} // namespace belfry
