// Hook calls of clients. On the thread of the connection.
#include "relay/hook.h"

#include "base/log.h"
#include "relay/access.h"
#include "relay/session.h"
#include "relay/transport.h"

namespace belfry {

bool hook_wanted(const conn *c) {
    return c->route && !c->route->hook.empty() && c->route->upstream_index >= 0;
}

static void posted(hook_post *p, int status, const char *why);

static_assert(static_cast<size_t>(hook_event::notify) + 1 == hook_kinds);

// A refresh is Belfry's own idea; all others but connect are a client's message.
static bool holds_client(const hook_call *h) {
    return h->event != hook_event::refresh && h->event != hook_event::connect;
}

// ---------------------------------------------------------------- life

static hook_call *call_new(conn *c, hook_event event, void (*done)(hook_call *, const hook_outcome *)) {
    auto *h = new hook_call{};
    h->on = c;
    h->event = event;
    h->done = done;
    list_init(&h->place);
    hook_post_init(&h->post, c->on, posted);
    return h;
}

static void call_free(hook_call *h) {
    hook_post_cancel(&h->post);
    buffer_free(&h->data);
    delete h;
}

hook_call *hook_new(conn *c, hook_event event, void (*done)(hook_call *, const hook_outcome *)) {
    client_of(c);
    return call_new(c, event, done);
}

hook_asker hook_asker_of(const conn *c, conn_id_text *id) {
    *id = conn_id_format(conn_id_of(c));
    return {*id, client_user(c), c->client ? view(c->client->state) : view()};
}

static void start(hook_call *h, const view *key) {
    h->on->on->count.edge.hook_calls++;
    hook_post_start(&h->post, h->on->route, key, hook_event_safe(h->event));
}

static void start_first(client *who) {
    if (list_empty(&who->calls)) return;
    hook_call *h = BELFRY_CONTAINER_OF(who->calls.next, hook_call, place);
    view key = who->sticky;
    if (!h->post.running) start(h, who->has_sticky ? &key : nullptr);
}

void hook_send(hook_call *h) {
    conn *c = h->on;
    client *who = client_of(c);
    list_push_back(&who->calls, &h->place);
    who->call_count++;
    if (holds_client(h)) conn_hold(c);
    start_first(who);
}

static void leave_queue(hook_call *h) {
    client *who = h->on->client;
    if (!who || list_empty(&h->place)) return; // connect stands in no queue
    list_remove(&h->place);
    who->call_count--;
}

void hook_cancel(hook_call *h) {
    leave_queue(h);
    call_free(h);
}

void hook_cancel_all(conn *c) {
    client *who = c->client;
    while (who && !list_empty(&who->calls))
        hook_cancel(BELFRY_CONTAINER_OF(who->calls.next, hook_call, place));
}

// ---------------------------------------------------------------- what an answer means

static void log_failure(const hook_call *h, int status, const char *why) {
    static log_limit limit = {.burst = 10};
    uint64_t held = 0;
    h->on->on->count.edge.hook_failures++;
    if (log_limit_pass(&limit, &held))
        log_warn("hook: %s on %s failed with %d: %s (%llu more not shown)", hook_event_name(h->event),
                 h->on->route->path.c_str(), status, why, static_cast<unsigned long long>(held));
}

static void fail(const hook_call *h, hook_outcome *o, int status, const char *why) {
    o->status = status;
    o->why = why;
    log_failure(h, status, why);
}

// What the backend may say by a 4xx: a client it does not want (connect), or no longer (refresh).
static bool refused(const hook_call *h, int status, hook_outcome *o) {
    bool may = h->event == hook_event::connect || h->event == hook_event::refresh;
    if (status < 400 || status > 499 || !may) return false;
    h->on->on->count.edge.hook_refusals++;
    o->status = status;
    o->why = "the backend refused";
    o->refusal_type = buffer_view(&h->post.type);
    if (h->post.answer.size <= hook_refusal_max) o->refusal = buffer_view(&h->post.answer);
    return true;
}

static void read_answer(hook_call *h, int status, const char *why, hook_outcome *o, buffer *scratch) {
    static log_limit limit;
    uint64_t held = 0;
    error e;
    if (status >= 500) return fail(h, o, status, why);
    if (refused(h, status, o)) return;
    o->status = 200;
    o->why = "";
    if (status == 204) return;
    if (status != 200) return fail(h, o, 502, "the backend answered with neither 200 nor 204");
    if (!hook_answer_parse(h->on->on->reader, buffer_view(&h->post.answer), &o->answer, scratch, &e)) {
        hook_answer_empty(&o->answer);
        if (log_limit_pass(&limit, &held))
            log_warn("hook: the backend's answer to %s is malformed: %s (%llu more not shown)",
                     hook_event_name(h->event), e.text, static_cast<unsigned long long>(held));
        return fail(h, o, 502, "the backend's answer is malformed");
    }
    if (o->answer.has_error) h->on->on->count.edge.hook_refusals++;
}

// The backend ends the session: behind the answer to what was asked.
static void disconnect(conn *c, const hook_answer *a) {
    if (c->closed || c->close_sent || !transport_of(c)) return;
    conn_record_closing(c, conn_closer::backend, a->reason);
    c->session->bye(c, a->close_code, a->reason, false, 0);
    transport_close(c, a->close_code, a->reason);
}

// Before there is a session, the backend ends it by a refusal.
static void refuse_instead(hook_outcome *o) {
    if (o->status != 200 || !o->answer.disconnect) return;
    o->status = 403;
    o->why = "the backend disconnects it";
}

static void posted(hook_post *p, int status, const char *why) {
    hook_call *h = BELFRY_CONTAINER_OF(p, hook_call, post);
    conn *c = h->on;
    bool connect = h->event == hook_event::connect;
    buffer scratch = {};
    hook_outcome o = {};
    hook_answer_empty(&o.answer);
    read_answer(h, status, why, &o, &scratch);
    histogram_add(&c->on->count.hook_times[static_cast<size_t>(h->event)], clock_monotonic_ns() - p->started_ns);
    leave_queue(h);
    if (o.status == 200 && o.answer.has_state) client_of(c)->state = o.answer.state;
    if (connect) refuse_instead(&o);
    if (connect && o.status == 200) hook_commands(c->on, &o.answer);
    if (!c->close_sent) h->done(h, &o); // after a Close nothing is owed to the client (RFC 6455 section 5.5.1)
    if (!connect) {
        hook_commands(p->on, &o.answer);
        if (o.answer.disconnect) disconnect(c, &o.answer);
        if (holds_client(h) && c->client) conn_let_go(c);
        if (c->client) start_first(c->client);
    }
    call_free(h);
    buffer_free(&scratch);
}

// ---------------------------------------------------------------- connect

static void pass_fields(const exchange *x, buffer *out) {
    static const char *const passed[] = {"Cookie", "Authorization", "Origin", "User-Agent", "Accept-Language"};
    for (uint32_t i = 0; i < x->request.field_count; i++) {
        const http1_field *f = &x->request.fields[i];
        for (const char *name : passed) {
            if (!bytes_equal_nocase(f->name, name)) continue;
            buffer_append(out, name);
            buffer_append(out, ": ");
            buffer_append(out, f->value);
            buffer_append(out, "\r\n");
        }
    }
    buffer_printf(out,
                  "X-Forwarded-For: %s\r\nX-Forwarded-Proto: %.*s\r\nX-Forwarded-Host: ", ip_format(&x->client).text,
                  static_cast<int>(exchange_scheme(x).size()), exchange_scheme(x).data());
    buffer_append(out, x->request.authority);
    buffer_append(out, "\r\n");
}

static void picked(hook_post *p, view server) {
    const hook_call *h = BELFRY_CONTAINER_OF(p, hook_call, post);
    access_upstream(h->on->exchange, server);
}

void hook_connect(exchange *x, void (*done)(hook_call *, const hook_outcome *)) {
    conn *c = x->on;
    hook_call *h = call_new(c, hook_event::connect, done);
    conn_id_text id = conn_id_format(conn_id_of(c));
    ip_text address = ip_format(&x->client);
    hook_connect_request q = {};
    q.conn = id;
    q.ip = address;
    if (x->hello.has_origin) q.origin = x->hello.origin;
    q.path = buffer_view(&x->path);
    q.query = x->request.query;
    q.subprotocols = x->hello.protocols;
    q.subprotocol_count = x->hello.protocol_count;
    q.claims = buffer_view(&x->claims);
    hook_write_connect(hook_body(h), &q);
    pass_fields(x, &h->post.fields);
    h->post.request_id = exchange_request_id(x);
    h->post.picked = picked;
    x->connect = h;
    view key = exchange_sticky(x);
    start(h, x->has_sticky ? &key : nullptr);
}

} // namespace belfry
