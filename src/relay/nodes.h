// Which nodes there are on this Redis, and who is alive: every node holds a lease, PREFIXnode:ID, that ends by itself
// when nobody renews it, and stands in the set PREFIXnodes. Each node looks at all leases every two seconds; of a node
// without one, a single other node tidies up (it takes PREFIXnode:ID:lost), so that what a killed node has left behind
// is gone 12 s after the kill. Main thread.
//
// What is found in Redis is not trusted: names that are no node ids are passed over, and there are nodes_max at most.
#pragma once

#include "net/redis.h"
#include "relay/broker.h"
#include "relay/conn_id.h"

#include <string>

namespace belfry {

struct nodes;

inline constexpr uint64_t nodes_lease_ms = 10000;
inline constexpr uint64_t nodes_look_ms = 2000;        // renewals of the own lease, looks at the others'
inline constexpr uint64_t nodes_tidy_ms = 30000;       // for tidying up behind a lost node; then another one may try
inline constexpr uint64_t nodes_remember_ms = 3600000; // that a node which comes back learns that it was taken for lost
inline constexpr size_t nodes_max = 1024;

// Sends a command to where Redis keeps `key`; false: out of reach, no answer will come. As broker_redis_command.
using nodes_command = bool (*)(broker *over, view key, int argc, const view *argv, redis_reply reply, void *context,
                               uint64_t tag);

// Each may be null. `id` lives until the function returns.
struct nodes_events {
    void (*joined)(void *context, view id); // another node is alive
    void (*left)(void *context, view id);   // it was, and is not any more
    // It is lost, and this node has the task to tidy up behind it: nodes_tidied when that is done.
    void (*tidy)(void *context, view id);
    // The own lease had ended: Redis has lost its data, or (`taken_for_lost`) another node has tidied up behind us.
    void (*back)(void *context, bool taken_for_lost);
};

struct nodes_counters {
    uint64_t looks, lost, tidied, back;
};

// `own`: this node's id. `over` and what `events` names are borrowed.
[[nodiscard]] nodes *nodes_new(broker *over, nodes_command send, view prefix, view own, const nodes_events *events,
                               void *context);
// The broker is freed first, so that no answer comes any more.
void nodes_free(nodes *n);
// Renews and looks, where it is time. Once a turn.
void nodes_turn(nodes *n, uint64_t now_ms);
// The broker works again: looks in the next turn. For a lease's time after it nobody is taken for lost, since others
// may not have been able to renew theirs either.
void nodes_up(nodes *n);
// Nothing is left of that node.
void nodes_tidied(nodes *n, view id);
// This node ends in order: its lease goes at once, and nobody has to tidy up.
void nodes_leave(nodes *n);
// Redis has heard of it, or can't be told.
[[nodiscard]] bool nodes_has_left(const nodes *n);

// The others that are alive, in the order of their coming.
void nodes_each(const nodes *n, void (*visit)(view id, void *context), void *context);
[[nodiscard]] bool nodes_alive(const nodes *n, view id);
size_t nodes_count(const nodes *n); // of those
nodes_counters nodes_count_of(const nodes *n);

} // namespace belfry
