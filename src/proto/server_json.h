// What the server says to clients of the JSON protocol. Each function appends one whole object to `out`. Pure; any
// thread. Names and ids are escaped here; `data`, `from` are verbatim JSON slices that were validated before.
#pragma once

#include "base/bytes.h"

#include <stdint.h>

namespace belfry {

struct server_welcome {
    view conn;
    view user; // empty: left out
    view info; // verbatim JSON; empty: left out
    int64_t ping_seconds;
    uint64_t expires_in; // seconds; 0: left out
    const view *rooms;   // borrowed
    size_t room_count;
    view data;   // verbatim JSON; empty: left out
    view data64; // bytes, become base64; empty: left out
};
void server_json_welcome(buffer *out, const server_welcome *w);
void server_json_ok(buffer *out, int64_t id, view room /* empty: left out */);
// The answer to a call: `data` is verbatim JSON.
void server_json_ok_data(buffer *out, int64_t id, view data);
// The answer to auth; 0: never, left out.
void server_json_ok_expires(buffer *out, int64_t id, uint64_t seconds);
// The answer to a join that named `since`, in a room without history.
void server_json_ok_not_recovered(buffer *out, int64_t id, view room);
void server_json_pong(buffer *out, bool has_id, int64_t id);
void server_json_error(buffer *out, bool has_id, int64_t id, int code, view message);
// `from` empty: left out. data is JSON.
void server_json_message(buffer *out, view room, view data, view from, uint64_t time_ms);
// data is text: becomes a JSON string; data64: base64 of bytes that are no UTF-8.
void server_json_message_text(buffer *out, view room, view text, view from, uint64_t time_ms);
void server_json_message_binary(buffer *out, view room, view bytes, view from, uint64_t time_ms);
void server_json_removed(buffer *out, view room, view reason);
void server_json_gap(buffer *out, view room);
void server_json_bye(buffer *out, int code, view reason, bool reconnect, uint64_t after_ms);

} // namespace belfry
