// The WebSocket phase: RFC 6455 sections 5 to 7 for one connection.
#include "relay/websocket.h"

#include "base/log.h"
#include "proto/utf8.h"
#include "relay/conn_record.h"
#include "relay/notify.h"
#include "relay/room.h"
#include "relay/session.h"
#include "relay/transport.h"

#include <string.h>

namespace belfry {

static constexpr uint64_t close_wait_ms = 5000;               // for the peer's Close
static constexpr uint64_t fence_wait_ms = 1000;               // for our own publishes to come back
static constexpr uint64_t fragment_bookkeeping = 1024 * 1024; // bytes, see ws_limits; never below max_message

// ---------------------------------------------------------------- out

void websocket_send(conn *c, uint8_t opcode, view payload) {
    char header[10];
    size_t n = ws_write_header(opcode, payload.size(), header);
    frame *f = frame_join(view(header, n), payload);
    if (opcode >= ws_close) frame_as_no_message(f);
    if (!conn_send(c, f)) websocket_close_slow(c);
}

static void send_close(conn *c, uint16_t code, view reason) {
    char payload[ws_control_max];
    payload[0] = static_cast<char>(code >> 8);
    payload[1] = static_cast<char>(code);
    size_t n = reason.size() < ws_control_max - 2 ? reason.size() : ws_control_max - 2;
    if (n) memcpy(payload + 2, reason.data(), n);
    c->close_sent = true;
    c->open = false;
    if (!c->close_code) {
        c->close_code = code;
        counters_close(&c->on->count, code);
    }
    char header[10];
    size_t h = ws_write_header(ws_close, code == 1005 ? 0 : n + 2, header);
    frame *f = frame_join(view(header, h), view(payload, code == 1005 ? 0 : n + 2));
    frame_as_no_message(f);
    outq_push(&c->outq, &c->on->chunk_slab, f); // 127 bytes at most, once: beyond send_queue or not
    if (!c->dirty && !c->blocked) conn_mark_dirty(c);
}

void websocket_close(conn *c, uint16_t code, view reason) {
    if (c->closed || c->close_sent || c->phase != &websocket_phase) return;
    conn_record_closing(c, conn_closer::server, reason);
    bool broken = c->fencing && c->fence_broken; // a parser that has failed must not be fed again
    c->fencing = false;
    send_close(c, code, reason);
    if (c->close_received || c->eof_seen || broken) {
        conn_linger(c);
        return;
    }
    conn_set_deadline(c, close_wait_ms);
    if (c->paused) conn_resume(c); // the peer's Close is in what was not read yet
}

static void log_slow(const conn *c) {
    static log_limit limit;
    uint64_t held = 0;
    if (log_limit_pass(&limit, &held))
        log_info("slow consumer: %s has %u bytes waiting, closed with 4413 (%llu more not shown)",
                 conn_peer_text(c).text, c->outq.bytes, static_cast<unsigned long long>(held));
}

void websocket_close_slow(conn *c) {
    if (c->closed || c->close_sent) return;
    log_slow(c);
    c->on->count.dropped[drop_slow_consumer] += outq_drop_unsent(&c->outq, &c->on->chunk_slab, false);
    websocket_close(c, 4413, "slow consumer");
}

static void answer_close(conn *c, uint16_t code) {
    if (!c->close_sent) {
        c->close_code = code;
        counters_close(&c->on->count, code);
        send_close(c, code, view()); // echoed; 1005: an empty one
    }
    conn_linger(c);
}

// True where the end has to wait until what this client published itself has come back: whoever sends a message to an
// echo and then a Close gets both answered, in order.
static bool fence(conn *c, uint16_t code, const char *why) {
    if (!c->published || c->close_sent) return false;
    c->fencing = true;
    c->fence_code = code;
    c->fence_broken = why != nullptr;
    if (why) c->fence_why = why;
    conn_pause(c);
    conn_set_deadline(c, fence_wait_ms);
    auto *l = new fence_letter{{letter_type::fence, c->on->index}, conn_id_of(c)};
    mailbox_send(&c->on->outbox, &l->head);
    return true;
}

// A violation: Close, then nothing more is read as frames (RFC 6455 section 7.1.7).
static void fail(conn *c, uint16_t code, const char *why) {
    static log_limit limit;
    uint64_t held = 0;
    if (log_limit_pass(&limit, &held))
        log_info("websocket: %s violates the protocol: %s, closed with %u (%llu more not shown)",
                 conn_peer_text(c).text, why, code, static_cast<unsigned long long>(held));
    conn_record_closing(c, conn_closer::server, why);
    if (fence(c, code, why)) return;
    if (!c->close_sent) send_close(c, code, why);
    conn_linger(c);
}

void websocket_fenced(conn *c) {
    if (!c->fencing || c->closed || c->phase != &websocket_phase) return;
    c->fencing = false;
    if (!c->fence_broken) return answer_close(c, c->fence_code);
    if (!c->close_sent) send_close(c, c->fence_code, c->fence_why);
    conn_linger(c);
}

// ---------------------------------------------------------------- in

static void on_close(conn *c, const ws_event *e) {
    c->close_received = true;
    conn_record_closing(c, conn_closer::client, e->payload);
    if (!fence(c, e->close_code, nullptr)) answer_close(c, e->close_code);
}

static void on_control(conn *c, const ws_event *e) {
    if (e->opcode == ws_close) return on_close(c, e);
    if (e->opcode != ws_ping || c->close_sent) return;
    c->on->count.pings_in++;
    char header[10];
    size_t n = ws_write_header(ws_pong, e->payload.size(), header);
    conn_pong(c, frame_as_no_message(frame_join(view(header, n), e->payload)));
}

// What clients cause (publishes, joins, leaves) may not pile up on its way to the node: this one waits, nothing is
// dropped.
static void wait_for_node(conn *c) {
    if (c->closed || c->fencing || c->close_sent || c->phase != &websocket_phase) return;
    conn_pause(c);
    list_remove(&c->place);
    list_push_back(&c->on->paused, &c->place);
}

static void on_message(conn *c, uint8_t opcode, char *data, size_t size) {
    c->on->count.messages_in++;
    if (c->record) c->record->messages_in++;
    c->spoke_ms = c->on->loop->clock.monotonic_ms;
    c->session->message(c, opcode, data, size);
    if (shard_backlogged(c->on)) wait_for_node(c);
}

// The thread has one inflater and one buffer for what comes out: no connection keeps any of it.
static void on_compressed(conn *c, uint8_t opcode, view payload) {
    shard *s = c->on;
    s->count.inflates++;
    switch (inflate_message(s->unpacker, payload, static_cast<size_t>(c->route->max_message), &s->unpacked)) {
    case inflate_result::too_big:
        return fail(c, 1009, "a compressed message that is larger than this route allows");
    case inflate_result::bad:
        return fail(c, 1007, "a compressed message that can't be inflated (RFC 7692 7.2.2)");
    case inflate_result::ok:
        break;
    }
    if (opcode == ws_text && !utf8_valid(buffer_view(&s->unpacked)))
        return fail(c, 1007, "compressed text that is not UTF-8 (RFC 6455 8.1)");
    on_message(c, opcode, s->unpacked.data, s->unpacked.size);
}

// A message that came in one piece stays where it was received; others are put together.
static void on_data(conn *c, const ws_event *e) {
    if (c->close_sent) return; // after our Close nothing is done with data (section 5.5.1)
    char *data = const_cast<char *>(e->payload.data());
    size_t size = e->payload.size();
    bool whole = e->first && e->last;
    if (!whole) {
        buffer_append(&c->message, e->payload);
        if (!e->last) return;
        buffer_reserve(&c->message, frame_padding);
        data = c->message.data;
        size = c->message.size;
    }
    if (e->compressed)
        on_compressed(c, e->opcode, view(data, size));
    else
        on_message(c, e->opcode, data, size);
    if (!whole) buffer_free(&c->message);
}

static char *bytes(conn *c, char *begin, char *end) {
    ws_bytes data = {begin, end};
    uint64_t most = static_cast<uint64_t>(c->route->max_message);
    ws_limits limits = {most, most > fragment_bookkeeping ? most : fragment_bookkeeping, form_is_deflated(c->form)};
    while (!c->closed && !c->paused && c->phase == &websocket_phase) {
        ws_event e = ws_parse(&c->parser, &limits, &c->message_received, &data);
        switch (e.type) {
        case ws_event_type::more:
            return data.begin;
        case ws_event_type::data:
            on_data(c, &e);
            break;
        case ws_event_type::control:
            on_control(c, &e);
            break;
        case ws_event_type::failed:
            fail(c, e.close_code, e.why);
            return end;
        }
    }
    return data.begin;
}

static void eof(conn *c, const char *why) {
    log_debug("websocket: %s: %s", conn_peer_text(c).text, why);
    if (!c->close_code) {
        c->close_code = 1006;
        counters_close(&c->on->count, 1006); // never on the wire (section 7.4.1), only counted
    }
    conn_abort(c);
}

// ---------------------------------------------------------------- deadlines

static uint64_t left(uint64_t now, uint64_t from, int64_t period) {
    uint64_t due = from + static_cast<uint64_t>(period);
    return due > now ? due - now : 0;
}

static void arm(conn *c) {
    const struct route *r = c->route;
    uint64_t now = c->on->loop->clock.monotonic_ms, next = wheel_ms_max;
    auto sooner = [&next](uint64_t ms) { next = ms < next ? ms : next; };
    if (c->ping_waiting)
        sooner(left(now, c->pinged_ms, r->pong_timeout));
    else if (r->ping_interval)
        sooner(left(now, c->heard_ms, r->ping_interval));
    if (r->idle_timeout) sooner(left(now, c->spoke_ms, r->idle_timeout));
    conn_set_deadline(c, next);
}

static void deadline(conn *c) {
    const struct route *r = c->route;
    uint64_t now = c->on->loop->clock.monotonic_ms;
    if (c->fencing) return websocket_fenced(c);
    if (c->paused && !c->close_sent)
        return conn_set_deadline(c, 1000);    // it is us who do not read: its silence says nothing
    if (c->close_sent) return conn_linger(c); // the peer's Close did not come
    if (c->ping_waiting && !left(now, c->pinged_ms, r->pong_timeout)) {
        conn_record_closing(c, conn_closer::network, "no pong");
        send_close(c, 1011, "no pong");
        return conn_linger(c);
    }
    if (r->idle_timeout && !left(now, c->spoke_ms, r->idle_timeout)) return websocket_close(c, 1001, "idle");
    if (r->ping_interval && !c->ping_waiting && !left(now, c->heard_ms, r->ping_interval)) {
        c->ping_waiting = true;
        c->pinged_ms = now;
        c->on->count.pings_out++;
        websocket_send(c, ws_ping, view());
        if (c->close_sent || c->closed) return;
    }
    arm(c);
}

static void closed(conn *c) {
    room_leave_all(c);
    notify_event(c, notify_disconnected, view(), c->close_code ? c->close_code : 1006);
}

static void retuned(conn *c) {
    conn_slow_retuned(c);
    if (!c->fencing && !c->close_sent) conn_set_deadline(c, transport_retune_ms(c));
}

static const transport_ops transport = {"ws", websocket_send, websocket_close, websocket_close_slow, nullptr};

const conn_phase websocket_phase = {"websocket", bytes,      eof,     deadline, closed,
                                    nullptr,     &transport, nullptr, nullptr,  retuned};

void websocket_continue(conn *c) {
    conn_set_phase(c, &websocket_phase);
    arm(c);
}

void websocket_open(conn *c) {
    conn_set_phase(c, &websocket_phase);
    c->open = true;
    conn_set_send_queue(c, static_cast<uint32_t>(c->route->send_queue));
    c->spoke_ms = c->heard_ms = c->on->loop->clock.monotonic_ms;
    arm(c);
}

} // namespace belfry
