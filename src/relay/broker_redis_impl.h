// The inside of the Redis broker, shared by the broker_redis_*.cc files, a noun each: the links and the broker's life
// (broker_redis.cc), rooms and their subscriptions, what comes in, publishing, scripts, histories. Main thread.
#pragma once

#include "base/clock.h"
#include "net/redis_sentinel.h"
#include "net/redis_shards.h"
#include "relay/broker_redis.h"

#include <deque>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

namespace belfry {

// A room's subscription, which follows what is wanted.
enum class channel_state : uint8_t { idle, subscribing, active, unsubscribing };

struct channel {
    std::string room;
    channel_state state = channel_state::idle;
    bool wanted = true;
    bool queued = false;       // stands in `changed`
    bool refused = false;      // by Redis, the last time
    bool let_in = false;       // sharded: who joined was told yes before it was true; `missed` when it is
    uint8_t confirmations = 0; // of two, in the state's direction
};

// The rooms of one SUBSCRIBE, and how many of them are not confirmed yet.
struct sent_batch {
    std::vector<std::string> rooms;
    size_t left;
};

struct awaited_copy {
    publish_job *job; // borrowed: it waits for this outcome
    uint64_t until_ms;
    uint64_t room; // its hash
};

// The canary that is under way.
struct canary_flight {
    char token[17];    // this process's: an old and a new one may have the same channel
    uint64_t number;   // of the last one
    uint64_t sent_ns;  // 0: none is under way
    uint64_t since_ms; // since when it has been waited for: sent, or reading went on
    uint64_t next_ms;  // when the next one is due
    uint64_t interval_ms;
    bool paused; // nothing is read
};

// A script that is under way.
struct script_run {
    struct redis_broker *on; // borrowed
    redis_script script;
    bool by_text; // was sent by its text, since the server did not know it
    int key_count;
    std::string bytes;         // all words, one behind the other
    std::vector<size_t> sizes; // of each
    redis_reply reply;
    void *context; // borrowed
    uint64_t tag;
};

struct history_question {
    struct redis_broker *on; // borrowed
    std::string room;
    uint64_t after, tag;
    uint32_t limit;
};

// A link, and where in a cluster it goes.
struct placed_link {
    redis *link; // borrowed
    redis_cluster_place place;
};

struct redis_broker {
    broker head;
    broker_settings settings;
    loop *on;                          // borrowed
    redis_sentinel *sentinel;          // owned; null: Sentinel is not asked
    redis_cluster *cluster;            // owned; null: no cluster
    redis_shards *shards;              // owned; null: no cluster, or rooms are not sharded
    redis *subscriber, *publisher;     // owned; a cluster has no publisher
    std::vector<placed_link *> placed; // owned
    bool up, was_up;
    bool closing;          // being freed: nobody is told anything
    uint64_t reconnect_ms; // the fixed subscriptions were refused: a new connection then; 0: no
    std::string room_prefix, message_prefix, command_channel, node_prefix, node_channel;
    json_reader *reader; // owned
    buffer scratch, out;

    // Rooms.
    std::unordered_map<std::string, channel> channels;
    std::vector<std::string> changed;
    size_t subscribing;                           // channels that wait for a confirmation
    uint8_t fixed;                                // of fixed_subscriptions, how many are confirmed or given up
    uint64_t retry_ms;                            // refused subscriptions are not tried again before
    std::deque<sent_batch> sent;                  // SUBSCRIBEs without an answer yet, oldest first
    bool missed;                                  // a room that has members was without its subscription for a while
    std::unordered_set<std::string> missed_rooms; // to be told so, each by itself, once it is up

    // Publishing.
    uint64_t sequence;
    std::unordered_map<uint64_t, awaited_copy> copies; // own publishes whose copy is to come
    uint64_t swept_ms;

    canary_flight canary;

    // Scripts.
    std::string hashes[static_cast<size_t>(redis_script::count)]; // what Redis calls each; empty: not known
    size_t script_bytes;                                          // words of those under way

    // Histories.
    std::deque<history_question *> questions; // owned; wait for those under way
    size_t asked;                             // under way
};

inline redis_broker *redis_broker_of(broker *b) {
    return reinterpret_cast<redis_broker *>(b);
}
inline uint64_t broker_now_ms() {
    return clock_monotonic_ms(); // the loop's clock is as old as the turn
}

// broker_redis_links.cc. Every command but those that subscribe goes through here: `key` is what a cluster routes by.
[[nodiscard]] bool redis_broker_send(redis_broker *b, view key, int argc, const view *argv, redis_reply reply,
                                     void *context, uint64_t tag);
void redis_links_new(redis_broker *b);
void redis_links_free(redis_broker *b);
bool redis_links_ready(const redis_broker *b); // all of them, and what was subscribed over them
void redis_links_pause(redis_broker *b, bool paused);
void redis_links_resubscribe(redis_broker *b); // a new subscriber: what this one was refused at its start is asked anew

// broker_redis.cc
// Tells that it is up, where it is.
void redis_broker_check_up(redis_broker *b);

// broker_redis_rooms.cc
inline constexpr uint8_t fixed_subscriptions = 6; // PREFIXcommand, @all's two, the node's own, the two patterns
void redis_rooms_subscribe(broker *b, view room);
void redis_rooms_unsubscribe(broker *b, view room);
void redis_rooms_ready(redis_broker *b); // the subscriber is connected: everything is subscribed anew
void redis_rooms_down(redis_broker *b);
void redis_rooms_turn(redis_broker *b);
bool redis_rooms_complete(const redis_broker *b); // everything wanted is subscribed, but for what Redis refuses
void redis_rooms_confirmed(redis_broker *b, view channel_name, bool sharded, bool in);
void redis_rooms_shard_refused(redis_broker *b, view channel_name, view why);
void redis_rooms_missed(redis_broker *b, view channel_name); // a sharded one was away for a while
void redis_rooms_stranded(redis_broker *b); // sharded: a node is away; who waits for its rooms is let in
// PREFIXmessage:{ROOM} where it is sharded. The room is a part of the name; empty: neither this nor PREFIXroom:.
view redis_room_of_channel(const redis_broker *b, view channel_name, bool sharded);
bool redis_room_sharded(const redis_broker *b, view room); // @all and @conn: never are
void redis_rooms_pattern_confirmed(redis_broker *b);
void redis_rooms_refused(redis_broker *b, view why); // an error in the place of a confirmation

// broker_redis_incoming.cc: a frame of the subscriber's.
void redis_incoming(redis *r, const redis_value *v, void *context);

// broker_redis_canary.cc
void redis_canary_init(redis_broker *b);
void redis_canary_turn(redis_broker *b); // once a turn, while the broker is up
void redis_canary_end(redis_broker *b);  // the broker went down: none is waited for
void redis_canary_pause(redis_broker *b, bool paused);
// What came on the node's own channel. False: it is no canary.
bool redis_canary_heard(redis_broker *b, view bytes);

// broker_redis_publish.cc
bool redis_publish(broker *b, message *m, publish_job *job, bool local);
bool redis_send_to_node(broker *b, view node, view bytes, void (*sent)(void *context, uint64_t tag, int64_t nodes),
                        void *context, uint64_t tag);
void redis_copies_sweep(redis_broker *b);  // those that never came back
void redis_copies_settle(redis_broker *b); // all: they will not come back any more
void redis_copies_missed(redis_broker *b,
                         const std::unordered_set<std::string> &rooms); // theirs may have come too early
// What a message of ours is called on the wire.
std::string redis_message_channel(const redis_broker *b, view room);

// broker_redis_scripts.cc
void redis_scripts_load(redis_broker *b); // the publisher is connected

// broker_redis_history.cc
inline constexpr size_t redis_epoch_size = 8;
struct redis_epoch { // a new one, in case
    char text[redis_epoch_size];
};
redis_epoch redis_epoch_new();
bool redis_history_read(broker *b, view room, uint64_t after, uint32_t limit, uint64_t tag);
void redis_history_renew(broker *b, view room, const struct position *seen);
void redis_history_down(redis_broker *b); // answers those that wait

} // namespace belfry
