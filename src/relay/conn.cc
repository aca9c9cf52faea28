// Connections: life, reading, writing, lingering. On the worker thread that accepted them.
#include "relay/conn.h"

#include "base/log.h"
#include "proto/proxy_header.h"
#include "relay/conn_record.h"

#include <errno.h>
#include <new>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

namespace belfry {

static constexpr uint64_t linger_ms = 2000;       // for the peer's end of file, once all is written
static constexpr uint64_t linger_flush_ms = 5000; // for the queue to be written before
static constexpr uint32_t linger_bytes_max =
    4 << 20; // thrown away at the most; what is more waits in the kernel for the deadline
static constexpr uint32_t tls_starts_a_turn = 64; // waiting handshakes; each costs a signature, 50 to 500 us
static constexpr uint32_t over_limit_max = 64;    // connections above the limit that get a 503, per thread

static void on_ready(watch *w, unsigned ready);

// ---------------------------------------------------------------- slots

static uint32_t take_slot(shard *s, conn *c) {
    if (s->free_count) {
        uint32_t slot = s->free_slots[--s->free_count];
        s->conns[slot] = c;
        return slot;
    }
    if (s->slot_count == s->slot_capacity) {
        s->slot_capacity = s->slot_capacity ? s->slot_capacity * 2 : 256;
        s->conns = static_cast<conn **>(memory_resize(s->conns, s->slot_capacity * sizeof *s->conns));
        s->free_slots = static_cast<uint32_t *>(memory_resize(s->free_slots, s->slot_capacity * sizeof *s->free_slots));
    }
    s->conns[s->slot_count] = c;
    return s->slot_count++;
}

static void free_slot(shard *s, const conn *c) {
    uint32_t slot = c->slot;
    if (s->come) {
        auto at = s->come->find(c->tag);
        if (at != s->come->end()) {
            slot = at->second;
            s->come->erase(at);
        }
    }
    s->conns[slot] = nullptr;
    s->free_slots[s->free_count++] = slot;
}

static conn *find_come(const shard *s, conn_id id) {
    if (!s->come) return nullptr;
    auto at = s->come->find(id.tag);
    if (at == s->come->end()) return nullptr;
    conn *c = s->conns[at->second];
    return c->slot == id.slot && !c->closed ? c : nullptr;
}

conn *conn_find(shard *s, conn_id id) {
    if (id.worker != s->index) return nullptr;
    conn *c = id.slot < s->slot_count ? s->conns[id.slot] : nullptr;
    return c && c->tag == id.tag && !c->closed ? c : find_come(s, id);
}

void conn_set_phase(conn *c, const conn_phase *phase) {
    c->phase = phase;
}

void conn_set_deadline(conn *c, uint64_t after_ms) {
    wheel_set(&c->on->wheel, &c->timer, c->on->loop->clock.monotonic_ms, after_ms);
}

void conn_fire(timer *t, void *) {
    conn *c = BELFRY_CONTAINER_OF(t, conn, timer);
    if (!c->closed) c->phase->deadline(c);
}

// ---------------------------------------------------------------- TLS

// The next one that waits is begun by conn_start_waiting, not from here: those whose handshakes fail at once would
// nest, a level of the stack for each connection that waits.
static void tls_release(conn *c) {
    if (!c->tls_counted) return;
    c->tls_counted = false;
    c->on->tls_under_way--;
}

static void tls_failed(conn *c, refuse_reason reason) {
    static log_limit limit;
    uint64_t held = 0;
    const char *why = reason == refuse_tls_timeout ? "handshake_timeout passed" : stream_why();
    c->on->count.refused[reason]++;
    if (log_limit_pass(&limit, &held))
        log_info("tls: %s from %s refused: %s (%llu more not shown)", c->listener->name.c_str(), conn_peer_text(c).text,
                 why, static_cast<unsigned long long>(held));
    conn_record_refused(c, reason, why);
    list_remove(&c->place); // it may stand in tls_waiting
    if (reason == refuse_tls_timeout)
        conn_abort(c); // nothing was said that could be lost
    else
        conn_linger(c); // the alert is on its way
}

static void tls_eof(conn *c, const char *) {
    c->on->count.refused[refuse_gone]++;
    conn_abort(c);
}
static void tls_deadline(conn *c) {
    tls_failed(c, refuse_tls_timeout);
}

static const conn_phase tls_phase = {"tls", nullptr, tls_eof, tls_deadline, nullptr, nullptr};
static const conn_phase arriving_phase = {"arriving", nullptr, tls_eof, tls_deadline, nullptr, nullptr};

static void tls_step(conn *c) {
    switch (stream_handshake(&c->stream)) {
    case stream_result::again:
        stream_watch(&c->stream, c->stream.wants);
        return;
    case stream_result::eof:
    case stream_result::failed:
        tls_failed(c, refuse_tls_failed);
        return;
    case stream_result::ok:
        break;
    }
    tls_release(c);
    conn_set_phase(c, c->on->first_phase);
    stream_watch(&c->stream, stream_readable);
    conn_read_again(c); // the request may be in the same segment as the client's Finished
}

// The SSL object (13 KB) is made when the first byte is there, and for max_handshakes at once: a flood of half-open
// connections costs descriptors, not memory.
static void tls_start(conn *c) {
    shard *s = c->on;
    if (!c->listener->context)
        return conn_abort(c); // a reload has made it a listener without TLS since it was accepted
    if (s->tls_under_way >= static_cast<uint32_t>(c->listener->max_handshakes)) {
        stream_watch(&c->stream, 0);
        list_remove(&c->place);
        list_push_back(&s->tls_waiting, &c->place);
        return;
    }
    stream_watch(&c->stream, 0);
    stream_open_tls(&c->stream, s->loop, c->stream.fd, on_ready, c->listener->context);
    c->tls_counted = true;
    s->tls_under_way++;
    conn_set_phase(c, &tls_phase);
    tls_step(c);
}

bool conn_may_start(const shard *s) {
    if (list_empty(&s->tls_waiting)) return false;
    const conn *next = BELFRY_CONTAINER_OF(s->tls_waiting.next, conn, place);
    return s->tls_under_way < static_cast<uint32_t>(next->listener->max_handshakes);
}

void conn_start_waiting(shard *s) {
    for (uint32_t n = 0; n < tls_starts_a_turn && conn_may_start(s); n++) {
        conn *c = BELFRY_CONTAINER_OF(s->tls_waiting.next, conn, place);
        list_remove(&c->place);
        tls_start(c);
    }
}

// ---------------------------------------------------------------- the PROXY header

static void arrive(conn *c) {
    conn_set_phase(c, c->listener->context ? &arriving_phase : c->on->first_phase);
    stream_watch(&c->stream, stream_readable);
}

static void preface_failed(conn *c, refuse_reason reason, const char *why) {
    static log_limit limit;
    uint64_t held = 0;
    c->on->count.refused[reason]++;
    if (log_limit_pass(&limit, &held))
        log_info("preface: %s from %s dropped: %s (%llu more not shown)", c->listener->name.c_str(),
                 conn_peer_text(c).text, why, static_cast<unsigned long long>(held));
    conn_record_refused(c, reason, why);
    conn_abort(c); // section 2 of proxy-protocol.txt: no answer, nobody may take it for HTTP
}

// Takes no more from the socket than the header: TLS wants to read the rest itself. So what is there is looked at
// first; all of it belongs to the header while that is incomplete.
static void preface_step(conn *c) {
    char bytes[proxy_header_max];
    size_t had = c->rest.size;
    if (had) memcpy(bytes, c->rest.data, had);
    ssize_t n;
    do
        n = recv(c->stream.fd, bytes + had, sizeof bytes - had, MSG_PEEK | MSG_DONTWAIT);
    while (n < 0 && errno == EINTR);
    if (n < 0 && errno == EAGAIN) return;
    if (n <= 0) return preface_failed(c, refuse_gone, "the connection ended before its PROXY header");
    proxy_header h;
    const char *why = "";
    size_t have = had + static_cast<size_t>(n);
    proxy_header_result result = proxy_header_parse(view(bytes, have), &h, &why);
    if (result == proxy_header_result::failed) return preface_failed(c, refuse_preface, why);
    size_t take = (result == proxy_header_result::complete ? h.size : have) - had;
    if (recv(c->stream.fd, bytes + had, take, MSG_DONTWAIT) != static_cast<ssize_t>(take))
        return preface_failed(c, refuse_gone, "the connection ended before its PROXY header");
    if (result == proxy_header_result::incomplete) return buffer_append(&c->rest, view(bytes + had, take));
    buffer_free(&c->rest);
    if (!h.local) c->peer = h.source;
    arrive(c);
}

static void preface_deadline(conn *c) {
    preface_failed(c, refuse_timeout, "no PROXY header within handshake_timeout");
}

static const conn_phase preface_phase = {"preface", nullptr, tls_eof, preface_deadline, nullptr, nullptr};

// ---------------------------------------------------------------- accept

struct ip_text conn_peer_text(const conn *c) {
    return ip_format(&c->peer);
}

// Counted in process_live already; without a stream.
static conn *conn_new(shard *s, const listener_settings *listener) {
    conn *c = new (slab_get(&s->conn_slab)) conn{};
    c->on = s;
    c->listener = listener;
    c->slot = take_slot(s, c);
    random_bytes(&c->tag, sizeof c->tag);
    c->opened_ms = c->heard_ms = c->spoke_ms = s->loop->clock.monotonic_ms;
    list_init(&c->place);
    timer_init(&c->timer);
    outq_init(&c->outq);
    conn_set_send_queue(c, 65536); // until a route says otherwise: room for any refusal
    s->live++;
    return c;
}

void conn_accept(shard *s, int fd, const struct sockaddr *peer, socklen_t peer_size,
                 const listener_settings *listener) {
    int64_t all = s->process_live->fetch_add(1, std::memory_order_relaxed) + 1;
    bool over = all > s->settings->max_connections;
    if (over && all > s->settings->max_connections + over_limit_max) {
        // Above even the few that get an answer: the kernel's reset says it.
        s->process_live->fetch_sub(1, std::memory_order_relaxed);
        s->count.refused[refuse_full]++;
        close(fd);
        return;
    }
    conn *c = conn_new(s, listener);
    c->over_limit = over;
    c->peer = address_ip(peer, peer_size);
    s->count.accepted++;
    stream_open_plain(&c->stream, s->loop, fd, on_ready);
    conn_set_deadline(c, static_cast<uint64_t>(listener->handshake_timeout));
    if (!listener->proxy_protocol) return arrive(c);
    conn_set_phase(c, &preface_phase);
    stream_watch(&c->stream, stream_readable);
}

// ---------------------------------------------------------------- reading

static void block(conn *c) {
    if (!c->blocked) c->blocked_ms = c->on->loop->clock.monotonic_ms;
    c->blocked = true;
}

// Most pauses end before anything comes: the watch goes only when something does, which saves two epoll_ctl a pause.
static void watch_again(conn *c) {
    unsigned what = c->blocked ? stream_writable : 0;
    bool still = c->paused && !c->eof_seen && (stream_watched(&c->stream) & stream_readable);
    if (!c->paused || still) what |= stream_readable;
    stream_watch(&c->stream, what);
}

static void stop_reading(conn *c, conn_closer by, const char *why) {
    conn_record_closing(c, by, why);
    c->paused = c->eof_seen = true; // level-triggered: an unread end of file would wake us for ever
    watch_again(c);
    c->phase->eof(c, why);
}

// Hands [begin, end) to the phases, as they change, until nobody takes more.
static char *feed(conn *c, char *begin, char *end) {
    while (begin < end && !c->closed && !c->paused && c->phase->bytes) {
        const conn_phase *phase = c->phase;
        char *stopped = phase->bytes(c, begin, end);
        if (stopped == begin && phase == c->phase) break;
        begin = stopped;
    }
    return begin;
}

static void keep_rest(conn *c, const char *begin, const char *end) {
    buffer_clear(&c->rest);
    if (begin < end)
        buffer_append(&c->rest, view(begin, static_cast<size_t>(end - begin)));
    else
        buffer_free(&c->rest);
}

// What was left over comes first, then one read behind it, in the thread's buffer; so only a left-over is ever copied.
static void read_some(conn *c) {
    struct loop *l = c->on->loop;
    char *begin = l->receive;
    size_t have = c->rest.size, got = 0;
    if (have) memcpy(begin, c->rest.data, have);
    size_t room = loop_headroom + loop_receive_size - have;
    stream_result result = room ? stream_read(&c->stream, begin + have, room, &got) : stream_result::ok;
    if (got) {
        c->heard_ms = l->clock.monotonic_ms;
        c->ping_waiting = false;
        c->on->count.bytes_in += got;
        if (c->record) c->record->bytes_in += got;
    }
    bool resumed = c->resumed;
    c->resumed = false;
    if (got || (have && (resumed || result != stream_result::again))) {
        char *end = begin + have + got;
        char *stopped = feed(c, begin, end);
        if (c->closed) return;
        keep_rest(c, stopped, end);
    }
    if (result == stream_result::again && c->stream.wants == stream_writable) block(c); // TLS wants to write first
    if (result == stream_result::eof)
        stop_reading(c, conn_closer::client, "the client ended the connection");
    else if (result == stream_result::failed)
        stop_reading(c, conn_closer::network, stream_why());
    else if (!c->paused && stream_pending(&c->stream))
        conn_read_again(c);
    else
        watch_again(c);
}

static void on_ready(watch *w, unsigned ready) {
    conn *c = BELFRY_CONTAINER_OF(w, conn, stream.watch);
    if (c->phase == &preface_phase) return preface_step(c);
    if (c->phase == &arriving_phase) return tls_start(c);
    if (c->phase == &tls_phase) return tls_step(c);
    if (ready & stream_writable) {
        c->blocked = false;
        conn_flush(c);
    }
    if (!(ready & stream_readable) || c->closed) return;
    if (!c->paused) return read_some(c);
    stream_watch(&c->stream, c->blocked ? stream_writable : 0); // level-triggered: it would wake us until we read
}

void conn_read_again(conn *c) {
    list_remove(&c->place);
    list_push_back(&c->on->again, &c->place);
}

void conn_run_again(shard *s) {
    link now;
    list_init(&now);
    list_splice(&now, &s->again);
    while (!list_empty(&now)) {
        conn *c = BELFRY_CONTAINER_OF(now.next, conn, place);
        list_remove(&c->place);
        if (!c->closed && c->phase->again) c->phase->again(c);
        if (!c->closed && !c->paused) read_some(c);
    }
}

void conn_pause(conn *c) {
    if (c->paused) return;
    c->paused = true;
    watch_again(c);
}

// Feeds nothing here: it may be called from inside a phase that is being fed.
void conn_resume(conn *c) {
    if (!c->paused || c->closed || c->eof_seen || c->fencing) return;
    if (c->holds && !c->close_sent) return; // behind our Close nothing is waited for but the peer's
    c->paused = false;
    c->heard_ms = c->spoke_ms = c->on->loop->clock.monotonic_ms; // what came meanwhile was not read, by our fault
    c->ping_waiting = false;
    bool nothing_came = !c->rest.size && (stream_watched(&c->stream) & stream_readable) && !stream_pending(&c->stream);
    if (nothing_came && !c->phase->again) return;
    c->resumed = true;
    conn_read_again(c);
}

void conn_hold(conn *c) {
    c->holds++;
    conn_pause(c);
}

void conn_let_go(conn *c) {
    if (--c->holds == 0) conn_resume(c);
}

// ---------------------------------------------------------------- writing

void conn_mark_dirty(conn *c) {
    shard *s = c->on;
    c->dirty = true;
    c->next_dirty = nullptr;
    if (s->dirty_last)
        s->dirty_last->next_dirty = c;
    else
        s->dirty_first = c;
    s->dirty_last = c;
}

bool conn_send(conn *c, frame *f) {
    const bool gone = c->closed || c->shut; // to a connection that is over nothing is owed
    const bool full = conn_queued(c) + conn_charge(f) > c->send_queue + conn_frame_cost + ws_control_max;
    if (gone || (full && !conn_slow_make_room(c, conn_charge(f)))) {
        frame_unref(f);
        return gone;
    }
    outq_push(&c->outq, &c->on->chunk_slab, f);
    if (!c->dirty && !c->blocked) conn_mark_dirty(c);
    if (conn_queued(c) > c->limit) [[unlikely]]
        conn_slow_queued(c);
    return true;
}

void conn_pong(conn *c, frame *f) {
    if (!c->blocked && c->pongs < conn_pongs_max && conn_queued(c) + conn_charge(f) <= c->send_queue) {
        c->pongs++;
        if (!conn_send(c, f)) conn_linger(c); // can't be: the room was just checked
        return;
    }
    if (c->pong) {
        frame_unref(c->pong);
        c->on->count.dropped[drop_pong]++;
    }
    c->pong = f;
}

// The Pong that waited goes out when the queue is written anyway. Not behind a Close frame.
static void queue_pong(conn *c) {
    frame *f = c->pong;
    if (!f) return;
    c->pong = nullptr;
    if (c->close_sent || c->shut)
        frame_unref(f);
    else
        outq_push(&c->outq, &c->on->chunk_slab, f);
}

static bool lingering(const conn *c);

static void shut_down(conn *c) {
    c->shut = true;
    stream_shutdown(&c->stream);
    if (c->eof_seen)
        conn_abort(c); // both sides have ended
    else
        conn_set_deadline(c, linger_ms);
}

void conn_flush(conn *c) {
    if (c->closed || c->blocked) return;
    if (c->phase->flushing && !c->phase->flushing(c)) return;
    queue_pong(c);
    uint32_t before = c->outq.bytes;
    stream_result result = outq_flush(&c->outq, &c->on->chunk_slab, &c->stream);
    c->on->count.bytes_out += before - c->outq.bytes;
    if (outq_counts_full(&c->outq)) [[unlikely]]
        conn_record_settle(c);
    switch (result) {
    case stream_result::ok:
        if (c->crowded) [[unlikely]]
            conn_slow_written(c);
        if (c->outq.count) {
            if (!c->dirty) conn_mark_dirty(c); // the socket may take more: next turn
            return;
        }
        c->pongs = 0;
        if (lingering(c) && !c->shut) shut_down(c);
        if (!c->closed) watch_again(c);
        if (!c->closed && c->phase->flushed) c->phase->flushed(c);
        return;
    case stream_result::again:
        block(c);
        watch_again(c);
        return;
    case stream_result::eof:
    case stream_result::failed:
        conn_record_closing(c, conn_closer::network, stream_why());
        conn_abort(c);
        return;
    }
}

// ---------------------------------------------------------------- without a socket

conn *conn_detach(conn *c, const conn_phase *phase) {
    shard *s = c->on;
    s->process_live->fetch_add(1, std::memory_order_relaxed);
    conn *to = conn_new(s, c->listener);
    to->peer = c->peer;
    to->opened_ms = c->opened_ms;
    stream_watch(&c->stream, 0);
    to->stream = c->stream;
    stream_open_none(&c->stream, s->loop);
    to->outq = c->outq;
    outq_init(&c->outq);
    to->rest = c->rest;
    c->rest = {};
    to->blocked = c->blocked;
    to->blocked_ms = c->blocked_ms;
    to->eof_seen = c->eof_seen;
    to->paused = true;
    c->blocked = true; // nothing will ever be writable
    c->blocked_ms = s->loop->clock.monotonic_ms;
    c->paused = c->eof_seen = c->resumed = false;
    conn_set_phase(to, phase);
    watch_again(to);
    if (to->outq.count && !to->blocked) conn_mark_dirty(to);
    return to;
}

// ---------------------------------------------------------------- to and from another process

void conn_freeze(conn *c) {
    c->paused = c->blocked = true;
    stream_watch(&c->stream, 0);
    list_remove(&c->place);
}

void conn_thaw(conn *c, bool was_blocked) {
    c->blocked = was_blocked;
    conn_slow_queued(c); // its limit depends on that
    if ((c->outq.count || c->pong) && !c->blocked && !c->dirty) conn_mark_dirty(c);
    watch_again(c);
}

static void bury_soon(conn *c) {
    shard *s = c->on;
    c->closed = true;
    if (c->told) s->count.drain.closed++;
    conn_slow_end(c);
    if (c->pong) frame_unref(c->pong);
    c->pong = nullptr;
    wheel_cancel(&s->wheel, &c->timer);
    stream_close(&c->stream);
    buffer_free(&c->rest);
    buffer_free(&c->message);
    list_remove(&c->place);
    list_push_back(&s->graveyard, &c->place);
}

void conn_vanish(conn *c) {
    c->open = false;
    conn_record_forget(c);
    outq_clear(&c->outq, &c->on->chunk_slab); // the other process has what was in it
    bury_soon(c);
}

conn *conn_arrive(shard *s, int fd, conn_id id, const listener_settings *listener) {
    if (conn_find(s, id)) return nullptr;
    s->process_live->fetch_add(1, std::memory_order_relaxed);
    conn *c = conn_new(s, listener);
    if (!s->come) s->come = new std::unordered_map<uint64_t, uint32_t>;
    (*s->come)[id.tag] = c->slot;
    c->slot = id.slot;
    c->tag = id.tag;
    c->answered = true;
    stream_open_plain(&c->stream, s->loop, fd, on_ready);
    conn_freeze(c);
    return c;
}

// ---------------------------------------------------------------- the end

static char *linger_bytes(conn *c, char *begin, char *end) {
    c->lingered += static_cast<uint32_t>(end - begin);
    // Not closed: the reset would overtake our last bytes, while a browser is still sending its megabytes.
    if (c->lingered > linger_bytes_max) conn_pause(c);
    return end;
}
static void linger_eof(conn *c, const char *) {
    if (c->shut || !c->outq.count) conn_abort(c);
}
static void linger_deadline(conn *c) {
    conn_abort(c);
}
static const conn_phase lingering_phase = {"lingering", linger_bytes, linger_eof, linger_deadline, nullptr, nullptr};

static bool lingering(const conn *c) {
    return c->phase == &lingering_phase;
}

static void leave_phase(conn *c) {
    c->open = false;
    tls_release(c);
    if (c->phase->closed) c->phase->closed(c);
    if (c->on->release) c->on->release(c);
}

void conn_linger(conn *c) {
    if (c->closed || lingering(c)) return;
    leave_phase(c);
    conn_set_phase(c, &lingering_phase);
    c->paused = c->eof_seen;
    buffer_free(&c->rest);
    buffer_free(&c->message);
    conn_set_deadline(c, linger_flush_ms);
    if (!c->outq.count)
        shut_down(c);
    else if (!c->dirty && !c->blocked)
        conn_mark_dirty(c);
    if (!c->closed) watch_again(c);
}

void conn_abort(conn *c) {
    if (c->closed) return;
    shard *s = c->on;
    leave_phase(c);
    conn_record_end(c);
    s->count.dropped[drop_closing] += outq_clear(&c->outq, &s->chunk_slab);
    bury_soon(c);
}

void conn_bury(shard *s) {
    link *next;
    for (link *n = s->graveyard.next; n != &s->graveyard; n = next) {
        next = n->next;
        conn *c = BELFRY_CONTAINER_OF(n, conn, place);
        if (c->dirty) continue; // still in the dirty list: the flush takes it out, the next turn buries it
        list_remove(n);
        free_slot(s, c);
        s->live--;
        s->process_live->fetch_sub(1, std::memory_order_relaxed);
        slab_put(&s->conn_slab, c);
    }
}

} // namespace belfry
