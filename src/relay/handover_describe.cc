// What a connection is, in words that another process understands. On the connection's thread.
#include "base/hash.h"
#include "relay/chain_move.h"
#include "relay/client.h"
#include "relay/conn_record.h"
#include "relay/conn_slow.h"
#include "relay/handover_worker.h"
#include "relay/room.h"
#include "relay/session.h"
#include "relay/websocket.h"

#include <algorithm>
#include <string.h>
#include <unordered_map>

namespace belfry {

// ---------------------------------------------------------------- whether

static bool rooms_quiet(const conn *c, bool counted) {
    for (const membership *m = c->rooms; m; m = m->next)
        if (!m->member || m->ask || (counted && !m->in->ordinal)) return false;
    return !counted || c->on->ordinal;
}

static bool client_quiet(const client *who) {
    return !who || (!who->call_count && !who->refreshing && !who->has_greeting);
}

bool handover_quiet(const conn *c, uint32_t held, bool counted) {
    if (c->closed || !c->open || c->phase != &websocket_phase || c->stream.tls || c->stream.fd < 0) return false;
    if (c->close_sent || c->close_received || c->fencing || c->eof_seen || c->shut) return false;
    if (c->exchange || c->plain || c->tunnel || c->asking || c->rooms_waiting || c->holds != held) return false;
    return client_quiet(c->client) && chain_quiet(c) && rooms_quiet(c, counted);
}

// ---------------------------------------------------------------- its queue

// Room marks of frames are hashes with this process's key: what they stand for is looked up.
struct frame_marks {
    std::unordered_map<uint64_t, uint32_t> rooms;
    handover_conn *to; // borrowed
};

static frame_marks marks_of(const conn *c, handover_conn *to) {
    frame_marks m = {{}, to};
    const std::string self = "@conn:" + std::string(view(conn_id_format(conn_id_of(c))));
    for (uint32_t i = 0; i < to->rooms.size(); i++)
        m.rooms[hash_bytes(to->rooms[i].name)] = i;
    m.rooms[hash_bytes("@all")] = handover_room_all;
    m.rooms[hash_bytes(self)] = handover_room_self;
    return m;
}

static void describe_frame(const frame *f, uint32_t written, void *context) {
    auto *m = static_cast<frame_marks *>(context);
    handover_frame out = {handover_frame_kind::answer, handover_room_none, f->key, frame_view(f).substr(written)};
    if (f->room) {
        auto at = m->rooms.find(f->room);
        if (at != m->rooms.end()) out.room = at->second;
        out.kind = f->key == frame_gap ? handover_frame_kind::gap : handover_frame_kind::message;
        if (f->key == frame_gap) out.key = 0;
    }
    m->to->frames.push_back(out);
}

// ---------------------------------------------------------------- who it is

static void describe_client(const client *who, handover_conn *to) {
    to->known = true;
    to->user = who->user;
    to->info = who->info;
    to->state = who->state;
    to->sticky = who->sticky;
    to->has_sticky = who->has_sticky;
    to->expired = who->expired;
    memcpy(to->client_address, who->address.bytes, sizeof to->client_address);
    to->expires_ms = who->expires_ms;
    to->join.assign(who->join.begin(), who->join.end());
    to->publish.assign(who->publish.begin(), who->publish.end());
    to->token_join = static_cast<uint32_t>(who->token_join);
    to->token_publish = static_cast<uint32_t>(who->token_publish);
}

static void describe_record(const conn_record *r, handover_conn *to) {
    to->recorded = true;
    to->messages_in = r->messages_in;
    to->messages_out = r->messages_out;
    to->bytes_in = r->bytes_in;
    to->bytes_out = r->bytes_out;
    to->record_user = r->user;
    to->request_id = r->request_id;
    to->upstream = r->upstream;
}

static uint8_t deflate_of(uint8_t form) {
    if (!form_is_deflated(form)) return 0;
    return form == form_json_narrow || form == form_raw_narrow ? 2 : 1;
}

// Rooms in the order of the list, which room_arrive builds from its end.
static void describe_rooms(const conn *c, handover_conn *to) {
    for (const membership *m = c->rooms; m; m = m->next)
        to->rooms.push_back({room_name(m->in), m->in->ordinal, m->in->rule && m->in->rule->history, m->in->at});
    std::reverse(to->rooms.begin(), to->rooms.end());
    to->ordinal = c->on->ordinal;
}

bool handover_describe_conn(conn *c, buffer *out) {
    handover_conn to = {};
    to.id = handover_id_of(conn_id_of(c));
    to.path = c->route->path;
    to.host = c->route->host;
    to.listener = c->listener->name;
    to.raw = c->session == &session_raw;
    to.deflate = deflate_of(c->form);
    memcpy(to.address, c->peer.bytes, sizeof to.address);
    to.opened_ms = c->opened_ms;
    to.heard_ms = c->heard_ms;
    to.spoke_ms = c->spoke_ms;
    to.pinged_ms = c->pinged_ms;
    to.ping_waiting = c->ping_waiting;
    to.published = c->published;
    to.parser = c->parser;
    to.message_received = c->message_received;
    to.rest = buffer_view(&c->rest);
    to.message = buffer_view(&c->message);
    describe_rooms(c, &to);
    frame_marks m = marks_of(c, &to);
    outq_each(&c->outq, describe_frame, &m);
    to.begun = c->outq.offset != 0;
    if (c->pong) to.pong = frame_view(c->pong);
    to.slow = c->slow != nullptr;
    to.slow_dropped = c->slow ? c->slow->dropped : 0;
    to.slow_replaced = c->slow ? c->slow->replaced : 0;
    if (c->client) describe_client(c->client, &to);
    if (c->record) describe_record(c->record, &to);
    if (!chain_describe(c, &to.modules)) return false;
    handover_describe(&to, out);
    return true;
}

} // namespace belfry
