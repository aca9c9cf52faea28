// The inside of struct redis, shared by redis.cc (the life of the link) and redis_traffic.cc (commands and replies).
#pragma once

#include "net/address.h"
#include "net/later.h"
#include "net/redis.h"
#include "net/redis_reply.h"
#include "net/resolve.h"
#include "net/stream.h"
#include "net/tls.h"

#include <deque>
#include <string>
#include <vector>

namespace belfry {

enum class redis_phase : uint8_t { waiting, resolving, connecting, handshake, greeting, ready };

// Who waits for the next reply. Redis answers in order (RESP2 has no identifiers), so this is a FIFO.
enum class redis_awaits : uint8_t { caller, auth, select, role, first_ping, ping, subscription };

struct redis_pending {
    redis_awaits who;
    redis_verb verb;    // subscription
    uint32_t remaining; // subscription: frames still to come; 0: a bare UNSUBSCRIBE, whose number nobody knows
    redis_reply reply;  // caller; may be null
    void *context;      // borrowed
    uint64_t tag;
};

struct redis {
    loop *on; // borrowed
    redis_settings settings;
    std::string name;
    redis_events events;
    void *context;    // borrowed
    tls_context *tls; // counted; null: plain
    redis_phase phase;
    bool paused;         // felt only while ready
    bool freed;          // redis_free was called from a callback: destroyed when the outermost one returns
    int depth;           // callbacks from the loop that are on the stack
    redis_where where;   // null: where the settings say
    void *where_context; // borrowed
    bool reconnecting;   // at the next turn
    std::string reconnect_why;

    struct stream stream;
    redis_reader *reader; // owned; null while there is no connection
    buffer out;           // encoded commands
    size_t out_done;      // bytes of it already written
    bool write_for_read;  // TLS has to write before it can read on
    std::deque<redis_pending> pending;

    resolve *resolving; // owned; null unless resolving
    std::vector<address> addresses;
    size_t first, tried;  // of addresses: where an attempt starts, how many it has tried
    later timer;          // what it means depends on the phase
    later turn;           // write, read on
    uint64_t deadline_ms; // of this attempt
    uint64_t heard_ms;    // when bytes last came
    uint64_t ping_ms;     // when the unanswered PING went out; 0: none
    uint64_t ready_ms;    // when it last became ready
    uint64_t told_ms;     // when a failure was last logged
    std::string told;     // and which
    int64_t backoff_ms;   // upper bound of the next wait

    redis_counters counters;
};

// redis.cc
uint64_t redis_now_ms();
// Ends the connection, answers what waits, tells `down` where it was ready, and arms the back-off. `why` may point into
// the reader. The caller returns at once: nothing of the connection is left, and r->freed may be set.
void redis_fail(redis *r, const char *why);
void redis_became_ready(redis *r);
inline bool redis_alive(const redis *r) {
    return !r->freed && r->phase >= redis_phase::greeting;
}

// redis_traffic.cc; each may end in redis_fail.
void redis_queue(redis *r, int argc, const view *argv, const redis_pending &entry);
void redis_write(redis *r);
void redis_read(redis *r);
void redis_deliver(redis *r); // what the reader holds
void redis_rewatch(redis *r);

} // namespace belfry
