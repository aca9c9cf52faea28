// What a worker's connections are, counted when it is asked: one pass over them, instead of counters that every change
// of each would have to keep right. On the worker's thread.
#pragma once

#include "base/bytes.h"

#include <stdint.h>

namespace belfry {

struct shard;
struct shard_status;

enum census_kind : uint8_t {
    census_ws,
    census_sse,
    census_poll,
    census_tunnel,
    census_http,      // a proxied request, or idle after one
    census_handshake, // not known yet
    census_closing,   // its end is on the way
    census_kind_count
};
const char *census_kind_name(census_kind k);

// Fills in tls, queue_bytes, queue_frames and blocked, and appends lines "COUNT\tKIND\tROUTE\n". ROUTE: host and path
// as configured; empty where none was found yet.
void census_take(const shard *s, shard_status *out, buffer *lines);

} // namespace belfry
