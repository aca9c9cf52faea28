// What is busiest: the rooms with the most messages, the readers with the longest queues. Main thread.
#pragma once

#include "main/control_context.h"

namespace belfry {

inline constexpr size_t control_top_rooms = 20;
inline constexpr uint64_t control_top_slow = 20;

// Asks the workers; `done` gets {"rooms":[{"room","rate","bytes_rate","members"}],"slow":[...]}, the slow ones as in
// /v1/connections. Rates are a second, over the last ten seconds (room_rates.h).
void control_top_ask(control_api *a, void (*done)(control_api *a, view json, void *context), void *context);

} // namespace belfry
