// The memory broker's store: the last messages of every room that keeps some, as counted references to the very
// messages that were delivered. One budget of bytes for all rooms; where it is used up, the oldest message of the room
// that was published to the longest ago goes. Owned by the memory broker. Main thread.
#pragma once

#include "base/hash.h"
#include "base/list.h"
#include "net/wheel.h"
#include "relay/message.h"

#include <vector>

namespace belfry {

// A room without messages keeps its epoch and offset for so long and so many such rooms do, the oldest go first: a
// quiet room does not begin again, and rooms that nobody comes back to don't stay for ever.
inline constexpr uint64_t history_place_ms = 24 * 3600 * 1000;
inline constexpr size_t history_places_max = 65536;
inline constexpr size_t history_epoch_size = 6; // characters: one of 7e10 words

struct history_counters {
    uint64_t rooms;    // that keep messages now
    uint64_t messages; // kept now
    uint64_t bytes;    // that they are charged with
    uint64_t places;   // rooms whose epoch and offset alone are kept
    uint64_t evicted;  // messages that went because of the budget
    uint64_t expired;  // messages that went history_ttl after their room's last one
};

struct history {
    table rooms;
    link keeping; // rooms with messages, the one that was published to the longest ago first
    link places;  // rooms without, the longest quiet first
    struct wheel expiries;
    uint64_t budget; // bytes
    history_counters count;
    std::vector<message *> page; // borrowed from the rooms: of the last history_read
};

void history_init(history *h, uint64_t budget, uint64_t now_ms);
// Gives all messages back.
void history_destroy(history *h);

// Gives the message its position (message->at), the next one of its room, and keeps it: the last message->keep (at
// least 1) stay, until message->keep_ttl_ms after the last of them. Takes a reference of its own. One that is larger
// than the whole budget gets its position, and leaves its room empty.
void history_keep(history *h, message *m, uint64_t now_ms);

// What the room holds behind offset `after`: the newest `limit`, ascending, borrowed until the next call of any
// function here. A room that is not known yet gets its epoch now, so that who joins it empty can come back.
struct history_slice {
    position top;             // of the last message that the room got
    bool whole;               // nothing is missing between `after` and `top`
    message *const *messages; // borrowed
    size_t count;
};
[[nodiscard]] history_slice history_read(history *h, view room, uint64_t after, uint32_t limit, uint64_t now_ms);

// Where the room is, borrowed; null where it is not known.
[[nodiscard]] const position *history_place(const history *h, view room);
// Rooms for which `keeps` says no lose everything, their place too: what comes next is of another epoch.
void history_forget(history *h, bool (*keeps)(void *context, view room), void *context);
// What is too old goes. Once a turn; costs nothing where nothing is due.
void history_turn(history *h, uint64_t now_ms);

// Bytes of memory that a kept message is charged with: its own, its payload, its text forms (those that were made, at
// least the JSON one, which is made where the room has members), and its place.
[[nodiscard]] uint32_t history_charge(const message *m);

} // namespace belfry
