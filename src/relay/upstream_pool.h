// One worker's half of an upstream: its servers as this thread sees them, the links that are kept, which server the
// next call gets. Of the worker's thread, but for the numbers, which the main thread reads.
#pragma once

#include "net/later.h"
#include "relay/shard.h"
#include "relay/upstream_shared.h"

namespace belfry {

// Written by one thread, read by the main thread.
struct upstream_number {
    std::atomic<uint64_t> value;
};
inline void number_add(upstream_number *n, int64_t change) {
    n->value.store(n->value.load(std::memory_order_relaxed) + static_cast<uint64_t>(change), std::memory_order_relaxed);
}
inline uint64_t number_get(const upstream_number *n) {
    return n->value.load(std::memory_order_relaxed);
}

struct upstream_server {
    shared_server *shared; // borrowed
    uint8_t index;
    struct link idle;      // of pooled_link::place, the one used last at the end
    uint32_t address_next; // they take turns
    resolve_state resolved;
    std::vector<address> addresses; // copied from shared
    int64_t balance;                // of the smooth weighted round-robin
    upstream_number inflight, requests, failures, kept;
};

struct upstream {
    shard *on;                         // borrowed
    const upstream_settings *settings; // borrowed: shared's
    upstream_shared *shared;           // borrowed
    tls_context *tls;                  // counted: for new links; null: plain
    bool retired;                      // replaced by a reload: links are closed behind their calls
    upstream_server *servers;          // owned array
    uint32_t count;
    uint64_t primary, backup; // bits: servers that may get something new
    uint64_t generation;      // of the addresses that were copied
    struct later later;       // what must not happen within the call that causes it
    struct link waiting;      // calls: for max_inflight
    struct link due;          // calls: to be given a link
    struct link over;         // calls: to be told that they failed
    struct link resolving;    // calls: for the first address
    struct deadline poll;     // for those
    struct link buried;       // of pooled_link::place: closed, to be freed
    upstream_number running, queued, queue_full, queue_timeouts;
};

struct pooled_link {
    http_link http;
    struct link place;       // in the server's idle or in buried
    deadline expiry;         // of an idle one
    upstream *of;            // borrowed
    upstream_server *server; // borrowed
    upstream_call *call;     // borrowed; null: idle
    bool kept;               // it has carried a call before
};

// The server for the call's next attempt, or -1. Sets call->trial.
int upstream_pick(upstream *u, upstream_call *c);
// Copies the addresses where they changed.
void upstream_refresh(upstream *u);

// The link that was idle for the shortest time, or null.
pooled_link *pool_take(upstream_server *s);
// A new one that begins to connect, null with a reason.
pooled_link *pool_open(upstream *u, upstream_server *s, const http_link_events *events, error *e);
// After an answer: kept where it may be, else discarded.
void pool_put(pooled_link *l);
// Closes it; its memory goes from the loop, so this may be called from its own callback.
void pool_discard(pooled_link *l);
// Frees what was discarded. Not from a link's callback.
void pool_bury(upstream *u);

// What upstream.cc does in its `later`, and when its `poll` fires.
void upstream_work(later *l);
void upstream_look(deadline *d);

} // namespace belfry
