// How the worker process ends. Belongs to the daemon (daemon_stop.cc). Main thread.
//
//   serving    until TERM or QUIT, `belfryctl drain`, the master's end, or another process that serves from now on
//   unready    /readyz says 503, all else goes on: for load balancers to look away, drain_delay
//   draining   listeners are closed, clients are asked to leave (relay/drain.h), drain_timeout
//   overdue    who was still there is dropped; what backends are to be told gets a last try, 2 s
//   ending     all is dropped: also at a second TERM, or INT, whatever the stage
//
// It ends as soon as nobody is left.
#pragma once

#include <stdint.h>

namespace belfry {

struct buffer;
struct daemon;

enum class stop_stage : uint8_t { serving, unready, draining, overdue, ending };
const char *stop_stage_name(stop_stage s);

struct stopping {
    struct daemon *of; // borrowed
    stop_stage stage;
    bool asked;      // a reload that is under way is waited for
    uint64_t due_ms; // monotonic: when the next stage begins
};

inline constexpr uint64_t stopping_last_try_ms = 2000;

void stopping_init(stopping *s, struct daemon *of);
// Begins; harmless where it has begun. `why` is for the log. `delay`: load balancers are given drain_delay. No reload
// is taken on from here on.
void stopping_ask(stopping *s, const char *why, bool delay);
// The same by the control API, whose answer is written: {"connections","seconds"}: how many, and how long it may take.
void stopping_ask_control(stopping *s, buffer *answer);
void stopping_at_once(stopping *s);
// Once a turn, before node_turn.
void stopping_turn(stopping *s);

} // namespace belfry
