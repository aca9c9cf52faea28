// Work put off to the loop, by an event that is made active by hand. Owned by its user, on the loop's thread.
#include "net/later.h"

#include "base/error.h"

namespace belfry {

static void run(evutil_socket_t, short, void *context) {
    auto *l = static_cast<later *>(context);
    l->run(l);
}

void later_init(later *l, loop *on, void (*act)(later *)) {
    l->run = act;
    if (event_assign(&l->event, on->base, -1, 0, run, l) != 0) fatal("later: no event");
}

void later_post(later *l) {
    event_active(&l->event, EV_TIMEOUT, 1);
}

void later_cancel(later *l) {
    event_del(&l->event);
}

} // namespace belfry
