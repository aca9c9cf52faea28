// Which server a key gets: the consistent ring that nginx's `hash KEY consistent` builds from the same server list
// (ketama points: CRC-32 of host, NUL, port and the last point, 160 a weight), so that Belfry and an nginx beside it
// agree. Pure; built on the main thread, read by any.
#pragma once

#include "base/bytes.h"

#include <stdint.h>
#include <vector>

namespace belfry {

// CRC-32 (IEEE 802.3), as zlib's.
uint32_t balancer_key_hash(view key);

inline constexpr size_t balancer_servers_max = 64; // of one upstream: what was tried is one word of bits

struct balancer_server {
    view name;       // as written in the config: "127.0.0.1:8000", "app.example", "unix:/run/app.sock"
    uint32_t weight; // 1 and more; 0: not in the ring
};

struct balancer_ring; // owned by who made it

// Points of all servers of weight above 0, sorted; those behind balancer_servers_max are left out. Servers are named by
// their index. 8 bytes a point: 1.3 KB for each 1 of weight.
balancer_ring *balancer_ring_new(const balancer_server *servers, size_t count);
void balancer_ring_free(balancer_ring *r);
// The server for the key's hash that is not in `excluded` (bits by index, up to 64 servers), or -1: walks on round the
// ring as nginx does when a server is down (but on and on: after 20 points nginx takes any server by turns). Several
// servers of one name stand at the same points: the first that is not excluded.
int balancer_ring_pick(const balancer_ring *r, uint32_t hash, uint64_t excluded);

} // namespace belfry
