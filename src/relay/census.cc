// The pass over a worker's connections. On its thread.
#include "relay/census.h"

#include "relay/conn.h"
#include "relay/shard_status.h"
#include "relay/transport.h"

#include <string.h>
#include <vector>

namespace belfry {

const char *census_kind_name(census_kind k) {
    static const char *const names[census_kind_count] = {"ws", "sse", "poll", "tunnel", "http", "handshake", "closing"};
    return names[k];
}

static census_kind kind_of_session(const transport_ops *t) {
    for (census_kind k : {census_ws, census_sse})
        if (strcmp(t->name, census_kind_name(k)) == 0) return k;
    return census_poll;
}

static census_kind kind_of(const conn *c) {
    if (transport_of(c)) return kind_of_session(transport_of(c));
    if (strcmp(c->phase->name, "lingering") == 0) return census_closing;
    if (strcmp(c->phase->name, "tunnel") == 0) return census_tunnel;
    // After a request has been proxied the connection may be at the head of the next one.
    const bool asks = strcmp(c->phase->name, "proxying") == 0 || strcmp(c->phase->name, "carrying") == 0;
    return asks || c->served ? census_http : census_handshake;
}

struct census_row {
    uint64_t counts[census_kind_count];
};

static void count_one(const conn *c, shard_status *out, census_row *row) {
    row->counts[kind_of(c)]++;
    if (c->stream.tls) out->tls++;
    if (c->blocked && c->stream.fd >= 0) out->blocked++; // long polling has no socket, and always waits
    out->queue_bytes += c->outq.bytes;
    out->queue_frames += c->outq.count;
}

static void write_row(const census_row *row, view host, view path, buffer *lines) {
    for (uint8_t k = 0; k < census_kind_count; k++) {
        if (!row->counts[k]) continue;
        buffer_printf(lines, "%llu\t%s\t", static_cast<unsigned long long>(row->counts[k]),
                      census_kind_name(static_cast<census_kind>(k)));
        buffer_append(lines, host);
        buffer_append(lines, path);
        buffer_append_char(lines, '\n');
    }
}

// With 10,000 connections none is in cache: fetched eight ahead, the pass takes a tenth of a microsecond for each.
static void prefetch(const conn *c) {
    if (!c) return;
    const char *at = reinterpret_cast<const char *>(c);
    for (size_t line : {size_t{0}, size_t{64}, offsetof(conn, route)})
        __builtin_prefetch(at + line);
}

void census_take(const shard *s, shard_status *out, buffer *lines) {
    const std::vector<route> &routes = s->settings->routes;
    std::vector<census_row> rows(routes.size() + 1); // the last one: without a route
    for (uint32_t slot = 0; slot < s->slot_count; slot++) {
        if (slot + 8 < s->slot_count) prefetch(s->conns[slot + 8]);
        const conn *c = s->conns[slot];
        if (!c || c->closed) continue;
        size_t at = routes.size();
        if (c->route >= routes.data() && c->route < routes.data() + routes.size())
            at = static_cast<size_t>(c->route - routes.data());
        count_one(c, out, &rows[at]);
    }
    for (size_t i = 0; i < routes.size(); i++)
        write_row(&rows[i], routes[i].host, routes[i].path, lines);
    write_row(&rows[routes.size()], view(), view(), lines);
}

} // namespace belfry
