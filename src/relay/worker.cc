// The worker thread. Everything but init, start, join and destroy runs on it.
#include "relay/worker.h"

#include "base/log.h"
#include "relay/admission.h"
#include "relay/adoption.h"
#include "relay/carrying.h"
#include "relay/chain.h"
#include "relay/conn_record.h"
#include "relay/drain.h"
#include "relay/expiry.h"
#include "relay/fanout.h"
#include "relay/handover_worker.h"
#include "relay/notify.h"
#include "relay/poll.h"
#include "relay/presence_worker.h"
#include "relay/publish_job.h"
#include "relay/query.h"
#include "relay/session.h"
#include "relay/session_json_members.h"
#include "relay/transport.h"
#include "relay/tunnel.h"
#include "relay/upstream.h"
#include "relay/websocket.h"

#include <algorithm>
#include <signal.h>
#include <stdlib.h>
#include <string>
#include <unistd.h>
#include <vector>

namespace belfry {

static constexpr uint32_t letters_a_turn = 1024;
static constexpr uint64_t reconnect_spread_ms = 10000; // `bye` spreads the reconnects over this

static void on_accept(int fd, const struct sockaddr *peer, socklen_t size, void *context) {
    auto *l = static_cast<worker_listener *>(context);
    conn_accept(&l->of->shard, fd, peer, size, l->settings);
}

static void carry_out(shard *s, const order_letter *o);

void worker_init(worker *w, uint8_t index, const relay_settings *settings, loop *node_loop,
                 std::atomic<int64_t> *process_live, const std::atomic<bool> *node_stalled,
                 upstream_shared *const *upstreams, drain_pace *pace) {
    shard *s = &w->shard;
    s->pace = pace;
    s->index = index;
    s->settings = settings;
    s->process_live = process_live;
    s->node_stalled = node_stalled;
    s->loop = loop_new();
    s->first_phase = &head_phase;
    s->slow = &fanout_slow_hooks;
    s->release = admission_release;
    s->carry_out = carry_out;
    s->reader = json_reader_new();
    s->packer = deflater_new(static_cast<size_t>(settings->compression_min));
    s->unpacker = inflater_new();
    wheel_init(&s->wheel, s->loop->clock.monotonic_ms, conn_fire, s);
    wheel_init(&s->deadlines, s->loop->clock.monotonic_ms, deadline_fire, nullptr);
    mailbox_init(&s->inbox, mailbox_capacity, s->loop);
    mailbox_init(&s->outbox, mailbox_capacity, node_loop);
    slab_init(&s->conn_slab, sizeof(conn), 65536);
    slab_init(&s->chunk_slab, sizeof(outq_chunk), 1 << 20); // a burst to 10,000 members is one page: no mmap a turn
    slab_init(&s->membership_slab, sizeof(membership), 65536);
    for (link *l : {&s->graveyard, &s->tls_waiting, &s->again, &s->paused, &s->doomed})
        list_init(l);
    slab_init(&s->exchange_slab, sizeof(exchange), 65536); // one empty page stays, also for idle connections to carry
    table_init(&s->rooms);
    s->upstreams = new upstream *[settings->upstreams.size()] {};
    for (size_t i = 0; i < settings->upstreams.size(); i++)
        s->upstreams[i] = upstream_new(s, &settings->upstreams[i], upstreams[i]);
    s->notifier = notifier_new(s);
    loop_tick(s->loop, wheel_tick_ms);
}

// ---------------------------------------------------------------- the backend's orders

static void disconnect(conn *c, const order_letter *o) {
    if (admission_refuse_waiting(c, 403, refuse_room, "disconnected by the backend") || !transport_of(c) ||
        c->close_sent)
        return;
    conn_record_closing(c, conn_closer::backend, o->reason);
    uint64_t after = o->reconnect ? random_below(reconnect_spread_ms) : 0;
    c->session->bye(c, o->code, o->reason, o->reconnect, after);
    transport_close(c, o->code, o->reason);
}

static void disconnect_many(shard *s, const order_letter *o) {
    for (uint32_t i = 0; i < s->slot_count; i++) {
        conn *c = s->conns[i];
        if (!c || c->closed || (!o->all && !room_membership(c, o->room))) continue;
        if (handover_worker_defers(s, c, o)) continue;
        disconnect(c, o);
    }
}

static void join_by_order(shard *s, conn *c, const order_letter *o) {
    membership *m = nullptr;
    if (static_cast<int64_t>(room_counted(c)) >= c->route->max_rooms) {
        static log_limit limit; // a backend orders what a client has asked it for
        uint64_t held = 0;
        if (log_limit_pass(&limit, &held))
            log_warn("command join: a connection from %s has %u rooms already, its route's max_rooms (%llu more not "
                     "shown)",
                     conn_peer_text(c).text, room_counted(c), static_cast<unsigned long long>(held));
        return;
    }
    if (room_join(s, c, o->room, &m) == join_result::joined) c->session->joined(c, m);
}

static void leave_by_order(shard *s, conn *c, const order_letter *o) {
    membership *m = room_membership(c, o->room);
    if (!m) return;
    if (!m->member) c->session->refused(c, m, 403, "removed by the backend");
    room_leave(s, m);
    c->session->removed(c, o->room, "kicked");
}

static void carry_out_on(shard *s, conn *c, const order_letter *o) {
    if (!c || c->closed || c->close_sent || handover_worker_defers(s, c, o)) return;
    if (o->op == order_op::disconnect) return disconnect(c, o);
    if (!transport_of(c)) return; // it is not known to anybody before its 101
    switch (o->op) {
    case order_op::join:
        return join_by_order(s, c, o);
    case order_op::leave:
        return leave_by_order(s, c, o);
    default:
        return expiry_refresh(c);
    }
}

// Who is in the user's room, or waits to be: a copy, since orders change rooms.
static std::vector<conn *> conns_of_user(shard *s, const std::string &user) {
    std::string name = "@user:" + user;
    std::vector<conn *> all;
    const room *r = room_find(s, name, hash_bytes(name));
    if (!r) return all;
    for (uint32_t i = 0; i < r->count; i++)
        all.push_back(r->members[i].who);
    for (const link *n = r->waiters.next; n != &r->waiters; n = n->next)
        all.push_back(BELFRY_CONTAINER_OF(const_cast<link *>(n), membership, waiting)->who);
    return all;
}

static void carry_out(shard *s, const order_letter *o) {
    handover_worker_passes_on(s, o);
    if (o->op == order_op::disconnect && (o->all || o->by_room)) return disconnect_many(s, o);
    if (!o->by_user) return carry_out_on(s, conn_find(s, o->conn), o);
    for (conn *c : conns_of_user(s, o->user)) // freed at the end of the turn at the earliest
        carry_out_on(s, c, o);
}

// ---------------------------------------------------------------- letters

static void deliver(shard *s, message *m) {
    fanout_deliver(s, m);
    bool last = m->pending.fetch_sub(1, std::memory_order_acq_rel) == 1;
    if (last) message_landed(m);
    if (last && m->job)
        mailbox_send(&s->outbox, &m->head); // the receipt; our reference goes with it
    else
        message_unref(m);
}

static void close_listener(worker *w, worker_listener *l) {
    const int fd = l->accepting.fd; // listener_stop forgets it
    w->accept_exhausted += l->accepting.exhausted;
    listener_stop(&l->accepting);
    close(fd);
    delete l;
}

static void open_listener(worker *w, const worker_socket *s) {
    auto *l = new worker_listener{};
    l->of = w;
    l->settings = s->settings;
    listener_start(&l->accepting, w->shard.loop, s->fd, on_accept, l);
    w->listeners.push_back(l);
}

static void close_listeners(worker *w) {
    for (worker_listener *l : w->listeners)
        close_listener(w, l);
    w->listeners.clear();
}

// Of a thread that could not be started: the sockets are the caller's still, who may close them at any time.
static void forget_listeners(worker *w) {
    for (worker_listener *l : w->listeners) {
        listener_stop(&l->accepting);
        delete l;
    }
    w->listeners.clear();
}

static void begin_drain(worker *w) {
    close_listeners(w);
    drain_begin(&w->shard, drain_scope::all);
}

// Backends have been told of all but the last to go: those get one try.
static void give_up(worker *w) {
    begin_drain(w);
    drain_overdue(&w->shard);
    notifier_close(w->shard.notifier);
}

static void abort_all(worker *w) {
    shard *s = &w->shard;
    close_listeners(w);
    for (uint32_t i = 0; i < s->slot_count; i++)
        if (s->conns[i]) conn_abort(s->conns[i]);
    s->draining = s->ending = true;
}

static void on_answer(shard *s, const answer_letter *a) {
    conn *c = conn_find(s, a->to);
    if (c && c->open) c->session->published(c, a);
}

// A join that was given up, and maybe begun again, meanwhile has another number.
static void on_join_answer(shard *s, const join_answer_letter *a) {
    conn *c = conn_find(s, a->to);
    membership *m = c && c->open ? room_membership(c, a->room) : nullptr;
    if (!m || m->ask != a->number) return;
    m->ask = 0;
    if (!m->in->active) return; // a reload has ended the room's history: it is a member once the broker delivers it
    c->session->recovered(c, m, a);
    handover_worker_recovered(s, c);
}

static void join_answer_free(join_answer_letter *a) {
    for (message *m : a->replay)
        message_unref(m);
    delete a;
}

static void on_query(worker *w, query *q) {
    uint64_t exhausted = w->accept_exhausted;
    for (const worker_listener *l : w->listeners)
        exhausted += l->accepting.exhausted;
    query_answer(&w->shard, q, exhausted);
    if (q->pending.fetch_sub(1, std::memory_order_acq_rel) == 1) mailbox_send(&w->shard.outbox, &q->head);
}

static void on_carry(shard *s, carry_letter *l) {
    conn *c = plain_session_find(s, l);
    if (!c) return; // answered
    if (l->op == carry_op::message) return plain_session_post(c, l);
    if (c->plain->poll) return poll_asked(c, l);
    carry_refuse(s, l, 400, "the session is not one of long polling");
}

// Kept sockets get the settings that are named with them now, others are closed; new ones are accepted on.
static void adopt_listeners(worker *w, const std::vector<worker_socket> *sockets) {
    std::vector<worker_listener *> known;
    known.swap(w->listeners);
    for (const worker_socket &s : *sockets) {
        const auto same = [&s](const worker_listener *l) { return l->accepting.fd == s.fd; };
        const auto at = std::find_if(known.begin(), known.end(), same);
        if (at == known.end()) {
            open_listener(w, &s);
            continue;
        }
        (*at)->settings = s.settings;
        w->listeners.push_back(*at);
        known.erase(at);
    }
    for (worker_listener *l : known)
        close_listener(w, l);
}

static bool any_retired(const relay_settings *s) {
    const auto gone = [](const auto &section) { return section.retired; };
    return std::any_of(s->routes.begin(), s->routes.end(), gone) ||
           std::any_of(s->listeners.begin(), s->listeners.end(), gone);
}

static void adopt(worker *w, const adopt_letter *l) {
    shard_adopt(&w->shard, l->what);
    adopt_listeners(w, &l->sockets);
    if (any_retired(w->shard.settings)) drain_begin(&w->shard, drain_scope::retired);
    mailbox_send(&w->shard.outbox, new letter{letter_type::adopted, w->shard.index});
}

template <typename T> static T *as(letter *l) {
    return reinterpret_cast<T *>(l);
}

// What became of a room, told by the node.
static void read_room_letter(shard *s, room_letter *r) {
    switch (r->head.type) {
    case letter_type::active:
        room_counted_from(s, r->room, r->serial, r->ordinal);
        room_active(s, r->room, r->serial, &r->at, admission_room_active);
        break;
    case letter_type::refused:
        room_refused(s, r->room, r->serial, admission_room_refused);
        break;
    case letter_type::counted:
        room_counted_from(s, r->room, r->serial, r->ordinal);
        break;
    case letter_type::room_gap:
        fanout_room_gap(s, r->room, r->serial, &r->at);
        break;
    case letter_type::occupied:
        notify_room(s, notify_occupied, r->room);
        break;
    case letter_type::vacated:
        notify_room(s, notify_vacated, r->room);
        break;
    default:
        fatal("worker: a room's letter of type %d", static_cast<int>(r->head.type));
    }
    delete r;
}

static void read_members(shard *s, members_letter *answer) {
    conn *c = conn_find(s, answer->from);
    if (c && c->asking && c->asking < UINT8_MAX) c->asking--; // so many that nobody has counted: it stays
    if (c && c->open) json_members_told(c, answer);
    members_letter_free(answer);
}

// What the thread itself is to do: letters without more in them.
static void read_command(worker *w, letter *l) {
    switch (l->type) {
    case letter_type::gap:
        fanout_gap(&w->shard);
        break;
    case letter_type::deaf:
        close_listeners(w);
        break;
    case letter_type::drain:
        begin_drain(w);
        break;
    case letter_type::overdue:
        give_up(w);
        break;
    case letter_type::stop:
    case letter_type::kill:
        abort_all(w);
        break;
    default:
        fatal("worker: a letter of type %d", static_cast<int>(l->type));
    }
    delete l;
}

static void read_letter(worker *w, letter *l) {
    shard *s = &w->shard;
    switch (l->type) {
    case letter_type::broadcast:
        return deliver(s, as<message>(l));
    case letter_type::active:
    case letter_type::refused:
    case letter_type::counted:
    case letter_type::room_gap:
    case letter_type::occupied:
    case letter_type::vacated:
        return read_room_letter(s, as<room_letter>(l));
    case letter_type::handover:
        return handover_worker_letter(s, as<handover_letter>(l));
    case letter_type::join_answer:
        on_join_answer(s, as<join_answer_letter>(l));
        join_answer_free(as<join_answer_letter>(l));
        return;
    case letter_type::order:
        carry_out(s, as<order_letter>(l));
        delete as<order_letter>(l);
        return;
    case letter_type::answer:
        on_answer(s, as<answer_letter>(l));
        delete as<answer_letter>(l);
        return;
    case letter_type::fence:
        if (conn *c = conn_find(s, as<fence_letter>(l)->from)) websocket_fenced(c);
        delete as<fence_letter>(l);
        return;
    case letter_type::members:
        return read_members(s, as<members_letter>(l));
    case letter_type::carry:
        return on_carry(s, as<carry_letter>(l));
    case letter_type::carried:
        return carrying_answered(s, as<carried_letter>(l));
    case letter_type::query:
        return on_query(w, as<query>(l));
    case letter_type::adopt:
        adopt(w, as<adopt_letter>(l));
        delete as<adopt_letter>(l);
        return;
    default:
        return read_command(w, l);
    }
}

// A burst of broadcasts is queued before anything is written, so that all of it is one write a connection; but a queue
// that fills up for that reason alone is no slow reader's: at half of send_queue the writes come first.
static bool writes_first(shard *s) {
    if (s->pressed && !s->dirty_first) s->pressed = false;
    return s->pressed;
}

static void read_letters(worker *w) {
    uint32_t n = 0;
    if (writes_first(&w->shard)) return;
    while (n < letters_a_turn) {
        auto *l = static_cast<letter *>(mailbox_receive(&w->shard.inbox));
        if (!l) break;
        read_letter(w, l);
        n++;
        if (w->shard.pressed) break;
    }
    // The node may hold letters back that did not fit, or wait for deliveries to be made.
    if (n >= mailbox_capacity / 16 || (n && w->shard.node_stalled->load(std::memory_order_relaxed)))
        loop_wake(w->shard.outbox.consumer);
}

// ---------------------------------------------------------------- the turn

static void resume_paused(shard *s) {
    mailbox_flush(&s->outbox);
    if (shard_backlogged(s)) return;
    while (!list_empty(&s->paused)) {
        conn *c = BELFRY_CONTAINER_OF(s->paused.next, conn, place);
        list_remove(&c->place);
        conn_resume(c);
    }
}

static bool work_left(const shard *s) {
    return s->dirty_first || conn_may_start(s) || !list_empty(&s->again) || !list_empty(&s->graveyard) ||
           ring_size(&s->inbox.ring) != 0 || drain_busy(s);
}

// The thread goes on: the node still has questions, until all workers are that far.
static void look_whether_drained(shard *s) {
    if (s->live) return s->drained.store(false, std::memory_order_release);
    notifier_hurry(s->notifier);
    const bool told = notifier_idle(s->notifier), before = s->drained.exchange(told, std::memory_order_acq_rel);
    if (told && !before) loop_wake(s->outbox.consumer);
}

static void turn(worker *w) {
    shard *s = &w->shard;
    loop_turn(s->loop, !work_left(s));
    read_letters(w);
    chain_run_resumes(s);
    if (s->departures) handover_worker_turn(s);
    if (grace_is_over(&w->pause, s->loop->clock.monotonic_ms)) {
        wheel_advance(&s->wheel, s->loop->clock.monotonic_ms);
        wheel_advance(&s->deadlines, s->loop->clock.monotonic_ms);
    }
    conn_start_waiting(s);
    conn_run_again(s);
    if (s->drain) drain_turn(s);
    fanout_flush(s);
    resume_paused(s);
    conn_bury(s);
    if (!s->retiring.empty()) shard_bury_upstreams(s);
    if (s->scratch.capacity > scratch_keep) buffer_free(&s->scratch);
    if (s->unpacked.capacity > scratch_keep) buffer_free(&s->unpacked);
    s->count.turns++;
    w->beats.store(s->count.turns, std::memory_order_relaxed);
    if (s->draining) look_whether_drained(s);
}

static void say_stopped(shard *s) {
    mailbox_send(&s->outbox, new letter{letter_type::stopped, s->index});
    while (!mailbox_flush(&s->outbox)) { // the node empties the ring while it waits for this very letter
        loop_wake(s->outbox.consumer);
        loop_turn(s->loop, true);
    }
}

static void *run(void *context) {
    auto *w = static_cast<worker *>(context);
    chain_worker_start(&w->shard);
    while (!w->shard.ending)
        turn(w);
    while (w->shard.live) // what kill closed
        turn(w);
    close_listeners(w);
    chain_worker_stop(&w->shard);
    say_stopped(&w->shard);
    return nullptr;
}

bool worker_start(worker *w, const worker_socket *sockets, size_t count) {
    for (size_t i = 0; i < count; i++)
        open_listener(w, &sockets[i]);
    // Signals are the main thread's: this thread, and what it starts, is born with all of them blocked.
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    w->started = pthread_create(&w->thread, nullptr, run, w) == 0;
    pthread_sigmask(SIG_SETMASK, &old, nullptr);
    if (!w->started) forget_listeners(w);
    return w->started;
}

void worker_join(worker *w) {
    if (w->started) pthread_join(w->thread, nullptr);
    w->started = false;
}

static void drop_message(message *m) {
    if (m->pending.fetch_sub(1, std::memory_order_acq_rel) == 1) {
        message_landed(m);
        if (m->job) publish_job_settle(m->job, m->receivers.load(std::memory_order_relaxed), true);
    }
    message_unref(m);
}

static void drop_query(query *q) {
    if (q->pending.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
    q->done(q, q->context, q->tag);
    query_free(q);
}

static void drop_letter(letter *l) {
    switch (l->type) {
    case letter_type::broadcast:
        return drop_message(as<message>(l));
    case letter_type::active:
    case letter_type::refused:
    case letter_type::room_gap:
    case letter_type::occupied:
    case letter_type::vacated:
    case letter_type::counted:
        delete as<room_letter>(l);
        return;
    case letter_type::join_answer:
        return join_answer_free(as<join_answer_letter>(l));
    case letter_type::order:
        delete as<order_letter>(l);
        return;
    case letter_type::answer:
        delete as<answer_letter>(l);
        return;
    case letter_type::fence:
        delete as<fence_letter>(l);
        return;
    case letter_type::members:
        members_letter_free(as<members_letter>(l));
        return;
    case letter_type::carry:
        return carry_free(as<carry_letter>(l));
    case letter_type::carried:
        return carried_free(as<carried_letter>(l));
    case letter_type::query:
        return drop_query(as<query>(l));
    case letter_type::handover:
        return handover_letter_free(as<handover_letter>(l));
    case letter_type::adopt:
        delete as<adopt_letter>(l);
        return;
    default:
        delete l;
    }
}

void worker_drain(worker *w) {
    for (bool all = false; !all;) {
        all = mailbox_flush(&w->shard.inbox);
        while (auto *l = static_cast<letter *>(mailbox_receive(&w->shard.inbox)))
            drop_letter(l);
    }
}

void worker_destroy(worker *w) {
    shard *s = &w->shard;
    notifier_free(s->notifier);
    drain_free(s);
    for (size_t i = 0; i < s->settings->upstreams.size(); i++)
        upstream_free(s->upstreams[i]);
    delete[] s->upstreams;
    for (upstream *u : s->retiring)
        upstream_free(u);
    mailbox_destroy(&s->inbox);
    mailbox_destroy(&s->outbox);
    slab_destroy(&s->conn_slab);
    slab_destroy(&s->chunk_slab);
    slab_destroy(&s->membership_slab);
    slab_destroy(&s->exchange_slab);
    table_destroy(&s->rooms);
    json_reader_free(s->reader);
    deflater_free(s->packer);
    inflater_free(s->unpacker);
    buffer_free(&s->scratch);
    buffer_free(&s->unpacked);
    free(s->conns);
    free(s->free_slots);
    delete s->come;
    handover_worker_free(s);
    loop_free(s->loop);
}

} // namespace belfry
