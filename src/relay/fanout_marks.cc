// Marks of messages that are being written. On the worker's thread.
#include "relay/fanout_marks.h"

#include "base/clock.h"

namespace belfry {

static fanout_mark *at(fanout_marks *m, uint32_t place) {
    return &m->ring[(m->first + place) % fanout_marks_max];
}

void fanout_marks_add(fanout_marks *m, uint64_t received_ns, const conn *last) {
    if (!last) return;
    fanout_mark *newest = m->count ? at(m, m->count - 1) : nullptr;
    if (newest && (m->count == fanout_marks_max || received_ns <= newest->received_ns + fanout_marks_together_ns)) {
        newest->last = last;
        newest->messages++;
        return;
    }
    *at(m, m->count++) = {last, received_ns, 1};
}

// The marks stand in the order of the dirty list, and who is taken out of it and put in again stands behind all that
// waited: so those at the front with this connection, and no others, are over.
void fanout_marks_end(fanout_marks *m, const conn *c, histogram *observed) {
    const uint64_t now = clock_monotonic_ns();
    while (m->count && m->ring[m->first].last == c) {
        const fanout_mark *mark = &m->ring[m->first];
        histogram_add(observed, now > mark->received_ns ? now - mark->received_ns : 0, mark->messages);
        m->first = (m->first + 1) % fanout_marks_max;
        m->count--;
    }
}

} // namespace belfry
