// The node: the main thread's half of the relay. Knows which worker wants which room, keeps the broker subscribed
// accordingly, hands every message to the workers with members, and carries out commands. Main thread only.
#pragma once

#include "base/hash.h"
#include "proto/envelope.h"
#include "relay/broker.h"
#include "relay/feed.h"
#include "relay/idempotency.h"
#include "relay/node_presence.h"
#include "relay/node_stream.h"
#include "relay/occupancy.h"
#include "relay/peers.h"
#include "relay/query.h"
#include "relay/receipts.h"
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
    bool stopping;
    std::atomic<int64_t> process_live;
    json_reader *reader; // owned
    buffer scratch;
    uint64_t commands, command_errors, publishes_dropped, stalls;
    struct presence *presence;                          // owned
    struct nodes *others;                               // owned; null where there is no Redis
    uint64_t presence_again_ms, presence_end_ms;        // node_presence.cc's
    bool presence_left;                                 // ditto
    struct command_stream *stream;                      // owned; null where there is none
    struct peers *peers;                                // owned: questions to other nodes
    struct receipts receipts;                           // of other nodes' messages
    std::unordered_map<uint64_t, peers_return> carried; // other nodes' requests that our workers are about
    uint64_t carried_last;
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
// Says goodbye to everybody (`now`: drops everybody); workers end when all are gone. node_stopped tells when.
void node_stop(node *n, bool now);
inline bool node_stopped(const node *n) {
    return n->workers_stopped == n->worker_count && node_presence_finished(n);
}

// Publishing works and everything wanted is subscribed.
inline bool node_ready(const node *n) {
    return n->broker->ops->ready(n->broker) && !n->stopping;
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
