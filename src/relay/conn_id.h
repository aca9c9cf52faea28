// Names of connections: "c_" and 20 characters of base64url over 15 bytes: node (3), worker (1), slot (3), random tag
// (8). The first four characters are the node's, so that one pattern subscription serves all of a node's @conn: rooms;
// the tag makes an id unguessable and never used twice. Any thread.
#pragma once

#include "base/bytes.h"

#include <stdint.h>

namespace belfry {

inline constexpr size_t conn_id_size = 22; // characters
inline constexpr size_t node_id_size = 4;  // characters

struct conn_id {
    uint8_t worker;
    uint32_t slot; // below 2^24
    uint64_t tag;
    bool operator==(const conn_id &) const = default;
};

struct conn_id_text {
    char text[conn_id_size];
    operator view() const { return view(text, conn_id_size); }
};

// Takes this process's node id, or draws one where `id` is none (that of the process before an upgrade, which names
// connections that live on). Once, before threads start.
void node_id_init(view id = {});
view node_id(); // node_id_size characters
// What this process counts from where other processes of the same node count, too, and the answers come to both: 0, but
// far from any other's where the id was inherited. Below 2^52.
uint64_t node_count_base();

conn_id_text conn_id_format(conn_id id);
// False where the text is no id, or one of another node.
[[nodiscard]] bool conn_id_parse(view text, conn_id *out);
// The node's id in what looks like a connection's id of any node (node_id_size characters of `text`); empty where it is
// none.
view conn_id_node(view text);

} // namespace belfry
