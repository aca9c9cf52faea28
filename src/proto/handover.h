// What two worker processes say to each other while connections move from the old one to the new one: messages, and in
// one kind of them the description of a connection. Binary; numbers as LEB128, texts with their length in front. Pure;
// any thread. Fuzzed: the other side is another version of this program, so nothing of it is taken on trust.
//
// handover_version stands in `hello` and in front of each description. Whoever adds a field, or gives one another
// meaning, counts it up; descriptions of another version are refused, and their connections stay where they are until
// they are asked to come back. That costs their clients a reconnect, nothing else, so nobody has to read old versions.
#pragma once

#include "proto/position.h"
#include "proto/wsframe.h"

#include <stdint.h>
#include <vector>

namespace belfry {

inline constexpr uint32_t handover_version = 1;
inline constexpr size_t handover_names_max = 1024;        // rooms in one message
inline constexpr size_t handover_describe_max = 64 << 20; // bytes of a description; a connection with more stays
inline constexpr size_t handover_message_max = handover_describe_max + 4096;
inline constexpr size_t handover_lists_max = 1 << 20; // rooms of a connection, or frames that wait for it

// A connection's name, as relay/conn_id.h has it.
struct handover_id {
    uint8_t worker;
    uint32_t slot; // below 2^24
    uint64_t tag;
};

enum class handover_type : uint8_t {
    hello,      // both, first: version, number (workers), flag (rooms can be counted), text (node id); new one: id.tag,
                // which its markers will name; old one: a descriptor beside it, of its ticket keys, or none
    rooms,      // old one: number (of the round), names; flag: the round's last ones
    subscribed, // new one: number (of the round): where rooms are not counted; else the marker says it
    describe,   // old one: id, text (a description), a descriptor beside it
    ready,      // new one: id: all is in its place, go ahead
    refused,    // new one: id, text (why)
    go,         // old one: id: it is yours from here on
    cancel,     // old one: id: it stays here after all
    order,      // old one: text (handover_order): for connections that have moved
    done,       // old one: nothing else will move
    carry,      // new one: number, text (peer_carry.h): a request for a session that may have stayed
    carried,    // old one: number, version (an HTTP status), text (JSON)
    type_count
};

struct handover_message {
    handover_type type;
    uint32_t version = 0;
    uint64_t number = 0;
    bool flag = false;
    handover_id id = {};
    view text = {};
    std::vector<view> names = {};
};

void handover_write(const handover_message *m, buffer *out);
// Views into `bytes`. False where it is no message.
[[nodiscard]] bool handover_read(view bytes, handover_message *out);

// ---------------------------------------------------------------- a connection

struct handover_room {
    view name;
    uint64_t ordinal;   // 1 and the messages that it has had since the marker; 0: they were not counted
    bool history;       // the room keeps one: then `ordinal` is of the messages without a place in it
    struct position at; // of the last message with a place that it has had; none: there was none, or it is not known
};

// Whose message a frame that waits is: what may become of it where its reader is slow (base/frame.h).
enum class handover_frame_kind : uint8_t { answer, message, gap };
inline constexpr uint32_t handover_room_none = UINT32_MAX;     // of a room that it is not in any more
inline constexpr uint32_t handover_room_all = UINT32_MAX - 1;  // of @all
inline constexpr uint32_t handover_room_self = UINT32_MAX - 2; // of its own @conn:

struct handover_frame {
    handover_frame_kind kind;
    uint32_t room; // message, gap: in `rooms`, or one of the above
    uint64_t key;  // message: 0, or the same for messages of the same key; answer: 1 where it is no message (a Pong)
    view bytes;
};

struct handover_module {
    view name, version;
    view state;  // as the module has it
    bool called; // its close is due
};

// Times are of CLOCK_MONOTONIC, which all processes of a machine share.
struct handover_conn {
    handover_id id;
    view path, host; // the route's
    view listener;
    bool raw;            // the protocol
    uint8_t deflate;     // 0: not agreed on; 1, 2: with a window of 32 KiB, of 256 bytes
    uint8_t address[16]; // the peer's
    uint64_t opened_ms, heard_ms, spoke_ms, pinged_ms;
    bool ping_waiting, published;

    // What was read and not used yet.
    ws_parser parser;
    uint64_t message_received;
    view rest, message;

    // What is to be written: where `begun`, of the first frame the first bytes are gone already.
    std::vector<handover_frame> frames;
    bool begun;
    view pong; // that waits; empty: none
    bool slow; // it has been a slow reader
    uint64_t slow_dropped, slow_replaced;

    std::vector<handover_room> rooms;
    uint64_t ordinal; // as handover_room::ordinal, of messages to @all and to its own @conn:

    // Who it is.
    bool known; // false: nothing of the following
    view user, info, state, sticky;
    bool has_sticky, expired;
    uint8_t client_address[16];
    uint64_t expires_ms; // 0: never
    std::vector<view> join, publish;
    uint32_t token_join, token_publish; // how many of those, at the front, a token has given
    std::vector<handover_module> modules;

    // What the access log will say of it.
    bool recorded; // false: nothing of the following
    uint64_t messages_in, messages_out, bytes_in, bytes_out;
    view record_user, request_id, upstream;
};

void handover_describe(const handover_conn *c, buffer *out);
// Views into `bytes`. False where it is no description of this version; what is checked: everything that its bytes can
// tell without a look at this process. So `worker` and the route may still be unknown, and a module's state is its own.
[[nodiscard]] bool handover_parse(view bytes, handover_conn *out, const char **why);

// ---------------------------------------------------------------- an order

// As relay/letter.h's order_letter.
struct handover_order {
    uint8_t op; // 0 join, 1 leave, 2 disconnect, 3 refresh
    bool by_room, by_user, all, reconnect;
    uint16_t code;
    handover_id conn;
    view room, user, reason;
};

void handover_order_write(const handover_order *o, buffer *out);
[[nodiscard]] bool handover_order_read(view bytes, handover_order *out);

} // namespace belfry
