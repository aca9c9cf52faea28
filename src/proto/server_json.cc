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

void begin_message(buffer *out, view room) {
    buffer_append(out, "{\"type\":\"message\"");
    append_text(out, "room", room);
}

void end_message(buffer *out, view from, uint64_t time_ms) {
    if (!from.empty()) {
        buffer_append(out, ",\"from\":");
        buffer_append(out, from);
    }
    buffer_append(out, ",\"time\":");
    buffer_append_uint(out, time_ms);
    buffer_append_char(out, '}');
}

} // namespace

void server_json_welcome(buffer *out, view conn, int64_t ping_seconds, const view *rooms, size_t room_count) {
    buffer_append(out, "{\"type\":\"welcome\"");
    append_text(out, "conn", conn);
    buffer_append(out, ",\"ping\":");
    buffer_append_int(out, ping_seconds);
    buffer_append(out, ",\"rooms\":{");
    for (size_t i = 0; i < room_count; i++) {
        if (i > 0) buffer_append_char(out, ',');
        json_write_string(out, rooms[i]);
        buffer_append(out, ":{}");
    }
    buffer_append(out, "}}");
}

void server_json_ok(buffer *out, int64_t id, view room) {
    buffer_append(out, "{\"type\":\"ok\"");
    append_id(out, id);
    if (!room.empty()) append_text(out, "room", room);
    buffer_append_char(out, '}');
}

void server_json_ok_not_recovered(buffer *out, int64_t id, view room) {
    buffer_append(out, "{\"type\":\"ok\"");
    append_id(out, id);
    append_text(out, "room", room);
    buffer_append(out, ",\"recovered\":false}");
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

void server_json_message(buffer *out, view room, view data, view from, uint64_t time_ms) {
    begin_message(out, room);
    buffer_append(out, ",\"data\":");
    buffer_append(out, data);
    end_message(out, from, time_ms);
}

void server_json_message_text(buffer *out, view room, view text, view from, uint64_t time_ms) {
    begin_message(out, room);
    append_text(out, "data", text);
    end_message(out, from, time_ms);
}

void server_json_message_binary(buffer *out, view room, view bytes, view from, uint64_t time_ms) {
    begin_message(out, room);
    buffer_append(out, ",\"data64\":\"");
    buffer_reserve(out, 4 * ((bytes.size() + 2) / 3));
    out->size += base64_encode(bytes, out->data + out->size);
    buffer_append_char(out, '"');
    end_message(out, from, time_ms);
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
