// Hooks, contracts section 7: Belfry asks the backend by POST to the route's upstream, on the server that the client
// sticks to. Calls of one connection run one after the other, those of different ones side by side; a call that waits
// stops nobody but its own client. Owner's thread.
//
// Order: while a call that the client caused is under way, nothing more is read from this client, so what comes behind
// it can't overtake it, whether it needs a hook or not. Pings wait in the socket as well meanwhile; the keep-alive
// takes a connection that is not read for alive. hook_timeout bounds all of it.
#pragma once

#include "proto/hook_json.h"
#include "relay/client.h"
#include "relay/exchange.h"
#include "relay/hook_post.h"

namespace belfry {

// What came of a call. The views live until `done` returns.
struct hook_outcome {
    int status;         // 200: `answer` is filled in (204 too, empty); else what the client is told: the backend's 4xx
                        // (connect, refresh), 502 no answer, 503 too much under way, 504 too late
    hook_answer answer; // proto/hook_json.h
    view refusal;       // connect: the backend's body, at most 4 KB; empty where it is larger
    view refusal_type;  // its Content-Type
    const char *why;    // static, for the log
};

inline constexpr size_t hook_refusal_max = 4096;

struct hook_call {
    conn *on; // borrowed
    hook_event event;
    struct link place; // in client::calls
    struct hook_post post;
    // Once, unless the connection ended or got its Close before. The answer's state was stored already; its commands
    // and its disconnect are carried out afterwards, so that the client's answer comes first.
    void (*done)(hook_call *h, const hook_outcome *o);
    int64_t request_id; // the client's, for its answer
    bool has_id;
    bool echo;
    bool has_since; // join: names `since`
    struct position since;
    std::string room; // join, publish
    buffer data;      // owned: publish: what the client sent
};

// True where the route asks a backend at all.
bool hook_wanted(const conn *c);

// Makes a call; its request body is to be written into hook_body by proto/hook_json.h.
hook_call *hook_new(conn *c, hook_event event, void (*done)(hook_call *, const hook_outcome *));
inline buffer *hook_body(hook_call *h) {
    return &h->post.body;
}
// Who asks: views into the connection's client and `id`.
hook_asker hook_asker_of(const conn *c, conn_id_text *id);
// Queues the call behind this client's others; takes over `h`. But for a refresh, reading of this client stops until it
// is done.
void hook_send(hook_call *h);
// The connect hook, before there is a session: with the client's own Cookie, Authorization, Origin, User-Agent,
// Accept-Language and X-Forwarded-*. x->connect until `done`, which may end the exchange. An answer with `disconnect`
// is a refusal, 403; its commands are carried out before the client is in any room.
void hook_connect(exchange *x, void (*done)(hook_call *, const hook_outcome *));
// Drops it, whatever its state; no `done`.
void hook_cancel(hook_call *h);
// Drops all of a connection's, at its end.
void hook_cancel_all(conn *c);

} // namespace belfry
