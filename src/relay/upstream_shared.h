// What the workers' halves of an upstream have in common: servers' health in atomics, their addresses behind a lock
// that is taken only when they changed, and the rings, which never change. Made and freed on the main thread; what is
// any thread's says so.
#pragma once

#include "net/resolve.h"
#include "relay/shard.h"
#include "relay/upstream.h"

#include <mutex>

namespace belfry {

struct server_check; // upstream_health.cc

// Any thread. Two workers that write at once lose a failure or a moment, no more.
struct server_health {
    std::atomic<uint32_t> fails;         // since window_ms
    std::atomic<uint64_t> window_ms;     // when the first of them was
    std::atomic<uint64_t> out_until_ms;  // 0: in; else out, and from then on the next call is a trial
    std::atomic<uint64_t> back_since_ms; // for slow_start; 0: was never out
    std::atomic<bool> sick;              // by the active checks
};

enum class resolve_state : uint8_t { asked, known, failed };

struct shared_server {
    upstream_shared *of;             // borrowed
    const server_settings *settings; // borrowed
    server_health health;

    std::mutex lock; // guards the two below; taken by a worker when the generation moved
    resolve_state resolved;
    std::vector<address> addresses;

    // Main thread.
    resolve *resolving;    // owned; null: none under way
    deadline resolve_next; // when to ask again
    server_check *check;   // owned; null: no active checks
};

struct upstream_shared {
    loop *on;                          // borrowed
    wheel *deadlines;                  // borrowed
    const upstream_settings *settings; // owned: a copy, which no reload changes; without scopes
    tls_context *tls;                  // counted: what the checks use now; null: plain. Main thread
    shared_server *servers;            // owned array
    uint32_t count;
    std::atomic<uint64_t> generation; // of the servers' addresses
    balancer_ring *primary, *backup;  // owned
    // Borrowed; null: none. Each is written by its worker; the main thread looks into the halves of upstreams that are
    // not retired, which stay.
    std::atomic<upstream *> workers[shards_max];
    std::atomic<uint32_t> halves; // that were made and are not freed yet
    bool retired;                 // main thread: replaced by a reload
    slab chunks;                  // of the checks' links
};

// ---- health, any thread; `now` is a loop's monotonic_ms.

// Gets nothing now.
bool server_out(const shared_server *s, uint64_t now);
// A call is about to go to a server that is not out (or is `forced`, all being out). False: it waits for its trial,
// which somebody else has taken. *trial: this call is it.
[[nodiscard]] bool server_enter(shared_server *s, uint64_t now, bool forced, bool *trial);
void server_failed(shared_server *s, uint64_t now, bool trial);
// The trial was given up before its end, by who had asked: the next call is the trial.
void server_untried(shared_server *s, uint64_t now);
// The trial was answered.
void server_back(shared_server *s, uint64_t now);
// The share of its weight that slow_start gives it, in thousandths: 10 to 1,000.
uint32_t server_ramp(const shared_server *s, uint64_t now);

// The server among these (bits) that sticky hashing names for the key's hash, primary ones before backups; -1: none. Of
// a server that starts slowly, each key takes one moment to move to it: none goes to and fro. Any thread.
int upstream_server_of_key(const upstream_shared *u, uint32_t hash, uint64_t among, uint64_t now);

// ---- the active checks, main thread; upstream_health.cc.
server_check *server_check_new(shared_server *s);
void server_check_free(server_check *c);

} // namespace belfry
