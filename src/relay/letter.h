// What travels through the mailboxes between the main thread (the node) and the workers. A letter is owned by whoever
// holds it; a broadcast is shared instead (it is a counted message), so that one message is one allocation, not one a
// worker.
#pragma once

#include "base/bytes.h"
#include "proto/position.h"
#include "relay/conn_id.h"

#include <atomic>
#include <stdint.h>
#include <string>
#include <vector>

namespace belfry {

enum class letter_type : uint8_t {
    // node to worker
    broadcast,   // message
    active,      // room_letter: the broker delivers this room from here on
    refused,     // room_letter: the broker can't deliver it now
    gap,         // letter: every room without history may have missed something
    room_gap,    // room_letter: this one may have
    join_answer, // join_answer_letter
    order,       // order_letter: join, leave, disconnect
    answer,      // answer_letter: what became of a client's publish
    occupied,    // room_letter: a room has its first member on this node; for notify
    vacated,     // room_letter: it has none any more, since 3 s
    adopt,       // adopt_letter (adoption.h): other settings
    deaf,        // letter: close the listening sockets; connections live on
    counted,     // room_letter: messages of this room are counted from here on (handover.h)
    drain,       // letter: say goodbye to all (drain.h)
    overdue,     // letter: drop who is still there
    stop,        // letter: nobody is left: end
    kill,        // letter: end now
    // worker to node; a broadcast that comes back is the receipt: all workers have it queued
    want,
    drop,     // room_letter
    publish,  // publish_letter
    join_ask, // join_ask_letter
    command,  // command_letter: one command of a hook's answer
    fence,    // fence_letter, there and back: what was published before it has been delivered
    entered,  // member_letter: a connection is in a room with presence, or its info is another now
    exited,   // member_letter: it is in it no more
    adopted,  // letter: nothing points into the old settings any more
    stopped,  // letter
    // worker to node to worker
    carry,   // carry_letter: a request for a session without WebSocket
    carried, // carried_letter: its answer
    // there and back
    handover, // handover_letter (handover.h)
    members,  // members_letter: who is in a room
    query,    // query: each worker fills its part, the last one sends it back
};

struct letter {
    letter_type type;
    uint8_t worker = 0; // worker to node: whose
};

// want, drop, active, refused, room_gap, occupied, vacated, counted
struct room_letter {
    letter head;
    uint32_t serial; // the worker's, tells an answer to an older want from this one
    std::string room;
    struct position at = {}; // active: of the last message before; none where the room has no history
    uint64_t ordinal = 0;    // active, counted: as room::ordinal
};

struct frame;
struct message;

// A join that names `since`: held by the node until it knows the room's history.
struct join_ask_letter {
    letter head;
    conn_id from;
    uint32_t number;   // of the worker's asks
    uint64_t room_for; // bytes that the connection's queue may take
    std::string room;
    struct position since;
    uint64_t ordinal = 0; // of a connection that has come from another process (handover.h); 0: of another
};

// Behind every broadcast up to `at` and before the ones behind it.
struct join_answer_letter {
    letter head;
    conn_id to;
    uint32_t number; // the ask's
    std::string room;
    bool recovered;
    struct position at;
    std::vector<message *> replay; // counted; empty where not recovered
};

struct publish_letter {
    letter head;
    message *what; // counted
    conn_id sender;
    bool wants_answer;
    int64_t request_id;
};

// A command as JSON, from a hook's answer.
struct command_letter {
    letter head;
    frame *source; // counted
};

struct answer_letter {
    letter head;
    conn_id to;
    int64_t request_id;
    int code; // 0: ok, else the error's
    bool duplicate = false;
    struct position at = {};
};

// A connection that is about to close asks the node to send this back. Both ways are in order, so its own publishes (an
// echo, say) come first where the broker delivers at once (memory); over Redis they are only on their way by then.
struct fence_letter {
    letter head;
    conn_id from;
};

// `user` and `info` are empty where it has exited.
struct member_letter {
    letter head;
    conn_id who;
    std::string room, user, info;
    bool news = true; // entered: the room is to be told; false: it was in before the room had presence
};

// Asked for without `members`; comes back filled in, or, where it can't be known now, as it was.
struct members_letter {
    letter head;
    conn_id from;
    int64_t request_id;
    std::string room;
    frame *members; // counted: as in presence_page (presence.h)
    uint64_t count;
    bool truncated;
};

enum class carry_op : uint8_t { poll, message };

// What a client asks for its session by a request of its own (relay/carry.h), on its way to the worker of that session.
struct carry_letter {
    letter head;
    carry_op op;
    uint64_t remote;     // the node's mark of another node's request; 0: it is this node's
    conn_id from;        // the connection that waits for the answer; nobody's where `remote`
    std::string session; // CONN.KEY, as the client sends it
    std::string user;    // who asks, where a token says so; empty: nobody says
    uint64_t sequence;   // poll: of the last batch that the client has
    frame *body;         // counted; null but of a message
};

// Exactly one comes for each carry_letter.
struct carried_letter {
    letter head;
    uint64_t remote;
    conn_id to;
    int status;
    frame *body; // counted: JSON
};

enum class order_op : uint8_t { join, leave, disconnect, refresh };

struct order_letter {
    letter head;
    order_op op;
    bool by_room; // disconnect: everybody in `room`; else `conn`
    bool by_user; // `user`'s connections; else `conn`
    bool all;     // disconnect: everybody
    bool reconnect;
    bool from_sibling = false; // the other process of an upgrade has passed it on (handover.h)
    uint16_t code;
    conn_id conn;
    std::string room;
    std::string user;
    std::string reason;
};

enum class query_type : uint8_t { rooms, room, connections, status, top };

// One per worker, written by that worker alone until `pending` reaches zero.
struct query_part {
    buffer out;         // query's own form, see query.h
    uint64_t count = 0; // room: members
};

struct query {
    letter head;
    query_type type;
    std::atomic<uint32_t> pending; // workers that have not answered yet
    std::string user;              // connections: the filter
    std::string room;              // room, connections: the filter
    std::string after;             // paging: names above this one
    uint64_t limit;
    uint32_t part_count;
    query_part *parts;                                   // owned
    void (*done)(query *q, void *context, uint64_t tag); // main thread; the query is freed after it
    void *context;
    uint64_t tag;
};

} // namespace belfry
