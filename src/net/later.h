// Something to be done soon on the same loop, but not within the call that finds it due: what was closed from inside
// its own callback is freed, and an outcome that is known at once is told. Of the loop's thread.
#pragma once

#include "net/loop.h"

namespace belfry {

struct later {
    struct event event; // never watches anything
    void (*run)(later *l);
};

// `run` is called by the loop, with nothing else of it on the stack.
void later_init(later *l, loop *on, void (*run)(later *l));
// Runs it once, however often this is called before; loop_turn does not block meanwhile. May be called from `run`.
void later_post(later *l);
// It does not run any more until posted again.
void later_cancel(later *l);

} // namespace belfry
