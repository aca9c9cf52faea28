// What the memory broker tells beside broker.h, for the status. Main thread.
#pragma once

#include "relay/broker.h"
#include "relay/history.h"

namespace belfry {

// Null where the broker is another one.
[[nodiscard]] const history_counters *broker_memory_history(const broker *b);
// Where the room is in its history; null where it has none, or the broker is another one.
[[nodiscard]] const position *broker_memory_place(const broker *b, view room);
// As history_forget; nothing where the broker is another one.
void broker_memory_forget(broker *b, bool (*keeps)(void *context, view room), void *context);

} // namespace belfry
