// What presence is made of: for presence*.cc alone. Main thread.
#pragma once

#include "base/hash.h"
#include "base/list.h"
#include "base/slab.h"
#include "relay/presence.h"

#include <string>
#include <vector>

namespace belfry {

struct presence_room;

// Where an entry is, or shall be, in the store. Held: it has left, but counts for its user still.
enum presence_place : uint8_t {
    presence_nowhere,
    presence_listed,
    presence_held,
    presence_unknown, // in the store only: it may be anywhere
};

// One connection in one room.
struct presence_entry {
    table_node node;     // in presence::entries
    link sibling;        // in presence_room::entries
    link held;           // in presence::held, or alone
    presence_room *room; // borrowed
    char *text;          // owned: the user, then the info; null where both are empty
    uint64_t due_ms;     // held: when that ends
    char conn[conn_id_size];
    uint8_t user_size; // bytes: at most client_user_max
    uint16_t info_size;
    presence_place wanted, stored;
    presence_place sent; // busy: what was asked of the store
    bool told : 1;       // the room knows of it
    bool stale : 1;      // the store has an older info
    bool queued : 1;     // stands in presence_room::queue
    bool busy : 1;       // in presence_room::sent
    bool foreign : 1;    // no connection of this process: found in the store, to be taken out
    bool lost : 1;       // foreign: its node was lost
    bool moved : 1;      // another process's now: goes without being written
};

static_assert(sizeof(presence_entry) <= 112); // with 10,000 members in memory 1.1 MB

struct presence_room {
    table_node node; // in presence::rooms
    link dirty;      // in presence::dirty while there is something to write, or alone
    link asking;     // in presence::asking while somebody waits, or alone
    bool announce;
    link entries;
    uint32_t own, listed;                // entries of this process; those with wanted == presence_listed
    std::vector<presence_entry *> queue; // to be written, the oldest first
    std::vector<presence_entry *> sent;  // the batch under way
    bool busy;                           // the store works on `sent`, or on its own list of rooms
    bool known;                          // the store knows that this node has members here
    bool reading;
    bool page_stale;   // this node's members have changed since the page was asked for
    size_t read_after; // of the queue's entries, those that a read must wait for
    uint64_t retry_ms; // the last write failed: not again before
    uint64_t read_ms;  // when the last read began; 0: never
    uint64_t asked_ms; // when the oldest waiter came
    size_t answering;  // waiters that the read under way will answer in any case
    std::vector<presence_asker> waiters;
    presence_page page; // counted: members; null: none
    uint32_t name_size;
    char name[];
};

struct presence_store_ops {
    // Brings r->sent to where they are to be (entry->sent); answered by presence_written, at once or later. False: not
    // now, no answer will come.
    bool (*write)(presence_store *s, presence_room *r);
    // Null where the store needs no list of this node's rooms. Puts the room there or takes it out; answered by
    // presence_known.
    bool (*know)(presence_store *s, presence_room *r, bool known);
    // Answered by presence_read.
    bool (*read)(presence_store *s, presence_room *r);
    void (*turn)(presence_store *s, uint64_t now_ms);
    // Another process may have written as us; null where that can't be.
    void (*resync)(presence_store *s);
    bool (*ready)(const presence_store *s);
    bool (*idle)(const presence_store *s);
    size_t (*bytes)(const presence_store *s);
    void (*free)(presence_store *s);
};

struct presence_store {
    const presence_store_ops *ops;
    struct presence *of; // borrowed
};

struct presence {
    const relay_settings *settings; // borrowed
    json_reader *reader;            // borrowed
    const presence_events *events;  // borrowed
    void *context;                  // borrowed
    presence_store *store;          // owned
    slab entry_slab;
    table entries, rooms;
    link held;   // of presence_entry, the first that is due first
    link dirty;  // of presence_room
    link asking; // of presence_room
    uint64_t now_ms;
    size_t held_count, waiting, foreign, room_bytes, text_bytes;
    uint32_t batches; // under way
    bool stopping;
    bool shared; // presence_share
    bool more;   // the last turn has left something that could be written at once
    buffer scratch;
    presence_counters count;
};

inline constexpr size_t presence_batch_max = 128;    // entries in one write
inline constexpr uint32_t presence_batches_max = 64; // writes under way, and in a turn
inline constexpr uint64_t presence_retry_ms = 1000;

inline view presence_room_name(const presence_room *r) {
    return view(r->name, r->name_size);
}
inline view presence_conn(const presence_entry *e) {
    return view(e->conn, conn_id_size);
}
inline view presence_user(const presence_entry *e) {
    return view(e->text, e->user_size);
}
inline view presence_info(const presence_entry *e) {
    return view(e->text + e->user_size, e->info_size);
}
// By whom an entry is counted: empty where it counts for itself. Also while nobody is told, since a reload may change
// that, and other nodes may have changed it already.
inline view presence_counted_user(const presence_entry *e) {
    return presence_user(e);
}

// What became of r->sent. `crossed` (null: it failed) has one element for each: it was the first connection of its
// user, or the last one.
void presence_written(presence *p, presence_room *r, const uint8_t *crossed);
void presence_known(presence *p, presence_room *r, bool fine, bool known);
// Null: it could not be read.
void presence_read(presence *p, presence_room *r, const presence_page *page);

// An entry that the store has in this node's name, or a lost node's, and no connection of this process stands for: it
// is taken out, and, where `lost` or held, the room is told.
void presence_found(presence *p, view room, view conn, view user, view info, bool held, bool lost);

[[nodiscard]] presence_store *presence_memory_new(presence *p);

// presence_ask.cc's: who asked this room and still waits, and the room's page.
void presence_answer_waiting(presence *p, uint64_t now_ms);
void presence_forget_page(presence_room *r);
void presence_refuse_waiters(presence *p, presence_room *r);

// The room of that name; made where there is none.
[[nodiscard]] presence_room *presence_room_of(presence *p, view name);
// Frees it where nothing keeps it.
void presence_release(presence *p, presence_room *r);

} // namespace belfry
