// What was published with an `id` within the last 5 minutes, for the memory broker: the second publish of the same id
// in the same room is answered with the first one's position and sent nowhere. Owned by the memory broker. Main thread.
#pragma once

#include "base/hash.h"
#include "base/list.h"
#include "proto/position.h"

namespace belfry {

inline constexpr uint64_t idempotency_ms = 5 * 60 * 1000;
inline constexpr size_t idempotency_max = 65536; // ids that are kept; beyond that the oldest go

struct idempotency {
    table ids;
    link order;       // the same, the oldest first
    uint64_t evicted; // ids that went before their time
};

void idempotency_init(idempotency *i);
void idempotency_destroy(idempotency *i);
// The position that was noted for the id less than 5 minutes ago, or null. Borrowed until the next call.
[[nodiscard]] const position *idempotency_find(idempotency *i, view room, view id, uint64_t now_ms);
// Notes an id that idempotency_find did not find. `at` may be none: of a room without history.
void idempotency_note(idempotency *i, view room, view id, const position *at, uint64_t now_ms);

} // namespace belfry
