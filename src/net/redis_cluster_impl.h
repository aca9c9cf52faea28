// The inside of struct redis_cluster, shared by redis_cluster.cc (map, links, life) and redis_cluster_traffic.cc
// (commands and redirections). Main thread.
#pragma once

#include "net/later.h"
#include "net/redis_cluster.h"

#include <deque>
#include <string>
#include <vector>

namespace belfry {

// The link to one primary.
struct cluster_link {
    redis_cluster *cluster; // borrowed
    cluster_node at;
    redis *link;          // owned
    uint64_t unmapped_ms; // since when no slot is its; 0: some is
    uint64_t born_ms;
    bool was_ready;
};

// A command that waits for its answer, or for a moment when it can be sent.
struct cluster_command {
    redis_cluster *cluster;    // borrowed
    std::string bytes;         // all words, one behind the other
    std::vector<size_t> sizes; // of each
    redis_reply reply;         // may be null
    void *context;             // borrowed
    uint64_t tag;
    uint16_t slot;
    uint8_t redirects, retries;
    uint64_t due_ms, until_ms; // while it waits: not before; not after
};

struct redis_cluster {
    loop *on;                // borrowed
    redis_settings settings; // of the seed
    redis_cluster_events events;
    void *context; // borrowed
    bool ready, closing;
    bool unsettled; // some owner's link is not ready, or a slot has none

    cluster_map map, fresh;             // fresh: the one that is being read
    bool patched;                       // by MOVED, since it was read
    std::vector<cluster_link *> links;  // owned
    std::vector<cluster_link *> owners; // borrowed; of map.nodes, in order
    std::vector<cluster_node> known;    // every node that was ever named last, replicas too: who else can be asked

    redis *seed;       // owned; null: some link is ready
    size_t next_seed;  // 0: as configured, else of known
    bool asking;       // CLUSTER SLOTS is under way
    size_t next_asked; // of links
    uint64_t asked_ms; // when it was last asked
    later refresh;

    std::deque<cluster_command *> waiting; // owned
    std::vector<uint32_t> waits;           // of each slot: how many of them are its
    size_t bytes, count;                   // of all commands
    later flush;
    redis_cluster_counters counters;
};

// redis_cluster.cc
// The link to a node, new or there. Null where there are too many.
cluster_link *cluster_link_to(redis_cluster *c, const cluster_node *node);
// MOVED: the slot is that node's. Null where there are too many.
cluster_link *cluster_slot_moved(redis_cluster *c, uint16_t slot, const cluster_node *to);

// redis_cluster_traffic.cc
void cluster_flush(redis_cluster *c);       // sends what waits, where it can be
void cluster_traffic_end(redis_cluster *c); // answers what waits with null
void cluster_on_flush(later *flush);

} // namespace belfry
