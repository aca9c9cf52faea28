// How connections move from an old worker process to a new one of the same node, over a link that main/ brings: what
// the four halves share (node and worker, out of the old process and into the new one). doc/handover.md tells the whole
// story. In short: the new process subscribes to the rooms and marks a place in the broker's stream (a message to the
// node's own channel, which both hear); from there on each side numbers the messages of each room, so that "how far a
// connection has got" is a number that both understand. The old process freezes a connection, describes it, and keeps
// it until the new one has it in its place; only then, with `go`, it is the new one's. Whatever fails before: it thaws.
#pragma once

#include "base/frame.h"
#include "proto/handover.h"
#include "relay/letter.h"

namespace belfry {

struct message;
struct node;

inline constexpr uint64_t handover_moving_ms =
    10000;                                           // for connections that are busy, before they are left to the drain
inline constexpr uint64_t handover_whole_ms = 25000; // for all of it
inline constexpr uint64_t handover_answer_ms = 5000; // for the other side's next word
inline constexpr size_t handover_window = 256;       // connections of a worker under way
inline constexpr size_t handover_window_bytes = 8 << 20; // of their descriptions
inline constexpr size_t handover_kept_max = 64 << 20; // bytes of messages that the new process keeps for who is to come

// The link. False: it is broken, or was closed. `fd` (-1: none) is taken over.
struct handover_wire {
    bool (*send)(void *context, const handover_message *m, int fd);
    void *context; // borrowed
};

enum class handover_op : uint8_t {
    // node to worker, old process
    move,   // connections may go; serial: 1 where rooms are counted
    fenced, // serial: of a fence: what was published before it has been settled
    go,     // who: the new process has it
    stay,   // who: it is not taken, and not to be tried again; serial 0: neither is anybody else, it is over
    // worker to node, old process
    fence,     // serial
    described, // who, bytes, fd
    left,      // serial: how many could still move
    gone,      // who, names: the rooms with presence that it was in
    order,     // bytes: an order for connections that have moved
    // node to worker, new process
    install, // who, bytes, fd
    told,    // who, replay, names: what it has missed; the rooms of which that is not known
    start,   // who: it is ours
    drop,    // who: it is not
    // worker to node, new process
    ask,     // who, seen
    arrived, // who, names, user, info: of the rooms with presence
    ready,   // who
    refused, // who, why
    // worker to node, either process
    overflow, // who: an order that was to wait for it was dropped
};

// How far a connection has got in a room; of an empty name, in messages to @all and to its own @conn:.
struct handover_seen {
    std::string room;
    uint64_t ordinal;
    bool history; // only to be compared: the history's own numbers tell the rest
};

struct handover_letter {
    letter head;
    handover_op op;
    conn_id who = {};
    uint64_t serial = 0;
    int fd = -1;            // owned
    frame *bytes = nullptr; // counted
    const char *why = "";   // static
    std::vector<handover_seen> seen = {};
    std::vector<message *> replay = {}; // counted, in the order of their coming
    std::vector<std::string> names = {};
    std::string user = {}, info = {};
};

// An order as the other process takes it.
[[nodiscard]] frame *handover_order_frame(const order_letter *o);

handover_letter *handover_letter_new(handover_op op, uint8_t worker, conn_id who = {});
// With all that it holds.
void handover_letter_free(handover_letter *l);

inline handover_id handover_id_of(conn_id id) {
    return {id.worker, id.slot, id.tag};
}
inline conn_id handover_conn_id(handover_id id) {
    return {id.worker, id.slot, id.tag};
}

// A worker's letter to the node. Takes it over.
void handover_node_letter(node *n, handover_letter *l);
// An order that the other process passes on.
void handover_node_take_order(node *n, view bytes);
// Once a turn.
void handover_node_turn(node *n);
// The broker has delivered a message, which is not yet on its way to the workers.
void handover_node_note(node *n, message *m);
// Bytes on the node's own channel. True: they were the marker.
[[nodiscard]] bool handover_node_marker(node *n, view bytes);
// The broker may have lost messages: numbers mean nothing any more.
void handover_node_missed(node *n);
// Another process of this node's id lives: what is not found here may be there.
[[nodiscard]] bool handover_node_sibling(const node *n);
// The connections of this node may be in the other, newer process: this one does not tidy up behind itself.
[[nodiscard]] bool handover_node_succeeded(const node *n);
// Passes an order on to the older process, which may still have the connections. False: there is none.
bool handover_node_pass_on(node *n, const order_letter *o);
// A request of the newer process for a session without WebSocket that may have stayed here; and its answer.
void handover_node_carry(node *n, uint64_t number, view body);
void handover_node_carried(node *n, uint64_t number, int status, view body);
// The other process may have members of this room, or has told the backend that it is occupied: it is no news.
[[nodiscard]] bool handover_node_shares(const node *n, view room);
// Frees both halves; links are not touched.
void handover_node_free(node *n);

} // namespace belfry
