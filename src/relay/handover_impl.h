// What the node's two halves of a handover agree on, for handover*.cc alone: which messages are numbered, and when that
// means anything. Main thread.
#pragma once

#include "relay/node.h"

#include <string>

namespace belfry {

// What stands on the node's own channel to say "from here on".
std::string handover_marker_text(uint64_t nonce, uint64_t round);
// Both processes hear the broker's messages in the same order: over one link to one server. Not where they come from
// this process alone, nor over a cluster's bus.
[[nodiscard]] bool handover_ordered(const node *n);
// To @all, or to one connection: delivered without a subscription of its own.
[[nodiscard]] bool handover_special(const message *m);
// Of a room with history, those without a place in it are numbered here, the others have numbers of their own.
[[nodiscard]] inline bool handover_counts(bool history, const message *m) {
    return !history || position_none(&m->at) || !m->at.offset;
}
// The other process is gone: this one alone stands for the node again.
void handover_alone(node *n);

} // namespace belfry
