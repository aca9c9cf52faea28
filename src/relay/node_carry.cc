// Clients' requests between nodes. Main thread.
#include "relay/node_carry.h"

#include "proto/peer_carry.h"
#include "relay/carry.h"
#include "relay/handover.h"
#include "relay/node_impl.h"

namespace belfry {

// ---------------------------------------------------------------- of our clients

struct carry_wait {
    node *on;
    uint8_t worker;
    conn_id to;
};

// What the other node says is JSON, or it is a node of another version: nothing else is handed to a client.
static void answered(void *context, int code, view body) {
    auto *w = static_cast<carry_wait *>(context);
    frame *padded = frame_copy(body);
    bool fine = body.empty() ? false : json_valid(w->on->reader, frame_view(padded));
    if (!fine) {
        frame_unref(padded);
        padded = carry_error(code, code == 404 ? view("no such session") : code == 200 ? view("no answer") : body);
    }
    auto *l = new carried_letter{{letter_type::carried}, 0, w->to, code, padded};
    node_send(w->on, w->worker, &l->head);
    delete w;
}

void node_carry_remote(node *n, carry_letter *l) {
    buffer out = {};
    view body = l->body ? frame_view(l->body) : view();
    peer_carry c = {l->op == carry_op::poll, l->session, l->user, l->sequence, body};
    peer_carry_write(&c, &out);
    view node_of = conn_id_node(view(l->session).substr(0, conn_id_size));
    auto *w = new carry_wait{n, l->head.worker, l->from};
    peers_ask(n->peers, node_of, peer_what::carry, buffer_view(&out), answered, w);
    buffer_free(&out);
    carry_free(l);
}

// ---------------------------------------------------------------- of their clients

// Another node, or the other process of an upgrade. Of those two, both hear other nodes' questions: the newer one has
// the session, or knows that nobody does.
static void tell(node *n, const peers_return *to, int status, view body) {
    if (to->node.empty()) return handover_node_carried(n, to->number, status, body);
    if (status != 404 || !handover_node_succeeded(n)) peers_answer(n->peers, to, status, body);
}

// The marks of what our workers are asked for others: n->carried, by a number that is used once.
void node_carry_asked(node *n, const peers_return *to, view body) {
    peer_carry c;
    error e;
    if (n->carried.size() >= peers_questions_max) return tell(n, to, 503, "too many requests");
    if (!peer_carry_parse(n->reader, body, &c, &e)) return tell(n, to, 400, e.text);
    uint64_t mark = ++n->carried_last;
    n->carried[mark] = *to;
    auto *l = new carry_letter{};
    l->head.type = letter_type::carry;
    l->op = c.poll ? carry_op::poll : carry_op::message;
    l->remote = mark;
    l->session = c.session;
    l->user = c.user;
    l->sequence = c.sequence;
    l->body = c.poll ? nullptr : frame_copy(c.body);
    node_carry_local(n, l);
}

void node_carried_remote(node *n, carried_letter *l) {
    auto at = n->carried.find(l->remote);
    if (at != n->carried.end()) {
        tell(n, &at->second, l->status, l->body ? frame_view(l->body) : view());
        n->carried.erase(at);
    }
    carried_free(l);
}

} // namespace belfry
