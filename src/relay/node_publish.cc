// Messages through the node: from clients and the control API to the broker, from the broker to the workers. Main
// thread.
#include "relay/node_impl.h"

#include "base/log.h"
#include "proto/room_name.h"
#include "relay/handover_out.h"
#include "relay/node_peers.h"

#include <bit>

namespace belfry {

// ---------------------------------------------------------------- to the workers

// Subscribed room by room; the others (@all, @conn:) are there always.
static bool is_room(view name) {
    return !room_name_reserved(name) || name.starts_with("@user:");
}

static uint64_t workers_of_special(const node *n, const message *m) {
    if (m->room == "@all") return node_all_workers(n);
    conn_id id;
    if (!m->room.starts_with("@conn:") || !conn_id_parse(m->room.substr(6), &id)) return 0;
    return id.worker < n->worker_count ? uint64_t{1} << id.worker : 0;
}

void node_hand_over(node *n, message *m, uint64_t workers) {
    if (n->stopping && n->workers_stopped) workers = 0;
    auto count = static_cast<uint32_t>(std::popcount(workers));
    if (!count) {
        if (m->in_flight) message_landed(m);
        if (m->job) publish_job_settle(m->job, 0, true);
        message_unref(m);
        return;
    }
    if (m->what == message_data)
        room_rates_add(&n->rates, m->room, m->room_hash, m->payload.size(), n->on->clock.monotonic_ms);
    if (!m->in_flight) message_set_in_flight(m);
    m->pending.store(count, std::memory_order_relaxed);
    m->references.fetch_add(count - 1, std::memory_order_relaxed);
    for (; workers; workers &= workers - 1)
        node_send(n, static_cast<uint32_t>(std::countr_zero(workers)), &m->head);
}

void node_deliver(void *context, message *m) {
    auto *n = static_cast<node *>(context);
    node_note_receipt(n, m);
    if (n->leaving || n->arriving) handover_node_note(n, m);
    if (!is_room(m->room)) return node_hand_over(n, m, workers_of_special(n, m));
    const node_room *r = node_room_find(n, m->room, m->room_hash);
    if (r && r->feed) return feed_message(r->feed, m);
    node_hand_over(n, m, r ? r->wanted : 0);
}

// ---------------------------------------------------------------- to the broker

// What the room's rule says about keeping it.
static void mark_kept(const node *n, const node_room *r, message *m) {
    if (m->what != message_data || room_name_reserved(m->room)) return;
    const room_rule *rule = r ? r->rule : room_rule_find(n->settings, m->room);
    if (!rule) return;
    m->keep = static_cast<uint32_t>(rule->history);
    m->keep_ttl_ms = rule->history_ttl;
}

static bool publish(node *n, message *m, publish_job *job, bool wants_receivers) {
    const node_room *r = is_room(m->room) ? node_room_find(n, m->room, m->room_hash) : nullptr;
    bool local = is_room(m->room) ? r && r->active : workers_of_special(n, m) != 0;
    mark_kept(n, r, m);
    return n->broker->ops->publish(n->broker, m, job, wants_receivers && local);
}

bool node_publish(node *n, message_parts *parts, publish_job *job) {
    if (n->stalled || n->stopping || !n->broker->ops->ready(n->broker)) return false;
    struct clock now;
    clock_refresh(&now);
    parts->time_ms = now.wall_ms;
    message *m = message_new(parts);
    bool sent = publish(n, m, job, true);
    if (sent && m->ack && m->sequence && job) job->acks.push_back({std::string(m->room), m->sequence});
    message_unref(m);
    return sent;
}

struct client_wait {
    node *on;
    conn_id to;
    bool wants_answer;
    int64_t request_id;
    uint64_t ticket; // of handover_out_published
};

// The answer goes before what a fence of its worker waits for: behind that the connection may be on its way elsewhere.
static void client_published(publish_job *job, void *context) {
    auto *wait = static_cast<client_wait *>(context);
    int code = job->failed ? 503 : 0;
    if (wait->wants_answer) {
        auto *a = new answer_letter{{letter_type::answer}, wait->to, wait->request_id, code, job->duplicate, job->at};
        node_send(wait->on, wait->to.worker, &a->head);
    }
    handover_out_settled(wait->on, wait->ticket);
    delete wait;
}

void node_take_publish(node *n, publish_letter *l) {
    publish_job *job = nullptr;
    if (l->wants_answer || n->leaving) {
        uint64_t ticket = n->leaving ? handover_out_published(n) : 0;
        job = publish_job_new(client_published, new client_wait{n, l->sender, l->wants_answer, l->request_id, ticket});
    }
    bool sent = !n->stopping && publish(n, l->what, job, false);
    if (!sent && !l->wants_answer) {
        static log_limit limit;
        uint64_t held = 0;
        n->publishes_dropped++;
        if (log_limit_pass(&limit, &held))
            log_warn("broker: out of reach, a client's message was dropped (%llu more not shown)",
                     static_cast<unsigned long long>(held));
    }
    if (job) publish_job_settle(job, 0, sent);
    message_unref(l->what);
    delete l;
}

} // namespace belfry
