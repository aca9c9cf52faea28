// One thread's event loop: what waits for sockets (poller.h) and for its time (later.h), the thread's clock, receive
// and gather buffers. libevent comes in where its evdns is asked for an address, for as long as that takes.
//
// A loop belongs to the thread that runs it; only loop_wake may be called from others.
#pragma once

#include "base/clock.h"
#include "base/histogram.h"
#include "net/later.h"
#include "net/poller.h"

#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

struct event_base;
struct event;

namespace belfry {

// The receive buffer: reads land at `loop_headroom`, so that up to that many left-over bytes of a connection can be put
// in front; and frame_padding readable bytes follow it for simdjson.
inline constexpr size_t loop_headroom = 256;       // at least ws_rest_max
inline constexpr size_t loop_receive_size = 65536; // bytes a read may bring
inline constexpr size_t loop_gather_size = 16384;  // one TLS record's content
inline constexpr int loop_iov_max = 1024;          // IOV_MAX on Linux

struct loop {
    struct poller poller; // owned
    later_queue laters;
    struct clock clock;    // refreshed by loop_turn
    char *receive;         // owned: loop_headroom + loop_receive_size + frame_padding
    char *gather;          // owned: loop_gather_size
    struct iovec *iov;     // owned: loop_iov_max
    watch wake;            // on wake_fd
    watch tick;            // on tick_fd
    int wake_fd;           // owned: eventfd
    int tick_fd;           // owned: timerfd of loop_tick; -1: none
    uint64_t writes;       // write calls made by streams of this loop (budget tests)
    event_base *library;   // owned: libevent's, of loop_library; null: not asked for yet
    struct event *sockets; // owned: in `library`, readable when the poller has something
    struct event *alarm;   // owned: in `library`, when the next later is due
    // How late the tick was looked at, each time: what any deadline of this loop suffers.
    histogram lag;
    uint64_t tick_period_ns, tick_due_ns; // when the next one is due
    uint64_t lag_peaks_ns[2];             // the longest of this loop_lag_window_ms, and of the one before
    uint64_t lag_window_end_ns;           // 0: no tick has come yet
};

// Fatal where the kernel has no descriptor or memory for it.
[[nodiscard]] loop *loop_new();
void loop_free(loop *l);
// One turn: `block` waits for the first thing to do, else only for what is ready. Refreshes the clock afterwards.
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
// libevent on this loop, for what knows nothing else (evdns); made when first asked for, fatal where there are no
// descriptors or memory for it: so who may need it asks at its start. While it has events the loop waits through it,
// one epoll set in the other, which costs three system calls more a turn. Borrowed.
event_base *loop_library(loop *l);

} // namespace belfry
