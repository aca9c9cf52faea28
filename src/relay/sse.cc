// The phase of server-sent events. Owner's thread.
#include "relay/sse.h"

#include "base/log.h"
#include "proto/cursor.h"
#include "proto/server_json.h"
#include "proto/sse.h"
#include "proto/uri.h"
#include "relay/conn_record.h"
#include "relay/message_event.h"
#include "relay/notify.h"
#include "relay/room.h"
#include "relay/session.h"
#include "relay/transport.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

namespace belfry {

// ---------------------------------------------------------------- the answer's head

void sse_write_head(const exchange *x, buffer *out) {
    buffer_append(out, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-store\r\n"
                       "X-Accel-Buffering: no\r\nConnection: close\r\nBelfry-Connection: ");
    plain_session_name(x->on, out);
    buffer_append(out, "\r\n");
    buffer_append(out, buffer_view(&x->fields));
    buffer_append(out, "\r\n");
    sse_write_retry(out, sse_retry_ms);
    buffer_append(out, buffer_view(&x->on->plain->first));
}

void sse_read_cursor(const exchange *x) {
    conn *c = x->on;
    const http1_field *f = http1_find(&x->request, "Last-Event-ID", nullptr);
    std::string parameter = f ? std::string() : uri_parameter(x->request.query, "last_event_id");
    cursor found;
    buffer names = {};
    if (cursor_parse(f ? f->value : view(parameter), &found, &names))
        for (size_t i = 0; i < found.count; i++)
            c->plain->rejoin.push_back({std::string(found.rooms[i].room), found.rooms[i].at, false});
    buffer_free(&names);
}

// ---------------------------------------------------------------- the reader's place

// Where a room that is being joined again was left stays in the event id until it is joined: the connection may break
// before.
static void drop_rejoined(conn *c) {
    std::vector<plain_rejoin> &list = c->plain->rejoin;
    std::erase_if(list, [c](const plain_rejoin &r) {
        const membership *m = room_membership(c, r.room);
        return m && m->member;
    });
}

static void write_cursor(const conn *c, buffer *out) {
    size_t count = 0;
    for (const plain_rejoin &r : c->plain->rejoin)
        if (cursor_add(out, count, &r.since, r.room)) count++;
    for (const membership *m = c->rooms; m; m = m->next) {
        if (!m->member || room_name(m->in)[0] == '@' || position_none(&m->in->at)) continue;
        if (cursor_add(out, count, &m->in->at, room_name(m->in))) count++;
    }
}

// Behind what was delivered, and before it is written: the event id that says so. A few hundred bytes of text for each
// connection that was delivered to in this turn, and no more than one frame.
static bool flushing(conn *c) {
    plain_session *p = c->plain;
    if (!p || c->close_sent) return true;
    drop_rejoined(c);
    buffer *out = &c->on->scratch;
    buffer_clear(out);
    write_cursor(c, out);
    uint64_t now = out->size ? hash_bytes(buffer_view(out)) | 1 : 0;
    if (now == p->told) return true;
    p->told = now;
    buffer block = {};
    sse_write_id(&block, buffer_view(out));
    frame *f = frame_as_no_message(frame_copy(buffer_view(&block)));
    outq_push(&c->outq, &c->on->chunk_slab, f); // 3 KB at most, beyond send_queue or not
    buffer_free(&block);
    return true;
}

// ---------------------------------------------------------------- out

static void send_frame(conn *c, frame *f) {
    if (!conn_send(c, f)) transport_close_slow(c);
}

static void send(conn *c, uint8_t opcode, view payload) {
    send_frame(c, c->session->form == form_json ? message_event(payload)
                                                : message_event_raw(payload, opcode == ws_binary));
}

// The last words: of the JSON protocol, those of the session; where it has not said them itself, and to readers of the
// raw protocol, what a Close frame would have said.
static void say_end(conn *c, uint16_t code, view reason) {
    plain_session *p = c->plain;
    bool again = code < 4400 || code == 4408 || code == 4413 || code >= 4502;
    if (!p->said_bye && c->session->form == form_json) c->session->bye(c, code, reason, again, 0);
    if (c->closed || c->close_sent) return; // no room even for that
    buffer text = {};
    if (p->after_ms) sse_write_retry(&text, p->after_ms);
    if (c->session->form != form_json) {
        buffer object = {};
        server_json_bye(&object, code, reason, again, p->after_ms);
        sse_write_event(&text, "bye", buffer_view(&object));
        buffer_free(&object);
    }
    if (text.size) (void)conn_send(c, frame_copy(buffer_view(&text)));
    buffer_free(&text);
}

static void close(conn *c, uint16_t code, view reason) {
    if (c->closed || c->close_sent || c->phase != &sse_phase) return;
    conn_record_closing(c, conn_closer::server, reason);
    if (!c->close_code) {
        c->close_code = code;
        counters_close(&c->on->count, code);
    }
    say_end(c, code, reason);
    if (c->closed || c->close_sent) return;
    c->close_sent = true;
    conn_linger(c);
}

static void close_slow(conn *c) {
    static log_limit limit;
    uint64_t held = 0;
    if (c->closed || c->close_sent) return;
    if (log_limit_pass(&limit, &held))
        log_info("slow consumer: %s has %u bytes of events waiting, closed with 4413 (%llu more not shown)",
                 conn_peer_text(c).text, c->outq.bytes, static_cast<unsigned long long>(held));
    c->on->count.dropped[drop_slow_consumer] += outq_drop_unsent(&c->outq, &c->on->chunk_slab, false);
    close(c, 4413, "slow consumer");
}

static const transport_ops transport = {"sse", send, close, close_slow, plain_session_answer};

// ---------------------------------------------------------------- in

// Behind its request a reader has nothing to say.
static char *bytes(conn *c, char *, char *end) {
    close(c, 1002, "a reader of events sends nothing");
    return end;
}

static void eof(conn *c, const char *why) {
    log_debug("sse: %s: %s", conn_peer_text(c).text, why);
    if (!c->close_code) {
        c->close_code = 1005; // there are no last words of a client; that is how all of them end
        counters_close(&c->on->count, 1005);
    }
    conn_abort(c);
}

// ---------------------------------------------------------------- deadlines

static uint64_t left(uint64_t now, uint64_t from, int64_t period) {
    uint64_t due = from + static_cast<uint64_t>(period);
    return due > now ? due - now : 0;
}

// pinged_ms: of the last comment.
static void arm(conn *c) {
    const struct route *r = c->route;
    uint64_t now = c->on->loop->clock.monotonic_ms, next = wheel_ms_max;
    auto sooner = [&next](uint64_t ms) { next = ms < next ? ms : next; };
    if (r->ping_interval) sooner(left(now, c->pinged_ms, r->ping_interval));
    if (r->idle_timeout) sooner(left(now, c->spoke_ms, r->idle_timeout));
    conn_set_deadline(c, next);
}

static void deadline(conn *c) {
    const struct route *r = c->route;
    uint64_t now = c->on->loop->clock.monotonic_ms;
    if (r->idle_timeout && !left(now, c->spoke_ms, r->idle_timeout)) return close(c, 1001, "idle");
    if (r->ping_interval && !left(now, c->pinged_ms, r->ping_interval)) {
        c->pinged_ms = now;
        c->on->count.pings_out++;
        // Where something waits already, that will show whether there is a reader.
        if (!c->outq.count) send_frame(c, frame_as_no_message(frame_copy(":\n\n")));
        if (c->closed || c->close_sent) return;
    }
    arm(c);
}

static void closed(conn *c) {
    room_leave_all(c);
    notify_event(c, notify_disconnected, view(), c->close_code ? c->close_code : 1006);
}

// A reader that is gone without a word answers no comment: the kernel counts what it does not acknowledge. Fails on a
// unix socket, which has no silence.
static void bound_silence(const conn *c) {
    int64_t most = c->route->ping_interval + c->route->pong_timeout;
    auto ms = static_cast<unsigned>(most < 3600000 ? most : 3600000);
    if (!c->route->ping_interval) ms = 0; // the kernel's own bound
    setsockopt(c->stream.fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &ms, sizeof ms);
}

static void retuned(conn *c) {
    conn_slow_retuned(c);
    bound_silence(c);
    conn_set_deadline(c, transport_retune_ms(c));
}

const conn_phase sse_phase = {"sse",   bytes,      eof,      deadline,          closed,
                              nullptr, &transport, flushing, plain_session_run, retuned};

void sse_open(conn *c) {
    conn_set_phase(c, &sse_phase);
    c->open = true;
    conn_set_send_queue(c, static_cast<uint32_t>(c->route->send_queue));
    c->pinged_ms = c->spoke_ms = c->on->loop->clock.monotonic_ms;
    c->on->count.plain.events++;
    if (c->plain->held) c->on->count.plain.held++;
    buffer_free(&c->plain->first);
    if (c->route->ping_interval) bound_silence(c);
    arm(c);
}

} // namespace belfry
