// Where a reader without WebSocket stands, in texts that it gives back unread: the id of its last server-sent event
// (its rooms with history and their positions), the cursor of its last poll, and the name of its session.
//
//   event id     EPOCH:OFFSET:ROOM, one for each room, with commas between them; ROOM percent-encoded
//   session      CONN.KEY: the connection's public id, and what only who opened it knows
//   poll cursor  CONN.KEY.SEQUENCE
//
// What clients send is read strictly, and written again it is the same text, but for how ROOM is encoded. Pure; any
// thread. Fuzzed.
#pragma once

#include "base/bytes.h"
#include "proto/position.h"

#include <stddef.h>
#include <stdint.h>

namespace belfry {

inline constexpr size_t cursor_rooms_max = 32;
inline constexpr size_t cursor_size_max = 3072; // bytes; a Last-Event-ID field has to fit into any server's head

struct cursor_room {
    struct position at;
    view room;
};

struct cursor {
    size_t count;
    cursor_room rooms[cursor_rooms_max];
};

// Appends one more room to the `count` that `out` holds already. False where it does not fit any more: nothing was
// appended. `at` is a position, `room` a room's name.
[[nodiscard]] bool cursor_add(buffer *out, size_t count, const position *at, view room);
// The names are decoded into `names` (cleared first) and borrowed from it. False where the text is none: an epoch or
// offset that can't be one, a name that no room may have or that begins with '@', a room that comes twice, one too
// many.
[[nodiscard]] bool cursor_parse(view text, cursor *out, buffer *names);

struct session_name {
    view conn;
    view key;
};
inline constexpr size_t session_part_max = 32; // characters of each
// Views into `text`. False where it is none: two parts of base64url characters.
[[nodiscard]] bool session_name_parse(view text, session_name *out);

struct poll_cursor {
    session_name of;
    uint64_t sequence;
};
void poll_cursor_write(buffer *out, const poll_cursor *c);
// Views into `text`.
[[nodiscard]] bool poll_cursor_parse(view text, poll_cursor *out);

} // namespace belfry
