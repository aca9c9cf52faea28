// Presence of the node. Main thread.
#include "relay/node_presence.h"

#include "relay/broker_redis.h"
#include "relay/handover.h"
#include "relay/node.h"
#include "relay/presence_redis.h"
#include "relay/presence_worker.h"

namespace belfry {

// Whoever took us for lost may still be about to take our members out when we have written them again.
static constexpr uint64_t again_ms = 10000;
static constexpr uint64_t finish_ms = 2000;

template <typename T> static T *as(letter *l) {
    return reinterpret_cast<T *>(l);
}

static bool announce(void *context, view room, view event) {
    auto *n = static_cast<node *>(context);
    struct clock now;
    clock_refresh(&now);
    frame *source = frame_copy(event);
    message_parts parts = {};
    parts.room = room;
    parts.source = source;
    parts.payload = frame_view(source);
    parts.kind = payload_kind::json;
    parts.time_ms = now.wall_ms;
    parts.what = message_member;
    message *m = message_new(&parts);
    frame_unref(source);
    bool sent = n->broker->ops->publish(n->broker, m, nullptr, false);
    message_unref(m);
    return sent;
}

static const presence_events events = {announce};

// ---------------------------------------------------------------- other nodes

static void on_tidy(void *context, view id) {
    presence_redis_tidy(static_cast<node *>(context)->presence, id);
}

// Whoever finds the lease gone just before it is taken again says so just after it, so we may not have learnt of it.
static void on_back(void *context, bool taken_for_lost) {
    auto *n = static_cast<node *>(context);
    presence_resync(n->presence, taken_for_lost);
    n->presence_again_ms = n->on->clock.monotonic_ms + again_ms;
}

static void on_joined(void *context, view id) {
    presence_redis_spare(static_cast<node *>(context)->presence, id);
}

static void on_tidied(void *context, view id) {
    nodes_tidied(static_cast<node *>(context)->others, id);
}

static const nodes_events others_events = {on_joined, nullptr, on_tidy, on_back};

// ---------------------------------------------------------------- letters

static void answer(const presence_asker *a, const presence_page *page) {
    auto *n = static_cast<node *>(a->context);
    auto *l = new members_letter{{letter_type::members}, a->to, a->request_id, {}, nullptr, 0, false};
    if (page) {
        l->members = frame_ref(page->members);
        l->count = page->count;
        l->truncated = page->truncated;
    }
    mailbox_send(&n->workers[a->to.worker].shard.inbox, &l->head);
}

static int64_t take_in_member(node *n, member_letter *l) {
    int64_t charge = presence_charge(l);
    conn_id_text id = conn_id_format(l->who);
    if (l->head.type == letter_type::entered)
        presence_enter(n->presence, l->room, id, l->user, l->info, l->news);
    else
        presence_exit(n->presence, l->room, id);
    delete l;
    return charge;
}

int64_t node_presence_take_in(node *n, letter *l) {
    if (l->type != letter_type::members) return take_in_member(n, as<member_letter>(l));
    auto *asked = as<members_letter>(l);
    int64_t charge = presence_charge(asked);
    presence_asker a = {answer, n, asked->from, asked->request_id};
    presence_ask(n->presence, asked->room, &a);
    members_letter_free(asked);
    return charge;
}

// ---------------------------------------------------------------- life

void node_presence_init(node *n, const relay_settings *settings, const broker_settings *link) {
    n->presence = presence_new(settings, n->reader, &events, n);
    if (link->type != 1) return;
    presence_redis_settings redis = {n->broker, link->prefix, on_tidied, n};
    presence_redis_new(n->presence, &redis);
    n->others = nodes_new(n->broker, broker_redis_command, link->prefix, node_id(), &others_events, n);
}

// Once the workers have stopped: what is not written yet, then the lease. Redis may be away, so there is an end to it.
static void finish(node *n, uint64_t now_ms) {
    if (!n->presence_end_ms) n->presence_end_ms = now_ms + finish_ms;
    bool hopeless = now_ms >= n->presence_end_ms || !n->broker->ops->ready(n->broker);
    if (n->presence_left || (!presence_idle(n->presence) && !hopeless)) return;
    n->presence_left = true;
    if (handover_node_succeeded(n)) return; // the node lives on in another process
    presence_redis_leave(n->presence);
    nodes_leave(n->others);
}

void node_presence_turn(node *n) {
    uint64_t now_ms = n->on->clock.monotonic_ms;
    if (n->others) nodes_turn(n->others, now_ms);
    if (n->presence_again_ms && now_ms >= n->presence_again_ms) {
        n->presence_again_ms = 0;
        presence_resync(n->presence, false);
    }
    presence_turn(n->presence, now_ms);
    if (n->others && n->stopping && n->workers_stopped == n->worker_count) finish(n, now_ms);
}

bool node_presence_finished(const node *n) {
    if (!n->others) return true;
    return n->presence_left &&
           (handover_node_succeeded(n) || nodes_has_left(n->others) || n->on->clock.monotonic_ms >= n->presence_end_ms);
}

void node_presence_up(node *n, bool missed) {
    if (!n->others) return;
    nodes_up(n->others);
    if (missed) presence_resync(n->presence, false);
}

void node_presence_stop(node *n) {
    presence_stop(n->presence);
}

void node_presence_free(node *n) {
    presence_free(n->presence);
    if (n->others) nodes_free(n->others);
}

} // namespace belfry
