// A worker's answers to the control API. On the worker's thread.
#include "relay/query.h"

#include "proto/json.h"
#include "proto/room_name.h"
#include "relay/census.h"
#include "relay/client.h"
#include "relay/conn.h"
#include "relay/notify.h"
#include "relay/poll.h"
#include "relay/room.h"
#include "relay/session.h"
#include "relay/transport.h"

#include <algorithm>
#include <vector>

namespace belfry {

view query_line(view *rest) {
    size_t end = rest->find('\n');
    view line = rest->substr(0, end);
    *rest = end == view::npos ? view() : rest->substr(end + 1);
    return line;
}

void query_free(query *q) {
    for (uint32_t i = 0; i < q->part_count; i++)
        buffer_free(&q->parts[i].out);
    delete[] q->parts;
    delete q;
}

struct room_pick {
    view after;
    std::vector<const room *> found;
};

static void pick_room(table_node *n, void *context) {
    auto *p = static_cast<room_pick *>(context);
    const room *r = BELFRY_CONTAINER_OF(n, room, node);
    if (room_name_reserved(room_name(r))) return; // users, not rooms
    if (room_name(r) > p->after) p->found.push_back(r);
}

static void answer_rooms(shard *s, const query *q, query_part *part) {
    room_pick p = {q->after, {}};
    table_each(&s->rooms, pick_room, &p);
    size_t limit = std::min<size_t>(p.found.size(), q->limit);
    auto by_name = [](const room *a, const room *b) { return room_name(a) < room_name(b); };
    std::partial_sort(p.found.begin(), p.found.begin() + static_cast<ptrdiff_t>(limit), p.found.end(), by_name);
    for (size_t i = 0; i < limit; i++) {
        buffer_append(&part->out, room_name(p.found[i]));
        buffer_printf(&part->out, "\t%u\n", p.found[i]->count);
    }
}

static void write_slowness(const conn *c, uint64_t now, buffer *out) {
    buffer_printf(out, ",\"queue_frames\":%u,\"blocked_ms\":%llu,\"dropped\":%llu,\"replaced\":%llu", c->outq.count,
                  static_cast<unsigned long long>(c->blocked ? now - c->blocked_ms : 0),
                  static_cast<unsigned long long>(c->slow ? c->slow->dropped : 0),
                  static_cast<unsigned long long>(c->slow ? c->slow->replaced : 0));
}

static void write_connection(const conn *c, buffer *out) {
    uint64_t now = c->on->loop->clock.monotonic_ms;
    conn_id_text id = conn_id_format(conn_id_of(c));
    buffer_append(out, "{\"conn\":");
    json_write_string(out, id);
    if (!client_user(c).empty()) {
        buffer_append(out, ",\"user\":");
        json_write_string(out, client_user(c));
    }
    buffer_append(out, ",\"ip\":");
    json_write_string(out, conn_peer_text(c));
    buffer_append(out, ",\"listener\":");
    json_write_string(out, c->listener->name);
    buffer_append(out, ",\"route\":");
    json_write_string(out, c->route ? view(c->route->path) : view());
    buffer_printf(
        out, ",\"state\":\"%s\",\"transport\":\"%s\",\"protocol\":\"%s\",\"tls\":%s,\"rooms\":%u,\"queue\":%u",
        c->phase->name, transport_of(c) ? transport_of(c)->name : "", c->session ? c->session->subprotocol : "",
        c->stream.tls ? "true" : "false", room_counted(c), c->outq.bytes);
    write_slowness(c, now, out);
    buffer_printf(out, ",\"age\":%llu}\n", static_cast<unsigned long long>((now - c->opened_ms) / 1000));
}

static void answer_connections(shard *s, const query *q, query_part *part) {
    conn_id after;
    uint32_t first = 0;
    if (!q->after.empty()) {
        if (!conn_id_parse(q->after, &after) || after.worker > s->index) return;
        if (after.worker == s->index) first = after.slot + 1;
    }
    uint64_t n = 0;
    for (uint32_t slot = first; slot < s->slot_count && n < q->limit; slot++) {
        const conn *c = s->conns[slot];
        if (!c || c->closed || (!q->room.empty() && !room_membership(c, q->room))) continue;
        if (!q->user.empty() && client_user(c) != q->user) continue;
        write_connection(c, &part->out);
        n++;
    }
}

// A poll's queue waits for the next request by nature: only what was dropped of it makes it slow.
static bool is_slow(const conn *c) {
    if (c->closed || c->phase == &poll_phase) return !c->closed && c->slow;
    return c->slow || (c->blocked && c->outq.count);
}

static void answer_members(shard *s, view names, query_part *part) {
    while (!names.empty()) {
        view name = names.substr(0, names.find('\n'));
        names.remove_prefix(std::min(names.size(), name.size() + 1));
        const room *r = room_find(s, name, hash_bytes(name));
        buffer_printf(&part->out, "%u\n", r ? r->count : 0);
    }
}

static void answer_top(shard *s, const query *q, query_part *part) {
    answer_members(s, q->room, part);
    std::vector<const conn *> slow;
    for (uint32_t slot = 0; slot < s->slot_count; slot++)
        if (s->conns[slot] && is_slow(s->conns[slot])) slow.push_back(s->conns[slot]);
    size_t limit = std::min<size_t>(slow.size(), q->limit);
    std::partial_sort(slow.begin(), slow.begin() + static_cast<ptrdiff_t>(limit), slow.end(),
                      [](const conn *a, const conn *b) { return a->outq.bytes > b->outq.bytes; });
    for (size_t i = 0; i < limit; i++) {
        buffer_printf(&part->out, "%u\t", slow[i]->outq.bytes);
        write_connection(slow[i], &part->out);
    }
}

static void answer_status(shard *s, query_part *part, uint64_t accept_exhausted) {
    shard_status st = {};
    st.count = s->count;
    st.notify = notifier_counters(s->notifier);
    st.connections = s->live;
    st.rooms = s->rooms.count;
    st.memberships = s->membership_count;
    st.tls_handshakes = s->tls_under_way;
    st.conn_bytes = slab_bytes(&s->conn_slab);
    st.chunk_bytes = slab_bytes(&s->chunk_slab);
    st.membership_bytes = slab_bytes(&s->membership_slab);
    st.table_bytes = table_bytes(&s->rooms) + s->slot_capacity * (sizeof(conn *) + sizeof(uint32_t));
    st.writes = s->loop->writes;
    st.accept_exhausted = accept_exhausted;
    st.lag = s->loop->lag;
    st.lag_peak_ns = loop_lag_peak(s->loop);
    buffer lines = {};
    census_take(s, &st, &lines);
    buffer_append(&part->out, view(reinterpret_cast<const char *>(&st), sizeof st));
    buffer_append(&part->out, buffer_view(&lines));
    buffer_free(&lines);
}

void query_answer(shard *s, query *q, uint64_t accept_exhausted) {
    query_part *part = &q->parts[s->index];
    switch (q->type) {
    case query_type::rooms:
        answer_rooms(s, q, part);
        break;
    case query_type::room:
        if (const room *r = room_find(s, q->room, hash_bytes(q->room))) part->count = r->count;
        break;
    case query_type::connections:
        answer_connections(s, q, part);
        break;
    case query_type::top:
        answer_top(s, q, part);
        break;
    case query_type::status:
        answer_status(s, part, accept_exhausted);
        break;
    }
}

} // namespace belfry
