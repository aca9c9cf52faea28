// How a session reaches its client: by WebSocket, by server-sent events, by long polling. A table of functions that the
// connection's phase brings (conn_phase::transport), so that sessions, orders, hooks and expiry are the same for all
// three. Owner's thread.
#pragma once

#include "relay/conn.h"

namespace belfry {

struct transport_ops {
    const char *name; // for status: ws, sse, poll
    // Queues one message, text or binary (ws_opcode). A session whose queue is full is closed.
    void (*send)(conn *c, uint8_t opcode, view payload);
    // Our side of the end, with a close code and a reason of at most 123 bytes; `bye` may have been sent before. A
    // second call changes nothing.
    void (*close)(conn *c, uint16_t code, view reason);
    // The same for a reader that is too slow: what waits for it is dropped, and it is closed with 4413.
    void (*close_slow)(conn *c);
    // Whether a request of its own waits for the answer to what the client asked (a POST): then it has got it. Null
    // where answers are messages like any other.
    bool (*answer)(conn *c, bool has_id, int64_t id, int status, view payload);
};

// A session whose route has other limits since a reload looks at its clocks within so long: not all of them at once.
inline uint64_t transport_retune_ms(const conn *c) {
    return 100 + c->slot % 10 * 100;
}
// Null where the connection is no session (yet, or any more).
inline const transport_ops *transport_of(const conn *c) {
    return c->phase->transport;
}
inline void transport_send(conn *c, uint8_t opcode, view payload) {
    if (transport_of(c)) transport_of(c)->send(c, opcode, payload);
}
inline void transport_close(conn *c, uint16_t code, view reason) {
    if (transport_of(c)) transport_of(c)->close(c, code, reason);
}
inline void transport_close_slow(conn *c) {
    if (transport_of(c)) transport_of(c)->close_slow(c);
}
// Status 200 is an `ok`, else the error's code.
inline void transport_answer(conn *c, bool has_id, int64_t id, int status, view payload) {
    const transport_ops *t = transport_of(c);
    if (t && !(t->answer && t->answer(c, has_id, id, status, payload))) t->send(c, ws_text, payload);
}

} // namespace belfry
