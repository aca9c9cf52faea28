// One client's connection, from accept to the freed slot: socket, output queue, deadline, rooms, and the phase that it
// is in. It lives and dies on one worker thread; every function here runs on that thread.
//
//   phase        reads                                  ends by
//   preface      the PROXY header, where one is due     -> arriving
//   arriving     nothing yet (TLS: the first byte)      -> tls, head
//   tls          the TLS handshake                      ok -> head; failure, deadline -> closed
//   head         the request head (admission.h)         101 -> session; proxied -> proxying; refusal -> lingering
//   proxying     a request's body (proxy.h)             answered -> head; an Upgrade -> tunnel
//   carrying     a message for another's session        answered -> head
//                (carrying.h)
//   session      WebSocket frames (websocket.h)         both Close frames, an error, a deadline -> lingering
//                nothing: server-sent events (sse.h)    the last event, an error, a deadline -> lingering
//                nothing, without a socket: long        the last batch, a deadline -> closed
//                polling (poll.h)
//   lingering    and throws away; our side is shut      end of file, deadline -> closed
//
// A phase is a table of functions; upper files bring theirs, so that nothing here knows them. A closed connection is
// freed at the end of the turn, so a pointer stays good until then.
#pragma once

#include "base/ip.h"
#include "net/outq.h"
#include "net/stream.h"
#include "net/wheel.h"
#include "proto/http1.h"
#include "proto/wsframe.h"
#include "relay/conn_id.h"
#include "relay/conn_slow.h"
#include "relay/message.h"
#include "relay/shard.h"

namespace belfry {

struct client;
struct conn_record;
struct exchange;
struct membership;
struct plain_session;
struct session_ops;
struct transport_ops;

struct conn_phase {
    const char *name; // for status and log
    // Takes what it can from [begin, end), returns where it stopped: the rest comes again with more behind it. May
    // change the bytes; frame_padding more are readable behind `end`. May close the connection or change its phase,
    // then returns at once.
    char *(*bytes)(conn *c, char *begin, char *end);
    void (*eof)(conn *c, const char *why); // the peer ended its side, or the stream failed
    void (*deadline)(conn *c);
    void (*closed)(conn *c);                  // the last call; may be null
    void (*flushed)(conn *c);                 // all that was queued is written; may be null
    const transport_ops *transport = nullptr; // borrowed, static; of a session's phase (transport.h)
    // The queue is about to be written: may add to it. False: it is not to be written, which the phase has seen to. May
    // be null.
    bool (*flushing)(conn *c) = nullptr;
    // conn_resume or conn_read_again was called: before anything is read. May be null.
    void (*again)(conn *c) = nullptr;
    // The route's limits are others now (a reload): what was derived from them is derived anew. May be null.
    void (*retuned)(conn *c) = nullptr;
};

// With 10,000 connections none is in cache when its turn comes, so what a delivery and its write touch is the first two
// cache lines: up to stream.wants, 128 bytes.
struct alignas(64) conn {
    struct outq outq;
    conn *next_dirty;        // borrowed
    shard *on;               // borrowed
    const conn_phase *phase; // borrowed, static
    frame *pong; // counted: the one Pong that waits behind conn_pongs_max or a full socket; a later one takes its place
    uint32_t limit;   // bytes of the queue at which conn_slow.h is asked
    uint8_t form;     // wire_form
    uint8_t pongs;    // queued since the output queue was last empty
    bool dirty : 1;   // in the shard's dirty list
    bool blocked : 1; // the socket was full: on_ready flushes when it is not
    bool open : 1;    // a session that takes deliveries
    bool closed : 1;
    bool paused : 1;         // not reading
    bool shut : 1;           // our side is shut down
    bool close_sent : 1;     // a Close frame is queued or written
    bool close_received : 1; // the peer's came
    bool crowded : 1;        // conn_slow_written is due when something was written
    bool tls_counted : 1;    // stands in shard::tls_under_way
    bool ping_waiting : 1;   // a Ping is out, unanswered
    bool answered : 1;       // the handshake got its answer (101 or a refusal)
    bool eof_seen : 1;       // the peer ended its side
    bool published : 1;      // something of its own may still come back from the node
    bool fencing : 1;        // waits for that before it closes
    bool resumed : 1;        // `rest` is to be fed even if the socket brings nothing
    struct stream stream;
    const session_ops *session;        // borrowed, static: json or raw
    const struct route *route;         // borrowed, in the settings
    const listener_settings *listener; // borrowed, in the settings
    struct timer timer;
    uint32_t slot;          // that its id names; in shard::conns, unless it has come from another process
    uint32_t room_count;    // memberships
    uint32_t rooms_waiting; // of them, not admitted yet
    uint32_t lingered;      // bytes thrown away
    uint64_t tag;
    link place;        // in one of the shard's lists, or alone
    membership *rooms; // owned
    buffer rest;       // bytes not used yet; no memory while idle
    buffer message;    // a message in several pieces; no memory while idle
    ws_parser parser;
    union {
        uint64_t message_received; // ws_parse's counter
        const char *fence_why;     // static: what was violated, where `fence_broken`; nothing is parsed any more
    };
    http1_scan scan;
    uint32_t send_queue; // bytes that may wait; of the route
    uint16_t fence_code;
    uint16_t holds;        // conn_hold without its conn_let_go yet
    uint16_t close_code;   // of the Close frame that was sent or received first
    bool over_limit : 1;   // accepted above max_connections: refused with 503
    bool served : 1;       // a request was answered and it stayed: silence is no refusal any more
    bool told : 1;         // was asked to leave (drain.h)
    bool fence_broken : 1; // a violation is answered behind the fence, and not the peer's Close
    uint8_t asking;        // lists of members that it has asked for and not got yet
    uint64_t opened_ms, heard_ms, spoke_ms, pinged_ms; // monotonic: accept, last byte, last data message, last Ping
    struct ip peer;                                    // the socket's, or what the PROXY protocol says
    struct exchange *exchange;                         // owned: the request that is looked at
    struct client *client;                             // owned: who this is, once anything is known
    void *modules;                                     // owned: chain.cc's block, the modules' state in it
    struct proxying *tunnel;                           // owned: an Upgrade that a backend has agreed to
    plain_session *plain;                              // owned: of a session without WebSocket
    slow_reader *slow;                                 // owned: null for who has been fast enough
    uint64_t blocked_ms;                               // monotonic: since when `blocked`
    conn_record *record;                               // owned: for the access log; null where there is none
};

static_assert(offsetof(conn, stream) + offsetof(stream, wants) < 128);
static_assert(sizeof(conn) == 448); // seven cache lines: doc/memory-budget.md

inline conn_id conn_id_of(const conn *c) {
    return {c->on->index, c->slot, c->tag};
}
// The client's host, for log and status; of a session behind trusted proxies, the one that they name.
struct ip_text conn_peer_text(const conn *c);
// A reload has taken its route or its listener out of the config: it is to be asked to leave.
inline bool conn_retired(const conn *c) {
    return c->listener->retired || (c->route && c->route->retired);
}
// It is to end with the request that is under way: nothing more is to be asked over it.
inline bool conn_leaving(const conn *c) {
    return c->on->draining || c->listener->retired;
}
// The connection of that id, or null.
conn *conn_find(shard *s, conn_id id);

// Takes over a new socket. Its first phase is `arriving`, then the shard's first_phase.
void conn_accept(shard *s, int fd, const struct sockaddr *peer, socklen_t peer_size, const listener_settings *listener);

// Splits the socket off: the connection goes on without one, as what it is (its id, client, rooms, modules); what comes
// back is a new connection that has the socket, what was read and what is still to be written, paused and in the phase
// given. Not from inside a phase's `bytes`.
[[nodiscard]] conn *conn_detach(conn *c, const conn_phase *phase);

void conn_set_phase(conn *c, const conn_phase *phase);
// `after_ms` from now; replaces the one before.
void conn_set_deadline(conn *c, uint64_t after_ms);

// Queues a frame; takes over the reference, also where it fails. False where send_queue would be exceeded, and on_slow
// can't help: nothing was queued, the caller closes the connection. For answers and control frames, in any phase.
[[nodiscard]] bool conn_send(conn *c, frame *f);
void conn_mark_dirty(conn *c);
// One write call; follows up on what it showed. Called by the flush at the end of the turn and when a full socket takes
// more.
void conn_flush(conn *c);

// No more deliveries: what is queued is written, then our side is shut down, a little is read and thrown away, then it
// is closed. A reset, which would eat a Close frame or a 4xx in flight, is so avoided (RFC 6455 section 7.1.1, RFC 9112
// section 9.6).
void conn_linger(conn *c);
// Closes at once.
void conn_abort(conn *c);

// ---- moving to another process (handover.h) ----

// Neither reads nor writes from here on; its queue takes what is delivered. conn_thaw undoes it. `blocked` is for
// conn_thaw, as `was_blocked`.
void conn_freeze(conn *c);
void conn_thaw(conn *c, bool was_blocked);
// It lives on elsewhere, with a duplicate of its socket: its memory goes, in silence. What upper nouns keep with it has
// gone before.
void conn_vanish(conn *c);
// The same from the other side: a connection with a socket and an id that it has had before, frozen. Null where another
// one has that id.
[[nodiscard]] conn *conn_arrive(shard *s, int fd, conn_id id, const listener_settings *listener);

// Stops reading; what was read already stays in `rest`. conn_resume goes on with it in the next turn.
void conn_pause(conn *c);
void conn_resume(conn *c);
// The same for who waits on behalf of this client and does not know who else does: reading goes on when each conn_hold
// had its conn_let_go; conn_resume changes nothing before.
void conn_hold(conn *c);
void conn_let_go(conn *c);
// Reads again next turn although the socket may not be readable.
void conn_read_again(conn *c);

// The worker's calls, once a turn.
bool conn_may_start(const shard *s);     // a TLS handshake waits, and max_handshakes lets it begin
void conn_start_waiting(shard *s);       // begins some of those
void conn_run_again(shard *s);           // those that conn_read_again named
void conn_bury(shard *s);                // frees what was closed in this turn
void conn_fire(timer *t, void *context); // the wheel's

// Queues a Pong: the first conn_pongs_max at once; then, or while the socket is full, only the latest waits (RFC 6455
// section 5.5.3 allows to answer the most recent Ping alone), so that a flood of Pings costs one frame.
inline constexpr uint32_t conn_pongs_max = 16;
void conn_pong(conn *c, frame *f);

// What a queue takes of send_queue: its bytes, and conn_frame_cost for each frame, since a frame of two bytes takes a
// hundred.
inline constexpr uint64_t conn_frame_cost = 96;
inline uint64_t conn_charge(const frame *f) {
    return f->size + conn_frame_cost;
}
inline uint64_t conn_queued(const conn *c) {
    return c->outq.bytes + c->outq.count * conn_frame_cost;
}

// A delivery: false where the reader is too slow, or the frame too large for it (the reference stays the caller's;
// conn_slow.h sees to the rest). Hot: 10,000 calls a message.
inline bool conn_deliver(conn *c, frame *f) {
    if (conn_queued(c) + conn_charge(f) > c->limit) [[unlikely]]
        return conn_deliver_slowly(c, f);
    outq_push(&c->outq, &c->on->chunk_slab, f);
    if (!c->dirty && !c->blocked) conn_mark_dirty(c);
    return true;
}

} // namespace belfry
