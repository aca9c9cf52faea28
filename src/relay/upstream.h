// An upstream as one worker thread sees it: servers with their health and load, keep-alive links, and the calls that
// run over them. Proxying, tunnels, hooks and health checks all reach backends by an upstream_call. Owner's thread;
// what servers' health is told between threads goes by the atomics in upstream_shared.
#pragma once

#include "net/deadline.h"
#include "net/http_client.h"
#include "relay/balancer.h"
#include "relay/settings.h"

#include <atomic>

namespace belfry {

struct shard;
struct upstream; // this worker's half of an [upstream]; upstream.cc

enum class upstream_failure : uint8_t {
    no_server,     // all are down or draining: 502
    queue_full,    // max_inflight and the queue: 503
    queue_timeout, // waited queue_timeout for max_inflight: 503
    connect,       // no server could be reached: 502
    timeout,       // connect_timeout or read_timeout passed: 504
    closed,        // ended before its answer was whole: 502
    malformed,     // no strict HTTP: 502
};
const char *upstream_failure_name(upstream_failure f);
int upstream_failure_status(upstream_failure f);

struct upstream_call;

struct upstream_call_ops {
    // A link is ready, the request is to be written on it by http_link_begin, http_link_send, http_link_request_done,
    // all of it or its first part. Called again on another server where the first was given up and the call may be
    // repeated. Never called from within upstream_call_start.
    void (*ready)(upstream_call *c);
    void (*head)(upstream_call *c, const http1_response *r); // interim ones included; a 101 as any other
    void (*body)(upstream_call *c, view data);
    // The answer is whole; the link goes back to the pool (or is closed) when this returns, the call is over.
    void (*end)(upstream_call *c, view trailers);
    // The call is over. `answered`: the head was handed out already.
    void (*failed)(upstream_call *c, upstream_failure why, bool answered);
    void (*drained)(upstream_call *c); // http_link_queued fell below low water; may be null
};

// Embedded in its owner, which lives until end, failed or upstream_call_cancel.
struct upstream_call {
    const upstream_call_ops *ops;   // borrowed, static
    struct upstream *of;            // borrowed
    http_link *link;                // borrowed while the call runs; null while it waits
    struct upstream_server *server; // borrowed, ditto
    struct link place;              // in the upstream's queue or the server's list
    struct deadline deadline;       // the phase's time-out
    uint64_t hash;                  // of the key; which server the ring names
    uint64_t tried;                 // bits: servers that failed this call
    uint64_t started_ms;
    uint64_t active_ms;       // the backend was last heard
    uint64_t sent_seen;       // bytes of the request that the socket had taken at the last look
    uint32_t read_timeout_ms; // 0: the upstream's
    uint8_t attempts;         // servers tried so far
    uint8_t state;            // of upstream.cc
    upstream_failure reason;  // of the last attempt
    bool has_key : 1;         // sticky: by the ring; else smooth weighted round-robin
    bool safe : 1;            // may be repeated though the server may have seen it
    bool sent : 1;            // the request was handed to this link
    bool answered : 1;        // the final head was handed out
    bool tunnel : 1;          // no time-outs, the link is never reused
    bool trial : 1;           // the server is out and gets this call to see
    bool fresh : 1;           // a kept link turned out to be gone: a new one this time
    bool paused : 1;
    bool other_address : 1; // one address of the server failed already
};

// Starts the call; what *c held is overwritten (read_timeout_ms is to be set afterwards). `key`: what sticky hashing
// goes by (borrowed for the call of this function); null or empty: none, as with nginx. Any outcome comes from the
// loop.
//
// Another server gets the call where none was reached; and where the connection ended before a byte of an answer,
// if `safe` or the socket had taken no byte of the request. A kept link that ended so is tried again on a new one,
// and is not held against the server. At most servers + 1 attempts. A time-out or a malformed answer is final.
void upstream_call_start(upstream_call *c, upstream *u, const upstream_call_ops *ops, const view *key, bool safe);
// The owner loses interest: no event comes any more; the link is closed unless the answer was whole. In any state, also
// of a call that is over or never began (all zero).
void upstream_call_cancel(upstream_call *c);
// From within `head` with a 101 (one that is not taken up so fails the call): bytes both ways until either side ends;
// `body` gets the backend's, `end` comes when it ended its side in order, `failed` when it broke. Does not count for
// max_inflight any more.
void upstream_call_tunnel(upstream_call *c);
// The answer's time-out starts anew by itself with a head and with every piece of a body (not with every byte of a
// head: one that drips ends in time); while the owner has paused the link for its own reasons it stands still. It also
// waits for the end of the request while that makes progress or the owner has nothing to send.
void upstream_call_pause(upstream_call *c);
void upstream_call_resume(upstream_call *c);

// ---- the worker's: made once per [upstream] and worker, in settings order; freed when all calls are over.
// `settings`: those that `shared` has a copy of, borrowed for the call.
upstream *upstream_new(shard *on, const upstream_settings *settings, struct upstream_shared *shared);
// Cancels nothing: calls must be over. Closes idle links.
void upstream_free(upstream *u);
// For responses that say so (429/503 do not count as failures; 502, 504 neither).
const upstream_settings *upstream_settings_of(const upstream *u);

// ---- the worker's, at a reload.
// The same settings once more, with another TLS context, perhaps (the CA file was read again): new links use it.
void upstream_aim(upstream *u, const upstream_settings *now);
// What `from`, which `to` replaces, keeps for servers that are the same.
void upstream_take_idle(upstream *to, upstream *from);
// Replaced: what runs and waits goes on, idle links are closed. Once upstream_over, it is to be freed.
void upstream_retire(upstream *u);
bool upstream_over(const upstream *u);

// ---- the process's: one per [upstream], shared by the workers. Main thread makes and frees it.
// Addresses (re-resolved in the background on the main loop, the last good ones kept), active health, totals.
// `deadlines` is a wheel of struct deadline.
//
// Health. Passive: max_fails failures within fail_timeout take a server out for fail_timeout, then one call is the
// trial that brings it back or not. Where all are out, a call tries one of them all the same. Active (health_check):
// two failed checks in a row take it out, one good one (2xx, 3xx) brings it back, from a passive outage too. Over
// slow_start a server that came back is given a growing share.
//
// Keeps a copy of its settings: they need not outlive the call.
upstream_shared *upstream_shared_new(loop *main_loop, wheel *deadlines, const upstream_settings *settings);
// At a reload. aim: as upstream_aim. inherit: health and addresses of the servers with the same text; before workers
// know `to`. retire: replaced; no more checks, and names are not looked up again. Once over (no worker has its half any
// more) it is to be freed.
void upstream_shared_aim(upstream_shared *u, const upstream_settings *now);
void upstream_shared_inherit(upstream_shared *to, const upstream_shared *from);
void upstream_shared_retire(upstream_shared *u);
bool upstream_shared_over(const upstream_shared *u);
// After the workers' halves. Where upstream_shared_resolves, the loop has to turn for resolve_linger_ms afterwards
// before all memory is back.
void upstream_shared_free(upstream_shared *u);
bool upstream_shared_resolves(const upstream_shared *u);
// {"name":...,"servers":[{"server","state":"up|down|draining|starting","weight","backup","inflight","requests",
// "failures","idle","addresses":[...]}],"running":n,"queued":n,"queue_full":n,"queue_timeouts":n}, and with a key
// "key_server": the one that it gets now, or null. Main thread, while the workers run.
void upstream_status_write(const upstream_shared *u, const view *key, buffer *out);

// The same as numbers. Views live as long as the upstream.
struct upstream_server_status {
    view server;
    const char *state; // static
    uint64_t inflight, requests, failures, idle;
};
struct upstream_status {
    view name;
    uint64_t running, queued, queue_full, queue_timeouts;
    std::vector<upstream_server_status> servers;
};
[[nodiscard]] upstream_status upstream_status_of(const upstream_shared *u);

} // namespace belfry
