// The node among others. Main thread.
#include "relay/node_peers.h"

#include "relay/handover.h"
#include "relay/node_carry.h"
#include "relay/node_impl.h"
#include "relay/nodes.h"

namespace belfry {

// ---------------------------------------------------------------- orders that we give

// One order's answers: from here and from other nodes.
struct order_round {
    size_t pending;
    bool found; // somebody has carried it out
    int worst;  // else: 404, or what kept a node from it
    void (*done)(void *context, int code, const char *why);
    void *context;
};

static const char *why_of(int code) {
    switch (code) {
    case 400:
        return "the other node refused the command";
    case 404:
        return "no such connection on any node";
    case 504:
        return "the connection's node did not answer in time";
    default:
        return "the broker is out of reach, or overloaded: try again";
    }
}

static void order_settle(order_round *o, int code) {
    if (code == 0 || code == 200)
        o->found = true;
    else if (code > o->worst)
        o->worst = code;
    if (--o->pending) return;
    o->done(o->context, o->found ? 0 : o->worst, o->found ? "" : why_of(o->worst));
    delete o;
}

static void order_answered(void *context, int code, view) {
    order_settle(static_cast<order_round *>(context), code);
}

struct order_targets {
    node *on;        // borrowed
    order_round *of; // borrowed
    view source;
};

static void ask_order(view id, void *context) {
    auto *t = static_cast<order_targets *>(context);
    t->of->pending++;
    peers_ask(t->on->peers, id, peer_what::order, t->source, order_answered, t->of);
}

void node_order_everywhere(node *n, const command *c, view source,
                           void (*done)(void *context, int code, const char *why), void *context) {
    error e;
    int code = node_order(n, c, &e);
    if (code != 0 && code != 404) return done(context, code, e.text);
    if (node_order_older(n, c)) code = 0; // who has it carries it out; nobody says which of the two that is
    if (!n->broker->ops->send_to_node) return done(context, code, code ? e.text : "");
    auto *o = new order_round{1, false, 404, done, context};
    order_targets t = {n, o, source};
    view owner = c->conn.empty() ? view() : conn_id_node(c->conn);
    if (c->conn.empty())
        nodes_each(n->others, ask_order, &t);
    else if (!owner.empty() && owner != node_id())
        ask_order(owner, &t);
    order_settle(o, code);
}

// ---------------------------------------------------------------- receivers of our messages

struct receivers_round {
    size_t pending;
    uint64_t sum;
    void (*done)(void *context, uint64_t receivers);
    void *context;
};

static void receivers_settle(receivers_round *r) {
    if (--r->pending) return;
    r->done(r->context, r->sum);
    delete r;
}

static void receivers_answered(void *context, int code, view body) {
    auto *r = static_cast<receivers_round *>(context);
    uint64_t count = 0;
    if (code == 200 && bytes_parse_uint(body, &count)) r->sum += count;
    receivers_settle(r);
}

struct receivers_targets {
    node *on;               // borrowed
    receivers_round *of;    // borrowed
    const publish_ack *ack; // borrowed
};

// SEQUENCE ROOM
static void ask_receivers(view id, void *context) {
    auto *t = static_cast<receivers_targets *>(context);
    std::string body = std::to_string(t->ack->sequence) + " " + t->ack->room;
    t->of->pending++;
    peers_ask(t->on->peers, id, peer_what::receivers, body, receivers_answered, t->of);
}

void node_ask_receivers(node *n, const std::vector<publish_ack> *acks, void (*done)(void *context, uint64_t receivers),
                        void *context) {
    auto *r = new receivers_round{1, 0, done, context};
    for (const publish_ack &ack : *acks) {
        receivers_targets t = {n, r, &ack};
        nodes_each(n->others, ask_receivers, &t);
    }
    receivers_settle(r);
}

// ---------------------------------------------------------------- what other nodes ask

struct asked {
    node *on; // borrowed
    peers_return to;
};

static void on_order(node *n, const peers_return *to, view body) {
    command c;
    error e;
    int code = 400;
    if (command_parse(n->reader, body, &c, &n->scratch, &e) && c.op != command_op::publish)
        code = node_order(n, &c, &e);
    if (code == 404 && handover_node_sibling(n)) return; // the other process hears the question, too
    peers_answer(n->peers, to, code ? code : 200, code ? view(e.text) : view());
}

static void receivers_known(void *context, int64_t receivers) {
    auto *a = static_cast<asked *>(context);
    std::string body = std::to_string(receivers < 0 ? 0 : receivers);
    peers_answer(a->on->peers, &a->to, receivers < 0 ? 504 : 200, body);
    delete a;
}

static void on_receivers(node *n, const peers_return *to, view body) {
    size_t blank = body.find(' ');
    uint64_t sequence = 0;
    if (blank == view::npos || !bytes_parse_uint(body.substr(0, blank), &sequence))
        return peers_answer(n->peers, to, 400, "not SEQUENCE ROOM");
    view room = body.substr(blank + 1);
    bool special = room == "@all" || room.starts_with("@conn:");
    const node_room *r = special ? nullptr : node_room_find(n, room, hash_bytes(room));
    if (!special && !r) return peers_answer(n->peers, to, 200, "0");
    receipts_ask(&n->receipts, to->node, sequence, n->on->clock.monotonic_ms, receivers_known, new asked{n, *to});
}

static void on_ask(void *context, const peers_return *to, peer_what what, view body) {
    auto *n = static_cast<node *>(context);
    switch (what) {
    case peer_what::order:
        return on_order(n, to, body);
    case peer_what::receivers:
        return on_receivers(n, to, body);
    case peer_what::carry:
        return node_carry_asked(n, to, body);
    }
}

// ---------------------------------------------------------------- receipts of their messages

struct receipt_wait {
    node *on; // borrowed
    std::string origin;
    uint64_t sequence;
};

static void receipt_known(publish_job *job, void *context) {
    auto *w = static_cast<receipt_wait *>(context);
    receipts_add(&w->on->receipts, w->origin, w->sequence, job->receivers, w->on->on->clock.monotonic_ms);
    delete w;
}

void node_note_receipt(node *n, message *m) {
    if (!m->origin[0] || m->job) return;
    m->job = publish_job_new(receipt_known, new receipt_wait{n, std::string(m->origin), m->sequence});
}

// ---------------------------------------------------------------- life

void node_peers_init(node *n) {
    receipts_init(&n->receipts);
    n->peers = peers_new(n->broker, n->reader, on_ask, n);
}

void node_peers_turn(node *n) {
    peers_turn(n->peers, clock_monotonic_ms());
    receipts_turn(&n->receipts, n->on->clock.monotonic_ms);
}

void node_peers_end(node *n) {
    peers_end(n->peers);
    receipts_destroy(&n->receipts);
    receipts_init(&n->receipts);
}

void node_peers_free(node *n) {
    receipts_destroy(&n->receipts);
    peers_free(n->peers);
    n->peers = nullptr;
}

void node_peer(void *context, view bytes) {
    auto *n = static_cast<node *>(context);
    if (!handover_node_marker(n, bytes)) peers_incoming(n->peers, bytes);
}

} // namespace belfry
