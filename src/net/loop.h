// One thread's event loop: an event_base without locks, the thread's clock, receive and gather buffers.
//
// A loop belongs to the thread that runs it; only loop_wake may be called from others.
#pragma once

#include "base/clock.h"
#include "base/histogram.h"

#include <event2/event.h>
#include <event2/event_struct.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

namespace belfry {

// The receive buffer: reads land at `loop_headroom`, so that up to that many left-over bytes of a connection can be put
// in front; and frame_padding readable bytes follow it for simdjson.
inline constexpr size_t loop_headroom = 256;       // at least ws_rest_max
inline constexpr size_t loop_receive_size = 65536; // bytes a read may bring
inline constexpr size_t loop_gather_size = 16384;  // one TLS record's content
inline constexpr int loop_iov_max = 1024;          // IOV_MAX on Linux

struct loop {
    event_base *base;   // owned
    struct clock clock; // refreshed by loop_turn
    char *receive;      // owned: loop_headroom + loop_receive_size + frame_padding
    char *gather;       // owned: loop_gather_size
    struct iovec *iov;  // owned: loop_iov_max
    struct event wake;  // on wake_fd
    struct event tick;  // on tick_fd
    int wake_fd;        // owned: eventfd
    int tick_fd;        // owned: timerfd of loop_tick; -1: none
    uint64_t writes;    // write calls made by streams of this loop (budget tests)
    // How late the tick was looked at, each time: what any deadline of this loop suffers.
    histogram lag;
    uint64_t tick_period_ns, tick_due_ns; // when the next one is due
    uint64_t lag_peaks_ns[2];             // the longest of this loop_lag_window_ms, and of the one before
    uint64_t lag_window_end_ns;           // 0: no tick has come yet
};

// Refuses to run (fatal) where event_get_struct_event_size() is larger than sizeof(struct event), since events are
// embedded.
[[nodiscard]] loop *loop_new();
void loop_free(loop *l);
// Runs libevent once: `block` waits for the first event, else only what is ready. Refreshes the clock afterwards.
void loop_turn(loop *l, bool block);
// Makes loop_turn return at least once in `ms`, for as long as the loop lives: what has deadlines needs that. Once a
// loop.
void loop_tick(loop *l, uint64_t ms);
// The longest lag of the last half minute to minute.
inline constexpr uint64_t loop_lag_window_ms = 30000;
inline uint64_t loop_lag_peak(const loop *l) {
    return l->lag_peaks_ns[0] > l->lag_peaks_ns[1] ? l->lag_peaks_ns[0] : l->lag_peaks_ns[1];
}
// Makes a blocked loop_turn return. Any thread, also a signal handler.
void loop_wake(loop *l);

} // namespace belfry
