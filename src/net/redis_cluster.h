// Redis Cluster: who has which slots, one link to each primary, and each command sent to the primary that has its key's
// slot. What a cluster answers when slots move or a primary dies is dealt with here: MOVED and ASK are followed, at
// most five times; TRYAGAIN and CLUSTERDOWN repeated with a back-off, for four seconds; a command on a link that broke
// fails, since nobody knows whether it was carried out.
//
// Main thread. No callback comes from within a call, but for redis_cluster_free's null replies.
#pragma once

#include "net/redis.h"
#include "proto/cluster_slots.h"

namespace belfry {

struct redis_cluster; // opaque; owns its links, commands and timers

struct redis_cluster_events {
    // Every slot has an owner, and the link to each owner is ready.
    void (*ready)(void *context);
    // Was so and is not any more.
    void (*down)(const char *why, void *context);
    // Some slot has another owner: what was placed by redis_cluster_where may be in the wrong place.
    void (*moved)(void *context);
};

// `seed`: a node that is asked first for the others; user, password, TLS and time-outs hold for all of them.
[[nodiscard]] redis_cluster *redis_cluster_new(loop *on, const redis_settings *seed, const redis_cluster_events *events,
                                               void *context);
// Commands that wait for an answer get their reply callback with null. Not from one of its callbacks.
void redis_cluster_free(redis_cluster *c);
bool redis_cluster_ready(const redis_cluster *c);

// Sends one command to the owner of `key`'s slot (empty: of slot 0), copying its words. `reply` (may be null) is called
// once, null where nobody knows what became of it; its first argument is of no use. Commands for one slot stay in order
// while none of them is redirected or repeated. False (nothing sent): not ready, or 64 MiB or a million of them wait
// already.
[[nodiscard]] bool redis_cluster_command(redis_cluster *c, view key, int argc, const view *argv, redis_reply reply,
                                         void *context, uint64_t tag);

// The map is asked for again, at most once a second. For who meets a sign that it is old.
void redis_cluster_refresh(redis_cluster *c);
// MOVED was the answer to somebody else: the slot is that node's.
void redis_cluster_hint(redis_cluster *c, uint16_t slot, const cluster_node *owner);
// Valid until the loop comes round.
const cluster_map *redis_cluster_map(const redis_cluster *c);
// Null where the slot has no owner.
const cluster_node *redis_cluster_owner(const redis_cluster *c, uint16_t slot);

// For redis_locate: a link that goes to one slot's owner, or to any primary, another one at each attempt.
struct redis_cluster_place {
    redis_cluster *cluster; // borrowed
    bool anywhere;
    uint16_t slot;
    size_t next; // anywhere: which primary is tried next
};
bool redis_cluster_where(void *place, std::string *host, uint16_t *port);
// True where the link is not where the place is now.
bool redis_cluster_misplaced(const redis_cluster_place *place, const redis *link);

struct redis_cluster_counters {
    uint64_t redirects, retries, refreshes;
};
redis_cluster_counters redis_cluster_count(const redis_cluster *c);

} // namespace belfry
