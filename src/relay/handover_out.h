// The node's half of a handover in the old process (handover.h): greets the new one, tells it the rooms, counts from
// its marker on, and passes connections on between the workers and the link. Main thread.
#pragma once

#include "relay/handover.h"

namespace belfry {

struct handover_out_counters {
    uint64_t moved, refused, given_up; // connections; by the new process, for want of its answer
    uint64_t orders_dropped;           // for one that was on its way: more than handover_orders_max
};

// Begins. The node gets node->leaving.
void handover_out_begin(node *n, const handover_wire *wire);
// Connections may still move away: nobody is asked to leave yet.
[[nodiscard]] bool handover_out_giving(const node *n);
[[nodiscard]] handover_out_counters handover_out_count(const node *n);
void handover_out_free(node *n);

// As in handover.h; only where node->leaving is there.
void handover_out_letter(node *n, handover_letter *l);
void handover_out_message(node *n, const handover_message *m);
void handover_out_broken(node *n);
void handover_out_turn(node *n);
void handover_out_note(node *n, message *m);
void handover_out_say(node *n, const handover_message *m);
void handover_out_marker(node *n, view bytes);
void handover_out_missed(node *n);
// The other process lives.
[[nodiscard]] bool handover_out_linked(const node *n);
// A client's publish was sent, with a job that is settled by handover_out_settled: what a fence waits for.
[[nodiscard]] uint64_t handover_out_published(node *n);
void handover_out_settled(node *n, uint64_t ticket);

} // namespace belfry
