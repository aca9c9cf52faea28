// Something to be done soon on the same loop, but not within the call that finds it due: what was closed from inside
// its own callback is freed, and an outcome that is known at once is told. Or after a while: time-outs and pauses of
// the few objects that are no connections (those have the worker's wheel). Of the loop's thread.
#pragma once

#include "base/list.h"
#include "net/loop.h"

namespace belfry {

struct later {
    link node;       // in one of the loop's lists, or a list of its own
    loop *on;        // borrowed
    uint64_t due_ms; // monotonic
    void (*run)(later *l);
};

// `run` is called by the loop, with nothing else of it on the stack; it may free its own object.
void later_init(later *l, loop *on, void (*run)(later *l));
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

// For loop_turn: runs what is due.
void later_run_due(loop *on);
// How long nothing of the loop's is due, at most `ms` (-1: for ever). 0: something is.
int later_wait_ms(const loop *on, int ms);

} // namespace belfry
