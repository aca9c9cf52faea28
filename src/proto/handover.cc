// The messages of a handover, written and read. Pure; any thread.
#include "proto/handover.h"

#include "proto/room_name.h"
#include "proto/utf8.h"

#include <string.h>

namespace belfry {

namespace {

constexpr uint32_t workers_max = 64;
constexpr uint32_t slot_max = (1u << 24) - 1;
constexpr size_t patterns_max = 64, modules_max = 64;
constexpr size_t client_text_max = 4096; // info, state
constexpr size_t user_max = 249;
constexpr size_t rest_max = 256 + 65536; // what net/loop.h's receive buffer takes

// ---------------------------------------------------------------- numbers and texts

void put(buffer *out, uint64_t n) {
    while (n >= 0x80) {
        buffer_append_char(out, static_cast<char>(n | 0x80));
        n >>= 7;
    }
    buffer_append_char(out, static_cast<char>(n));
}

void put_text(buffer *out, view text) {
    put(out, text.size());
    buffer_append(out, text);
}

void put_fixed(buffer *out, const void *bytes, size_t size) {
    buffer_append(out, view(static_cast<const char *>(bytes), size));
}

// What could not be read leaves `bad` set and zeros behind, so that it has to be asked only now and then.
struct reader {
    view left;
    bool bad;
};

uint64_t take(reader *r, uint64_t most) {
    uint64_t n = 0;
    for (unsigned shift = 0; !r->bad; shift += 7) {
        if (r->left.empty() || shift > 63) break;
        auto byte = static_cast<uint8_t>(r->left.front());
        r->left.remove_prefix(1);
        if (shift == 63 && byte > 1) break;
        n |= uint64_t{byte & 0x7fu} << shift;
        if (byte & 0x80) continue;
        if ((shift && !byte) || n > most) break; // longer than need be, or too much
        return n;
    }
    r->bad = true;
    return 0;
}

bool take_flag(reader *r) {
    return take(r, 1) != 0;
}

view take_bytes(reader *r, size_t size) {
    if (r->bad || size > r->left.size()) {
        r->bad = true;
        return {};
    }
    view v = r->left.substr(0, size);
    r->left.remove_prefix(size);
    return v;
}

view take_text(reader *r, size_t most) {
    return take_bytes(r, static_cast<size_t>(take(r, most)));
}

// How many of something that takes at least `each` bytes.
size_t take_count(reader *r, size_t most, size_t each) {
    auto n = static_cast<size_t>(take(r, most));
    if (n <= r->left.size() / each) return n;
    r->bad = true;
    return 0;
}

void take_fixed(reader *r, void *into, size_t size) {
    view v = take_bytes(r, size);
    if (!r->bad) memcpy(into, v.data(), size);
}

void put_id(buffer *out, const handover_id *id) {
    put(out, id->worker);
    put(out, id->slot);
    put_fixed(out, &id->tag, sizeof id->tag); // of the same machine
}

void take_id(reader *r, handover_id *id) {
    id->worker = static_cast<uint8_t>(take(r, workers_max - 1));
    id->slot = static_cast<uint32_t>(take(r, slot_max));
    take_fixed(r, &id->tag, sizeof id->tag);
}

} // namespace

// ---------------------------------------------------------------- messages

void handover_write(const handover_message *m, buffer *out) {
    buffer_append_char(out, static_cast<char>(m->type));
    put(out, m->version);
    put(out, m->number);
    put(out, m->flag);
    put_id(out, &m->id);
    put_text(out, m->text);
    put(out, m->names.size());
    for (view name : m->names)
        put_text(out, name);
}

bool handover_read(view bytes, handover_message *out) {
    reader r = {bytes, false};
    *out = {};
    out->type = static_cast<handover_type>(take(&r, static_cast<uint64_t>(handover_type::type_count) - 1));
    out->version = static_cast<uint32_t>(take(&r, UINT32_MAX));
    out->number = take(&r, UINT64_MAX);
    out->flag = take_flag(&r);
    take_id(&r, &out->id);
    out->text = take_text(&r, handover_describe_max);
    size_t names = take_count(&r, handover_names_max, 1);
    for (size_t i = 0; i < names && !r.bad; i++) {
        out->names.push_back(take_text(&r, room_name_max));
        if (room_name_check(out->names.back())) return false;
    }
    return !r.bad && r.left.empty();
}

// ---------------------------------------------------------------- a connection, written

static void put_rooms(const handover_conn *c, buffer *out) {
    put(out, c->rooms.size());
    for (const handover_room &room : c->rooms) {
        put_text(out, room.name);
        put(out, room.ordinal);
        put(out, room.history);
        put_text(out, position_epoch(&room.at));
        put(out, room.at.offset);
    }
    put(out, c->ordinal);
}

static void put_received(const handover_conn *c, buffer *out) {
    const ws_parser *p = &c->parser;
    put(out, p->remaining);
    put_fixed(out, &p->mask, sizeof p->mask);
    put(out, p->opcode);
    put(out, p->utf8);
    put(out, p->in_frame);
    put(out, p->final);
    put(out, p->compressed);
    put(out, p->fragments);
    put(out, c->message_received);
    put_text(out, c->rest);
    put_text(out, c->message);
}

static void put_queue(const handover_conn *c, buffer *out) {
    put(out, c->begun);
    put(out, c->frames.size());
    for (const handover_frame &f : c->frames) {
        put(out, static_cast<uint64_t>(f.kind));
        put(out, f.room);
        put(out, f.key);
        put_text(out, f.bytes);
    }
    put_text(out, c->pong);
    put(out, c->slow);
    put(out, c->slow_dropped);
    put(out, c->slow_replaced);
}

static void put_patterns(const std::vector<view> &patterns, uint32_t by_token, buffer *out) {
    put(out, patterns.size());
    for (view p : patterns)
        put_text(out, p);
    put(out, by_token);
}

static void put_client(const handover_conn *c, buffer *out) {
    put(out, c->known);
    if (!c->known) return;
    for (view text : {c->user, c->info, c->state, c->sticky})
        put_text(out, text);
    put(out, c->has_sticky);
    put(out, c->expired);
    put_fixed(out, c->client_address, sizeof c->client_address);
    put(out, c->expires_ms);
    put_patterns(c->join, c->token_join, out);
    put_patterns(c->publish, c->token_publish, out);
}

static void put_record(const handover_conn *c, buffer *out) {
    put(out, c->recorded);
    if (!c->recorded) return;
    for (uint64_t n : {c->messages_in, c->messages_out, c->bytes_in, c->bytes_out})
        put(out, n);
    for (view text : {c->record_user, c->request_id, c->upstream})
        put_text(out, text);
}

void handover_describe(const handover_conn *c, buffer *out) {
    put(out, handover_version);
    put_id(out, &c->id);
    for (view text : {c->path, c->host, c->listener})
        put_text(out, text);
    put(out, c->raw);
    put(out, c->deflate);
    put_fixed(out, c->address, sizeof c->address);
    for (uint64_t ms : {c->opened_ms, c->heard_ms, c->spoke_ms, c->pinged_ms})
        put(out, ms);
    put(out, c->ping_waiting);
    put(out, c->published);
    put_rooms(c, out);
    put_received(c, out);
    put_queue(c, out);
    put_client(c, out);
    put(out, c->modules.size());
    for (const handover_module &m : c->modules) {
        put_text(out, m.name);
        put_text(out, m.version);
        put_text(out, m.state);
        put(out, m.called);
    }
    put_record(c, out);
}

// ---------------------------------------------------------------- a connection, read

static bool take_rooms(reader *r, handover_conn *c) {
    size_t n = take_count(r, handover_lists_max, 5);
    for (size_t i = 0; i < n && !r->bad; i++) {
        handover_room room = {take_text(r, room_name_max), take(r, UINT64_MAX), take_flag(r), {}};
        view epoch = take_text(r, position_epoch_max);
        uint64_t offset = take(r, UINT64_MAX);
        if (epoch.empty() ? offset != 0 : !position_set(&room.at, epoch, offset)) return false;
        if (room_name_check(room.name)) return false;
        if (room_name_reserved(room.name) && !room.name.starts_with("@user:")) return false;
        c->rooms.push_back(room);
    }
    c->ordinal = take(r, UINT64_MAX);
    return !r->bad;
}

// The parser's state is one that it can be in: what follows of a message that is not under way would be nonsense.
static bool parser_possible(const handover_conn *c) {
    const ws_parser *p = &c->parser;
    if (p->opcode != 0 && p->opcode != ws_text && p->opcode != ws_binary) return false;
    if (p->in_frame && !p->opcode) return false;
    if (!p->in_frame && p->remaining) return false;
    if (p->remaining >> 63) return false;
    if (p->compressed && !c->deflate && p->opcode) return false;
    if (!p->opcode && (p->utf8 != utf8_start || !c->message.empty())) return false;
    // Of a message under way the bytes that have come are in `message`, all of them.
    return !p->opcode || c->message.size() == c->message_received;
}

static bool take_received(reader *r, handover_conn *c) {
    ws_parser *p = &c->parser;
    p->remaining = take(r, UINT64_MAX);
    take_fixed(r, &p->mask, sizeof p->mask);
    p->opcode = static_cast<uint8_t>(take(r, 0x0f));
    p->utf8 = static_cast<uint8_t>(take(r, utf8_bad - 1));
    p->in_frame = take_flag(r);
    p->final = take_flag(r);
    p->compressed = take_flag(r);
    p->fragments = static_cast<uint32_t>(take(r, UINT32_MAX));
    c->message_received = take(r, UINT64_MAX);
    c->rest = take_text(r, rest_max);
    c->message = take_text(r, handover_describe_max);
    return !r->bad && parser_possible(c);
}

static bool room_possible(const handover_conn *c, const handover_frame *f) {
    if (f->kind == handover_frame_kind::answer) return f->room == handover_room_none && f->key <= 1;
    if (f->kind == handover_frame_kind::gap ? f->key != 0 : f->key == 1) return false;
    return f->room < c->rooms.size() || f->room >= handover_room_self;
}

static bool take_queue(reader *r, handover_conn *c) {
    c->begun = take_flag(r);
    size_t n = take_count(r, handover_lists_max, 4);
    for (size_t i = 0; i < n && !r->bad; i++) {
        handover_frame f = {};
        f.kind = static_cast<handover_frame_kind>(take(r, static_cast<uint64_t>(handover_frame_kind::gap)));
        f.room = static_cast<uint32_t>(take(r, UINT32_MAX));
        f.key = take(r, UINT64_MAX);
        f.bytes = take_text(r, handover_describe_max);
        if (r->bad || f.bytes.empty() || !room_possible(c, &f)) return false;
        c->frames.push_back(f);
    }
    c->pong = take_text(r, ws_rest_max);
    c->slow = take_flag(r);
    c->slow_dropped = take(r, UINT64_MAX);
    c->slow_replaced = take(r, UINT64_MAX);
    return !r->bad && (!c->begun || n);
}

static bool take_patterns(reader *r, std::vector<view> *patterns, uint32_t *by_token) {
    size_t n = take_count(r, 2 * patterns_max, 1); // a token's and the connect hook's
    for (size_t i = 0; i < n && !r->bad; i++)
        patterns->push_back(take_text(r, room_name_max));
    *by_token = static_cast<uint32_t>(take(r, n));
    return !r->bad;
}

static bool take_client(reader *r, handover_conn *c) {
    c->known = take_flag(r);
    if (!c->known) return !r->bad;
    c->user = take_text(r, user_max);
    c->info = take_text(r, client_text_max);
    c->state = take_text(r, client_text_max);
    c->sticky = take_text(r, client_text_max);
    c->has_sticky = take_flag(r);
    c->expired = take_flag(r);
    take_fixed(r, c->client_address, sizeof c->client_address);
    c->expires_ms = take(r, UINT64_MAX);
    return take_patterns(r, &c->join, &c->token_join) && take_patterns(r, &c->publish, &c->token_publish);
}

static bool take_modules(reader *r, handover_conn *c) {
    size_t n = take_count(r, modules_max, 4);
    for (size_t i = 0; i < n && !r->bad; i++)
        c->modules.push_back({take_text(r, 255), take_text(r, 255), take_text(r, 256), take_flag(r)});
    return !r->bad;
}

static bool take_record(reader *r, handover_conn *c) {
    c->recorded = take_flag(r);
    if (!c->recorded) return !r->bad;
    for (uint64_t *n : {&c->messages_in, &c->messages_out, &c->bytes_in, &c->bytes_out})
        *n = take(r, UINT64_MAX);
    for (view *text : {&c->record_user, &c->request_id, &c->upstream})
        *text = take_text(r, client_text_max);
    return !r->bad;
}

static bool take_head(reader *r, handover_conn *c) {
    take_id(r, &c->id);
    c->path = take_text(r, client_text_max);
    c->host = take_text(r, client_text_max);
    c->listener = take_text(r, client_text_max);
    c->raw = take_flag(r);
    c->deflate = static_cast<uint8_t>(take(r, 2));
    take_fixed(r, c->address, sizeof c->address);
    for (uint64_t *ms : {&c->opened_ms, &c->heard_ms, &c->spoke_ms, &c->pinged_ms})
        *ms = take(r, UINT64_MAX);
    c->ping_waiting = take_flag(r);
    c->published = take_flag(r);
    return !r->bad;
}

bool handover_parse(view bytes, handover_conn *out, const char **why) {
    reader r = {bytes, false};
    *out = {};
    *why = "its description is of another version";
    if (take(&r, UINT32_MAX) != handover_version || r.bad) return false;
    *why = "its description is damaged";
    return take_head(&r, out) && take_rooms(&r, out) && take_received(&r, out) && take_queue(&r, out) &&
           take_client(&r, out) && take_modules(&r, out) && take_record(&r, out) && r.left.empty();
}

// ---------------------------------------------------------------- an order

void handover_order_write(const handover_order *o, buffer *out) {
    put(out, o->op);
    for (bool flag : {o->by_room, o->by_user, o->all, o->reconnect})
        put(out, flag);
    put(out, o->code);
    put_id(out, &o->conn);
    for (view text : {o->room, o->user, o->reason})
        put_text(out, text);
}

bool handover_order_read(view bytes, handover_order *out) {
    reader r = {bytes, false};
    *out = {};
    out->op = static_cast<uint8_t>(take(&r, 3));
    for (bool *flag : {&out->by_room, &out->by_user, &out->all, &out->reconnect})
        *flag = take_flag(&r);
    out->code = static_cast<uint16_t>(take(&r, UINT16_MAX));
    take_id(&r, &out->conn);
    out->room = take_text(&r, room_name_max);
    out->user = take_text(&r, user_max);
    out->reason = take_text(&r, ws_control_max);
    return !r.bad && r.left.empty();
}

} // namespace belfry
