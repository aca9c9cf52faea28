// Presence: who is in the rooms that have it, over all nodes. Each node keeps what its own connections are in; the
// store (this process, or Redis) knows everybody's. What a room is told (announce) is about users: the first connection
// of a user is a join, the last one's end is a leave, and a connection without a user counts for itself.
//
// A leave is held back for 3 s: the connection is off the list at once, but counts for its user meanwhile, so that a
// page which is loaded again is no news, on whatever node it comes back. All changes of a room are written in order, at
// most one batch of a room under way; what fails is written again. Main thread.
#pragma once

#include "base/frame.h"
#include "proto/json.h"
#include "relay/conn_id.h"
#include "relay/settings.h"

namespace belfry {

struct presence;
struct presence_store;

inline constexpr uint64_t presence_hold_ms = 3000;
inline constexpr size_t presence_held_max = 65536;        // leaves held back; beyond that the oldest is told at once
inline constexpr size_t presence_members_max = 1000;      // that an answer lists
inline constexpr uint64_t presence_page_ms = 100;         // one read of a room's members answers all who ask within
inline constexpr size_t presence_waiting_max = 65536;     // askers that wait; more are refused
inline constexpr uint64_t presence_ask_timeout_ms = 3000; // that an asker waits
inline constexpr char presence_separator = '\x1e';        // as in RFC 7464; stands in no JSON text

// What an asker gets; borrowed until the callback returns.
struct presence_page {
    frame *members; // the members' JSON objects, each with presence_separator behind it; count a reference to keep it
    uint64_t count; // of all members, also of those left out
    bool truncated; // not all are in `members`
};

struct presence_asker {
    void (*answer)(const presence_asker *a, const presence_page *page); // page null: it can't be read now
    void *context;                                                      // borrowed
    conn_id to;
    int64_t request_id;
};

struct presence_events {
    // To be told to the room: {"event":"join"|"leave","member":{...}}, with "cause":"node_lost" where that is so.
    // False: it could not be.
    bool (*announce)(void *context, view room, view event);
};

struct presence_counters {
    uint64_t members; // connections of this node, once for each room
    uint64_t rooms, held;
    uint64_t bytes; // that all this takes
    uint64_t announced, announce_failures;
    uint64_t asked, asks_refused, reads;
    uint64_t writes, write_failures;
    uint64_t held_over; // leaves that were told early, since too many were held back
};

// In this process until presence_redis_new (presence_redis.h) takes over. Everything is borrowed.
[[nodiscard]] presence *presence_new(const relay_settings *settings, json_reader *reader, const presence_events *events,
                                     void *context);
// Before it: the broker, so that no answer comes any more, and presence_settle.
void presence_free(presence *p);
// Who waits for an answer gets none.
void presence_settle(presence *p);
// A reload: what is announced from here on. Workers tell who is in rooms whose presence begins or ends.
void presence_adopt(presence *p, const relay_settings *settings);

// A connection of this node is a member from here on, or it is one and its info is another now. `user`, `info`
// (verbatim JSON) may be empty. The room's rule has presence. `news`: the room is told, where it is announced; not of
// who was there before the room had presence.
void presence_enter(presence *p, view room, view conn, view user, view info, bool news = true);
void presence_exit(presence *p, view room, view conn);
// The connection is another process's of this node now: forgotten here, while the store keeps it.
void presence_moved(presence *p, view room, view conn);
// Another process of this node writes, too: what stands in the store in its name may be the other one's.
void presence_share(presence *p, bool shared);

// True where the rule of this room has presence.
[[nodiscard]] bool presence_wanted(const presence *p, view room);
// Answers once: in a later turn, or at once where it is known or can't be known. What this node's connections did
// before is in the answer.
void presence_ask(presence *p, view room, const presence_asker *a);

// Once a turn.
void presence_turn(presence *p, uint64_t now_ms);
// Another turn is due without an event.
[[nodiscard]] bool presence_busy(const presence *p);
// Redis may have lost what was written: all of it is written again. `taken_for_lost`: another node has told the rooms
// that our members are gone.
void presence_resync(presence *p, bool taken_for_lost);
// The same where it is about one room: its slot of a cluster has another primary.
void presence_resync_room(presence *p, view room);
// The node ends: nothing is held back any more.
void presence_stop(presence *p);
// Nothing is left to be written.
[[nodiscard]] bool presence_idle(const presence *p);
presence_counters presence_count(const presence *p);

// Appends the object that a member is listed as: {"conn":"c_...","user":"56","info":{...}}.
void presence_write_member(buffer *out, view conn, view user, view info);

} // namespace belfry
