// The reverse proxy: what may be asked, the head for the backend, the upstream call's events, the connection's phase.
// Owner's thread.
#include "relay/proxy.h"

#include "base/hash.h"
#include "base/log.h"
#include "proto/http1_forward.h"
#include "relay/access.h"
#include "relay/proxy_answer.h"
#include "relay/proxy_body.h"
#include "relay/proxy_clock.h"
#include "relay/tunnel.h"
#include "relay/upstream_pool.h"

namespace belfry {

// ---------------------------------------------------------------- what may be asked

static constexpr const char *allow = "Allow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS\r\n";

struct objection {
    int status = 0; // 0: none
    refuse_reason reason = refuse_bad_request;
    const char *why = "";
    const char *fields = "";
};

// RFC 9110 section 10.1.1: 100-continue is the only expectation there is.
static bool expects_the_unknown(const http1_request *q) {
    if (q->minor_version < 1) return false;
    for (uint32_t i = 0; i < q->field_count; i++)
        if (bytes_equal_nocase(q->fields[i].name, "Expect") && !bytes_equal_nocase(q->fields[i].value, "100-continue"))
            return true;
    return false;
}

static objection object(const exchange *x) {
    const http1_request *q = &x->request;
    auto most = static_cast<uint64_t>(x->on->route->max_body);
    if (q->method == "TRACE") return {405, refuse_method_not_allowed, "this method is not proxied", allow};
    if (const char *why = http1_forward_refuse(q)) return {400, refuse_bad_request, why};
    if (expects_the_unknown(q))
        return {417, refuse_bad_request, "the only expectation that can be met is 100-continue"};
    if (most && q->has_content_length && q->content_length > most)
        return {413, refuse_too_large, "the body is larger than max_body"};
    return {};
}

// Asking twice is as good as asking once (RFC 9110 section 9.2.2).
static bool idempotent(view method) {
    return method == "GET" || method == "HEAD" || method == "OPTIONS" || method == "PUT" || method == "DELETE";
}

// ---------------------------------------------------------------- the head for the backend

// The client's trace goes on where it is well-formed, else one begins here.
static view find_trace(const http1_request *q, char made[http1_traceparent_size]) {
    const http1_field *trace = http1_find(q, "traceparent", nullptr);
    if (trace && http1_traceparent_valid(trace->value)) return trace->value;
    uint8_t random[http1_traceparent_random]; // no secrets: nothing is decided by them
    random_fill(random, sizeof random);
    http1_traceparent_make(random, made);
    return view(made, http1_traceparent_size);
}

static void write_head(const proxying *p, buffer *out) {
    exchange *x = p->x;
    const http1_request *q = &x->request;
    char made[http1_traceparent_size];
    ip_text peer = ip_format(&p->on->peer);
    forward_request_options o = {};
    o.host = q->authority.empty() ? view(p->on->route->upstream) : q->authority; // HTTP/1.0 has no Host
    o.scheme = exchange_scheme(x);
    o.client_host = ip_is_none(&p->on->peer) ? view() : view(peer);
    o.request_id = exchange_request_id(x);
    o.traceparent = find_trace(q, made);
    o.trusted = x->trusted;
    o.upgrade_websocket = x->kind == BELFRY_TUNNEL;
    o.body = p->body;
    o.content_length = q->content_length;
    buffer target = {};
    http1_forward_target(q, &target);
    http1_forward_request(q, buffer_view(&target), &o, out);
    buffer_free(&target);
}

// Only now is the body asked for: nobody sends megabytes to a backend that can't be reached. Not where it is on its way
// already.
static bool say_continue(proxying *p) {
    const http1_request *q = &p->x->request;
    if (!q->expect_continue || p->continued || p->in_done || p->in_bytes) return true;
    p->continued = true;
    static constexpr view interim = "HTTP/1.1 100 Continue\r\n\r\n";
    p->out_bytes += interim.size();
    return conn_send(p->on, frame_copy(interim));
}

// ---------------------------------------------------------------- the upstream call

static proxying *of(upstream_call *call) {
    return BELFRY_CONTAINER_OF(call, proxying, call);
}

static void on_ready(upstream_call *call) {
    proxying *p = of(call);
    conn *c = p->on;
    access_upstream(p->x, call->server->shared->settings->text);
    if (!p->kept_all) return proxying_refuse(p, 502, refuse_backend, "the backend was lost with half of the request");
    buffer *out = &c->on->scratch;
    buffer_clear(out);
    write_head(p, out);
    proxy_body_write_kept(p, out);
    http_link_begin(call->link, p->x->request.method);
    http_link_send(call->link, frame_copy(buffer_view(out)));
    proxy_body_sent(p);
    if (p->in_done) return;
    if (!say_continue(p)) return conn_abort(c);
    if (c->paused) return proxy_body_resume(p);
    proxy_clock_body(p);
}

static void on_head(upstream_call *call, const http1_response *r) {
    proxying *p = of(call);
    if (r->status != 101) return proxy_answer_head(p, r);
    const char *why = p->x->kind == BELFRY_TUNNEL ? tunnel_refuse(p->x, r) : "the backend's 101 was not asked for";
    if (why) return proxying_refuse(p, 502, refuse_backend, why);
    tunnel_open(p, r);
}

static void on_body(upstream_call *call, view data) {
    proxy_answer_body(of(call), data);
}

static void on_end(upstream_call *call, view trailers) {
    proxy_answer_end(of(call), trailers);
}

static void on_failed(upstream_call *call, upstream_failure why, bool) {
    proxying *p = of(call);
    p->over = true;
    proxying_refuse(p, upstream_failure_status(why), refuse_backend, upstream_failure_name(why));
}

static void on_drained(upstream_call *call) {
    proxying *p = of(call);
    if (p->on->paused) proxy_body_resume(p);
}

static const upstream_call_ops call_ops = {on_ready, on_head, on_body, on_end, on_failed, on_drained};

// ---------------------------------------------------------------- the connection's phase

// What comes behind the request waits for its turn, and behind a handshake for the 101. Of a body whose answer is here
// already nothing is read any more.
static char *bytes(conn *c, char *begin, char *end) {
    proxying *p = c->exchange->proxy;
    if (!p->in_done && !p->over) return proxy_body_bytes(p, begin, end);
    conn_pause(c);
    return begin;
}

// A client that shuts its side down behind a whole request still gets the answer (RFC 9112 section 9.6 lets it), and
// one that has closed altogether looks the same: it shows by the first write that fails. A reset shows at once.
static void eof(conn *c, const char *) {
    proxying *p = c->exchange->proxy;
    if ((p->finishing || proxy_body_eof(p)) && !proxying_client_dead(c)) return;
    c->on->count.refused[refuse_gone]++;
    conn_abort(c);
}

static void log_stalled(const conn *c, const char *why) {
    static log_limit limit;
    uint64_t held = 0;
    if (log_limit_pass(&limit, &held))
        log_info("proxy: %s on %s: %s (%llu more not shown)", conn_peer_text(c).text, c->route->path.c_str(), why,
                 static_cast<unsigned long long>(held));
}

static void deadline(conn *c) {
    proxying *p = c->exchange->proxy;
    const char *why = "";
    switch (proxy_clock_check(p, &why)) {
    case proxy_lateness::none:
        return;
    case proxy_lateness::body:
        return proxying_refuse(p, 408, refuse_timeout, why);
    case proxy_lateness::answer:
        c->exchange->cut_why = why;
        log_stalled(c, why);
        return proxying_reset(c);
    }
}

static void flushed(conn *c) {
    proxy_answer_flushed(c->exchange->proxy);
}

static const conn_phase proxying_phase = {"proxying", bytes, eof, deadline, nullptr, flushed};

void proxy_start(exchange *x) {
    conn *c = x->on;
    const http1_request *q = &x->request;
    if (objection o = object(x); o.status) return x->events->refuse(x, o.status, o.reason, o.why, o.fields);
    auto *p = new proxying{};
    p->on = c;
    p->x = x;
    p->body = http1_request_body_kind(q);
    p->in_done = p->body == http1_body_kind::none || (p->body == http1_body_kind::length && !q->content_length);
    p->kept_all = true;
    http1_body_start(&p->in, p->body, q->content_length);
    x->proxy = p;
    conn_set_send_queue(c, proxy_send_queue);
    c->on->count.edge.requests++;
    conn_set_phase(c, &proxying_phase);
    proxy_clock_arm(p);
    view key = exchange_sticky(x);
    upstream_call_start(&p->call, c->on->upstreams[c->route->upstream_index], &call_ops, x->has_sticky ? &key : nullptr,
                        idempotent(q->method));
    if (c->paused && !c->eof_seen) conn_resume(c); // a module had made it wait
}

void proxy_cancel(exchange *x) {
    proxying *p = x->proxy;
    if (!p->head_out) x->on->on->count.edge.answers[0]++;
    x->sent = p->out_bytes;
    x->proxy = nullptr;
    proxying_free(p);
}

} // namespace belfry
