// What a worker counts. Plain numbers of one thread; the status query copies them. Names in contracts and /v1/status.
#pragma once

#include "base/histogram.h"

#include <stddef.h>
#include <stdint.h>

namespace belfry {

// Why a handshake was refused. The names are refuse_reason_name's.
enum refuse_reason : uint8_t {
    refuse_bad_request,
    refuse_not_found,
    refuse_method_not_allowed,
    refuse_timeout,
    refuse_too_large,
    refuse_target_too_long,
    refuse_head_too_large,
    refuse_misdirected,
    refuse_upgrade_required,
    refuse_http_version,
    refuse_full,
    refuse_draining,
    refuse_room,
    refuse_tls_failed,   // no HTTP answer is possible
    refuse_tls_timeout,  // ditto
    refuse_gone,         // the client left before the answer
    refuse_origin,       // a module's 403
    refuse_unauthorized, // 401
    refuse_forbidden,    // the backend's or a module's 403
    refuse_rate,         // 429
    refuse_backend,      // 502, 503, 504: hook or upstream
    refuse_preface,      // a bad PROXY header
    refuse_reason_count
};
const char *refuse_reason_name(refuse_reason r);

// Why something that was due to a client was dropped.
enum drop_reason : uint8_t {
    drop_slow_consumer, // frames thrown away with a 4413
    drop_as_oldest,     // messages that a slow reader of on_slow = drop_oldest or latest does not get
    drop_replaced,      // messages in whose place a newer one of their key went: on_slow = latest
    drop_closing,       // frames still queued when the connection broke
    drop_pong,          // a Ping answered by a later Pong (RFC 6455 section 5.5.3)
    drop_oversized,     // a frame larger than the client's whole send_queue
    drop_no_right,      // a raw client's frame for which no joined room lets it publish
    drop_rate,          // a client's message that a module refused: above its limits, mostly
    drop_hook,          // a client's message that the backend did not take
    drop_reason_count
};
const char *drop_reason_name(drop_reason r);

struct close_count {
    uint16_t code;
    uint64_t count;
};
inline constexpr size_t close_codes_max = 64; // distinct codes counted; the rest goes under 0

inline constexpr size_t hook_kinds = 7; // as hook_event of proto/hook_json.h

// Calls to backends and what came of them.
struct edge_counters {
    uint64_t hook_calls, hook_failures, hook_refusals;
    uint64_t requests, answers[6]; // proxied; by status class, [0]: none
    uint64_t request_bytes, response_bytes;
    uint64_t tunnels, published; // opened; broadcast by answer
    uint64_t client_js;          // answers that were the browser client
    uint64_t publish_failures;   // answers, or their rooms, that were to be broadcast and could not be
};

// What on_slow did.
struct slow_counters {
    uint64_t closed_hard, closed_soft; // with 4413: send_queue, send_queue_soft
    uint64_t gaps;                     // told to clients
};

// Sessions without WebSocket, and what was asked for them.
struct plain_counters {
    uint64_t events, polled; // sessions opened: of server-sent events (those held for a backend, too), of long polling
    uint64_t held;           // of the former, those that a backend's Belfry-Hold has made
    uint64_t polls, posts;   // requests for one
};

// Connections that were asked to leave (drain.h), and how they went.
struct drain_counters {
    uint64_t said;      // were told
    uint64_t closed;    // of those, have ended
    uint64_t timed_out; // of those, were still there at drain_timeout, and dropped
    uint64_t dropped;   // their turn had not come by drain_timeout, or they were in the middle of something
};

struct counters {
    edge_counters edge;
    drain_counters drain;
    plain_counters plain;
    slow_counters slow;
    uint64_t accepted, handshakes, messages_in, bytes_in, deliveries, bytes_out, turns;
    uint64_t pings_in, pings_out;
    uint64_t inflates; // compressed messages from clients
    uint64_t replayed; // deliveries of what a joiner had missed, beside `deliveries`
    uint64_t refused[refuse_reason_count];
    uint64_t dropped[drop_reason_count];
    close_count closed[close_codes_max];
    histogram fanout;                 // fanout_marks.h
    histogram hook_times[hook_kinds]; // from the start of a call to its outcome
};

void counters_close(counters *c, uint16_t code);
void counters_add(counters *sum, const counters *part);

} // namespace belfry
