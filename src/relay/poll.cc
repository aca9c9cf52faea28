// The phase of long polling. Owner's thread.
#include "relay/poll.h"

#include "base/log.h"
#include "proto/cursor.h"
#include "proto/json.h"
#include "relay/access.h"
#include "relay/carrying.h"
#include "relay/notify.h"
#include "relay/room.h"
#include "relay/session.h"
#include "relay/transport.h"

namespace belfry {

static constexpr uint64_t closing_ms = 3000; // for the last words to be fetched, and once more

static uint64_t now_of(const conn *c) {
    return c->on->loop->clock.monotonic_ms;
}

// ---------------------------------------------------------------- batches

// The queue holds WebSocket frames, which all sessions of a room share: what is behind their header is the message.
static view payload_of(const frame *f) {
    uint8_t size = static_cast<uint8_t>(f->data[1]) & 0x7f;
    return frame_view(f).substr(size == 127 ? 10 : size == 126 ? 4 : 2);
}

static void write_message(const conn *c, const frame *f, buffer *out) {
    view payload = payload_of(f);
    if (c->session->form == form_json) return buffer_append(out, payload);
    if ((f->data[0] & 0x0f) == ws_text) return json_write_string(out, payload);
    buffer_append(out, "{\"data64\":\"");
    buffer_reserve(out, 4 * ((payload.size() + 2) / 3));
    out->size += base64_encode(payload, out->data + out->size);
    buffer_append(out, "\"}");
}

static void begin_batch(const conn *c, uint64_t sequence, buffer *out) {
    conn_id_text id = conn_id_format(conn_id_of(c));
    poll_cursor cursor = {{id, view(c->plain->key, plain_key_size)}, sequence};
    buffer_append(out, "{\"cursor\":\"");
    poll_cursor_write(out, &cursor);
    buffer_append(out, "\",\"messages\":[");
}

static void answer(conn *c, frame *batch) {
    carry_letter *l = c->plain->asked;
    c->plain->asked = nullptr;
    c->plain->asked_ms = now_of(c);
    c->blocked = true; // what comes now waits for the next poll
    carry_reply(c->on, l, 200, batch);
}

static void answer_empty(conn *c) {
    buffer out = {};
    begin_batch(c, c->plain->sequence, &out);
    buffer_append(&out, "]}");
    answer(c, frame_copy(buffer_view(&out)));
    buffer_free(&out);
}

static void answer_batch(conn *c) {
    plain_session *p = c->plain;
    buffer *out = &c->on->scratch;
    buffer_clear(out);
    begin_batch(c, p->sequence + 1, out);
    size_t head = out->size;
    for (size_t n = 0; n < poll_batch_messages && out->size < head + poll_batch_bytes; n++) {
        frame *f = outq_take(&c->outq, &c->on->chunk_slab);
        if (!f) break;
        if (n) buffer_append_char(out, ',');
        write_message(c, f, out);
        frame_unref(f);
    }
    buffer_append(out, "]}");
    p->sequence++;
    p->last = frame_copy(buffer_view(out));
    answer(c, frame_ref(p->last));
    if (c->crowded) conn_slow_written(c);
}

// ---------------------------------------------------------------- deadlines

static uint64_t left(uint64_t now, uint64_t from, int64_t period) {
    uint64_t due = from + static_cast<uint64_t>(period);
    return due > now ? due - now : 0;
}

static void arm(conn *c) {
    const struct route *r = c->route;
    uint64_t next = left(now_of(c), c->plain->asked_ms, c->plain->asked ? r->poll_wait : r->poll_timeout);
    if (c->close_sent) next = closing_ms;
    if (!c->close_sent && r->idle_timeout) {
        uint64_t idle = left(now_of(c), c->spoke_ms, r->idle_timeout);
        next = idle < next ? idle : next;
    }
    conn_set_deadline(c, next);
}

static void close(conn *c, uint16_t code, view reason);

static void deadline(conn *c) {
    const struct route *r = c->route;
    uint64_t now = now_of(c);
    if (c->close_sent) return conn_abort(c);
    if (r->idle_timeout && !left(now, c->spoke_ms, r->idle_timeout)) return close(c, 1001, "idle");
    if (c->plain->asked && !left(now, c->plain->asked_ms, r->poll_wait)) answer_empty(c);
    if (c->plain->asked || left(now, c->plain->asked_ms, r->poll_timeout)) return arm(c);
    c->close_code = 1006;
    counters_close(&c->on->count, 1006);
    conn_record_closing(c, conn_closer::network, "no poll within poll_timeout");
    conn_abort(c);
}

// ---------------------------------------------------------------- polls

// Something waits, and a poll for it: answered at the end of the turn, with all that comes until then.
static bool flushing(conn *c) {
    if (!c->plain || !c->plain->asked) return false;
    if (c->outq.count || !c->plain->sequence) answer_batch(c); // the first is never waited for
    arm(c);
    return false;
}

static void wait_for_more(conn *c, carry_letter *l) {
    plain_session *p = c->plain;
    if (p->asked) answer_empty(c);
    p->asked = l;
    p->asked_ms = now_of(c);
    c->blocked = false;
    if ((c->outq.count || !p->sequence) && !c->dirty) conn_mark_dirty(c);
    arm(c);
}

void poll_asked(conn *c, carry_letter *l) {
    plain_session *p = c->plain;
    c->heard_ms = now_of(c);
    if (p->last && l->sequence + 1 == p->sequence) { // its answer was lost
        if (!p->asked) p->asked_ms = now_of(c);
        arm(c);
        return carry_reply(c->on, l, 200, frame_ref(p->last));
    }
    if (l->sequence != p->sequence)
        return carry_refuse(c->on, l, 409, "cursor: is neither the last nor the one before");
    if (p->last) frame_unref(p->last);
    p->last = nullptr;
    if (!c->close_sent || c->outq.count) return wait_for_more(c, l);
    carry_refuse(c->on, l, 404, "the session has ended");
    conn_abort(c);
}

// ---------------------------------------------------------------- the transport

static void close_slow(conn *c);

static void send(conn *c, uint8_t opcode, view payload) {
    char header[10];
    size_t n = ws_write_header(opcode, payload.size(), header);
    if (!conn_send(c, frame_join(view(header, n), payload))) close_slow(c);
}

// The last words wait for a poll like any other.
static void close(conn *c, uint16_t code, view reason) {
    plain_session *p = c->plain;
    if (c->closed || c->close_sent || c->phase != &poll_phase) return;
    bool again = code < 4400 || code == 4408 || code == 4413 || code >= 4502;
    conn_record_closing(c, conn_closer::server, reason);
    if (!c->close_code) {
        c->close_code = code;
        counters_close(&c->on->count, code);
    }
    if (!p->said_bye) c->session->bye(c, code, reason, again, 0);
    if (c->closed || c->close_sent) return;
    c->close_sent = true;
    c->open = false;
    arm(c);
}

static void close_slow(conn *c) {
    static log_limit limit;
    uint64_t held = 0;
    if (c->closed || c->close_sent) return;
    if (log_limit_pass(&limit, &held))
        log_info("slow consumer: %s has %u bytes waiting for a poll, closed with 4413 (%llu more not shown)",
                 conn_peer_text(c).text, c->outq.bytes, static_cast<unsigned long long>(held));
    c->on->count.dropped[drop_slow_consumer] += outq_drop_unsent(&c->outq, &c->on->chunk_slab, false);
    close(c, 4413, "slow consumer");
}

static const transport_ops transport = {"poll", send, close, close_slow, plain_session_answer};

// ---------------------------------------------------------------- life

static char *bytes(conn *, char *begin, char *) {
    return begin;
}
static void eof(conn *c, const char *) {
    conn_abort(c);
}

static void closed(conn *c) {
    room_leave_all(c);
    notify_event(c, notify_disconnected, view(), c->close_code ? c->close_code : 1006);
}

static void retuned(conn *c) {
    conn_slow_retuned(c);
    if (!c->close_sent) conn_set_deadline(c, transport_retune_ms(c));
}

const conn_phase poll_phase = {"poll",  bytes,      eof,      deadline,          closed,
                               nullptr, &transport, flushing, plain_session_run, retuned};

void poll_open(conn *c) {
    plain_session *p = c->plain;
    access_begin(c->exchange, "poll");
    conn *carrier = conn_detach(c, &carrying_phase);
    exchange *x = c->exchange;
    c->exchange = nullptr;
    carrier->exchange = x;
    carrier->route = c->route;
    x->on = carrier;
    c->peer = x->client;
    auto *l = new carry_letter{};
    l->op = carry_op::poll;
    l->from = conn_id_of(carrier);
    conn_set_phase(c, &poll_phase);
    c->open = true;
    c->answered = true;
    conn_set_send_queue(c, static_cast<uint32_t>(c->route->send_queue));
    c->spoke_ms = now_of(c);
    c->on->count.plain.polled++;
    p->poll = true;
    carrying_wait(x, static_cast<uint64_t>(c->route->poll_wait) + carrying_timeout_ms);
    wait_for_more(c, l);
}

} // namespace belfry
