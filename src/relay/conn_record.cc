// Records of connections, and their lines in the access log. On the connection's thread.
#include "relay/conn_record.h"

#include "base/access_log.h"

namespace belfry {

static const char *closer_name(conn_closer by) {
    static const char *const names[] = {"server", "client", "server", "backend", "network"};
    return names[static_cast<size_t>(by)];
}

conn_record *conn_record_new(conn *c, const char *transport) {
    c->outq.messages = 0;
    c->outq.written = 0;
    if (!access_log_enabled()) return nullptr;
    c->record = new conn_record{};
    c->record->transport = transport;
    return c->record;
}

void conn_record_closing(conn *c, conn_closer by, view reason) {
    if (!c->record || c->record->by != conn_closer::none) return;
    c->record->by = by;
    c->record->reason = reason;
}

void conn_record_settle(conn *c) {
    if (c->record) {
        c->record->messages_out += c->outq.messages;
        c->record->bytes_out += c->outq.written;
    }
    c->outq.messages = 0;
    c->outq.written = 0;
}

void conn_record_forget(conn *c) {
    delete c->record;
    c->record = nullptr;
}

static void write_peer(const conn *c, log_line *l) {
    conn_id_text id = conn_id_format(conn_id_of(c));
    log_line_field(l, "conn", id);
    log_line_field(l, "peer", conn_peer_text(c));
    log_line_field(l, "listener", c->listener->name);
}

void conn_record_end(conn *c) {
    const conn_record *r = c->record;
    if (!r) return;
    conn_record_settle(c);
    log_line l;
    access_log_begin(&l, "connection");
    write_peer(c, &l);
    log_line_field(&l, "route", c->route->path);
    if (!r->user.empty()) log_line_field(&l, "user", r->user);
    log_line_field(&l, "transport", r->transport);
    if (r->protocol) log_line_field(&l, "protocol", r->protocol);
    log_line_seconds(&l, "seconds", c->on->loop->clock.monotonic_ms - c->opened_ms);
    if (r->protocol) { // Belfry reads no messages of a tunnel
        log_line_number(&l, "messages_in", r->messages_in);
        log_line_number(&l, "messages_out", r->messages_out);
    }
    log_line_number(&l, "bytes_in", r->bytes_in);
    log_line_number(&l, "bytes_out", r->bytes_out);
    if (c->close_code || r->protocol) log_line_number(&l, "code", c->close_code ? c->close_code : 1006);
    log_line_field(&l, "closed_by", closer_name(r->by));
    if (!r->reason.empty()) log_line_field(&l, "reason", r->reason);
    log_line_field(&l, "request_id", r->request_id);
    if (!r->upstream.empty()) log_line_field(&l, "upstream", r->upstream);
    access_log_end(&l);
    conn_record_forget(c);
}

void conn_record_refused(const conn *c, refuse_reason reason, view why) {
    if (!access_log_enabled()) return;
    log_line l;
    access_log_begin(&l, "refused");
    write_peer(c, &l);
    log_line_number(&l, "status", 0); // no answer is possible
    log_line_field(&l, "reason", refuse_reason_name(reason));
    log_line_field(&l, "text", why);
    access_log_end(&l);
}

} // namespace belfry
