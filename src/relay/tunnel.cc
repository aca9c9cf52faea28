// Tunnels. Owner's thread.
#include "relay/tunnel.h"

#include "base/log.h"
#include "proto/http1_forward.h"
#include "proto/wsframe.h"
#include "relay/access.h"

namespace belfry {

// For the backend to answer the end of file of a client; nobody half-closes a WebSocket connection to go on with it.
static constexpr uint64_t half_closed_ms = 5000;
static constexpr uint64_t broken_ms = 5000; // a connection that was reset while nothing was read of it is found within

// ---------------------------------------------------------------- the 101

static bool names_only(const http1_response *r, view name, view token) {
    size_t count = 0;
    const http1_field *f = http1_find(r, name, &count);
    return count == 1 && bytes_equal_nocase(f->value, token);
}

static bool accept_fits(const exchange *x, const http1_response *r) {
    char accept[handshake_accept_size];
    size_t count = 0;
    const http1_field *f = http1_find(r, "Sec-WebSocket-Accept", &count);
    handshake_accept(x->hello.key, accept);
    return count == 1 && f->value == view(accept, sizeof accept);
}

static bool protocol_fits(const exchange *x, const http1_response *r) {
    size_t count = 0;
    const http1_field *f = http1_find(r, "Sec-WebSocket-Protocol", &count);
    return count == 0 || (count == 1 && handshake_offers(&x->hello, f->value) >= 0);
}

// "permessage-deflate; client_max_window_bits" without its parameters.
static view extension_name(view element) {
    return bytes_trim(element.substr(0, element.find(';')));
}

static bool extension_offered(const http1_request *q, view name) {
    for (uint32_t i = 0; i < q->field_count; i++) {
        if (!bytes_equal_nocase(q->fields[i].name, "Sec-WebSocket-Extensions")) continue;
        view rest = q->fields[i].value, element;
        while (http1_next_element(&rest, &element))
            if (extension_name(element) == name) return true;
    }
    return false;
}

static bool extensions_fit(const exchange *x, const http1_response *r) {
    for (uint32_t i = 0; i < r->field_count; i++) {
        if (!bytes_equal_nocase(r->fields[i].name, "Sec-WebSocket-Extensions")) continue;
        view rest = r->fields[i].value, element;
        while (http1_next_element(&rest, &element)) {
            view name = extension_name(element);
            if (!http1_is_token(name) || !extension_offered(&x->request, name)) return false;
        }
    }
    return true;
}

const char *tunnel_refuse(const exchange *x, const http1_response *r) {
    if (!names_only(r, "Upgrade", "websocket") || !http1_list_has(r, "Connection", "upgrade"))
        return "the backend's 101 is no upgrade to websocket";
    if (r->chunked || (r->has_content_length && r->content_length)) return "the backend's 101 announces a body";
    if (!accept_fits(x, r)) return "the backend's Sec-WebSocket-Accept does not fit the key";
    if (!protocol_fits(x, r)) return "the backend chose a subprotocol that was not offered";
    if (!extensions_fit(x, r)) return "the backend chose an extension that was not offered";
    return nullptr;
}

// ---------------------------------------------------------------- the end

// Towards the client, at a boundary. Neither counts nor limits hold it back: 127 bytes, once.
static void send_close(conn *c, uint16_t code, view reason) {
    char header[10], number[2] = {static_cast<char>(code >> 8), static_cast<char>(code)};
    buffer out = {};
    buffer_append(&out, view(header, ws_write_header(ws_close, sizeof number + reason.size(), header)));
    buffer_append(&out, view(number, sizeof number));
    buffer_append(&out, reason);
    outq_push(&c->outq, &c->on->chunk_slab, frame_copy(buffer_view(&out)));
    buffer_free(&out);
    if (!c->dirty && !c->blocked) conn_mark_dirty(c);
    c->close_sent = true;
    c->close_code = code;
    counters_close(&c->on->count, code);
}

// Ends the tunnel from our side: with a Close where one can be put in. *p is gone afterwards.
static void end_tunnel(proxying *p, conn_closer by, uint16_t code, view reason) {
    conn *c = p->on;
    if (p->boundary.closed) conn_record_closing(c, conn_closer::backend, "the backend closed it");
    if (p->boundary.closed) return conn_linger(c); // the backend has said it itself
    conn_record_closing(c, by, reason);
    static log_limit limit;
    uint64_t held = 0;
    if (log_limit_pass(&limit, &held))
        log_info("tunnel: %s on %s ended with %u: %.*s (%llu more not shown)", conn_peer_text(c).text,
                 c->route->path.c_str(), code, static_cast<int>(reason.size()), reason.data(),
                 static_cast<unsigned long long>(held));
    if (!ws_boundary_between(&p->boundary)) return proxying_reset(c);
    send_close(c, code, reason);
    conn_linger(c);
}

bool tunnel_between(const conn *c) {
    return c->tunnel->boundary.closed || ws_boundary_between(&c->tunnel->boundary);
}

void tunnel_stop(conn *c, view reason) {
    end_tunnel(c->tunnel, conn_closer::server, 1012, reason);
}

static void closed(conn *c) {
    proxying *p = c->tunnel;
    c->tunnel = nullptr;
    proxying_free(p);
}

// ---------------------------------------------------------------- from the backend

static proxying *of(upstream_call *call) {
    return BELFRY_CONTAINER_OF(call, proxying, call);
}

static void on_body(upstream_call *call, view data) {
    proxying *p = of(call);
    conn *c = p->on;
    ws_passed passed = ws_boundary_pass(&p->boundary, data);
    const view pieces[2] = {passed.first, passed.second};
    p->heard_ms = proxying_now(p);
    c->on->count.edge.response_bytes += passed.first.size() + passed.second.size();
    bool fine = proxying_to_client(c, pieces, 2);
    ws_boundary_release(&p->boundary);
    if (!fine) return conn_abort(c);
    if (p->boundary.why) return end_tunnel(p, conn_closer::server, 1011, p->boundary.why);
    if (conn_queued(c) <= proxy_high_water || p->paused) return;
    p->paused = true;
    upstream_call_pause(&p->call);
}

static void on_end(upstream_call *call, view) {
    proxying *p = of(call);
    p->over = true;
    end_tunnel(p, conn_closer::backend, 1014, "the backend is gone");
}

static void on_failed(upstream_call *call, upstream_failure, bool) {
    on_end(call, view());
}

static void on_drained(upstream_call *call) {
    conn_resume(of(call)->on);
}

static void flushed(conn *c) {
    proxying *p = c->tunnel;
    if (!p->paused) return;
    p->paused = false;
    upstream_call_resume(&p->call);
}

// ---------------------------------------------------------------- from the client

static char *bytes(conn *c, char *begin, char *end) {
    http_link *l = c->tunnel->call.link;
    const view piece(begin, static_cast<size_t>(end - begin));
    c->on->count.edge.request_bytes += piece.size();
    proxying_to_backend(l, &piece, 1);
    if (http_link_queued(l) > http_link_high_water) conn_pause(c);
    return end;
}

static void eof(conn *c, const char *) {
    if (proxying_client_dead(c)) return conn_abort(c);
    if (c->rest.size) bytes(c, c->rest.data, c->rest.data + c->rest.size); // the link was full: one read more
    buffer_free(&c->rest);
    http_link_shutdown(c->tunnel->call.link); // behind what is queued
    conn_set_deadline(c, half_closed_ms);
}

// ---------------------------------------------------------------- idle ones

// The next look: at tunnel_timeout, and at who was reset while the other side's slowness kept us from reading.
static void arm(proxying *p) {
    conn *c = p->on;
    auto most = static_cast<uint64_t>(c->route->tunnel_timeout);
    uint64_t now = proxying_now(p), last = p->heard_ms > c->heard_ms ? p->heard_ms : c->heard_ms;
    uint64_t left = most == 0 ? broken_ms : last + most > now ? last + most - now : 0;
    conn_set_deadline(c, left < broken_ms ? left : broken_ms);
}

static void deadline(conn *c) {
    proxying *p = c->tunnel;
    auto most = static_cast<uint64_t>(c->route->tunnel_timeout);
    uint64_t now = proxying_now(p);
    if (c->eof_seen || stream_broken(&c->stream)) return conn_abort(c);
    if (stream_broken(&p->call.link->stream)) return on_end(&p->call, view());
    if (most && now - p->heard_ms >= most && now - c->heard_ms >= most)
        return end_tunnel(p, conn_closer::server, 1001, "idle");
    arm(p);
}

const conn_phase tunnel_phase = {"tunnel", bytes, eof, deadline, closed, flushed};

static const upstream_call_ops tunnel_ops = {nullptr, nullptr, on_body, on_end, on_failed, on_drained};

void tunnel_open(proxying *p, const http1_response *r) {
    conn *c = p->on;
    exchange *x = p->x;
    buffer *out = &c->on->scratch;
    buffer_clear(out);
    http1_forward_response(r, http1_body_kind::none, 0, true, true, nullptr, 0, buffer_view(&x->fields), out);
    p->call.ops = &tunnel_ops;
    p->x = nullptr;
    x->proxy = nullptr;
    access_begin(x, "tunnel");
    c->tunnel = p;
    c->peer = x->client;
    exchange_free(x);
    conn_set_phase(c, &tunnel_phase);
    stream_watch_edges(&c->stream);
    c->answered = true;
    c->on->count.edge.tunnels++;
    c->on->count.edge.answers[1]++;
    upstream_call_tunnel(&p->call);
    if (!conn_send(c, frame_copy(buffer_view(out)))) return conn_abort(c);
    p->heard_ms = proxying_now(p);
    arm(p);
    if (c->eof_seen) return eof(c, "");
    conn_resume(c); // what came behind the handshake
}

} // namespace belfry
