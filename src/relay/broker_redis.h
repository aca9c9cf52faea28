// What others than the node may do over the Redis broker's connections: presence, the nodes' leases, the command
// stream. Nobody else opens a connection for a command that does not block. Main thread; only for a broker that
// broker_redis_new made.
#pragma once

#include "net/redis_cluster.h"
#include "relay/broker.h"
#include "relay/redis_scripts.h"

#include <string>

namespace belfry {

// Sends one command for `key`, which is the argument that a cluster routes it by (empty: any node will do). `reply` may
// be null; it is called once, at the latest while the broker is freed, with null where the link broke before the answer
// came; its first argument is of no use to it. False: out of reach or its queue is full, nothing was sent.
[[nodiscard]] bool broker_redis_command(broker *b, view key, int argc, const view *argv, redis_reply reply,
                                        void *context, uint64_t tag);

// Runs a script: `words` are its keys, `key_count` of them and all of one slot, one at least, then its arguments; they
// are copied. Sends the text where the server does not know the script (any more). The rest as above; also false where
// scripts with 64 MiB of words wait for their answers.
[[nodiscard]] bool broker_redis_run(broker *b, redis_script script, int key_count, int word_count, const view *words,
                                    redis_reply reply, void *context, uint64_t tag);

// A link of the caller's own to where `key` lives, for commands that block: it follows the primary and the slot. The
// broker is there before it and after it.
[[nodiscard]] redis *broker_redis_link(broker *b, const char *name, view key, const redis_events *events,
                                       void *context);
void broker_redis_link_free(broker *b, redis *link); // as redis_free
// A reply on it was an error that says that this is not the server, or not now: MOVED, ASK, CLUSTERDOWN, READONLY,
// LOADING. Who else it could be is found out; where it is another one, the link goes down and comes back there. Until
// then the caller asks again, with a wait.
void broker_redis_link_misled(broker *b, redis *link);

struct redis_place_counters {
    redis_cluster_counters cluster;
    uint64_t switches; // of the primary, by Sentinel
};
// False where there is neither cluster nor Sentinel.
bool broker_redis_counters(const broker *b, struct redis_place_counters *out);

// "{ROOM}": a room's keys contain it, so that they are in one slot of a cluster. Of a name that begins with "}", which
// would be no tag, it is "{ }ROOM".
std::string broker_redis_tag(view room);

} // namespace belfry
