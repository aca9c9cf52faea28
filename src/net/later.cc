// Work put off to the loop: one list of what is due, one, in order, of what waits for its time. Owned by its user, on
// the loop's thread.
#include "net/later.h"

#include "base/clock.h"

#include <limits.h>

namespace belfry {

namespace {

later *of(link *node) {
    return BELFRY_CONTAINER_OF(node, later, node);
}

} // namespace

void later_queue_init(later_queue *q) {
    list_init(&q->due);
    list_init(&q->delayed);
}

void later_init(later *l, later_queue *on, void (*run)(later *)) {
    list_init(&l->node);
    l->on = on;
    l->due_ms = 0;
    l->run = run;
}

void later_post(later *l) {
    list_remove(&l->node);
    list_push_back(&l->on->due, &l->node);
}

void later_post_in(later *l, uint64_t ms) {
    list_remove(&l->node);
    l->due_ms = clock_monotonic_ms() + ms + 1; // the millisecond that has begun is none
    link *after = l->on->delayed.previous;
    while (after != &l->on->delayed && of(after)->due_ms > l->due_ms)
        after = after->previous;
    list_push_back(after->next, &l->node);
}

void later_cancel(later *l) {
    list_remove(&l->node);
}

// Those that are posted meanwhile are the next turn's, which does not sleep: nobody can keep the loop in here.
void later_run_due(later_queue *q) {
    link now;
    list_init(&now);
    list_splice(&now, &q->due);
    const uint64_t ms = list_empty(&q->delayed) ? 0 : clock_monotonic_ms();
    while (!list_empty(&q->delayed) && of(q->delayed.next)->due_ms <= ms) {
        link *node = q->delayed.next;
        list_remove(node);
        list_push_back(&now, node);
    }
    while (!list_empty(&now)) {
        later *l = of(now.next);
        list_remove(&l->node);
        l->run(l);
    }
}

int later_wait_ms(const later_queue *q, int ms) {
    if (!list_empty(&q->due)) return 0;
    if (ms == 0 || list_empty(&q->delayed)) return ms;
    const uint64_t now = clock_monotonic_ms(), due = of(q->delayed.next)->due_ms;
    if (due <= now) return 0;
    const uint64_t left = due - now;
    if (ms >= 0 && left > static_cast<uint64_t>(ms)) return ms;
    return left > INT_MAX ? INT_MAX : static_cast<int>(left);
}

} // namespace belfry
