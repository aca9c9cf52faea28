// How the node ends: all are asked to leave, and when they have, the workers end. Main thread.
#include "relay/node_impl.h"

namespace belfry {

static void tell_all(node *n, letter_type what) {
    for (uint32_t w = 0; w < n->worker_count; w++)
        node_send(n, w, new letter{what});
}

void node_drain(node *n) {
    if (n->draining || n->stopping) return;
    n->draining = n->unready = true;
    n->pace.left.store(n->process_live.load(std::memory_order_relaxed), std::memory_order_relaxed);
    tell_all(n, letter_type::drain);
}

void node_drain_overdue(node *n) {
    if (n->stopping) return;
    n->draining = n->unready = true;
    tell_all(n, letter_type::overdue);
}

// All at once: a worker that ended before the others would leave questions unanswered.
void node_drain_turn(node *n) {
    if (!n->draining || n->stopping) return;
    for (uint32_t w = 0; w < n->worker_count; w++)
        if (!n->workers[w].shard.drained.load(std::memory_order_acquire)) return;
    node_stop(n, false);
}

} // namespace belfry
