// A connection made of its description. On the worker's thread.
#include "base/error.h"
#include "base/hash.h"
#include "relay/chain_move.h"
#include "relay/client.h"
#include "relay/conn_record.h"
#include "relay/conn_slow.h"
#include "relay/handover_worker.h"
#include "relay/room.h"
#include "relay/session.h"

#include <string.h>
#include <unistd.h>

namespace belfry {

// ---------------------------------------------------------------- where it belongs

static const struct route *route_of(const relay_settings *all, const handover_conn *d) {
    for (const route &r : all->routes)
        if (!r.retired && r.mode == mode_rooms && d->path == r.path && d->host == r.host) return &r;
    return nullptr;
}

static const listener_settings *listener_of(const relay_settings *all, const handover_conn *d) {
    for (const listener_settings &l : all->listeners)
        if (!l.retired && d->listener == l.name) return &l;
    return nullptr;
}

static uint8_t form_of(const handover_conn *d) {
    static constexpr wire_form forms[2][3] = {{form_json, form_json_deflated, form_json_narrow},
                                              {form_raw, form_raw_deflated, form_raw_narrow}};
    return forms[d->raw][d->deflate];
}

// ---------------------------------------------------------------- what waits for it

static uint64_t mark_of(const conn *c, const handover_conn *d, uint32_t room) {
    if (room < d->rooms.size()) return hash_bytes(d->rooms[room].name);
    if (room == handover_room_all) return hash_bytes("@all");
    return hash_bytes("@conn:" + std::string(view(conn_id_format(conn_id_of(c)))));
}

// Where its first bytes are gone, they are not described; one byte stands for them, which is written already.
static frame *frame_of(const conn *c, const handover_conn *d, const handover_frame *from, bool begun) {
    frame *f = begun ? frame_join(view("\0", 1), from->bytes) : frame_copy(from->bytes);
    f->key = from->key;
    if (from->kind == handover_frame_kind::answer) return f;
    if (from->kind == handover_frame_kind::gap) f->key = frame_gap;
    // A room that it has left is nobody's to tell a gap of; any mark will do for a message that may be dropped.
    f->room = from->room == handover_room_none ? ~uint64_t{0} : mark_of(c, d, from->room);
    return f;
}

static void restore_queue(conn *c, const handover_conn *d) {
    bool begun = d->begun;
    for (const handover_frame &from : d->frames) {
        outq_push(&c->outq, &c->on->chunk_slab, frame_of(c, d, &from, begun));
        if (begun) {
            c->outq.offset = 1;
            c->outq.bytes--;
        }
        begun = false;
    }
    if (!d->pong.empty()) c->pong = frame_as_no_message(frame_copy(d->pong));
    if (d->slow) conn_slow_restore(c, d->slow_dropped, d->slow_replaced);
    conn_slow_queued(c);
}

// ---------------------------------------------------------------- who it is

static void restore_client(conn *c, const handover_conn *d) {
    client *who = client_of(c);
    who->user = d->user;
    who->info = d->info;
    who->state = d->state;
    who->sticky = d->sticky;
    who->has_sticky = d->has_sticky;
    who->expired = d->expired;
    memcpy(who->address.bytes, d->client_address, sizeof who->address.bytes);
    who->expires_ms = d->expires_ms;
    who->join.assign(d->join.begin(), d->join.end());
    who->publish.assign(d->publish.begin(), d->publish.end());
    who->token_join = d->token_join;
    who->token_publish = d->token_publish;
}

static void restore_record(conn *c, const handover_conn *d) {
    if (!d->recorded) return;
    c->record = conn_record_new(c, "ws");
    if (!c->record) return; // no access log any more
    c->record->messages_in = d->messages_in;
    c->record->messages_out = d->messages_out;
    c->record->bytes_in = d->bytes_in;
    c->record->bytes_out = d->bytes_out;
    c->record->user = d->record_user;
    c->record->request_id = d->request_id;
    c->record->upstream = d->upstream;
}

static bool restore_rooms(conn *c, const handover_conn *d) {
    for (const handover_room &room : d->rooms) {
        membership *m = room_arrive(c->on, c, room.name);
        if (!m) return false;
        m->ask = handover_ask;
    }
    return true;
}

static void restore_protocol(conn *c, const handover_conn *d) {
    c->session = d->raw ? &session_raw : &session_json;
    c->form = form_of(d);
    memcpy(c->peer.bytes, d->address, sizeof c->peer.bytes);
    c->opened_ms = d->opened_ms;
    c->heard_ms = d->heard_ms;
    c->spoke_ms = d->spoke_ms;
    c->pinged_ms = d->pinged_ms;
    c->ping_waiting = d->ping_waiting;
    c->published = d->published;
    c->parser = d->parser;
    c->message_received = d->message_received;
    buffer_append(&c->rest, d->rest);
    buffer_append(&c->message, d->message);
}

conn *handover_restore_conn(shard *s, const handover_conn *d, int fd, const char **why) {
    const struct route *r = route_of(s->settings, d);
    const listener_settings *l = listener_of(s->settings, d);
    *why = !r ? "its route is not there any more" : !l ? "its listener is not there any more" : "its id is taken";
    conn *c = r && l && !s->draining ? conn_arrive(s, fd, handover_conn_id(d->id), l) : nullptr;
    if (!c) {
        close(fd);
        return nullptr;
    }
    c->route = r;
    conn_set_phase(c, &handover_phase);
    restore_protocol(c, d);
    conn_set_send_queue(c, static_cast<uint32_t>(r->send_queue));
    if (d->known) restore_client(c, d);
    restore_record(c, d);
    restore_queue(c, d);
    *why = "it is in one room twice";
    bool fine = restore_rooms(c, d);
    if (fine) *why = "a module's state does not fit";
    if (fine && chain_restore(c, d->modules)) return c;
    handover_forget_conn(c);
    return nullptr;
}

} // namespace belfry
