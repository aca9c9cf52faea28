// One room with history, as this node hears it: puts the broker's messages into the order of their offsets, each
// exactly once, so that workers need no memory of what their members have got. What is missing is read from history;
// what can't be had is skipped, and the members are told (gap). Answers joiners that name `since`, many of them from
// one read.
//
// A feed is there while a worker wants its room. It is pure: what it needs of broker and node are functions. Owned by
// the node. Main thread.
#pragma once

#include "base/clock.h"
#include "base/list.h"
#include "relay/broker.h"

#include <string>
#include <vector>

namespace belfry {

inline constexpr size_t feed_held_max = 1024;     // messages behind a hole
inline constexpr uint64_t feed_wait_ms = 5000;    // for what is missing, or for history at all
inline constexpr uint64_t feed_deadline_ms = 100; // between two looks at who waits for too long
inline constexpr size_t feed_reads_a_turn = 256;  // that are asked for where many rooms need one at once

// A connection that joins with `since`.
struct feed_ask {
    conn_id from;
    uint32_t number;   // the worker's, tells an answer to an older ask of the same connection from this one
    uint64_t room_for; // bytes of payloads that its queue may take
    struct position since;
    uint64_t until_ms = 0; // the feed's
    uint64_t ordinal = 0;  // as in join_ask_letter
};

struct feed;

// Borrows `replay`, which is ascending and ends with feed->at; empty where not recovered.
struct feed_answer {
    bool recovered;
    message *const *replay;
    size_t count;
};

struct feed_host {
    // As broker_ops->read; answered by feed_page, maybe inside the call.
    bool (*read)(void *context, view room, uint64_t after, uint32_t limit, uint64_t tag);
    // As broker_ops->renew.
    void (*renew)(void *context, view room, const struct position *seen);
    // The next message in order, for all members. Takes it over.
    void (*hand_over)(void *context, feed *f, message *m);
    // One that no member gets (a duplicate). Takes it over.
    void (*discard)(void *context, message *m);
    // From here on the room's messages come: feed->at says behind which one (none: not known).
    void (*live)(void *context, feed *f);
    // Members may have missed something; what comes next follows on feed->at.
    void (*gap)(void *context, feed *f);
    void (*answer)(void *context, feed *f, const feed_ask *ask, const feed_answer *answer);
};

struct feed_counters {
    uint64_t reads;      // of history
    uint64_t filled;     // messages that were missing and came from there
    uint64_t gaps;       // that members were told
    uint64_t duplicates; // messages that had been handed over before
    uint64_t recovered;  // joins with `since` that got all they had missed
    uint64_t not_recovered;
};

// What the feeds of a node share.
struct feeds {
    const feed_host *host;     // borrowed
    void *context;             // borrowed
    const struct clock *clock; // borrowed
    uint64_t cache_budget;     // bytes; 0: no caches, for a broker that answers a read at once
    uint64_t cache_bytes;
    link caching; // feeds with a cache, the one that got a message the longest ago first
    link timed;   // feeds that wait for something
    link unread;  // feeds whose read the broker did not take, or that are to be looked at after an outage
    uint64_t looked_ms;
    uint64_t last_tag;
    std::vector<message *> slice; // borrowed from a cache: of the answer that is being given
    feed_counters count;
};

enum class feed_read : uint8_t {
    none,
    position, // the first one, where nobody asks: for the position, and the last message to know it again
    cache,    // for joiners
    hole,     // for what is missing behind `at`
};

// A message in a cache, and what it was charged with.
struct feed_cached {
    message *what; // counted
    uint32_t charge;
};

struct feed {
    struct feeds *of; // borrowed
    void *owner;      // borrowed: the node's room
    link caching, timed, unread;
    struct position at; // of the last message that was handed over
    bool known;         // `at` is right, even where it is none: the room has no history yet
    bool subscribed;
    bool live;
    bool check;               // a read of what was missed in an outage is due
    bool bare;                // has passed messages without a place: what is lost of those can't be read
    bool cache_whole;         // nothing older than the cache can be read
    feed_read reading;        // what is under way
    uint64_t tag;             // of that read
    uint64_t mark;            // of the message at `at`, to know it again; 0: not known
    struct position asked_at; // `at` when it was sent
    uint32_t limit;           // messages that the room's history holds
    uint64_t until_ms;        // when the first read, or the wait for what is missing, is given up; 0: neither
    // The messages up to `at` in one run, for joiners, from cache_first on.
    std::vector<feed_cached> cache;
    size_t cache_first;
    std::vector<message *> held; // counted; ascending behind a hole, as they came before the first read
    std::vector<feed_ask> asks;
    std::string room;
};

void feeds_init(feeds *all, const feed_host *host, void *context, const struct clock *clock, uint64_t cache_budget);
// Gives up on who waited too long, sends reads that wait. Once a turn.
void feeds_turn(feeds *all);

// `limit`: the rule's history. The room's subscription is not confirmed yet.
[[nodiscard]] feed *feed_new(feeds *all, view room, uint32_t limit, void *owner);
// Messages that were held are discarded. Asks that were not answered come to nothing: the caller looks at feed->asks.
void feed_free(feed *f);

// The room keeps no history any more: what is held is handed over (with a gap where something is missing), who waits is
// told that it gets nothing. feed_free follows.
void feed_settle(feed *f);

// The broker delivers the room from here on; `readable`: history can be read (else it goes live without a position, and
// feed_check is to follow). Calls host->live now or when the history was read. Nothing where it is live.
void feed_subscribed(feed *f, bool readable);
// A message of the room, as the broker delivers it. Takes it over.
void feed_message(feed *f, message *m);
// The answer to a read.
void feed_page(feed *f, const history_page *page);
// Answered at once where that is possible; in the order of asking otherwise.
void feed_ask_since(feed *f, const feed_ask *ask);
// The link to the broker is up again: reads what was missed meanwhile.
void feed_check(feed *f);

} // namespace belfry
