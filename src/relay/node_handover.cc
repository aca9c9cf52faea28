// Handovers as the node sees them: which half something is for, and orders for connections that are elsewhere. Main
// thread.
#include "relay/handover.h"

#include "relay/handover_impl.h"
#include "relay/handover_in.h"
#include "relay/handover_out.h"
#include "relay/node_carry.h"
#include "relay/node_impl.h"

#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

namespace belfry {

static constexpr view marker_prefix = "handover";

std::string handover_marker_text(uint64_t nonce, uint64_t round) {
    char text[64];
    snprintf(text, sizeof text, "handover %016" PRIx64 " %" PRIu64, nonce, round);
    return text;
}

bool handover_ordered(const node *n) {
    const broker_ops *ops = n->broker->ops;
    return ops->send_to_node && ops->in_order && ops->in_order(n->broker) && ops->ready(n->broker);
}

bool handover_special(const message *m) {
    return m->room == "@all" || m->room.starts_with("@conn:");
}

void handover_alone(node *n) {
    if (handover_node_sibling(n)) return;
    presence_share(n->presence, false);
    presence_resync(n->presence, false);
}

// ---------------------------------------------------------------- to the halves

void handover_node_letter(node *n, handover_letter *l) {
    bool new_one = l->op == handover_op::ask || l->op == handover_op::arrived || l->op == handover_op::ready ||
                   l->op == handover_op::refused || (l->op == handover_op::overflow && !n->leaving);
    if (new_one && n->arriving) return handover_in_letter(n, l);
    if (!new_one && n->leaving) return handover_out_letter(n, l);
    handover_letter_free(l);
}

void handover_node_turn(node *n) {
    if (n->leaving) handover_out_turn(n);
    if (n->arriving) handover_in_turn(n);
}

void handover_node_note(node *n, message *m) {
    if (n->leaving) handover_out_note(n, m);
    if (n->arriving) handover_in_note(n, m);
}

// All that begins so is ours, also what comes too late, or only shows how far the broker is.
bool handover_node_marker(node *n, view bytes) {
    if (!bytes.starts_with(marker_prefix)) return false;
    if (n->leaving) handover_out_marker(n, bytes);
    if (n->arriving) handover_in_marker(n, bytes);
    return true;
}

void handover_node_missed(node *n) {
    if (n->leaving) handover_out_missed(n);
    if (n->arriving) handover_in_missed(n);
}

bool handover_node_succeeded(const node *n) {
    return n->leaving && handover_out_linked(n);
}

bool handover_node_sibling(const node *n) {
    return handover_node_succeeded(n) || (n->arriving && handover_in_linked(n));
}

bool handover_node_shares(const node *n, view room) {
    return handover_node_succeeded(n) || (n->arriving && handover_in_shares(n, room));
}

// ---------------------------------------------------------------- orders

frame *handover_order_frame(const order_letter *o) {
    buffer bytes = {};
    handover_order out = {};
    out.op = static_cast<uint8_t>(o->op);
    out.by_room = o->by_room;
    out.by_user = o->by_user;
    out.all = o->all;
    out.reconnect = o->reconnect;
    out.code = o->code;
    out.conn = handover_id_of(o->conn);
    out.room = o->room;
    out.user = o->user;
    out.reason = o->reason;
    handover_order_write(&out, &bytes);
    frame *f = frame_copy(buffer_view(&bytes));
    buffer_free(&bytes);
    return f;
}

static order_letter *order_of(const handover_order *o) {
    auto *l = new order_letter{};
    l->head.type = letter_type::order;
    l->op = static_cast<order_op>(o->op);
    l->by_room = o->by_room;
    l->by_user = o->by_user;
    l->all = o->all;
    l->reconnect = o->reconnect;
    l->from_sibling = true;
    l->code = o->code;
    l->conn = handover_conn_id(o->conn);
    l->room = o->room;
    l->user = o->user;
    l->reason = o->reason;
    return l;
}

void handover_node_take_order(node *n, view bytes) {
    handover_order o;
    if (!handover_order_read(bytes, &o)) return;
    bool one = !o.by_room && !o.by_user && !o.all;
    for (uint32_t w = 0; w < n->worker_count; w++)
        if (!one || w == o.conn.worker) node_send(n, w, &order_of(&o)->head);
}

bool handover_node_pass_on(node *n, const order_letter *o) {
    if (!n->arriving || !handover_in_linked(n)) return false;
    frame *f = handover_order_frame(o);
    handover_message m = {handover_type::order};
    m.text = frame_view(f);
    bool sent = handover_in_say(n, &m);
    frame_unref(f);
    return sent;
}

// ---------------------------------------------------------------- requests

// No node has an empty id: it stands for the link.
void handover_node_carry(node *n, uint64_t number, view body) {
    frame *padded = frame_copy(body);
    const peers_return to = {std::string(), number};
    node_carry_asked(n, &to, frame_view(padded));
    frame_unref(padded);
}

void handover_node_carried(node *n, uint64_t number, int status, view body) {
    handover_message m = {handover_type::carried};
    m.number = number;
    m.version = static_cast<uint32_t>(status);
    m.text = body;
    if (n->leaving) handover_out_say(n, &m);
}

void handover_node_free(node *n) {
    handover_out_free(n);
    handover_in_free(n);
}

} // namespace belfry
