// The node: the main thread's half of the relay. Knows which worker wants which room, keeps the broker subscribed
// accordingly, hands every message to the workers with members, and carries out commands. Main thread only.
#pragma once

#include "base/hash.h"
#include "proto/envelope.h"
#include "relay/broker.h"
#include "relay/drain.h"
#include "relay/feed.h"
#include "relay/idempotency.h"
#include "relay/node_presence.h"
#include "relay/node_stream.h"
#include "relay/occupancy.h"
#include "relay/peers.h"
#include "relay/query.h"
#include "relay/receipts.h"
#include "relay/room_rates.h"
#include "relay/upstream.h"
#include "relay/worker.h"

#include <deque>
#include <unordered_map>
#include <vector>

namespace belfry {

// A room that some worker has, or waits for.
struct node_room {
    table_node node;
    uint64_t wanted;       // bit per worker
    uint64_t told;         // bit per worker: has got `active`
    bool active;           // the broker delivers it; with a feed: in order, behind a place that is known
    const room_rule *rule; // borrowed; null: the backend's alone
    struct feed *feed;     // owned; null: no history
    uint64_t ordinal;      // as room::ordinal
    bool held;             // wanted by nobody yet, but connections are about to come (handover.h)
    uint32_t name_size;
    uint32_t serials[]; // per worker; the name follows
};

struct node {
    loop *on;                       // borrowed
    const relay_settings *settings; // borrowed
    worker *workers;                // owned array
    uint32_t worker_count, workers_stopped;
    struct broker *broker;                    // owned
    std::vector<upstream_shared *> upstreams; // owned, in the order of settings->upstreams
    struct wheel deadlines;                   // of struct deadline
    struct occupancy occupancy;
    bool tells_occupancy; // a route wants to be notified of it
    table rooms;
    struct feeds feeds;                    // of the rooms with history
    struct idempotency commanded;          // ids of publishes on PREFIXcommand
    bool stalled;                          // back-pressure: takes in nothing new; what workers send waits in `held`
    std::deque<letter *> held;             // owned; bounded by outbox_bytes_max a worker
    std::atomic<bool> stalled_for_workers; // the same as `stalled`, for them to read
    bool unready;                          // the process is about to end: /readyz says so, all else goes on
    bool draining;                         // all clients are asked to leave
    bool stopping;                         // the workers are told to end
    drain_pace pace;
    std::atomic<int64_t> process_live;
    json_reader *reader; // owned
    buffer scratch;
    uint64_t commands, command_errors, publishes_dropped, stalls;
    struct room_rates rates;                            // of messages that went to this node's members
    struct presence *presence;                          // owned
    struct nodes *others;                               // owned; null where there is no Redis
    uint64_t presence_again_ms, presence_end_ms;        // node_presence.cc's
    bool presence_left;                                 // ditto
    struct command_stream *stream;                      // owned; null where there is none
    struct peers *peers;                                // owned: questions to other nodes
    struct receipts receipts;                           // of other nodes' messages
    std::unordered_map<uint64_t, peers_return> carried; // other nodes' requests that our workers are about
    uint64_t carried_last;
    struct handover_out *leaving; // owned: connections move to another process, or have; or null
    struct handover_in *arriving; // owned: they come from one that still lives; or null
    // A reload under way.
    struct adoption *adopting; // owned; null: none
    uint32_t adopters;         // workers that have not answered yet
    void (*adopted)(void *context);
    void *adopted_context;                   // borrowed
    std::vector<upstream_shared *> retiring; // owned: replaced by a reload, until the workers' last calls are over
};

// Payload bytes in undelivered messages above which the node stops reading from Redis and from its workers.
inline constexpr int64_t node_bytes_in_flight_max = 64 << 20;

void node_init(node *n, loop *on, const relay_settings *settings, const broker_settings *broker, uint32_t workers);
// Joins the workers' threads and settles every letter and question that was under way: nobody waits for an answer
// afterwards.
void node_join(node *n);
// After node_join. Turns the loop for the broker's sake, frees everything.
void node_destroy(node *n);
// Once a turn of the main loop: mailboxes both ways, the broker's batches.
void node_turn(node *n);
// True while something would be left undone if the loop slept.
bool node_busy(const node *n);
// Says goodbye to everybody (drain.h): at drain_rate, beginning now. Nobody comes in any more. When all have left, and
// backends were told, the workers end by themselves: node_stopped tells when. Until then all else works.
void node_drain(node *n);
// drain_timeout has passed: who is still there is dropped and counted; what backends are to be told gets one more try.
void node_drain_overdue(node *n);
// The workers end. `now`: whoever is connected is dropped; else nobody is left.
void node_stop(node *n, bool now);
// The workers close their listening sockets; connections live on.
void node_stop_listening(node *n);
inline bool node_stopped(const node *n) {
    return n->workers_stopped == n->worker_count && node_presence_finished(n);
}

// A reload: everything in the relay that points into the settings it was made with is aimed at these, in one quiet
// point of each thread (adoption.h says what that is). They outlive the node, or the next adoption; the old ones may go
// once `done` was called, from a turn of the main loop. Nobody is disconnected but who uses a route or listener that
// the new settings don't know, not even as a retired one. `sockets`: of each worker, all that it is to accept on
// afterwards. A descriptor that it has already stays, and gets the settings named here; an unknown one becomes the
// worker's; one that it has and that is not named is closed. One adoption at a time, not while the node stops; modules
// are the same ones.
void node_adopt(node *n, const relay_settings *settings, std::vector<std::vector<worker_socket>> sockets,
                void (*done)(void *context), void *context);

// Publishing works, everything wanted is subscribed, and what is subscribed is delivered.
inline bool node_ready(const node *n) {
    return n->broker->ops->ready(n->broker) && !n->broker->canary.missing && !n->unready;
}

// Publishes for all nodes; the parts' time is set here, and whether history keeps it by the room's rule. False where
// the broker is out of reach or this node is overloaded (answer 503): nothing was sent and the job (may be null) not
// touched.
[[nodiscard]] bool node_publish(node *n, message_parts *parts, publish_job *job);
// The same to all rooms of a publish command. False where one of them was not to be had, which ends it.
[[nodiscard]] bool node_publish_command(node *n, const command *c, publish_job *job, bool ack = false);

// Where the room is in its history, as far as this node knows: over Redis, where it has members here. None otherwise.
[[nodiscard]] position node_place(const node *n, view room);

// Carries out join, leave, disconnect and refresh on this node's connections. 0, or an HTTP-like code with a text in
// `e` (404: no such connection, or none of that user, here).
[[nodiscard]] int node_order(node *n, const command *c, error *e);

// Asks all workers (`user`: about that one's connections alone); `done` is called on the main thread with the whole
// query, which is freed after it.
void node_query(node *n, query_type type, view room, view after, uint64_t limit,
                void (*done)(query *, void *, uint64_t), void *context, uint64_t tag, view user = {});

} // namespace belfry
