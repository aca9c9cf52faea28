// Everything that one worker thread owns. Plain data: who works on it is conn (connections), room (rooms), fanout
// (deliveries) and worker (the thread itself). No other thread touches a shard but through its two mailboxes.
#pragma once

#include "base/hash.h"
#include "base/list.h"
#include "base/slab.h"
#include "net/listener.h"
#include "net/loop.h"
#include "net/mailbox.h"
#include "net/wheel.h"
#include "proto/deflate.h"
#include "proto/json.h"
#include "relay/counters.h"
#include "relay/fanout_marks.h"
#include "relay/settings.h"

#include <atomic>
#include <mutex>
#include <unordered_map>
#include <vector>

namespace belfry {

struct conn;
struct conn_phase;
struct drain;
struct drain_pace;
struct handover_arrivals;
struct handover_departures;
struct module_resume;
struct notifier;
struct order_letter;
struct slow_hooks;
struct upstream;

inline constexpr size_t shards_max = 64; // worker threads: a room's mask is one word

struct shard {
    uint8_t index;
    const relay_settings *settings; // borrowed
    struct loop *loop;              // owned
    struct wheel wheel;             // of conn::timer
    struct wheel deadlines;         // of struct deadline (net/deadline.h)
    mailbox inbox;                  // node to worker; this thread consumes
    mailbox outbox;                 // worker to node; this thread produces
    // Bytes of letters on their way to the node: added here, taken off by the node when it has passed them on.
    std::atomic<int64_t> outbox_bytes;
    const std::atomic<bool> *node_stalled; // borrowed: the node wants to be woken when deliveries were made
    counters count;

    // Connections by slot; a free slot holds null and stands in free_slots.
    conn **conns; // owned array
    uint32_t slot_count, slot_capacity;
    uint32_t *free_slots; // owned array
    uint32_t free_count;
    uint32_t live;                      // connections now
    std::atomic<int64_t> *process_live; // borrowed: of all threads, for max_connections
    slab conn_slab, chunk_slab, membership_slab;
    link graveyard;   // closed in this turn, freed at its end
    link tls_waiting; // readable, but max_handshakes are under way
    uint32_t tls_under_way;
    link again;                    // have bytes inside the TLS object, or were resumed: read next turn
    link paused;                   // wait for the outbox to drain
    const conn_phase *first_phase; // borrowed: what a new connection starts as
    void (*release)(conn *c);      // frees what upper nouns keep with a connection: at its end, or when it lingers

    // The edge.
    slab exchange_slab;
    upstream **upstreams;                // owned, in the order of settings->upstreams
    std::vector<upstream *> retiring;    // owned: replaced by a reload, until their last calls are over
    struct notifier *notifier;           // owned
    void **module_workers;               // owned: what modules' worker_new made, in the order of settings->modules
    std::mutex resume_lock;              // guards resumes alone; taken by host->resume, which is no data path
    std::vector<module_resume> *resumes; // owned: from other threads, carried out once a turn
    std::atomic<bool> resumes_waiting;   // there are some: without a look at the lock, which each turn would take

    // An upgrade's handover (handover.h).
    void (*carry_out)(shard *s, const order_letter *o); // an order that had to wait
    handover_departures *departures;                    // owned; null unless connections move away, or have
    handover_arrivals *arrivals;                        // owned; null unless some come
    std::unordered_map<uint64_t, uint32_t>
        *come;        // owned: tags of who came with a slot of another process, and where in `conns` they are; or null
    uint64_t ordinal; // as room::ordinal, of messages to @all and to @conn:

    // Output.
    bool
        pressed; // a queue that may still be written is half full: no more deliveries before the dirty ones are written
    conn *dirty_first, *dirty_last; // singly linked by conn::next_dirty
    fanout_marks marks;             // messages whose last write is to come
    link doomed;                    // queue overflowed during a fan-out, closed after it
    const slow_hooks *slow;         // borrowed, static: what conn_slow.h asks of upper nouns
    json_reader *reader;            // owned
    buffer scratch;
    deflater *packer;   // owned
    inflater *unpacker; // owned
    buffer unpacked;    // a compressed message, while its session looks at it

    // Rooms.
    table rooms;
    uint32_t next_serial;
    uint32_t membership_count;

    // The end.
    struct drain *drain;       // owned: who is asked to leave; null: nobody
    drain_pace *pace;          // borrowed: the node's; null: as fast as it goes
    bool draining;             // all are asked to leave, new connections are refused
    std::atomic<bool> drained; // they have left, and all of it was told: for the node to see
    bool ending;               // leave the loop
};

// Above this many bytes of letters under way a worker stops reading from whoever causes them; each letter is charged
// letter_charge more.
inline constexpr int64_t outbox_bytes_max = 16 << 20;
inline constexpr int64_t letter_charge = 512;

inline bool shard_backlogged(const shard *s) {
    return mailbox_backlogged(&s->outbox) || s->outbox_bytes.load(std::memory_order_relaxed) > outbox_bytes_max;
}

// What a scratch buffer may keep between uses, in bytes: one big message shall not stay for ever.
inline constexpr size_t scratch_keep = 65536;

} // namespace belfry
