// Where the primary is, by Redis Sentinel: asks one sentinel after the other, makes sure that what they name is a
// primary, and watches one of them for +switch-master.
//
// The links that use it (redis_locate) get the address last found. Each attempt of theirs to connect is a reason to ask
// again: a link that is well does not ask. Main thread.
#pragma once

#include "net/redis.h"

#include <string>
#include <vector>

namespace belfry {

struct redis_sentinel; // opaque; owns its links and its timer

struct redis_sentinel_settings {
    redis_settings primary;                // how to speak to the primary; host and port are not used
    std::vector<redis_settings> sentinels; // one at least
    std::string master_name;
};

// Starts asking; no callback comes before the loop turns. `changed`: the primary is known, or is another one: links
// that are elsewhere are of no use any more (redis_reconnect).
[[nodiscard]] redis_sentinel *redis_sentinel_new(loop *on, const redis_sentinel_settings *settings,
                                                 void (*changed)(void *context), void *context);
// After the links that are located by it. May not be called from one of its callbacks.
void redis_sentinel_free(redis_sentinel *s);
// For redis_locate; `context` is the redis_sentinel.
bool redis_sentinel_where(void *context, std::string *host, uint16_t *port);
// How often the primary became another one.
uint64_t redis_sentinel_switches(const redis_sentinel *s);

} // namespace belfry
