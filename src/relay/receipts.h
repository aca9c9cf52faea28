// How many members of this node got other nodes' messages, for a short while: the publishing node asks for it, maybe
// before the workers have told. Main thread.
#pragma once

#include "base/bytes.h"
#include "base/hash.h"
#include "base/list.h"

#include <stdint.h>

namespace belfry {

inline constexpr size_t receipts_max = 16384;      // remembered; beyond: the oldest is forgotten
inline constexpr uint64_t receipts_keep_ms = 5000; // longer than anybody asks

struct receipts {
    table by_name;
    link order; // the oldest first
    uint64_t forgotten;
};

// Called once, with the number; or with -1 where it is forgotten before it was known.
using receipts_told = void (*)(void *context, int64_t receivers);

void receipts_init(receipts *r);
// Whoever still asks is told -1.
void receipts_destroy(receipts *r);
// Node `node` published its message `sequence`, `receivers` members here got it.
void receipts_add(receipts *r, view node, uint64_t sequence, uint64_t receivers, uint64_t now_ms);
// Tells at once where it is known, else when it comes or is over receipts_keep_ms. A second question about the same
// message takes the place of the first one, which is told -1.
void receipts_ask(receipts *r, view node, uint64_t sequence, uint64_t now_ms, receipts_told told, void *context);
// Once a turn.
void receipts_turn(receipts *r, uint64_t now_ms);

} // namespace belfry
