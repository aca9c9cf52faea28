// What both of a worker's halves share: letters, orders that wait, the phase of connections on their way. Owner's
// thread.
#include "relay/handover_worker.h"

#include "relay/chain_move.h"
#include "relay/client.h"
#include "relay/message.h"
#include "relay/room.h"
#include "relay/transport.h"
#include "relay/websocket.h"

#include <unistd.h>

namespace belfry {

// ---------------------------------------------------------------- letters

handover_letter *handover_letter_new(handover_op op, uint8_t worker, conn_id who) {
    auto *l = new handover_letter{{letter_type::handover, worker}, op};
    l->who = who;
    return l;
}

void handover_letter_free(handover_letter *l) {
    if (l->fd >= 0) close(l->fd);
    if (l->bytes) frame_unref(l->bytes);
    for (message *m : l->replay)
        message_unref(m);
    delete l;
}

void handover_worker_letter(shard *s, handover_letter *l) {
    switch (l->op) {
    case handover_op::move:
    case handover_op::fenced:
    case handover_op::go:
    case handover_op::stay:
        return handover_departures_letter(s, l);
    case handover_op::install:
    case handover_op::told:
    case handover_op::start:
    case handover_op::drop:
        return handover_arrivals_letter(s, l);
    default:
        handover_letter_free(l); // the node's own
    }
}

// ---------------------------------------------------------------- orders

bool handover_worker_defers(shard *s, const conn *c, const order_letter *o) {
    std::vector<order_letter> *waiting = handover_departure_orders(s, c);
    if (!waiting) waiting = handover_arrival_orders(s, c);
    if (!waiting) return false;
    if (waiting->size() >= handover_orders_max) {
        mailbox_send(&s->outbox, &handover_letter_new(handover_op::overflow, s->index, conn_id_of(c))->head);
        if (o->op != order_op::disconnect) return true;
        waiting->pop_back(); // who is to go goes, whatever else it was to do
    }
    waiting->push_back(*o);
    order_letter *kept = &waiting->back();
    kept->by_room = kept->by_user = kept->all = false;
    kept->conn = conn_id_of(c);
    return true;
}

void handover_worker_free(shard *s) {
    handover_departures_free(s);
    handover_arrivals_free(s);
}

// ---------------------------------------------------------------- the phase

static void say(conn *c, uint8_t opcode, view payload) {
    char header[10];
    size_t n = ws_write_header(opcode, payload.size(), header);
    if (!conn_send(c, frame_join(view(header, n), payload))) c->open = false; // closed as too slow when it goes on
}

static void nothing(conn *) {}
static void no_end(conn *, const char *) {}
static void no_close(conn *, uint16_t, view) {}

// The process ends at once. In the old one the client has not gone anywhere yet; in the new one it is not ours.
static void ended(conn *c) {
    if (handover_departure_orders(c->on, c)) return websocket_phase.closed(c);
    while (c->rooms)
        room_forget(c->on, c->rooms);
}

static const transport_ops transport = {"ws", say, no_close, nothing, nullptr};

const conn_phase handover_phase = {"handover", nullptr, no_end, nothing, ended, nullptr, &transport};

void handover_forget_conn(conn *c) {
    while (c->rooms)
        room_forget(c->on, c->rooms);
    client_free(c);
    chain_forget(c);
    conn_vanish(c);
}

} // namespace belfry
