// The node's half of a handover in the new process (handover.h): holds the rooms of who is to come, keeps their
// messages from the marker on, and tells each connection what it has missed on its way. Main thread.
#pragma once

#include "relay/handover.h"

namespace belfry {

struct handover_in_counters {
    uint64_t come, refused, dropped; // connections; not taken; described, and left to the old process after all
    uint64_t gaps;                   // rooms of a connection of which nothing is known
    uint64_t orders_dropped;         // for one that was on its way: more than handover_orders_max
};

void handover_in_begin(node *n, const handover_wire *wire);
// Connections may still come.
[[nodiscard]] bool handover_in_taking(const node *n);
[[nodiscard]] handover_in_counters handover_in_count(const node *n);
void handover_in_free(node *n);

// As in handover.h; only where node->arriving is there.
void handover_in_letter(node *n, handover_letter *l);
void handover_in_message(node *n, const handover_message *m, int fd);
void handover_in_broken(node *n);
void handover_in_turn(node *n);
void handover_in_note(node *n, message *m);
void handover_in_marker(node *n, view bytes);
bool handover_in_say(node *n, const handover_message *m);
[[nodiscard]] struct handover_carries *handover_in_carries(const node *n);
void handover_in_missed(node *n);
[[nodiscard]] bool handover_in_linked(const node *n);
[[nodiscard]] bool handover_in_shares(const node *n, view room);
// Appends, counted, what a room's members have had since that ordinal.
void handover_in_kept(node *n, view room, uint64_t ordinal, std::vector<message *> *out);

} // namespace belfry
