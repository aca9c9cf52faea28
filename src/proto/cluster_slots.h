// Redis Cluster as plain data: the slot of a key, which node has which slots, and the redirections in error replies.
//
// A slot is CRC16 of the key modulo 16384 (the Redis Cluster specification, "Key distribution model"). All that is
// parsed here comes from a server: bounded, and refused where it contradicts itself. Any thread; owns its strings.
#pragma once

#include "base/bytes.h"
#include "base/error.h"

#include <stdint.h>
#include <string>
#include <vector>

namespace belfry {

inline constexpr uint16_t cluster_slot_count = 16384;
inline constexpr size_t cluster_nodes_max = 64; // primaries; links are made to each
inline constexpr uint8_t cluster_nobody = 255;

// Of the whole key; or, where it has a '{' and behind it a '}' with something in between, of that alone (the first of
// each): keys with the same {tag} live together.
[[nodiscard]] uint16_t cluster_slot(view key);

struct cluster_node {
    std::string host; // name or address
    uint16_t port;
};

struct cluster_map {
    std::vector<cluster_node> nodes;   // primaries, at most cluster_nodes_max
    uint8_t owner[cluster_slot_count]; // of each slot: an index into nodes, or cluster_nobody
    uint16_t covered;                  // slots that have an owner
};

void cluster_map_clear(cluster_map *m);
// One range of CLUSTER SLOTS with its primary. An empty host means the one that was asked. False, with a reason, where
// a number or the host can't be, a slot gets two owners, or there are too many nodes; the map is of no use then.
[[nodiscard]] bool cluster_map_add(cluster_map *m, int64_t first, int64_t last, view host, int64_t port, view asked,
                                   error *e);
// One slot has moved (MOVED says so). False where there are too many nodes.
[[nodiscard]] bool cluster_map_move(cluster_map *m, uint16_t slot, const cluster_node *to);
inline bool cluster_map_complete(const cluster_map *m) {
    return m->covered == cluster_slot_count;
}

enum class cluster_advice : uint8_t {
    none,      // an error like others
    moved,     // the slot lives at `node` from now on
    ask,       // this one command goes to `node`, behind ASKING
    try_again, // TRYAGAIN, CLUSTERDOWN, MASTERDOWN, LOADING: the same again, a little later
};

struct cluster_redirect {
    cluster_advice advice;
    uint16_t slot;     // moved, ask
    cluster_node node; // moved, ask
};

// What an error reply's text advises. A redirection that can't be read is `none`. `asked`: the host that answered,
// which an empty host stands for.
[[nodiscard]] cluster_redirect cluster_advice_of(view error_text, view asked);

} // namespace belfry
