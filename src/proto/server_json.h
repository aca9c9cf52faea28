// What the server says to clients of the JSON protocol. Each function appends one whole object to `out`. Pure; any
// thread. Names and ids are escaped here; `data`, `from` are verbatim JSON slices that were validated before.
#pragma once

#include "base/bytes.h"
#include "proto/position.h"

#include <stdint.h>

namespace belfry {

struct server_welcome {
    view conn;
    view connection; // what its client names the session by in requests of its own (proto/cursor.h); empty: left out
    view user;       // empty: left out
    view info;       // verbatim JSON; empty: left out
    int64_t ping_seconds;
    uint64_t expires_in;              // seconds; 0: left out
    const view *rooms;                // borrowed
    const struct position *positions; // borrowed: one for each of rooms; null: none has one
    size_t room_count;
    view data;   // verbatim JSON; empty: left out
    view data64; // bytes, become base64; empty: left out
};
void server_json_welcome(buffer *out, const server_welcome *w);
void server_json_ok(buffer *out, int64_t id, view room /* empty: left out */);
// The answer to a publish; no position: left out.
void server_json_ok_published(buffer *out, int64_t id, const struct position *at, bool duplicate);
// The answer to a join; without a position where the room has no history. `replayed` is said where it was recovered.
enum class server_recovery : uint8_t { not_asked, no, yes };
void server_json_ok_joined(buffer *out, int64_t id, view room, const struct position *at, server_recovery recovered,
                           size_t replayed);
// The answer to a call: `data` is verbatim JSON.
void server_json_ok_data(buffer *out, int64_t id, view data);
// The answer to auth; 0: never, left out.
void server_json_ok_expires(buffer *out, int64_t id, uint64_t seconds);
void server_json_pong(buffer *out, bool has_id, int64_t id);
void server_json_error(buffer *out, bool has_id, int64_t id, int code, view message);
struct server_message {
    view room;
    view from; // empty: left out
    uint64_t time_ms;
    struct position at; // none: left out
};
// data is JSON.
void server_json_message(buffer *out, const server_message *m, view data);
// data is text: becomes a JSON string; data64: base64 of bytes that are no UTF-8.
void server_json_message_text(buffer *out, const server_message *m, view text);
void server_json_message_binary(buffer *out, const server_message *m, view bytes);
// What presence announces: `event` is a JSON object, whose members become the answer's.
void server_json_member(buffer *out, view room, view event);
// The answer to members: their objects with commas between them; `truncated` is said where not all are there.
void server_json_ok_members(buffer *out, int64_t id, view members, uint64_t count, bool truncated);
void server_json_removed(buffer *out, view room, view reason);
void server_json_gap(buffer *out, view room);
void server_json_bye(buffer *out, int code, view reason, bool reconnect, uint64_t after_ms);

} // namespace belfry
