// Requests for sessions that live elsewhere. Owner's thread.
#include "relay/carrying.h"

#include "proto/cursor.h"
#include "proto/http1_body.h"
#include "proto/uri.h"
#include "relay/access.h"
#include "relay/carry.h"
#include "relay/client.h"

namespace belfry {

// Answers that a client has not read yet, above which no more are made for it on this connection.
static constexpr uint64_t unread_max = 65536;

struct carrying {
    http1_body in; // owned
    buffer body;   // owned: content so far
    bool waiting;  // the request is whole and on its way
};

static carrying *carrying_of(exchange *x) {
    if (!x->carried) x->carried = new carrying{};
    return x->carried;
}

void carrying_cancel(exchange *x) {
    carrying *k = x->carried;
    if (!k) return;
    http1_body_free(&k->in);
    buffer_free(&k->body);
    delete k;
    x->carried = nullptr;
}

static void refuse(exchange *x, int status, refuse_reason reason, view why) {
    x->events->refuse(x, status, reason, why, status == 503 ? "Retry-After: 1\r\n" : "");
}

// ---------------------------------------------------------------- on its way

void carrying_wait(exchange *x, uint64_t at_most_ms) {
    conn *c = x->on;
    carrying_of(x)->waiting = true;
    conn_set_phase(c, &carrying_phase);
    conn_pause(c);
    conn_set_deadline(c, at_most_ms);
}

static carry_letter *letter_of(exchange *x, carry_op op, const session_name *of) {
    auto *l = new carry_letter{};
    l->op = op;
    l->from = conn_id_of(x->on);
    l->session = of->conn;
    l->session += '.';
    l->session += of->key;
    l->user = client_user(x->on);
    return l;
}

static void send_message(exchange *x, const session_name *of) {
    carrying *k = x->carried;
    view body = buffer_view(&k->body);
    if (shard_backlogged(x->on->on))
        return refuse(x, 503, refuse_backend, "too many messages are on their way already");
    carry_letter *l = letter_of(x, carry_op::message, of);
    l->body = frame_copy(body);
    buffer_free(&k->body);
    x->on->on->count.plain.posts++;
    carry_send(x->on->on, l);
    carrying_wait(x, carrying_timeout_ms);
}

static void send_poll(exchange *x) {
    std::string text = uri_parameter(x->request.query, "cursor");
    poll_cursor cursor;
    if (!poll_cursor_parse(text, &cursor)) return refuse(x, 400, refuse_bad_request, "cursor: is none");
    carry_letter *l = letter_of(x, carry_op::poll, &cursor.of);
    l->sequence = cursor.sequence;
    x->on->on->count.plain.polls++;
    carry_send(x->on->on, l);
    carrying_wait(x, static_cast<uint64_t>(x->on->route->poll_wait) + carrying_timeout_ms);
}

// ---------------------------------------------------------------- a POST's body

static void on_message(exchange *x) {
    size_t count = 0;
    const http1_field *f = http1_find(&x->request, "Belfry-Connection", &count);
    session_name of;
    if (!f || !session_name_parse(f->value, &of))
        return refuse(x, 400, refuse_bad_request, "Belfry-Connection names no session");
    send_message(x, &of);
}

// Takes what there is; once it is whole the message goes on its way. The exchange is gone where it was refused.
static char *take_body(exchange *x, char *begin, char *end) {
    carrying *k = x->carried;
    view rest(begin, static_cast<size_t>(end - begin)), data;
    const char *why = "";
    for (;;) {
        switch (http1_body_next(&k->in, &rest, &data, &why)) {
        case http1_body_event::data:
            if (k->body.size + data.size() > static_cast<uint64_t>(x->on->route->max_message)) {
                refuse(x, 413, refuse_too_large, "the body is larger than max_message");
                return end;
            }
            buffer_append(&k->body, data);
            continue;
        case http1_body_event::more:
            return end;
        case http1_body_event::failed:
            refuse(x, 400, refuse_bad_request, why);
            return end;
        case http1_body_event::end:
            break;
        }
        char *stopped = begin + (rest.data() - begin);
        on_message(x);
        return stopped;
    }
}

static char *bytes(conn *c, char *begin, char *end) {
    exchange *x = c->exchange;
    if (!x->carried->waiting) return take_body(x, begin, end);
    conn_pause(c); // the next request waits for its turn
    return begin;
}

static void eof(conn *c, const char *) {
    if (c->exchange->carried->waiting) return; // it has shut its side behind a whole request, and reads on
    c->on->count.refused[refuse_gone]++;
    conn_abort(c);
}

static void deadline(conn *c) {
    exchange *x = c->exchange;
    if (x->carried->waiting) return refuse(x, 504, refuse_timeout, "no answer in time");
    refuse(x, 408, refuse_timeout, "no whole body within body_timeout");
}

const conn_phase carrying_phase = {"carrying", bytes, eof, deadline, nullptr, nullptr};

static void read_body(exchange *x) {
    conn *c = x->on;
    static constexpr view interim = "HTTP/1.1 100 Continue\r\n\r\n";
    http1_body_start(&carrying_of(x)->in, http1_request_body_kind(&x->request), x->request.content_length);
    conn_set_phase(c, &carrying_phase);
    conn_set_deadline(c, static_cast<uint64_t>(c->route->body_timeout));
    if (x->request.expect_continue && !conn_send(c, frame_copy(interim))) return conn_abort(c);
    if (c->paused && !c->eof_seen) conn_resume(c); // a module had made it wait
    if (!x->request.chunked && !x->request.content_length) on_message(x);
}

void carrying_start(exchange *x) {
    if (x->plain == plain_ask_post)
        read_body(x);
    else
        send_poll(x);
}

// ---------------------------------------------------------------- the answer

void carrying_answered(shard *s, carried_letter *l) {
    conn *c = conn_find(s, l->to);
    exchange *x = c ? c->exchange : nullptr;
    if (!x || !x->carried || !x->carried->waiting) return carried_free(l); // gone, or told that it took too long
    bool keep_alive = x->request.keep_alive && conn_queued(c) < unread_max && !conn_leaving(c);
    buffer *out = &s->scratch;
    buffer_clear(out);
    buffer_printf(out,
                  "HTTP/1.1 %d %s\r\nContent-Type: application/json\r\nX-Content-Type-Options: nosniff\r\n"
                  "Cache-Control: no-store\r\n",
                  l->status, http1_reason(l->status));
    buffer_printf(out, "Content-Length: %u\r\n%s%s", l->body->size, keep_alive ? "" : "Connection: close\r\n",
                  l->status == 503 || l->status == 429 ? "Retry-After: 1\r\n" : "");
    buffer_append(out, buffer_view(&x->fields));
    buffer_append(out, "\r\n");
    frame *head = frame_copy(buffer_view(out));
    uint64_t queue = conn_queued(c) + conn_charge(head) + conn_charge(l->body);
    conn_set_send_queue(c, static_cast<uint32_t>(queue + unread_max));
    access_answered(x, l->status, head->size + l->body->size);
    bool sent = conn_send(c, head) && conn_send(c, frame_ref(l->body));
    carried_free(l);
    if (!sent) return conn_abort(c); // can't be: the room was just made
    carrying_cancel(x);
    x->events->answered(x, keep_alive);
}

} // namespace belfry
