// Which rooms of this node became occupied or vacated, for notify: a vacated room is held back for a while, so that a
// reload of a page, or a room that changes its only member, is no news. Main thread.
#pragma once

#include "base/hash.h"
#include "base/list.h"

namespace belfry {

inline constexpr uint64_t occupancy_hold_ms = 3000;
inline constexpr size_t occupancy_held_max = 65536; // rooms held back; beyond that the oldest is told at once

struct occupancy {
    table held; // of rooms that are vacated, but not told
    link order; // the same, the oldest first
    void (*tell)(void *context, bool occupied, view room);
    void *context; // borrowed
};

void occupancy_init(occupancy *o, void (*tell)(void *context, bool occupied, view room), void *context);
// Forgets what is held back.
void occupancy_destroy(occupancy *o);
// The room's first member came; its last one left. Belfry's own rooms (@...) are no news.
void occupancy_occupied(occupancy *o, view room);
void occupancy_vacated(occupancy *o, view room, uint64_t now_ms);
// The rooms that are held back.
void occupancy_each_held(const occupancy *o, void (*visit)(view room, void *context), void *context);
// Tells what was held back long enough. Once a turn.
void occupancy_turn(occupancy *o, uint64_t now_ms);

} // namespace belfry
