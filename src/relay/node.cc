// The node: mailboxes, questions, life. Main thread.
#include "relay/node_impl.h"

#include "base/error.h"
#include "net/resolve.h"
#include "relay/adoption.h"
#include "relay/carry.h"
#include "relay/handover.h"
#include "relay/node_peers.h"
#include "relay/node_sessions.h"

namespace belfry {

static constexpr uint32_t letters_a_turn = 4096;

// Readiness is asked of the broker; the gap is told when it is back.
static void on_down(void *context, const char *) {
    handover_node_missed(static_cast<node *>(context));
}

static const broker_events events = {node_subscribed, node_refused, node_deliver, node_history, node_command,
                                     node_up,         on_down,      node_peer,    node_missed};

// ---------------------------------------------------------------- questions

void node_query(node *n, query_type type, view room, view after, uint64_t limit,
                void (*done)(query *, void *, uint64_t), void *context, uint64_t tag, view user) {
    auto *q = new query{};
    q->head.type = letter_type::query;
    q->type = type;
    q->pending.store(n->worker_count, std::memory_order_relaxed);
    q->room = room;
    q->user = user;
    q->after = after;
    q->limit = limit;
    q->part_count = n->worker_count;
    q->parts = new query_part[n->worker_count]{};
    q->done = done;
    q->context = context;
    q->tag = tag;
    for (uint32_t w = 0; w < n->worker_count; w++)
        node_send(n, w, &q->head);
}

// ---------------------------------------------------------------- mailboxes

template <typename T> static T *as(letter *l) {
    return reinterpret_cast<T *>(l);
}

void node_discharge(node *n, uint32_t worker, int64_t bytes) {
    shard *s = &n->workers[worker].shard;
    int64_t before = s->outbox_bytes.fetch_sub(bytes, std::memory_order_relaxed);
    if (before > outbox_bytes_max && before - bytes <= outbox_bytes_max) loop_wake(s->loop); // its publishers may go on
}

// What makes new work: held back while the node is stalled.
static void take_in(node *n, letter *l) {
    uint32_t from = l->worker;
    switch (l->type) {
    case letter_type::want:
        node_want(n, as<room_letter>(l));
        delete as<room_letter>(l);
        return node_discharge(n, from, letter_charge);
    case letter_type::drop:
        node_drop(n, as<room_letter>(l));
        delete as<room_letter>(l);
        return node_discharge(n, from, letter_charge);
    case letter_type::publish: {
        int64_t bytes = static_cast<int64_t>(as<publish_letter>(l)->what->payload.size()) + letter_charge;
        node_take_publish(n, as<publish_letter>(l));
        return node_discharge(n, from, bytes);
    }
    case letter_type::join_ask:
        node_join_ask(n, as<join_ask_letter>(l));
        delete as<join_ask_letter>(l);
        return;
    case letter_type::command: {
        auto *c = as<command_letter>(l);
        int64_t bytes = static_cast<int64_t>(c->source->size) + letter_charge;
        node_hook_command(n, c);
        frame_unref(c->source);
        delete c;
        return node_discharge(n, from, bytes);
    }
    case letter_type::entered:
    case letter_type::exited:
    case letter_type::members:
        return node_discharge(n, from, node_presence_take_in(n, l));
    case letter_type::carry: {
        int64_t bytes = carry_charge(as<carry_letter>(l));
        node_carry(n, as<carry_letter>(l));
        return node_discharge(n, from, bytes);
    }
    case letter_type::fence:
        return node_send(n, from, l);
    case letter_type::handover:
        return handover_node_letter(n, as<handover_letter>(l));
    default:
        fatal("node: a letter of type %d", static_cast<int>(l->type));
    }
}

// Answers that somebody waits for are read also while stalled: they are what ends the stall.
static void read_letter(node *n, letter *l) {
    switch (l->type) {
    case letter_type::broadcast: { // the receipt of a message that somebody waits for
        auto *m = as<message>(l);
        publish_job_settle(m->job, m->receivers.load(std::memory_order_relaxed), true);
        message_unref(m);
        return;
    }
    case letter_type::query: {
        auto *q = as<query>(l);
        q->done(q, q->context, q->tag);
        query_free(q);
        return;
    }
    case letter_type::carried: {
        uint32_t from = l->worker;
        int64_t bytes = carried_charge(as<carried_letter>(l));
        node_carried(n, as<carried_letter>(l));
        return node_discharge(n, from, bytes);
    }
    case letter_type::adopted:
        node_adopted(n);
        delete l;
        return;
    case letter_type::stopped:
        n->workers_stopped++;
        delete l;
        return;
    default:
        if (n->stalled || !n->held.empty())
            n->held.push_back(l);
        else
            take_in(n, l);
    }
}

static void read_letters(node *n, worker *w) {
    uint32_t count = 0;
    while (count < letters_a_turn) {
        auto *l = static_cast<letter *>(mailbox_receive(&w->shard.outbox));
        if (!l) break;
        read_letter(n, l);
        count++;
    }
    if (count >= mailbox_capacity / 16) loop_wake(w->shard.loop); // it may hold back what did not fit
}

static void take_in_held(node *n, uint32_t most) {
    for (; most && !n->held.empty(); most--) {
        letter *l = n->held.front();
        n->held.pop_front();
        take_in(n, l);
    }
}

static void balance(node *n) {
    bool full = message_bytes_in_flight() > node_bytes_in_flight_max;
    for (uint32_t w = 0; w < n->worker_count; w++)
        if (!mailbox_flush(&n->workers[w].shard.inbox)) full = true;
    if (full == n->stalled) return;
    n->stalled = full;
    n->stalled_for_workers.store(full, std::memory_order_relaxed);
    if (full) n->stalls++;
    n->broker->ops->pause(n->broker, full);
}

void node_turn(node *n) {
    wheel_advance(&n->deadlines, n->on->clock.monotonic_ms);
    balance(n);
    if (!n->stalled || n->stopping) take_in_held(n, letters_a_turn);
    for (uint32_t w = 0; w < n->worker_count; w++)
        read_letters(n, &n->workers[w]);
    if (n->tells_occupancy && !n->draining && !n->stopping && !handover_node_succeeded(n))
        occupancy_turn(&n->occupancy, n->on->clock.monotonic_ms);
    node_presence_turn(n);
    handover_node_turn(n);
    node_peers_turn(n);
    n->broker->ops->turn(n->broker);
    if (n->stream) command_stream_turn(n->stream);
    feeds_turn(&n->feeds);
    node_bury_upstreams(n);
    node_drain_turn(n);
}

bool node_busy(const node *n) {
    if ((!n->stalled && !n->held.empty()) || presence_busy(n->presence)) return true;
    for (uint32_t w = 0; w < n->worker_count; w++)
        if (ring_size(&n->workers[w].shard.outbox.ring)) return true;
    return false;
}

// ---------------------------------------------------------------- life

void node_init(node *n, loop *on, const relay_settings *settings, const broker_settings *broker, uint32_t workers) {
    n->on = on;
    n->settings = settings;
    n->worker_count = workers;
    n->workers = new worker[workers]{};
    n->reader = json_reader_new();
    idempotency_init(&n->commanded);
    node_rooms_init(n, broker);
    wheel_init(&n->deadlines, on->clock.monotonic_ms, deadline_fire, nullptr);
    for (const upstream_settings &u : settings->upstreams)
        n->upstreams.push_back(upstream_shared_new(on, &n->deadlines, &u));
    for (uint32_t w = 0; w < workers; w++)
        worker_init(&n->workers[w], static_cast<uint8_t>(w), settings, on, &n->process_live, &n->stalled_for_workers,
                    n->upstreams.data(), &n->pace);
    auto make = broker->type == 1 ? broker_redis_new : broker_memory_new;
    n->broker = make(&events, n, broker, on);
    node_presence_init(n, settings, broker);
    node_stream_init(n, broker);
    node_peers_init(n);
}

void node_stop(node *n, bool now) {
    n->stopping = n->unready = true;
    for (uint32_t w = 0; w < n->worker_count; w++)
        node_send(n, w, new letter{now ? letter_type::kill : letter_type::stop});
    node_presence_stop(n);
}

void node_stop_listening(node *n) {
    for (uint32_t w = 0; w < n->worker_count; w++)
        node_send(n, w, new letter{letter_type::deaf});
}

void node_join(node *n) {
    for (uint32_t w = 0; w < n->worker_count; w++)
        worker_join(&n->workers[w]);
    for (uint32_t w = 0; w < n->worker_count; w++) {
        worker_drain(&n->workers[w]);
        while (auto *l = static_cast<letter *>(mailbox_receive(&n->workers[w].shard.outbox)))
            read_letter(n, l);
    }
    take_in_held(n, UINT32_MAX);
    node_peers_end(n);
    node_rooms_end(n);
    for (uint32_t w = 0; w < n->worker_count; w++) // what the letters above were answered with
        worker_drain(&n->workers[w]);
    presence_settle(n->presence);
}

// Name look-ups that were cut short give their memory back on the loop (resolve.h).
static void free_upstreams(node *n) {
    bool resolves = false;
    n->upstreams.insert(n->upstreams.end(), n->retiring.begin(), n->retiring.end());
    for (upstream_shared *u : n->upstreams) {
        resolves = resolves || upstream_shared_resolves(u);
        upstream_shared_free(u);
    }
    n->upstreams.clear();
    n->retiring.clear();
    const uint64_t until = clock_monotonic_ms() + resolve_linger_ms + wheel_tick_ms;
    while (resolves && clock_monotonic_ms() < until)
        loop_turn(n->on, true);
}

void node_destroy(node *n) {
    handover_node_free(n);
    if (n->stream) command_stream_stop(n->stream);
    n->broker->ops->free(n->broker);
    node_presence_free(n);
    node_peers_free(n);
    command_stream_free(n->stream);
    for (uint32_t w = 0; w < n->worker_count; w++) {
        worker_drain(&n->workers[w]);
        worker_destroy(&n->workers[w]);
    }
    free_upstreams(n);
    delete n->adopting;
    node_rooms_free(n);
    idempotency_destroy(&n->commanded);
    json_reader_free(n->reader);
    buffer_free(&n->scratch);
    delete[] n->workers;
}

} // namespace belfry
