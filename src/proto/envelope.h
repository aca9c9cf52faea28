// What travels between backends, the broker and nodes: commands (contracts section 8) and the node's own message
// envelope on belfry:message:ROOM. Pure; the reader's thread. Fuzzed: none of these sources is trusted to be
// well-formed.
#pragma once

#include "proto/json.h"
#include "proto/position.h"

#include <stdint.h>

namespace belfry {

enum class payload_kind : uint8_t {
    any,    // unknown: from Redis or an HTTP body; JSON where it parses, text where it is UTF-8, else binary
    json,   // validated JSON
    text,   // valid UTF-8
    binary, // anything
};

enum class command_op : uint8_t { publish, join, leave, disconnect, refresh, unknown };

inline constexpr size_t command_rooms_max = 64;
inline constexpr size_t command_except_max = 64;
inline constexpr size_t command_from_max = 4096; // bytes: it is copied for each room

// Views into the source or `scratch`.
struct command {
    command_op op;
    size_t room_count;             // publish: 1 to command_rooms_max; join, leave: 1; disconnect: 0 or 1
    view rooms[command_rooms_max]; // unescaped
    view conn;                     // join, leave, disconnect, refresh: one of conn and user (disconnect: or room)
    view user;
    payload_kind kind; // publish: json for "data", binary or text for "data64" (text where it is valid UTF-8)
    view data;         // publish: verbatim JSON slice, or the decoded data64 (inside scratch)
    size_t except_count;
    view except[command_except_max]; // connection ids
    view id;                         // publish: idempotency id, empty where none
    view key;                        // publish: what it replaces in a slow reader's queue
    view from;                       // publish: verbatim JSON slice of "from", empty where none
    uint16_t code;                   // disconnect: 1000, 1001, 1008, 1011-1013 or 3000-4999; default 4403
    view reason;                     // disconnect: at most 123 bytes of UTF-8
    bool reconnect;                  // disconnect: default false
};

// Parses one command object (padded source). `scratch` holds unescaped and decoded bytes and must live as long as `out`
// is used; it is cleared first. False with a text in `e` that names the member and the rule; room names are checked
// with room_name_check.
[[nodiscard]] bool command_parse(json_reader *r, view source, command *out, buffer *scratch, error *e);

// What may stand in a Close frame that a server sends of its own will (RFC 6455 section 7.4), on a backend's order.
bool command_close_code(int64_t code);

// A node's own message: a JSON head, '\n', then the payload verbatim:
//   {"v":1,"node":"k3Fq9a","seq":17,"kind":"json","except":["c_..."],"from":{...},"time":1760000000123}\nPAYLOAD
// A message of a room with history travels with its place in it in front, written by conf/redis/publish.lua; the
// history itself keeps the rest alone:
//   k3Fq 18\n{"v":1,...}\nPAYLOAD
struct envelope {
    struct position at; // none: no line in front
    view node;          // the publishing node, 1 to 32 characters of base64url
    uint64_t sequence;  // that node's publish number
    bool member;        // "what":"member": the payload is what presence announces, a JSON object that is not empty
    bool ack;           // the publishing node asks how many members get it
    payload_kind kind;  // any: from a backend that used the script; checked as the payload is delivered
    uint64_t time_ms;
    view from; // verbatim JSON slice, empty where none
    view key;  // what it replaces in a slow reader's queue; empty where none
    size_t except_count;
    view except[command_except_max];
    view payload;
};
// The head without its line feed.
void envelope_write_head(const envelope *m, buffer *out);
// Head and payload; the position is the script's to write.
void envelope_write(const envelope *m, buffer *out);
// False where it is none (another version, bad position or head, a payload that is not of its kind). `source` is
// padded. Views into source or scratch.
[[nodiscard]] bool envelope_parse(json_reader *r, view source, envelope *out, buffer *scratch, error *e);

} // namespace belfry
