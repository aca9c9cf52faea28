// Requests in the access log. On the connection's thread.
#include "relay/access.h"

#include "base/access_log.h"
#include "relay/client.h"
#include "relay/session.h"

#include <string.h>

namespace belfry {

static constexpr int status_given_up = 499; // as nginx has it: the client did not wait for the answer

void access_begin(exchange *x, const char *transport) {
    conn *c = x->on;
    bool wss = c->stream.tls && strcmp(transport, "ws") == 0;
    conn_record *r = conn_record_new(c, wss ? "wss" : transport);
    if (!r) return;
    r->protocol = c->session ? c->session->subprotocol : nullptr;
    r->bytes_in = x->head.size;
    r->request_id = exchange_request_id(x);
    r->upstream = buffer_view(&x->server);
    x->told = true; // by the line at the connection's end
}

void access_upstream(exchange *x, view server) {
    if (!access_log_enabled()) return;
    buffer_clear(&x->server);
    buffer_append(&x->server, server);
}

// The path as sent, be it a refused one; nothing of its query, nor of what is no HTTP.
static view path_of(const exchange *x) {
    return x->request.path;
}

static void begin_line(log_line *l, const char *event, const conn *c) {
    const exchange *x = c->exchange;
    conn_id_text id = conn_id_format(conn_id_of(c));
    access_log_begin(l, event);
    log_line_field(l, "conn", id);
    log_line_field(l, "peer", x ? ip_format(&x->client) : conn_peer_text(c));
    log_line_field(l, "listener", c->listener->name);
    if (!x) return;
    if (c->route) log_line_field(l, "route", c->route->path);
    if (!client_user(c).empty()) log_line_field(l, "user", client_user(c));
    log_line_field(l, "method", x->request.method);
    log_line_field(l, "path", path_of(x));
}

static void end_line(log_line *l, exchange *x) {
    if (x) {
        x->told = true;
        log_line_number(l, "ms", x->on->on->loop->clock.monotonic_ms - x->started_ms);
        log_line_field(l, "request_id", exchange_request_id(x));
        if (x->server.size) log_line_field(l, "upstream", buffer_view(&x->server));
    }
    access_log_end(l);
}

void access_answered(exchange *x, int status, uint64_t bytes) {
    if (!access_log_enabled() || x->told) return;
    log_line l;
    begin_line(&l, "request", x->on);
    log_line_number(&l, "status", static_cast<uint64_t>(status));
    log_line_number(&l, "bytes", bytes);
    end_line(&l, x);
}

void access_refused(conn *c, int status, refuse_reason reason, view why) {
    if (!access_log_enabled() || (c->exchange && c->exchange->told)) return;
    log_line l;
    begin_line(&l, "refused", c);
    log_line_number(&l, "status", static_cast<uint64_t>(status));
    log_line_field(&l, "reason", refuse_reason_name(reason));
    log_line_field(&l, "text", why);
    end_line(&l, c->exchange);
}

// An answer was begun, and not ended: its status stands, with what there was of it.
static void cut(exchange *x) {
    log_line l;
    begin_line(&l, "request", x->on);
    log_line_number(&l, "status", static_cast<uint64_t>(x->status ? x->status : status_given_up));
    log_line_number(&l, "bytes", x->sent);
    log_line_field(&l, "reason", x->cut_why ? x->cut_why : "the client did not wait for the answer");
    end_line(&l, x);
}

void access_leave(conn *c) {
    if (!access_log_enabled()) return;
    if (c->record && c->record->user.empty()) c->record->user = client_user(c);
    if (c->exchange && !c->exchange->told) cut(c->exchange);
}

} // namespace belfry
