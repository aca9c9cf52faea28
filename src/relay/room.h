// Rooms of one worker, and who is in them. A room exists while somebody is in it or waits to be; the node is told when
// the first one comes (want) and when the last one left (drop), and answers when the broker delivers it (active).
// Owner's thread only.
#pragma once

#include "base/hash.h"
#include "base/list.h"
#include "relay/message.h"
#include "relay/settings.h"

namespace belfry {

struct conn;
struct room;
struct shard;

// One connection in one room; in the shard's membership_slab.
struct membership {
    link waiting;      // in room::waiters until active
    membership *next;  // the connection's next one; owned
    room *in;          // borrowed
    conn *who;         // borrowed
    uint32_t index;    // in room::members, once a member
    uint32_t ask;      // number of its question for what it has missed, until that is answered; 0: none
    bool member;       // false: waits for the broker, or for that answer
    bool suspended;    // it was a member before it asked, and counts as one for everybody but the messages
    bool wants_answer; // an `ok` is due once it is a member
    bool asked_since;  // the join named `since`
    int64_t request_id;
};

struct room_member {
    conn *who;         // borrowed
    membership *entry; // borrowed
};

struct room {
    table_node node;
    room_member *members; // owned array
    uint32_t count, capacity;
    uint32_t waiting; // length of waiters
    uint32_t serial;
    bool active;
    link waiters;
    const room_rule *rule; // borrowed; null: the backend's alone
    struct position at;    // in its history: of the last message that went to the members; none: it keeps none
    uint64_t ordinal; // while connections move away (handover.h): 1 and the messages since the marker; 0: not counted
    uint32_t name_size;
    char name[];
};

inline view room_name(const room *r) {
    return view(r->name, r->name_size);
}

room *room_find(shard *s, view name, uint64_t hash);

enum class join_result : uint8_t {
    joined,  // the room is active: room_admit makes it a member when the caller likes
    waiting, // until the node says active: then `admitted` is called
    already, // it is (or will be) a member: nothing changed
    full,    // the room's max_members are in
};

// Puts the connection in. The caller has checked name, right and max_rooms.
join_result room_join(shard *s, conn *c, view name, membership **out);
// The same for a connection that was a member in another process: no limit keeps it out, it waits in any case, and
// room_admit will tell nobody. It is not in the room yet.
[[nodiscard]] membership *room_arrive(shard *s, conn *c, view name);
// Takes it out, and nobody is told: it is a member in another process now.
void room_forget(shard *s, membership *m);
// Takes it out (member or waiting) and frees the membership. Drops the room after the last one.
void room_leave(shard *s, membership *m);
// The connection's membership of that name, or null.
membership *room_membership(const conn *c, view name);
// What is known of this client has changed: presence hears of it.
void room_info_changed(const conn *c);
// How many of its rooms count for max_rooms: all but Belfry's own.
uint32_t room_counted(const conn *c);
// Takes the connection out of all its rooms (a conn_phase's `closed`).
void room_leave_all(conn *c);
// Makes a waiting membership a member: for a connection that wants all its first rooms at once.
void room_admit(membership *m);

inline bool membership_counts(const membership *m) {
    return m->member || m->suspended;
}
// Asks the node for what the room, which keeps history, has had since then. Until the answer comes (join_answer_letter,
// of the number in membership::ask) it gets no message of the room, so that it gets each of them once: those of the
// answer, then, after room_admit, the live ones. A member may ask, too. False where there is nothing to ask: the room
// keeps no history, or `since` is none.
[[nodiscard]] bool room_ask_since(shard *s, membership *m, const struct position *since);
// The same for a connection that has come from another process; `ordinal`: of messages without a place (handover.h).
[[nodiscard]] bool room_ask_from(shard *s, membership *m, const struct position *since, uint64_t ordinal);

// The node's answer to a want: everybody that waits comes to `admitted`, which calls room_admit when it likes (before
// the next turn or later) or room_leave. `at`: the room's place in its history; none where it keeps none.
void room_active(shard *s, view name, uint32_t serial, const struct position *at, void (*admitted)(membership *m));

// As letter_type::counted, or with `active`.
void room_counted_from(shard *s, view name, uint32_t serial, uint64_t ordinal);

// The broker can't deliver the room now: everybody that waits comes to `refused`, which calls room_leave.
void room_refused(shard *s, view name, uint32_t serial, void (*refused)(membership *m));

// What the rule says about this connection now. ask: the backend decides, where the route has a hook (else it is a no).
// no, and ask where there is no hook: `why` (static) says what is missing.
enum class room_verdict : uint8_t { yes, no, ask };
room_verdict room_may_join(const conn *c, const room_rule *rule, view room, const char **why);
room_verdict room_may_publish(const conn *c, const room_rule *rule, view room, bool member, const char **why);

} // namespace belfry
