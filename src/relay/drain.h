// Asking clients to leave: all of them, since the process ends (or another one serves from now on), or those whose
// route or listener a reload has taken out of the config. Each is told once, in its own words:
//
//   WebSocket           `bye` (JSON) with after_ms, then Close 1012, behind all that was queued for it
//   tunnel              Close 1012, between two frames of the backend
//   server-sent events  `bye` with after_ms, also as the stream's retry; then the end
//   long polling        `bye` as the last message
//   handshake           503, Retry-After
//   request             its answer, whole, with Connection: close; between two requests: the end
//
// Goodbyes are evenly spaced over all threads of the process, drain_rate in a second, so that the fleet's other nodes
// get the clients one after the other; long polls alone don't wait for their turn, since their next request would find
// the listener closed. Whoever waits for an answer to its own message is told behind that answer; meanwhile nothing
// more is read from it. after_ms spreads the return over the time that all goodbyes need. What is not gone at
// drain_timeout is dropped and counted.
#pragma once

#include <atomic>
#include <stdint.h>

namespace belfry {

struct rate;
struct shard;

enum class drain_scope : uint8_t {
    retired, // conn_retired: the process goes on, and so do all others
    all,
};

inline constexpr uint32_t drain_slice = 256;           // connections that are told in one turn of a worker
inline constexpr uint64_t drain_spread_min_ms = 1000;  // after_ms is spread over no less than this,
inline constexpr uint64_t drain_spread_max_ms = 60000; // and no more
inline constexpr uint64_t drain_slack_ns =
    250'000'000;                                 // goodbyes that were not said for want of a turn are made up for
inline constexpr uint64_t drain_polls_ms = 3000; // for long polls between two requests to fetch their goodbye

// The node's; shared by its workers. Any thread.
struct drain_pace {
    std::atomic<uint64_t> last_ns; // monotonic: when the last goodbye was due; the next one is, an interval later
    std::atomic<int64_t> left;     // clients that still are to be told, about
};
// Nothing was saved up for what begins now but the first one.
void drain_pace_begin(drain_pace *p, const rate *r, uint64_t now_ns);
// True where a goodbye may be said now; it is then to be said. r->amount 0: always.
[[nodiscard]] bool drain_pace_claim(drain_pace *p, const rate *r, uint64_t now_ns);
// What after_ms is spread over, where so many are still to be told.
[[nodiscard]] uint64_t drain_spread_ms(int64_t left, const rate *r);

// The rest: on the shard's thread.

// Begins; `all` takes over from `retired`. With `all`, s->draining from here on. `retired` once more: the
// time begins anew, and nobody is told twice.
void drain_begin(shard *s, drain_scope scope);
// Once a turn, where s->drain is there: tells those whose turn it is. A `retired` one ends by itself (s->drain is null
// then) when nobody is left, or at drain_timeout.
void drain_turn(shard *s);
// Another turn is due at once.
[[nodiscard]] bool drain_busy(const shard *s);
// The time is up: who is still there gets its goodbye in one last write, and is dropped.
void drain_overdue(shard *s);
void drain_free(shard *s);

} // namespace belfry
