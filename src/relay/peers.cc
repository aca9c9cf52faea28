// Questions between nodes. Main thread.
#include "relay/peers.h"

#include "base/clock.h"
#include "base/frame.h"
#include "base/log.h"
#include "relay/conn_id.h"

namespace belfry {

namespace {

struct question {
    table_node node; // by number
    link place;      // in peers::order
    uint64_t number, until_ms;
    std::string to; // the node that was asked: nobody else's answer counts
    peers_done done;
    void *context;
};

} // namespace

struct peers {
    broker *over;        // borrowed
    json_reader *reader; // borrowed
    void (*ask)(void *context, const peers_return *to, peer_what what, view body);
    void *context; // borrowed
    table questions;
    link order[2]; // the oldest first; of carry, which waits longer, in a list of its own
    uint64_t next;
    bool ended;
    buffer out;
    peers_counters count;
};

namespace {

bool numbered(const table_node *t, view key) {
    const question *q = BELFRY_CONTAINER_OF(const_cast<table_node *>(t), question, node);
    return view(reinterpret_cast<const char *>(&q->number), sizeof q->number) == key;
}

question *find(peers *p, uint64_t number) {
    view key(reinterpret_cast<const char *>(&number), sizeof number);
    table_node *t = table_find(&p->questions, hash_bytes(key), key, numbered);
    return t ? BELFRY_CONTAINER_OF(t, question, node) : nullptr;
}

void end(peers *p, question *q, int code, view body) {
    table_remove(&p->questions, &q->node);
    list_remove(&q->place);
    peers_done done = q->done;
    void *context = q->context;
    delete q;
    done(context, code, body);
}

// The broker's word on whom the question has reached.
void on_sent(void *context, uint64_t number, int64_t nodes) {
    auto *p = static_cast<peers *>(context);
    if (question *q = nodes == 0 ? find(p, number) : nullptr) end(p, q, 404, "no such node");
}

bool send(peers *p, view node, const peer_message *m, bool watched) {
    if (!p->over->ops->send_to_node) return false;
    buffer_clear(&p->out);
    peer_message_write(m, &p->out);
    bool sent =
        p->over->ops->send_to_node(p->over, node, buffer_view(&p->out), watched ? on_sent : nullptr, p, m->number);
    if (p->out.capacity > 65536) buffer_free(&p->out);
    return sent;
}

} // namespace

peers *peers_new(broker *over, json_reader *reader,
                 void (*ask)(void *context, const peers_return *to, peer_what what, view body), void *context) {
    auto *p = new peers{};
    p->over = over;
    p->reader = reader;
    p->ask = ask;
    p->context = context;
    p->next = node_count_base();
    table_init(&p->questions);
    for (link &l : p->order)
        list_init(&l);
    return p;
}

void peers_end(peers *p) {
    p->ended = true;
    for (link &l : p->order)
        while (!list_empty(&l))
            end(p, BELFRY_CONTAINER_OF(l.next, question, place), 503, "shutting down");
}

void peers_free(peers *p) {
    peers_end(p);
    table_destroy(&p->questions);
    buffer_free(&p->out);
    delete p;
}

void peers_ask(peers *p, view node, peer_what what, view body, peers_done done, void *context) {
    if (!p->over->ops->send_to_node) return done(context, 404, "no such node");
    if (p->ended || p->questions.count >= peers_questions_max || body.size() > peers_body_max) {
        p->count.refused++;
        return done(context, 503, "too much to ask");
    }
    auto *q = new question{};
    q->number = ++p->next;
    bool slow = what == peer_what::carry;
    q->until_ms = clock_monotonic_ms() + (slow ? peers_carry_timeout_ms : peers_timeout_ms);
    q->to = node;
    q->done = done;
    q->context = context;
    view key(reinterpret_cast<const char *>(&q->number), sizeof q->number);
    table_insert(&p->questions, &q->node, hash_bytes(key));
    list_push_back(&p->order[slow], &q->place);
    uint64_t number = q->number;
    peer_message m = {false, node_id(), number, what, 0, body};
    p->count.asked++;
    if (send(p, node, &m, true)) return;
    p->count.refused++;
    if (question *still = find(p, number)) end(p, still, 503, "the broker is out of reach");
}

void peers_answer(peers *p, const peers_return *to, int code, view body) {
    peer_message m = {true, node_id(), to->number, peer_what::order, code, body};
    if (body.size() > peers_body_max) {
        m.code = 500;
        m.body = "the answer is too large to be carried";
    }
    (void)send(p, to->node, &m, false); // not sent: who asked has a time-out
}

void peers_incoming(peers *p, view bytes) {
    static log_limit limit;
    uint64_t held = 0;
    frame *padded = frame_copy(bytes);
    peer_message m;
    error e;
    if (!peer_message_parse(p->reader, frame_view(padded), &m, &e)) {
        p->count.malformed++;
        if (log_limit_pass(&limit, &held))
            log_warn("peers: dropped: %s (%llu more not shown)", e.text, static_cast<unsigned long long>(held));
    } else if (!m.is_answer) {
        p->count.heard++;
        peers_return to = {std::string(m.from), m.number};
        p->ask(p->context, &to, m.what, m.body);
    } else if (question *q = find(p, m.number); q && q->to == m.from) {
        p->count.answered++;
        end(p, q, m.code, m.body);
    } else {
        p->count.late++;
    }
    frame_unref(padded);
}

static void end_late(peers *p, link *order, uint64_t now) {
    while (!list_empty(order)) {
        question *q = BELFRY_CONTAINER_OF(order->next, question, place);
        if (q->until_ms > now) return;
        p->count.timed_out++;
        end(p, q, 504, "no answer from the other node in time");
    }
}

void peers_turn(peers *p, uint64_t now) {
    for (link &l : p->order)
        end_late(p, &l, now);
}

peers_counters peers_count(const peers *p) {
    return p->count;
}

size_t peers_under_way(const peers *p) {
    return p->questions.count;
}

} // namespace belfry
