// Writes what the server says to clients of the JSON protocol (contracts section 4).
// Owns nothing; pure; any thread. Names, ids and texts are escaped by json_write_string; whatever is called a slice was
// validated by a json_reader, so it can't break out of the object it is put into.
#include "proto/server_json.h"

#include "proto/json.h"

namespace belfry {

namespace {

// `,"name":"text"`; `name` needs no escapes.
void append_text(buffer *out, view name, view text) {
    buffer_append(out, ",\"");
    buffer_append(out, name);
    buffer_append(out, "\":");
    json_write_string(out, text);
}

void append_id(buffer *out, int64_t id) {
    buffer_append(out, ",\"id\":");
    buffer_append_int(out, id);
}

// Nothing where it is empty.
void append_slice(buffer *out, view name, view slice) {
    if (slice.empty()) return;
    buffer_append(out, ",\"");
    buffer_append(out, name);
    buffer_append(out, "\":");
    buffer_append(out, slice);
}

void append_base64(buffer *out, view bytes) {
    buffer_append(out, ",\"data64\":\"");
    buffer_reserve(out, 4 * ((bytes.size() + 2) / 3));
    out->size += base64_encode(bytes, out->data + out->size);
    buffer_append_char(out, '"');
}

void append_expires(buffer *out, uint64_t seconds) {
    if (!seconds) return;
    buffer_append(out, ",\"expires_in\":");
    buffer_append_uint(out, seconds);
}

// "epoch":"k3Fq","offset":17
void write_position(buffer *out, const position *at) {
    buffer_append(out, "\"epoch\":");
    json_write_string(out, position_epoch(at));
    buffer_append(out, ",\"offset\":");
    buffer_append_uint(out, at->offset);
}

void append_position(buffer *out, const position *at) {
    if (position_none(at)) return;
    buffer_append_char(out, ',');
    write_position(out, at);
}

void begin_message(buffer *out, const server_message *m) {
    buffer_append(out, "{\"type\":\"message\"");
    append_text(out, "room", m->room);
}

void end_message(buffer *out, const server_message *m) {
    append_position(out, &m->at);
    append_slice(out, "from", m->from);
    buffer_append(out, ",\"time\":");
    buffer_append_uint(out, m->time_ms);
    buffer_append_char(out, '}');
}

} // namespace

void server_json_welcome(buffer *out, const server_welcome *w) {
    buffer_append(out, "{\"type\":\"welcome\"");
    append_text(out, "conn", w->conn);
    if (!w->connection.empty()) append_text(out, "connection", w->connection);
    if (!w->user.empty()) append_text(out, "user", w->user);
    append_slice(out, "info", w->info);
    buffer_append(out, ",\"ping\":");
    buffer_append_int(out, w->ping_seconds);
    append_expires(out, w->expires_in);
    buffer_append(out, ",\"rooms\":{");
    for (size_t i = 0; i < w->room_count; i++) {
        if (i > 0) buffer_append_char(out, ',');
        json_write_string(out, w->rooms[i]);
        buffer_append(out, ":{");
        if (w->positions && !position_none(&w->positions[i])) write_position(out, &w->positions[i]);
        buffer_append_char(out, '}');
    }
    buffer_append_char(out, '}');
    append_slice(out, "data", w->data);
    if (!w->data64.empty()) append_base64(out, w->data64);
    buffer_append_char(out, '}');
}

void server_json_ok_data(buffer *out, int64_t id, view data) {
    buffer_append(out, "{\"type\":\"ok\"");
    append_id(out, id);
    append_slice(out, "data", data);
    buffer_append_char(out, '}');
}

void server_json_ok_expires(buffer *out, int64_t id, uint64_t seconds) {
    buffer_append(out, "{\"type\":\"ok\"");
    append_id(out, id);
    append_expires(out, seconds);
    buffer_append_char(out, '}');
}

void server_json_ok(buffer *out, int64_t id, view room) {
    buffer_append(out, "{\"type\":\"ok\"");
    append_id(out, id);
    if (!room.empty()) append_text(out, "room", room);
    buffer_append_char(out, '}');
}

void server_json_ok_published(buffer *out, int64_t id, const position *at, bool duplicate) {
    buffer_append(out, "{\"type\":\"ok\"");
    append_id(out, id);
    append_position(out, at);
    if (duplicate) buffer_append(out, ",\"duplicate\":true");
    buffer_append_char(out, '}');
}

void server_json_ok_joined(buffer *out, int64_t id, view room, const position *at, server_recovery recovered,
                           size_t replayed) {
    buffer_append(out, "{\"type\":\"ok\"");
    append_id(out, id);
    append_text(out, "room", room);
    append_position(out, at);
    if (recovered == server_recovery::yes) {
        buffer_append(out, ",\"recovered\":true,\"replayed\":");
        buffer_append_uint(out, replayed);
    }
    if (recovered == server_recovery::no) buffer_append(out, ",\"recovered\":false");
    buffer_append_char(out, '}');
}

void server_json_pong(buffer *out, bool has_id, int64_t id) {
    buffer_append(out, "{\"type\":\"pong\"");
    if (has_id) append_id(out, id);
    buffer_append_char(out, '}');
}

void server_json_error(buffer *out, bool has_id, int64_t id, int code, view message) {
    buffer_append(out, "{\"type\":\"error\"");
    if (has_id) append_id(out, id);
    buffer_append(out, ",\"code\":");
    buffer_append_int(out, code);
    append_text(out, "message", message);
    buffer_append_char(out, '}');
}

void server_json_message(buffer *out, const server_message *m, view data) {
    begin_message(out, m);
    buffer_append(out, ",\"data\":");
    buffer_append(out, data);
    end_message(out, m);
}

void server_json_message_text(buffer *out, const server_message *m, view text) {
    begin_message(out, m);
    append_text(out, "data", text);
    end_message(out, m);
}

void server_json_message_binary(buffer *out, const server_message *m, view bytes) {
    begin_message(out, m);
    append_base64(out, bytes);
    end_message(out, m);
}

void server_json_member(buffer *out, view room, view event) {
    buffer_append(out, "{\"type\":\"member\"");
    append_text(out, "room", room);
    buffer_append_char(out, ',');
    buffer_append(out, event.substr(1)); // its own brace closes the whole
}

void server_json_ok_members(buffer *out, int64_t id, view members, uint64_t count, bool truncated) {
    buffer_append(out, "{\"type\":\"ok\"");
    append_id(out, id);
    buffer_append(out, ",\"members\":[");
    buffer_append(out, members);
    buffer_append(out, "],\"count\":");
    buffer_append_uint(out, count);
    buffer_append(out, truncated ? ",\"truncated\":true}" : "}");
}

void server_json_removed(buffer *out, view room, view reason) {
    buffer_append(out, "{\"type\":\"removed\"");
    append_text(out, "room", room);
    append_text(out, "reason", reason);
    buffer_append_char(out, '}');
}

void server_json_gap(buffer *out, view room) {
    buffer_append(out, "{\"type\":\"gap\"");
    append_text(out, "room", room);
    buffer_append_char(out, '}');
}

void server_json_bye(buffer *out, int code, view reason, bool reconnect, uint64_t after_ms) {
    buffer_append(out, "{\"type\":\"bye\",\"code\":");
    buffer_append_int(out, code);
    append_text(out, "reason", reason);
    buffer_append(out, reconnect ? ",\"reconnect\":true" : ",\"reconnect\":false");
    buffer_append(out, ",\"after_ms\":");
    buffer_append_uint(out, after_ms);
    buffer_append_char(out, '}');
}

} // namespace belfry
