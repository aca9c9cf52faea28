// One connection to a backend: connects (TCP, unix, TLS), sends requests, hands out what comes back as it comes. It
// knows bytes and time only in so far as its owner asks: time-outs, retries and pools are the upstream's (relay).
//
// HTTP/1.1 without pipelining: one request at a time, then the link is idle or gone. One loop, one thread. Answers are
// parsed as strictly as requests (proto/http1.h, proto/http1_body.h).
#pragma once

#include "base/slab.h"
#include "net/address.h"
#include "net/outq.h"
#include "net/stream.h"
#include "proto/http1.h"
#include "proto/http1_body.h"

namespace belfry {

struct http_link;

enum class http_failure : uint8_t {
    connect,   // refused, unreachable, TLS failed: nothing was sent
    closed,    // the backend ended or reset the connection before its answer was complete
    malformed, // its answer is no strict HTTP/1.x
};

// Called on the loop. Any of them may call any function here, http_link_close included, but must not open the same link
// again, and the memory that holds it has to stay until the loop's callback has returned: the owner frees it by a
// `later` (net/later.h), or on another turn.
struct http_link_events {
    void (*connected)(http_link *l); // TLS included: may send
    // An answer's head, interim ones (1xx but 101) included. The views live until it returns. More than
    // http_link_interims_max interim ones are malformed. A 101 ends the link (malformed) unless http_link_tunnel is
    // called from within.
    void (*head)(http_link *l, const http1_response *r);
    void (*body)(http_link *l, view data); // a piece of the body (or, after http_link_tunnel, of the tunnel)
    // The answer is whole. http_link_reusable tells whether another request may follow; where not, the link is to be
    // closed. Trailers: http1_body_trailers.
    // Of a tunnel: the backend ended its side; nothing more comes, sending goes on until http_link_close.
    void (*end)(http_link *l);
    void (*failed)(http_link *l, http_failure what, const char *why); // also while idle: the link is to be closed
    // http_link_queued fell to http_link_low_water or below, after it was above. May be null.
    void (*drained)(http_link *l);
};

struct http_link {
    const http_link_events *events; // borrowed, static
    void *owner;                    // borrowed
    const char *host;               // borrowed until connected: for SNI
    tls_context *tls;               // counted until connected; null: plain
    struct stream stream;
    struct outq outq;
    slab *chunks; // borrowed: of outq_chunk
    buffer rest;  // an incomplete head, or what came while paused; no memory while idle
    http1_scan scan;
    http1_body body;
    view method;      // static or the owner's: of the request under way; it decides about the answer's body (HEAD)
    uint8_t state;    // of http_client.cc
    uint8_t interims; // 1xx answers seen
    bool paused : 1;
    bool keep_alive : 1;     // the answer lets it stay
    bool above_water : 1;    // drained is due
    bool tunnel : 1;         // raw bytes both ways
    bool request_done : 1;   // the whole request was queued
    bool blocked : 1;        // the socket is full, on_ready goes on when it is not
    bool broken : 1;         // it takes nothing more; an answer may still be there to be read
    bool again : 1;          // there is something to hand out though the socket may have nothing
    bool shut : 1;           // our side ends when the queue is written
    uint64_t received, sent; // bytes, of the request under way
    uint64_t requests;       // carried so far
};

// Bytes queued to the backend above which the owner stops reading from whoever they come from.
inline constexpr uint32_t http_link_high_water = 256 * 1024;
inline constexpr uint32_t http_link_low_water = 64 * 1024;
inline constexpr uint8_t http_link_interims_max = 100; // interim answers to one request

// Begins to connect; connected or failed comes from the loop, never from within this call. `tls` (counted) null: plain;
// `host` (NUL-terminated) for SNI and verification, must live until connected. False with a reason where not even a
// socket was to be had, or the kernel knows at once that nobody listens; the link is then closed. Any content of *l is
// overwritten.
[[nodiscard]] bool http_link_open(http_link *l, loop *on, slab *chunks, const address *to, tls_context *tls,
                                  const char *host, const http_link_events *events, void *owner, error *e);
// Begins a request on a connected, idle link: its answer comes to head, body, end. `method` must outlive the answer.
// May be called from within `end`, where http_link_reusable says so.
void http_link_begin(http_link *l, view method);
// Queues a piece of the request (takes over the reference); written at the end of this call if the socket takes it.
// Calls nothing back: a socket that fails is told from the loop, when no answer was to be read from it either.
void http_link_send(http_link *l, frame *f);
// The request is whole.
void http_link_request_done(http_link *l);
inline uint32_t http_link_queued(const http_link *l) {
    return l->outq.bytes;
}
// From within `head` with a 101: bytes go both ways as they are; what came behind the head already comes to `body` when
// `head` has returned.
void http_link_tunnel(http_link *l);
// Back-pressure: nothing is read and nothing handed out until resumed, what came already included. Resuming calls
// nothing back, the loop goes on.
void http_link_pause(http_link *l);
void http_link_resume(http_link *l);
// A whole answer was received to a whole request, and both sides keep the connection.
bool http_link_reusable(const http_link *l);
// Half-close (tunnels), once what is queued is written.
void http_link_shutdown(http_link *l);
// Closes, drops what is queued. Safe to call twice. No event comes afterwards.
void http_link_close(http_link *l);

} // namespace belfry
