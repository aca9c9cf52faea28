// Sharded pub/sub in a cluster: each channel is subscribed (SSUBSCRIBE, Redis 7) at the primary that has its slot, over
// one link to each primary that has channels. A channel that its server lets go (the slot has moved, the primary died)
// is subscribed again where it belongs now, and told as `missed`: messages may have been lost in between.
//
// Main thread. Callbacks may come from within redis_shards_subscribe, _unsubscribe and _moved.
#pragma once

#include "net/redis_cluster.h"

namespace belfry {

struct redis_shards; // opaque; owns its links and channels

struct redis_shards_events {
    // From here on the channel's messages come (in), or no more (not in: it is forgotten).
    void (*confirmed)(view channel, bool in, void *context);
    // The server refuses it. It is forgotten; who wants it subscribes it again, later.
    void (*refused)(view channel, view why, void *context);
    // Subscribed again after it was not, for a while.
    void (*missed)(view channel, void *context);
    // A link with channels broke: redis_shards_whole is false until all of them are subscribed again.
    void (*down)(const char *why, void *context);
    void (*whole)(void *context);
    // smessage frames alone.
    void (*push)(redis *r, const redis_value *frame, void *context);
};

// `cluster` is borrowed and tells who has which slot; `settings` as its seed's.
[[nodiscard]] redis_shards *redis_shards_new(loop *on, const redis_settings *settings, redis_cluster *cluster,
                                             const redis_shards_events *events, void *context);
// Before the cluster; not from one of its callbacks.
void redis_shards_free(redis_shards *s);

// Answered by `confirmed` or `refused`, at once where it is subscribed already.
void redis_shards_subscribe(redis_shards *s, view channel);
// Answered by `confirmed`. Only for a channel that was confirmed, or that is waiting for it.
void redis_shards_unsubscribe(redis_shards *s, view channel);
// True where no channel that was confirmed waits to be subscribed again.
bool redis_shards_whole(const redis_shards *s);
// The cluster's slots have other owners (redis_cluster_events::moved).
void redis_shards_moved(redis_shards *s);
// Stops and starts reading, for back-pressure.
void redis_shards_pause(redis_shards *s, bool paused);

} // namespace belfry
