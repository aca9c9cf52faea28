// Deliveries and the flush. The hot path of the product.
#include "relay/fanout.h"

#include "proto/server_json.h"
#include "relay/conn.h"
#include "relay/room.h"
#include "relay/session.h"
#include "relay/websocket.h"

namespace belfry {

// A message on its way through this worker's members: the forms are made when the first reader of each turns up.
struct delivery {
    shard *on;
    message *what;
    frame *forms[form_count];
    uint32_t spare[form_count]; // references that were taken and not used yet
    uint32_t members;           // how many a form is taken for
    conn *except[command_except_max];
    uint32_t except_count;
    uint32_t receivers;
};

static void delivery_begin(delivery *d, shard *s, message *m) {
    d->on = s;
    d->what = m;
    for (int form = 0; form < form_count; form++) {
        d->forms[form] = nullptr;
        d->spare[form] = 0;
    }
    d->members = 0;
    d->except_count = d->receivers = 0;
    for (uint16_t i = 0; i < m->except_count; i++)
        if (conn *c = conn_find(s, m->except[i])) d->except[d->except_count++] = c;
}

static bool excepted(const delivery *d, const conn *c) {
    for (uint32_t i = 0; i < d->except_count; i++)
        if (d->except[i] == c) return true;
    return false;
}

static void overflow(conn *c) {
    c->open = false; // no more deliveries in this turn
    list_remove(&c->place);
    list_push_back(&c->on->doomed, &c->place);
}

// One atomic addition for all members, instead of one a delivery on a line that all threads share.
static frame *take_form(delivery *d, uint8_t form) {
    frame *f = message_form(d->what, static_cast<wire_form>(form), d->on->reader, &d->on->scratch);
    frame_ref_many(f, d->members);
    d->spare[form] = d->members;
    d->forms[form] = f;
    return f;
}

static void delivery_end(delivery *d) {
    for (int form = 0; form < form_count; form++)
        if (d->spare[form]) frame_unref_many(d->forms[form], d->spare[form]);
}

static inline void deliver_one(delivery *d, conn *c) {
    if (!c->open || (d->except_count && excepted(d, c))) return;
    frame *f = d->forms[c->form];
    if (!f) [[unlikely]]
        f = take_form(d, c->form);
    if (!conn_deliver(c, f)) [[unlikely]] {
        if (conn_charge(f) > c->send_queue) // its reader is not slow: no queue of this size could take it
            d->on->count.dropped[drop_oversized]++;
        else
            overflow(c);
        return;
    }
    d->spare[c->form]--;
    d->receivers++;
}

// Both of a connection's hot lines.
static inline void prefetch(const conn *c) {
    __builtin_prefetch(c, 1);
    __builtin_prefetch(reinterpret_cast<const char *>(c) + 64, 1);
}

// 16 bytes a member in one array; the connection behind it is fetched four members ahead, since with 10,000 members
// none is in cache.
static void deliver_room(delivery *d, const room *r) {
    d->members = r->count;
    const room_member *at = r->members, *end = at + r->count;
    for (; at < end; at++) {
        if (at + 4 < end) prefetch(at[4].who);
        deliver_one(d, at->who);
    }
}

static void close_doomed(shard *s) {
    while (!list_empty(&s->doomed)) {
        conn *c = BELFRY_CONTAINER_OF(s->doomed.next, conn, place);
        list_remove(&c->place);
        websocket_close_slow(c);
        if (!c->closed) conn_read_again(c); // its place may have been among those that are to be read
    }
}

static void deliver_special(delivery *d, view name) {
    shard *s = d->on;
    if (name == "@all") {
        d->members = s->live;
        for (uint32_t i = 0; i < s->slot_count; i++)
            if (s->conns[i]) deliver_one(d, s->conns[i]);
        return;
    }
    conn_id id;
    if (!name.starts_with("@conn:") || !conn_id_parse(name.substr(6), &id)) return;
    d->members = 1;
    if (conn *c = conn_find(s, id)) deliver_one(d, c);
}

void fanout_deliver(shard *s, message *m) {
    delivery d;
    delivery_begin(&d, s, m);
    if (m->room[0] == '@' && !m->room.starts_with("@user:"))
        deliver_special(&d, m->room);
    else if (const room *r = room_find(s, m->room, m->room_hash))
        deliver_room(&d, r);
    delivery_end(&d);
    s->count.deliveries += d.receivers;
    m->receivers.fetch_add(d.receivers, std::memory_order_relaxed);
    close_doomed(s);
}

static void gap_room(table_node *n, void *context) {
    shard *s = static_cast<shard *>(context);
    room *r = BELFRY_CONTAINER_OF(n, room, node);
    if (!r->count) return;
    buffer_clear(&s->scratch);
    server_json_gap(&s->scratch, room_name(r));
    char header[10];
    size_t size = ws_write_header(ws_text, s->scratch.size, header);
    frame *f = frame_join(view(header, size), buffer_view(&s->scratch));
    for (uint32_t i = 0; i < r->count; i++) {
        conn *c = r->members[i].who;
        if (!c->open || c->form != form_json) continue; // the raw protocol has no words for it
        if (!conn_deliver(c, frame_ref(f))) {
            frame_unref(f);
            overflow(c);
        }
    }
    frame_unref(f);
}

void fanout_gap(shard *s) {
    table_each(&s->rooms, gap_room, s);
    close_doomed(s);
}

bool fanout_flush(shard *s) {
    const conn *last = s->dirty_last; // who becomes dirty again meanwhile waits for the next turn
    for (uint32_t n = 0; n < fanout_slice && s->dirty_first; n++) {
        conn *c = s->dirty_first;
        s->dirty_first = c->next_dirty;
        if (!s->dirty_first) s->dirty_last = nullptr;
        if (s->dirty_first) prefetch(s->dirty_first);
        c->dirty = false;
        conn_flush(c);
        if (c == last) break;
    }
    return s->dirty_first != nullptr;
}

} // namespace belfry
