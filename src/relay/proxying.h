// What a proxied request is while it runs: the client's connection on one side, an upstream call on the other. Shared
// by the nouns of the proxy (proxy, proxy_body, proxy_answer, tunnel); nobody else looks inside. Owner's thread.
//
//   made by proxy_start -> waits for a link (a small body is kept meanwhile) -> head and body go to the backend
//     -> its answer goes to the client -> all queued (finishing: until a long queue is written) -> exchange answered
//   a 101: conn->tunnel owns it from here on, the exchange is gone
#pragma once

#include "proto/http1_body.h"
#include "proto/wsboundary.h"
#include "relay/exchange.h"
#include "relay/hold_field.h"
#include "relay/publish_field.h"
#include "relay/upstream.h"

namespace belfry {

// Bytes of a request's content that are kept: for the link to come, and for another try.
inline constexpr size_t proxy_kept_max = 65536;
// Bytes queued to a client above which nothing more is read from the backend.
inline constexpr uint64_t proxy_high_water = 256 * 1024;
// conn->send_queue: the above, and what one read of the backend may bring, with heads and chunk lines.
inline constexpr uint32_t proxy_send_queue = 1 << 20;
// An answer of which the client has more than this still to read waits for it before the connection goes on.
inline constexpr uint64_t proxy_left_over = 65536;
// ms in which a client that is sent something has to read something.
inline constexpr uint64_t proxy_stall_ms = 60000;

struct proxying {
    conn *on;    // borrowed
    exchange *x; // borrowed; null in a tunnel
    upstream_call call;

    // The request.
    http1_body in;         // owned: its body as it comes
    buffer kept;           // owned: content for the link to come, or for another try; no memory once it's of no use
    uint64_t in_bytes;     // of content so far
    uint64_t window_bytes; // of them, when the window of min_body_rate began
    uint64_t window_ms;    // monotonic: when that was
    uint64_t clock_ms;     // monotonic: since when the body is read again; silence before it is no fault
    http1_body_kind body;  // towards the backend
    bool in_done : 1;      // the request is whole
    bool continued : 1;    // 100 Continue was sent
    bool kept_all : 1;     // `kept` has all of the content so far: the request can be written again

    // The answer.
    bool head_out : 1;      // its head is queued
    bool keep_alive : 1;    // what was promised to the client
    bool paused : 1;        // the call is: the client has enough to read
    bool finishing : 1;     // all is queued, the call is over
    bool over : 1;          // the call is
    http1_body_kind answer; // towards the client
    uint64_t out_bytes;     // queued or written to the client
    uint64_t seen_written;  // of them, written when last looked at
    uint64_t progress_ms;   // monotonic: when that grew
    publish_field *publish; // owned; null: the answer is no publish
    hold_field *hold;       // owned; null: the answer is no held stream

    // The tunnel.
    ws_boundary boundary; // owned: of the backend's frames
    uint64_t heard_ms;    // monotonic: the backend's last byte
};

// The request's head is on its way to a backend: between two attempts, and before the first, there is no link.
inline bool proxying_linked(const proxying *p) {
    return p->call.link && p->call.sent && !p->over;
}
inline uint64_t proxying_now(const proxying *p) {
    return p->on->on->loop->clock.monotonic_ms;
}

// Cancels the call where it isn't over, frees all.
void proxying_free(proxying *p);
// Refuses the request as a whole answer, where none has begun; else the connection is reset. *p is gone afterwards.
void proxying_refuse(proxying *p, int status, refuse_reason reason, view why);
// Resets the connection, so that nobody takes what was sent for whole (a bare end of file is how an HTTP/1.0 answer
// ends). *p is gone afterwards.
void proxying_reset(conn *c);

// Bytes on their way through: straight from the thread's receive buffer to the other socket where nothing waits before
// them, only what it doesn't take is copied and queued. So a piece costs one write, like a queued one, but no copy.
// False: the client's socket is broken, or its queue overflows; the caller ends the connection.
[[nodiscard]] bool proxying_to_client(conn *c, const view *pieces, int count);
void proxying_to_backend(http_link *l, const view *pieces, int count);
inline constexpr int proxying_pieces_max = 4;

// True where the client's socket is broken, rather than half-closed.
bool proxying_client_dead(const conn *c);

} // namespace belfry
