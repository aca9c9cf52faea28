// Deliveries and the flush. The hot path of the product.
#include "relay/fanout.h"

#include "proto/server_json.h"
#include "relay/conn.h"
#include "relay/message_event.h"
#include "relay/room.h"
#include "relay/session.h"
#include "relay/transport.h"

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

// One atomic addition for all members, instead of one a delivery on a line that all threads share.
static frame *take_form(delivery *d, uint8_t form) {
    frame *f = message_form(d->what, static_cast<wire_form>(form), d->on->reader, &d->on->scratch, d->on->packer);
    frame_ref_many(f, d->members);
    d->spare[form] = d->members;
    d->forms[form] = f;
    return f;
}

static void delivery_end(delivery *d) {
    for (int form = 0; form < form_count; form++)
        if (d->spare[form]) frame_unref_many(d->forms[form], d->spare[form]);
}

// The raw protocol has no words for what is no message.
static bool speaks_json(uint8_t form) {
    return form_is_json(form) || form == form_sse_json;
}

static inline void deliver_one(delivery *d, conn *c) {
    if (!c->open || (d->except_count && excepted(d, c))) return;
    frame *f = d->forms[c->form];
    if (!f) [[unlikely]] {
        if (d->what->what == message_member && !speaks_json(c->form)) return;
        f = take_form(d, c->form);
    }
    if (!conn_deliver(c, f)) [[unlikely]]
        return;
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
static void deliver_room(delivery *d, room *r) {
    if (!position_none(&d->what->at)) r->at = d->what->at;
    if (d->what->ordinal) [[unlikely]]
        r->ordinal = d->what->ordinal;
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
        transport_close_slow(c);
        if (!c->closed) conn_read_again(c); // its place may have been among those that are to be read
    }
}

static void deliver_special(delivery *d, view name) {
    shard *s = d->on;
    if (d->what->ordinal) s->ordinal = d->what->ordinal;
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
    else if (room *r = room_find(s, m->room, m->room_hash))
        deliver_room(&d, r);
    delivery_end(&d);
    s->count.deliveries += d.receivers;
    m->receivers.fetch_add(d.receivers, std::memory_order_relaxed);
    if (d.receivers) fanout_marks_add(&s->marks, m->received_ns, s->dirty_last);
    close_doomed(s);
}

// Null for the raw protocol.
static frame *gap_frame(shard *s, uint8_t form, view room, uint64_t hash) {
    if (!speaks_json(form)) return nullptr;
    buffer_clear(&s->scratch);
    server_json_gap(&s->scratch, room);
    char header[10];
    size_t size = ws_write_header(ws_text, s->scratch.size, header);
    frame *f = form == form_sse_json ? message_event(buffer_view(&s->scratch))
                                     : frame_join(view(header, size), buffer_view(&s->scratch));
    f->room = hash;
    f->key = frame_gap;
    return f;
}

static bool any_name(const table_node *, view) {
    return true; // the hash is what is looked for
}

static frame *gap_of_hash(conn *c, uint64_t hash) {
    static const uint64_t everybody = hash_bytes("@all");
    if (const table_node *n = table_find(&c->on->rooms, hash, view(), any_name))
        return gap_frame(c->on, c->form, room_name(BELFRY_CONTAINER_OF(const_cast<table_node *>(n), room, node)), hash);
    if (hash == everybody) return gap_frame(c->on, c->form, "@all", hash);
    const std::string self = "@conn:" + std::string(view(conn_id_format(conn_id_of(c))));
    return hash == hash_bytes(self) ? gap_frame(c->on, c->form, self, hash) : nullptr;
}

const slow_hooks fanout_slow_hooks = {gap_of_hash, transport_close_slow};

static void gap_room(shard *s, const room *r) {
    frame *made[form_count] = {};
    for (uint32_t i = 0; i < r->count; i++) {
        conn *c = r->members[i].who;
        if (!c->open) continue;
        frame *&f = made[c->form];
        if (!f && !(f = gap_frame(s, c->form, room_name(r), r->node.hash))) continue;
        if (!conn_deliver(c, frame_ref(f))) frame_unref(f);
    }
    for (frame *f : made)
        if (f) frame_unref(f);
}

// The node reads what rooms with history have missed, and tells of a gap in each that it can't fill.
static void gap_without_history(table_node *n, void *context) {
    const room *r = BELFRY_CONTAINER_OF(n, room, node);
    if (!r->rule || !r->rule->history) gap_room(static_cast<shard *>(context), r);
}

void fanout_gap(shard *s) {
    table_each(&s->rooms, gap_without_history, s);
    close_doomed(s);
}

void fanout_room_gap(shard *s, view name, uint32_t serial, const position *at) {
    room *r = room_find(s, name, hash_bytes(name));
    if (!r || r->serial != serial) return;
    r->at = *at;
    gap_room(s, r);
    close_doomed(s);
}

bool fanout_flush(shard *s) {
    close_doomed(s);                  // by a delivery outside of the fan-out
    const conn *last = s->dirty_last; // who becomes dirty again meanwhile waits for the next turn
    for (uint32_t n = 0; n < fanout_slice && s->dirty_first; n++) {
        conn *c = s->dirty_first;
        s->dirty_first = c->next_dirty;
        if (!s->dirty_first) s->dirty_last = nullptr;
        if (s->dirty_first) prefetch(s->dirty_first);
        c->dirty = false;
        conn_flush(c);
        fanout_marks_written(&s->marks, c, &s->count.fanout);
        if (c == last) break;
    }
    return s->dirty_first != nullptr;
}

} // namespace belfry
