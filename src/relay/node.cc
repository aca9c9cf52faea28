// The node. Main thread.
#include "relay/node.h"

#include "base/log.h"
#include "net/resolve.h"
#include "proto/room_name.h"
#include "relay/notify.h"

#include <bit>
#include <new>
#include <stdlib.h>
#include <string.h>

namespace belfry {

static constexpr uint32_t letters_a_turn = 4096;

static void send(node *n, uint32_t worker, letter *l) {
    mailbox_send(&n->workers[worker].shard.inbox, l);
}

// ---------------------------------------------------------------- rooms

static view name_of(const node_room *r, uint32_t workers) {
    return view(reinterpret_cast<const char *>(r->serials + workers), r->name_size);
}

static uint32_t workers_for_equal; // table_equal takes no context; set once, one node a process

static bool named(const table_node *t, view key) {
    return name_of(BELFRY_CONTAINER_OF(const_cast<table_node *>(t), node_room, node), workers_for_equal) == key;
}

static node_room *find(const node *n, view name, uint64_t hash) {
    table_node *t = table_find(&n->rooms, hash, name, named);
    return t ? BELFRY_CONTAINER_OF(t, node_room, node) : nullptr;
}

static void tell_active(node *n, node_room *r) {
    for (uint64_t left = r->wanted & ~r->told; left; left &= left - 1) {
        auto w = static_cast<uint32_t>(std::countr_zero(left));
        auto *l = new room_letter{{letter_type::active}, r->serials[w], std::string(name_of(r, n->worker_count))};
        r->told |= uint64_t{1} << w;
        send(n, w, &l->head);
    }
}

static void on_want(node *n, const room_letter *l) {
    uint64_t hash = hash_bytes(l->room);
    node_room *r = find(n, l->room, hash);
    bool fresh = !r;
    if (fresh) {
        size_t serials = n->worker_count * sizeof(uint32_t);
        r = new (memory_get_zeroed(sizeof(node_room) + serials + l->room.size())) node_room{};
        r->name_size = static_cast<uint32_t>(l->room.size());
        memcpy(reinterpret_cast<char *>(r->serials + n->worker_count), l->room.data(), l->room.size());
        table_insert(&n->rooms, &r->node, hash);
    }
    if (fresh && n->tells_occupancy) occupancy_occupied(&n->occupancy, l->room);
    r->wanted |= uint64_t{1} << l->head.worker;
    r->told &= ~(uint64_t{1} << l->head.worker);
    r->serials[l->head.worker] = l->serial;
    if (r->active)
        tell_active(n, r);
    else if (fresh)
        n->broker->ops->subscribe(n->broker, l->room);
}

static void on_drop(node *n, const room_letter *l) {
    node_room *r = find(n, l->room, hash_bytes(l->room));
    if (!r || r->serials[l->head.worker] != l->serial) return;
    r->wanted &= ~(uint64_t{1} << l->head.worker);
    r->told &= r->wanted;
    if (r->wanted) return;
    if (n->tells_occupancy) occupancy_vacated(&n->occupancy, l->room, n->on->clock.monotonic_ms);
    n->broker->ops->unsubscribe(n->broker, l->room);
    table_remove(&n->rooms, &r->node);
    free(r);
}

// Worker 0 tells the backends.
static void tell_occupancy(void *context, bool occupied, view room) {
    auto *n = static_cast<node *>(context);
    letter_type type = occupied ? letter_type::occupied : letter_type::vacated;
    send(n, 0, &(new room_letter{{type}, 0, std::string(room)})->head);
}

static bool wants_occupancy(const relay_settings *settings) {
    constexpr uint32_t bits = 1u << notify_occupied | 1u << notify_vacated;
    for (const route &r : settings->routes)
        if (r.notify_bits & bits) return true;
    return false;
}

// ---------------------------------------------------------------- broker events

static void on_subscribed(void *context, view room) {
    auto *n = static_cast<node *>(context);
    node_room *r = find(n, room, hash_bytes(room));
    if (!r) return;
    r->active = true;
    tell_active(n, r);
}

static uint64_t all_workers(const node *n) {
    return n->worker_count == 64 ? ~uint64_t{0} : (uint64_t{1} << n->worker_count) - 1;
}

static uint64_t workers_of(const node *n, const message *m) {
    if (m->room == "@all") return all_workers(n);
    if (m->room.starts_with("@conn:")) {
        conn_id id;
        return conn_id_parse(m->room.substr(6), &id) && id.worker < n->worker_count ? uint64_t{1} << id.worker : 0;
    }
    const node_room *r = find(n, m->room, m->room_hash);
    return r ? r->wanted : 0;
}

static void on_deliver(void *context, message *m) {
    auto *n = static_cast<node *>(context);
    uint64_t mask = n->stopping && n->workers_stopped ? 0 : workers_of(n, m);
    auto count = static_cast<uint32_t>(std::popcount(mask));
    if (!count) {
        if (m->job) publish_job_settle(m->job, 0, true);
        message_unref(m);
        return;
    }
    if (!m->in_flight) message_set_in_flight(m);
    m->pending.store(count, std::memory_order_relaxed);
    m->references.fetch_add(count - 1, std::memory_order_relaxed);
    for (; mask; mask &= mask - 1)
        send(n, static_cast<uint32_t>(std::countr_zero(mask)), &m->head);
}

// Who waits for this room is told that it can't be had now; members stay, and the broker tries again.
static void on_refused(void *context, view room) {
    auto *n = static_cast<node *>(context);
    const node_room *r = find(n, room, hash_bytes(room));
    if (!r) return;
    for (uint64_t left = r->wanted & ~r->told; left; left &= left - 1) {
        auto w = static_cast<uint32_t>(std::countr_zero(left));
        send(n, w, &(new room_letter{{letter_type::refused}, r->serials[w], std::string(room)})->head);
    }
}

static void on_up(void *context, bool missed) {
    auto *n = static_cast<node *>(context);
    if (!missed) return;
    for (uint32_t w = 0; w < n->worker_count; w++)
        send(n, w, new letter{letter_type::gap});
}

static void on_down(void *, const char *) {} // readiness is asked of the broker; the gap is told when it is back

// A command on PREFIXcommand is for every node: a publish is delivered here, not sent round again.
static void publish_here(node *n, const command *c, frame *source, view payload) {
    struct clock now;
    clock_refresh(&now);
    for (size_t i = 0; i < c->room_count; i++) {
        message_parts parts = {c->rooms[i], source, payload, c->kind, c->from, now.wall_ms, c->except, c->except_count};
        parts.key = c->key;
        on_deliver(n, message_new(&parts));
    }
}

static void on_command(void *context, frame *source) {
    auto *n = static_cast<node *>(context);
    static log_limit limit;
    uint64_t held = 0;
    command c;
    error e;
    n->commands++;
    bool fine = command_parse(n->reader, frame_view(source), &c, &n->scratch, &e);
    if (fine && !c.id.empty()) {
        error_set(&e, "id: idempotent publishes do not exist yet");
        fine = false;
    }
    if (fine && c.op == command_op::publish) {
        frame *payload = frame_copy(c.data);
        publish_here(n, &c, payload, frame_view(payload));
        frame_unref(payload);
        return;
    }
    int code = fine ? node_order(n, &c, &e) : 400;
    if (code == 0 || code == 404) return; // 404: another node's connection
    n->command_errors++;
    if (log_limit_pass(&limit, &held))
        log_warn("broker: a command was dropped: %s (%llu more not shown)", e.text,
                 static_cast<unsigned long long>(held));
}

static void publish_everywhere(node *n, const command *c) {
    frame *payload = frame_copy(c->data);
    bool sent = true;
    for (size_t i = 0; i < c->room_count; i++)
        sent = node_publish(n, c->rooms[i], payload, frame_view(payload), c->kind, c->from, c->except, c->except_count,
                            nullptr) &&
               sent;
    frame_unref(payload);
    static log_limit limit;
    uint64_t held = 0;
    if (sent) return;
    n->publishes_dropped++;
    if (log_limit_pass(&limit, &held))
        log_warn("broker: out of reach, a hook's publish was dropped (%llu more not shown)",
                 static_cast<unsigned long long>(held));
}

// A command in a hook's answer: as the control API's. Nobody waits for an outcome, so the log gets it.
static void on_hook_command(node *n, const command_letter *l) {
    static log_limit limit;
    uint64_t held = 0;
    command c;
    error e;
    n->commands++;
    bool fine = command_parse(n->reader, frame_view(l->source), &c, &n->scratch, &e);
    if (fine && !c.id.empty()) {
        error_set(&e, "id: idempotent publishes do not exist yet");
        fine = false;
    }
    if (fine && c.op == command_op::publish) return publish_everywhere(n, &c);
    if (fine && node_order(n, &c, &e) == 0) return;
    n->command_errors++;
    if (log_limit_pass(&limit, &held))
        log_warn("hook: a command of the backend was dropped: %s (%llu more not shown)", e.text,
                 static_cast<unsigned long long>(held));
}

static const broker_events events = {on_subscribed, on_refused, on_deliver, nullptr, on_command, on_up, on_down};

// ---------------------------------------------------------------- publishing and orders

bool node_publish(node *n, view room, frame *source, view payload, payload_kind kind, view from, const view *except,
                  size_t except_count, publish_job *job) {
    if (n->stalled || n->stopping || !n->broker->ops->ready(n->broker)) return false;
    struct clock now;
    clock_refresh(&now);
    message_parts parts = {room, source, payload, kind, from, now.wall_ms, except, except_count};
    message *m = message_new(&parts);
    const node_room *r = find(n, m->room, m->room_hash);
    bool subscribed = !room_name_reserved(m->room) || m->room.starts_with("@user:"); // room by room
    bool local = subscribed ? r && r->active : workers_of(n, m) != 0;
    bool sent = n->broker->ops->publish(n->broker, m, job, local);
    message_unref(m);
    return sent;
}

static order_op order_of(command_op op) {
    switch (op) {
    case command_op::join:
        return order_op::join;
    case command_op::leave:
        return order_op::leave;
    case command_op::refresh:
        return order_op::refresh;
    default:
        return order_op::disconnect;
    }
}

static void send_order(node *n, uint64_t workers, const order_letter *o) {
    for (; workers; workers &= workers - 1)
        send(n, static_cast<uint32_t>(std::countr_zero(workers)), &(new order_letter(*o))->head);
}

// A user's connections are the members of the user's own room.
static int order_user(node *n, view user, order_letter *o, error *e) {
    std::string room = "@user:" + std::string(user);
    const node_room *r = find(n, room, hash_bytes(room));
    if (!r) {
        error_set(e, "no connection of that user on this node");
        return 404;
    }
    o->by_user = true;
    o->user = user;
    send_order(n, r->wanted, o);
    return 0;
}

int node_order(node *n, const command *c, error *e) {
    order_letter o = {};
    o.head.type = letter_type::order;
    o.op = order_of(c->op);
    o.reconnect = c->reconnect;
    o.code = c->code;
    o.reason = c->reason;
    if (c->room_count) o.room = c->rooms[0];
    o.by_room = c->op == command_op::disconnect && c->room_count;
    o.all = o.by_room && o.room == "@all";
    if (o.by_room) {
        send_order(n, all_workers(n), &o);
        return 0;
    }
    if (room_name_reserved(o.room)) {
        error_set(e, "room: names with @ can't be joined or left");
        return 400;
    }
    if (!c->user.empty()) return order_user(n, c->user, &o, e);
    if (!conn_id_parse(c->conn, &o.conn) || o.conn.worker >= n->worker_count) {
        error_set(e, "no connection of that id on this node");
        return 404;
    }
    send(n, o.conn.worker, &(new order_letter(o))->head);
    return 0;
}

struct client_wait {
    node *on;
    conn_id to;
    int64_t request_id;
};

static void answer_client(node *n, conn_id to, int64_t request_id, int code) {
    auto *a = new answer_letter{{letter_type::answer}, to, request_id, code};
    send(n, to.worker, &a->head);
}

static void client_published(publish_job *job, void *context) {
    auto *wait = static_cast<client_wait *>(context);
    answer_client(wait->on, wait->to, wait->request_id, job->failed ? 503 : 0);
    delete wait;
}

static void on_publish(node *n, publish_letter *l) {
    publish_job *job =
        l->wants_answer ? publish_job_new(client_published, new client_wait{n, l->sender, l->request_id}) : nullptr;
    bool sent = !n->stopping && n->broker->ops->publish(n->broker, l->what, job, false);
    if (!sent && !job) {
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
        send(n, w, &q->head);
}

// ---------------------------------------------------------------- mailboxes

template <typename T> static T *as(letter *l) {
    return reinterpret_cast<T *>(l);
}

static void discharge(node *n, uint32_t worker, int64_t bytes) {
    shard *s = &n->workers[worker].shard;
    int64_t before = s->outbox_bytes.fetch_sub(bytes, std::memory_order_relaxed);
    if (before > outbox_bytes_max && before - bytes <= outbox_bytes_max) loop_wake(s->loop); // its publishers may go on
}

// What makes new work: held back while the node is stalled.
static void take_in(node *n, letter *l) {
    uint32_t from = l->worker;
    switch (l->type) {
    case letter_type::want:
        on_want(n, as<room_letter>(l));
        delete as<room_letter>(l);
        return discharge(n, from, letter_charge);
    case letter_type::drop:
        on_drop(n, as<room_letter>(l));
        delete as<room_letter>(l);
        return discharge(n, from, letter_charge);
    case letter_type::publish: {
        int64_t bytes = static_cast<int64_t>(as<publish_letter>(l)->what->payload.size()) + letter_charge;
        on_publish(n, as<publish_letter>(l));
        return discharge(n, from, bytes);
    }
    case letter_type::command: {
        auto *c = as<command_letter>(l);
        int64_t bytes = static_cast<int64_t>(c->source->size) + letter_charge;
        on_hook_command(n, c);
        frame_unref(c->source);
        delete c;
        return discharge(n, from, bytes);
    }
    case letter_type::fence:
        return send(n, from, l);
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
    if (n->tells_occupancy && !n->stopping) occupancy_turn(&n->occupancy, n->on->clock.monotonic_ms);
    n->broker->ops->turn(n->broker);
}

bool node_busy(const node *n) {
    if (!n->stalled && !n->held.empty()) return true;
    for (uint32_t w = 0; w < n->worker_count; w++)
        if (ring_size(&n->workers[w].shard.outbox.ring)) return true;
    return false;
}

// ---------------------------------------------------------------- life

void node_init(node *n, loop *on, const relay_settings *settings, const broker_settings *broker, uint32_t workers) {
    n->on = on;
    n->worker_count = workers_for_equal = workers;
    n->workers = new worker[workers]{};
    n->reader = json_reader_new();
    table_init(&n->rooms);
    occupancy_init(&n->occupancy, tell_occupancy, n);
    n->tells_occupancy = wants_occupancy(settings);
    wheel_init(&n->deadlines, on->clock.monotonic_ms, deadline_fire, nullptr);
    for (const upstream_settings &u : settings->upstreams)
        n->upstreams.push_back(upstream_shared_new(on, &n->deadlines, &u));
    for (uint32_t w = 0; w < workers; w++)
        worker_init(&n->workers[w], static_cast<uint8_t>(w), settings, on, &n->process_live, &n->stalled_for_workers,
                    n->upstreams.data());
    n->broker = broker->type == 1 ? broker_redis_new(&events, n, broker, on) : broker_memory_new(&events, n);
}

void node_stop(node *n, bool now) {
    n->stopping = true;
    for (uint32_t w = 0; w < n->worker_count; w++)
        send(n, w, new letter{now ? letter_type::kill : letter_type::stop});
}

static void free_room(table_node *t, void *context) {
    table_remove(static_cast<table *>(context), t);
    free(BELFRY_CONTAINER_OF(t, node_room, node));
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
    for (uint32_t w = 0; w < n->worker_count; w++) // what the letters above were answered with
        worker_drain(&n->workers[w]);
}

// Name look-ups that were cut short give their memory back on the loop (resolve.h).
static void free_upstreams(node *n) {
    bool resolves = false;
    for (upstream_shared *u : n->upstreams) {
        resolves = resolves || upstream_shared_resolves(u);
        upstream_shared_free(u);
    }
    n->upstreams.clear();
    const uint64_t until = clock_monotonic_ns() / 1000000 + resolve_linger_ms + wheel_tick_ms;
    while (resolves && clock_monotonic_ns() / 1000000 < until)
        loop_turn(n->on, true);
}

void node_destroy(node *n) {
    n->broker->ops->free(n->broker);
    for (uint32_t w = 0; w < n->worker_count; w++) {
        worker_drain(&n->workers[w]);
        worker_destroy(&n->workers[w]);
    }
    free_upstreams(n);
    table_each(&n->rooms, free_room, &n->rooms);
    table_destroy(&n->rooms);
    occupancy_destroy(&n->occupancy);
    json_reader_free(n->reader);
    buffer_free(&n->scratch);
    delete[] n->workers;
}

} // namespace belfry
