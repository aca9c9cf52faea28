// Notifications to the backend: connected, disconnected, joined, left, occupied, vacated. Batched, retried, at least
// once; a spool of notify_spool_max bytes a worker and route, beyond which the oldest are dropped and counted. Rooms'
// occupied and vacated come from the node by letter, a vacated room held back 3 s there (so a room that this node's own
// end empties is not told: its members are about to come back). Any answer but a 2xx is a failure: the batch is sent
// again, after 0.5 s at first, 30 s at last. Owner's thread.
#pragma once

#include "base/bytes.h"

#include <stdint.h>

namespace belfry {

struct conn;
struct shard;
struct route;

enum notify_type : uint8_t {
    notify_connected,
    notify_disconnected,
    notify_joined,
    notify_left,
    notify_occupied,
    notify_vacated,
    notify_type_count
};
const char *notify_type_name(notify_type t);

inline constexpr size_t notify_spool_max = 4 << 20; // bytes
inline constexpr size_t notify_batch_max = 256;     // events
inline constexpr uint64_t notify_delay_ms = 100;    // an event waits so long for company

// Nothing where the route wants none of that type, and for Belfry's own rooms (@...). `code`: disconnected's close
// code.
void notify_event(const conn *c, notify_type type, view room, int code);
void notify_room(shard *s, notify_type type, view room); // occupied, vacated: to all routes that want it

struct notifier; // shard::notifier
notifier *notifier_new(shard *s);
// A reload: the shard's settings are the new ones, `images` has what became of each route behind `old`; null: gone.
void notifier_adopt(notifier *n, const struct route *old, const struct route *const *images);
// All clients have gone: nothing waits for company any more, and what has failed is tried again each second, for
// notify_hurry_ms.
inline constexpr uint64_t notify_hurry_ms = 5000;
void notifier_hurry(notifier *n);
// The time is up: what is spooled goes out now, each batch gets one last try. Once; what comes later is sent at once.
void notifier_close(notifier *n);
bool notifier_idle(const notifier *n); // nothing spooled, nothing under way
// What is left is dropped, logged and counted.
void notifier_free(notifier *n);
struct notify_counters {
    uint64_t sent, dropped, retried, spooled;
};
notify_counters notifier_counters(const notifier *n);

} // namespace belfry
