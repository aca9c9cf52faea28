// Where messages of rooms travel: inside this process (memory) or over Redis. One table of functions; the node above
// gives its own functions for what comes back. Main thread.
#pragma once

#include "net/redis.h"
#include "relay/message.h"
#include "relay/publish_job.h"

namespace belfry {

struct broker;

// What a room's history holds behind some offset.
struct history_page {
    view room;
    uint64_t after;           // as asked
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
};

struct broker_counters {
    uint64_t received, published, oversized, malformed, reconnects, subscriptions;
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
    // events->history. False: not now, no answer will come.
    bool (*read)(broker *b, view room, uint64_t after, uint32_t limit);
    void (*turn)(broker *b);               // end of the main loop's turn: batched subscriptions go out
    void (*pause)(broker *b, bool paused); // back-pressure
    bool (*ready)(const broker *b);
    void (*free)(broker *b);
};

struct broker {
    const broker_ops *ops;
    const broker_events *events; // borrowed
    void *context;               // borrowed
    broker_counters count;
};

struct broker_settings {
    int32_t type; // 0 memory, 1 redis
    std::string prefix;
    int64_t max_message; // bytes of one message from Redis; larger ones are dropped and counted
    redis_settings redis;
};

[[nodiscard]] broker *broker_memory_new(const broker_events *events, void *context);
[[nodiscard]] broker *broker_redis_new(const broker_events *events, void *context, const broker_settings *settings,
                                       loop *on);

} // namespace belfry
