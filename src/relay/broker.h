// Where messages of rooms travel: inside this process (memory) or over Redis. One table of functions; the node above
// gives its own functions for what comes back. Main thread.
#pragma once

#include "base/histogram.h"
#include "net/redis.h"
#include "relay/message.h"
#include "relay/publish_job.h"

namespace belfry {

struct broker;

// What a room's history holds behind some offset.
struct history_page {
    view room;
    uint64_t after, tag;      // as asked
    bool failed;              // it could not be read now
    bool whole;               // nothing is missing between `after` and `top`
    struct position top;      // the last message's; none: the room has no history yet
    message *const *messages; // borrowed, ascending offsets; who keeps one takes a reference
    size_t count;
};

struct broker_events {
    void (*subscribed)(void *context, view room);             // from here on the room's messages are delivered
    void (*refused)(void *context, view room);                // not now; it is tried again for as long as it is wanted
    void (*deliver)(void *context, message *m);               // takes the message over
    void (*history)(void *context, const history_page *page); // answers ops->read, at once or later
    void (*command)(void *context, frame *source);            // one JSON command for this node; the frame is borrowed
    void (*up)(void *context,
               bool missed); // all that is wanted is subscribed, publishing works; missed: it was not, for a while
    void (*down)(void *context, const char *why); // messages may be missed from here on
    // Bytes that another node has sent to this one (ops->send_to_node); borrowed, not padded. May be null.
    void (*peer)(void *context, view bytes) = nullptr;
    // This room's subscription was interrupted, and is there again: messages may have been missed. May be null.
    void (*missed)(void *context, view room) = nullptr;
};

struct broker_counters {
    uint64_t received, published, oversized, malformed, reconnects, subscriptions;
    uint64_t duplicates;    // publishes with an id that was published before
    uint64_t history_reads; // questions for a room's history
};

struct broker_ops {
    void (*subscribe)(broker *b,
                      view room); // answered by events->subscribed, at once or later; while the link is down at once
    void (*unsubscribe)(broker *b, view room);
    // Publishes for all nodes, this one included: its copy comes back to `deliver` with message->job set. Borrows the
    // message; where it is to be kept (message->keep), or has an id, the job learns its position, and so does the copy.
    // False: out of reach, nothing was sent, the job (may be null) was not touched. Else the job gets one outcome more
    // (accepted or not), and, where `local`, a second one: the receivers of this node's own copy.
    bool (*publish)(broker *b, message *m, publish_job *job, bool local);
    // Asks for the history of a room behind an offset, `limit` messages at the most (the newest); answered by
    // events->history, once, with the same tag. False: not now, no answer will come. A limit of 0 asks for the position
    // alone. A room without history yet gets its epoch by this, so that who joins it empty can come back.
    bool (*read)(broker *b, view room, uint64_t after, uint32_t limit, uint64_t tag);
    // The room's history went back behind `seen` (a fail-over to a replica that was behind): gives the room a new epoch
    // where it still has that one, so that nobody takes new messages for old ones. Null where that can't be.
    void (*renew)(broker *b, view room, const struct position *seen);
    // Sends bytes to the node of that id, at most once. False: out of reach. Null where there are no other nodes.
    // `sent` (may be null) tells how many nodes have got them (0: there is none of that id; -1: not known).
    bool (*send_to_node)(broker *b, view node, view bytes, void (*sent)(void *context, uint64_t tag, int64_t nodes),
                         void *context, uint64_t tag);
    void (*turn)(broker *b);               // end of the main loop's turn: batched subscriptions go out
    void (*pause)(broker *b, bool paused); // back-pressure
    bool (*ready)(const broker *b);
    void (*free)(broker *b);
    // All that is delivered comes from one server over one link, so that every subscriber gets it in the same order.
    // Null: it does not.
    bool (*in_order)(const broker *b) = nullptr;
};

// Messages that a broker sends to itself, through everything that a message goes through, to know that what is
// subscribed is delivered. All zero where none are sent.
struct broker_canary {
    bool missing;      // the last one is overdue
    uint64_t heard_ms; // monotonic: when one came last; 0: none has
    uint64_t sent, heard, lost;
    histogram round_trips;
};

struct broker {
    const broker_ops *ops;
    const broker_events *events; // borrowed
    void *context;               // borrowed
    broker_counters count;
    broker_canary canary = {};
};

struct broker_settings {
    int32_t type; // 0 memory, 1 redis
    std::string prefix;
    int64_t max_message;         // bytes of one message from Redis; larger ones are dropped and counted
    int64_t history_memory;      // bytes that kept messages may take: the store's (memory), the caches' (redis)
    bool command_stream = false; // redis: takes commands from PREFIXcommands (command_stream.h)
    redis_settings redis;
    std::vector<redis_settings> sentinels; // who tells where the primary is; empty: `redis` does
    std::string master_name;               // what the sentinels call it
    bool cluster;                          // `redis` is one of a cluster's nodes
    bool sharded;                          // rooms by SSUBSCRIBE and SPUBLISH
};

[[nodiscard]] broker *broker_memory_new(const broker_events *events, void *context, const broker_settings *settings,
                                        loop *on);
[[nodiscard]] broker *broker_redis_new(const broker_events *events, void *context, const broker_settings *settings,
                                       loop *on);

} // namespace belfry
