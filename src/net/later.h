// Something to be done soon on the same loop, but not within the call that finds it due: what was closed from inside
// its own callback is freed, and an outcome that is known at once is told. Or after a while: time-outs and pauses of
// the few objects that are no connections (those have the worker's wheel). Of the loop's thread.
#pragma once

#include "base/list.h"

#include <stdint.h>

namespace belfry {

// One of each loop (loop.laters).
struct later_queue {
    link due;     // later objects, borrowed: to be run now
    link delayed; // the same, in the order of their time
};

struct later {
    link node;       // in one of the queue's lists, or a list of its own
    later_queue *on; // borrowed
    uint64_t due_ms; // monotonic
    void (*run)(later *l);
};

// `run` is called by the loop, with nothing else of it on the stack; it may free its own object.
void later_init(later *l, later_queue *on, void (*run)(later *l));
// Runs it once, however often this is called before, at the end of this turn or in the next one; loop_turn does not
// block meanwhile. May be called from `run`.
void later_post(later *l);
// Runs it once, `ms` from now or up to 2 ms after that; again called before: from then. A walk over those that are due
// after it.
void later_post_in(later *l, uint64_t ms);
inline bool later_posted(const later *l) {
    return !list_empty(&l->node);
}
// It does not run any more until posted again. Safe where it was never posted.
void later_cancel(later *l);

void later_queue_init(later_queue *q);
// For loop_turn, once a turn behind the sockets: runs what is due.
void later_run_due(later_queue *q);
// How long nothing of the queue's is due, at most `ms` (-1: for ever). 0: something is.
int later_wait_ms(const later_queue *q, int ms);

} // namespace belfry
