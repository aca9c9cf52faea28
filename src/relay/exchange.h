// One HTTP request on a client's connection while it is looked at: the head that was parsed, what was found out about
// who sent it, where the chain of modules stands, what its answer will carry besides. Made when the head is whole; gone
// when the 101 is out (rooms), the answer is through (proxy), or the connection ends. One at most a connection, of its
// thread's slab.
//
//   head whole -> route -> handshake_check -> chain (may wait) -> rooms: admission joins and answers 101
//                                                              -> proxy: proxy.h takes over
//                                                              -> tunnel: proxy.h too, the 101 is the backend's
#pragma once

#include "base/ip.h"
#include "module.h"
#include "proto/handshake.h"
#include "proto/http1.h"
#include "relay/conn.h"

namespace belfry {

struct exchange;
struct carrying;
struct hold_field;
struct hook_call;
struct proxying;

// What a client of a rooms route without WebSocket asks for (plain_request.h).
enum plain_request : uint8_t {
    plain_ask_none,
    plain_ask_events,    // a session of server-sent events
    plain_ask_session,   // a session of long polling
    plain_ask_poll,      // what came for it since
    plain_ask_post,      // a message of a session
    plain_ask_preflight, // CORS, before one of those
};

enum class chain_result : uint8_t { pass, deny, wait };

// A copy of a module's verdict; `reason` is static or lives until resumed.
struct chain_verdict {
    int status;
    uint32_t retry_after_s;
    uint16_t close_code;
    uint32_t pause_ms;
    view reason;
    const char *module; // who said so; static
};

// What lower nouns tell the one that leads the exchange (admission.cc): upward calls without upward includes.
struct exchange_events {
    // The chain's wait is over (from the worker's turn).
    void (*chained)(exchange *x, chain_result result, const chain_verdict *v);
    // The route's connect hook is to be asked, once all modules have passed. False: the route has none, or it was said
    // before.
    bool (*ask_backend)(exchange *x);
    // Refuses the request as a whole HTTP answer: logged, counted; the connection lingers, the exchange is freed.
    // `extra`: field lines or empty.
    void (*refuse)(exchange *x, int status, refuse_reason reason, view why, view extra);
    // The answer to a proxied request is through (all of it queued): `keep_alive` waits for the next one (bytes of it
    // may stand in conn->rest), else the connection lingers. Frees the exchange.
    void (*answered)(exchange *x, bool keep_alive);
    // A backend has made the request a held stream of events. Takes the field over.
    void (*held)(exchange *x, hold_field *h) = nullptr;
};

struct exchange {
    conn *on;                      // borrowed
    const exchange_events *events; // borrowed, static
    buffer head;                   // owned: the bytes that `request` looks at
    buffer path;                   // owned: normalised, what routes and modules see
    handshake hello;               // of websocket and tunnel
    enum belfry_kind kind;
    plain_request plain;
    ip client;      // behind trusted proxies
    bool trusted;   // the socket's peer is a trusted proxy: its X-Forwarded-* are passed on
    bool secure;    // https at the client's end
    bool waiting;   // for host->resume
    bool chained;   // the first module's handshake was called: close is due
    bool to_ask;    // a module wants the connect hook to be asked
    bool asked;     // it was
    bool client_js; // answered here, to everybody
    bool has_sticky;
    uint8_t sticky_size;
    uint8_t request_id_size; // 0: not made yet
    bool told;               // the access log has its line, or will have it from the session
    uint16_t status;         // of the answer that is on its way to the client; 0: none yet
    uint32_t next_module;    // the chain goes on here
    buffer fields;           // owned: field lines for the answer, each with its CRLF
    buffer claims;           // owned: a verified token's claims as JSON, for the connect hook
    hook_call *connect;      // owned while the connect hook runs
    proxying *proxy;         // owned while proxied
    carrying *carried;       // owned while it waits for another connection's answer
    uint64_t started_ms;     // monotonic: the head was whole
    uint64_t sent;           // bytes of the answer, once it is over or cut off
    const char *cut_why;     // static: why it was cut off, where that is known
    buffer server;           // owned: of an upstream, that was asked last; for the access log alone
    char request_id[128];    // exchange_request_id
    char sticky[255];        // what sticky hashing goes by
    http1_request request;   // views into head; last, and its unused fields uninitialised
};

// In the worker's slab; conn->exchange is set. `q` was parsed from `head` and is copied.
exchange *exchange_new(conn *c, const exchange_events *events, const http1_request *q, view head);
// Frees its memory alone: who leads it has cancelled what it waits for. conn->exchange is null afterwards.
void exchange_free(exchange *x);

// What marks the request on its way, in logs and backends alike: the client's X-Request-Id where it is a valid one,
// else one of our own, of 32 digits.
view exchange_request_id(exchange *x);

inline view exchange_sticky(const exchange *x) {
    return view(x->sticky, x->sticky_size);
}
// "https" or "http", as the client sees it.
inline view exchange_scheme(const exchange *x) {
    return x->secure ? "https" : "http";
}

} // namespace belfry
