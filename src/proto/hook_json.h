// What Belfry asks the backend, and what the backend says to it (contracts section 7): the bodies of hook calls and
// their answers. Pure; the reader's thread. Fuzzed: a backend is trusted to decide, not to be well-formed.
#pragma once

#include "proto/json.h"

#include <stdint.h>

namespace belfry {

enum class hook_event : uint8_t { connect, join, publish, call, message, refresh, notify };
// As it stands in "event"; static.
const char *hook_event_name(hook_event e);
// True where asking twice does no harm: connect, join, refresh, notify.
bool hook_event_safe(hook_event e);

// ---- requests. Each function appends one whole object. Texts are escaped here; `state`, `data`, `claims` are verbatim
// JSON slices that were validated before.

inline constexpr size_t hook_query_max = 64; // parameters that a connect call names

struct hook_connect_request {
    view conn, ip;
    view origin; // empty: none
    view path;
    view query; // as sent; becomes an object of decoded parameters: of each name the first, of hook_query_max names;
                // what is badly encoded or no UTF-8 is left out
    const view *subprotocols; // borrowed
    size_t subprotocol_count;
    view claims; // empty: none
};
void hook_write_connect(buffer *out, const hook_connect_request *q);

// Who asks. `user` and `state` empty: left out.
struct hook_asker {
    view conn, user, state;
};
void hook_write_join(buffer *out, const hook_asker *a, view room);
void hook_write_publish(buffer *out, const hook_asker *a, view room, view data);
void hook_write_call(buffer *out, const hook_asker *a, view method, view data);
// Text becomes the string "data", anything else base64 in "data64".
void hook_write_message(buffer *out, const hook_asker *a, view bytes, bool binary);
void hook_write_refresh(buffer *out, const hook_asker *a);

// One element of a notify call's events. Empty views and a code of 0 are left out.
struct hook_notification {
    view id, type, conn, user, room;
    int code;
    uint64_t time_ms;
};
void hook_write_notification(buffer *out, const hook_notification *n);
// The call: begin, the elements with a comma between them, end.
void hook_write_notify_begin(buffer *out);
void hook_write_notify_end(buffer *out);

// ---- answers.

inline constexpr size_t hook_user_max = 249;   // bytes, so that "@user:ID" is a room's name
inline constexpr size_t hook_value_max = 4096; // bytes of info, and of state
inline constexpr size_t hook_rooms_max = 64;   // entries of rooms, join, publish
inline constexpr size_t hook_commands_max = 64;
inline constexpr size_t hook_message_max = 1024;           // bytes of an error's message
inline constexpr uint64_t hook_expires_max = 3650 * 86400; // seconds: ten years

// Views into the source or `scratch`. A member that is absent or null is not there, but for state and info, which null
// clears.
struct hook_answer {
    view user; // fit for the room name "@user:ID"; empty: none
    bool has_info, has_state;
    view info, state; // verbatim JSON; empty: cleared
    bool has_expires;
    uint64_t expires_in; // seconds, 1 to hook_expires_max
    size_t room_count, join_count, publish_count;
    view rooms[hook_rooms_max];   // names, none of Belfry's own
    view join[hook_rooms_max];    // patterns, ditto
    view publish[hook_rooms_max]; // ditto
    bool has_data, has_data64;    // not both
    view data;                    // verbatim JSON; data64: the decoded bytes
    bool deliver;                 // true unless it says false
    bool has_error;
    int error_code; // 400 to 599
    view error_message;
    bool expired;
    size_t command_count;
    view commands[hook_commands_max]; // verbatim JSON objects, not looked into
    bool disconnect;
    uint16_t close_code; // disconnect: as a disconnect command's code
    view reason;
};

// What an answer without a body says.
void hook_answer_empty(hook_answer *out);

// Parses the body of an answer (padded source). `scratch` holds unescaped and decoded bytes and must live as long as
// `out` is used; it is cleared first. Unknown members are ignored; a known one of the wrong type or beyond its bounds
// makes the whole answer malformed: false with a text in `e` that names the member and the rule, never its bytes.
[[nodiscard]] bool hook_answer_parse(json_reader *r, view source, hook_answer *out, buffer *scratch, error *e);

// Appends what `info` becomes when a later answer adds `more` (both verbatim JSON, `more` not empty): where both are
// objects, the members of both, `more` deciding for those that both have; else `more` alone. False, nothing appended,
// where that is larger than hook_value_max.
[[nodiscard]] bool hook_merge_info(json_reader *r, view info, view more, buffer *out);

} // namespace belfry
