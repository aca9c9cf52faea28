// The event loop of one thread: an epoll set, an eventfd bell, a timerfd tick, the thread's buffers; libevent where it
// is asked for.
// Owned by the thread that runs it; loop_wake alone is for others.
#include "net/loop.h"

#include "base/error.h"
#include "base/frame.h"
#include "base/log.h"

#include <errno.h>
#include <event2/event.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

namespace belfry {

namespace {

constexpr int apart_ms = 10; // that libevent waits for us at most, where it can't be told of our sockets

// libevent's own complaints go where all lines go, so that a test which reads the log meets them.
void library_log(int severity, const char *text) {
    if (severity == EVENT_LOG_ERR)
        log_error("libevent: %s", text);
    else if (severity == EVENT_LOG_WARN)
        log_warn("libevent: %s", text);
    else
        log_debug("libevent: %s", text);
}

void library_fatal(int code) {
    fatal("libevent: internal error %d", code);
}

bool library_prepare() {
    event_set_log_callback(library_log);
    event_set_fatal_callback(library_fatal);
    return true;
}

event_base *base_new() {
    event_config *config = event_config_new();
    if (config == nullptr) fatal("loop: no event_config");
    event_config_set_flag(config, EVENT_BASE_FLAG_NOLOCK);
    event_base *base = event_base_new_with_config(config);
    event_config_free(config);
    if (base == nullptr) fatal("loop: no event_base: %s", strerror(errno));
    return base;
}

void sockets_ready(evutil_socket_t, short, void *context) {
    poller_run(&static_cast<loop *>(context)->poller, 0);
}

void alarm_rang(evutil_socket_t, short, void *) {} // the turn has ended; what is due is run behind it

bool library_has_work(const loop *l) {
    return event_base_get_num_events(l->library, EVENT_BASE_COUNT_ADDED | EVENT_BASE_COUNT_ACTIVE) > 0;
}

void library_turn(loop *l, int how) {
    // -1 is its own poll call failing: nothing could be served any more.
    if (event_base_loop(l->library, EVLOOP_ONCE | how) < 0) fatal("loop: libevent can't wait: %s", strerror(errno));
}

// Our epoll set and the time of what is due are events of its, for as long as it waits: it sees nothing of them else.
// Where there is nothing to wait for, or no watch left in the kernel for that, each is looked at on its own.
void turn_with_library(loop *l, int ms) {
    if (ms == 0 || event_add(l->sockets, nullptr) != 0) {
        library_turn(l, EVLOOP_NONBLOCK);
        return poller_run(&l->poller, ms < 0 || ms > apart_ms ? apart_ms : ms);
    }
    const struct timeval wait = {ms / 1000, ms % 1000 * 1000};
    if (ms > 0 && event_add(l->alarm, &wait) != 0) fatal("loop: no timer of libevent");
    library_turn(l, 0);
    event_del(l->sockets);
    event_del(l->alarm);
    if (poller_busy(&l->poller)) poller_run(&l->poller, 0); // what one of its callbacks has put off
}

// How often it has rung since the last time; 0: it has not.
uint64_t read_rings(int fd) {
    uint64_t rings;
    ssize_t n = read(fd, &rings, sizeof rings);
    if (n < 0 && errno != EAGAIN && errno != EINTR) fatal("loop: eventfd or timerfd: %s", strerror(errno));
    return n == sizeof rings ? rings : 0;
}

// Only silences the bell: what it announces is read once a turn by whoever runs the loop, not here.
void loop_woken(watch *w, unsigned) {
    (void)read_rings(BELFRY_CONTAINER_OF(w, loop, wake)->wake_fd);
}

void note_lag(loop *l, uint64_t now) {
    const uint64_t lag = now > l->tick_due_ns ? now - l->tick_due_ns : 0;
    histogram_add(&l->lag, lag);
    if (now >= l->lag_window_end_ns) {
        const bool next = now < l->lag_window_end_ns + loop_lag_window_ms * 1000000; // else a whole one was missed
        l->lag_peaks_ns[1] = next ? l->lag_peaks_ns[0] : 0;
        l->lag_peaks_ns[0] = 0;
        l->lag_window_end_ns = now + loop_lag_window_ms * 1000000;
    }
    if (lag > l->lag_peaks_ns[0]) l->lag_peaks_ns[0] = lag;
}

// What the tick makes due is done once a turn, too. Those that could not be looked at in time count as one.
void loop_ticked(watch *w, unsigned) {
    loop *l = BELFRY_CONTAINER_OF(w, loop, tick);
    const uint64_t rings = read_rings(l->tick_fd), now = clock_monotonic_ns();
    if (!rings) return;
    if (l->lag_window_end_ns) // else it is the first one: the loop has only begun to turn
        note_lag(l, now);
    else
        l->lag_window_end_ns = now + loop_lag_window_ms * 1000000;
    l->tick_due_ns += rings * l->tick_period_ns;
}

} // namespace

loop *loop_new() {
    loop *l = static_cast<loop *>(memory_get_zeroed(sizeof(loop)));
    poller_init(&l->poller);
    later_queue_init(&l->laters);
    l->receive = static_cast<char *>(memory_get_zeroed(loop_headroom + loop_receive_size + frame_padding));
    l->gather = static_cast<char *>(memory_get(loop_gather_size));
    l->iov = static_cast<struct iovec *>(memory_get(size_t{loop_iov_max} * sizeof(struct iovec)));
    l->tick_fd = -1;
    l->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (l->wake_fd < 0) fatal("loop: eventfd: %s", strerror(errno));
    l->wake.ready = loop_woken;
    if (!watch_start(&l->poller, &l->wake, l->wake_fd, watch_readable, false))
        fatal("loop: the eventfd can't be watched: %s", strerror(errno));
    clock_refresh(&l->clock);
    return l;
}

void loop_free(loop *l) {
    if (l == nullptr) return;
    if (l->library != nullptr) {
        event_free(l->sockets);
        event_free(l->alarm);
        event_base_free(l->library);
    }
    poller_free(&l->poller);
    close(l->wake_fd);
    if (l->tick_fd >= 0) close(l->tick_fd);
    free(l->iov);
    free(l->gather);
    free(l->receive);
    free(l);
}

// The tick is a timerfd and no time-out of epoll_wait, which would be set and taken back in the kernel with each turn:
// 1 % of the CPU time of a tunnelled frame.
void loop_tick(loop *l, uint64_t ms) {
    l->tick_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    timespec period = {static_cast<time_t>(ms / 1000), static_cast<long>(ms % 1000 * 1000000)};
    itimerspec when = {period, period};
    l->tick_period_ns = ms * 1000000;
    l->tick_due_ns = clock_monotonic_ns() + l->tick_period_ns;
    if (l->tick_fd < 0 || timerfd_settime(l->tick_fd, 0, &when, nullptr) != 0)
        fatal("loop: no timer: %s", strerror(errno));
    l->tick.ready = loop_ticked;
    if (!watch_start(&l->poller, &l->tick, l->tick_fd, watch_readable, false))
        fatal("loop: the timer can't be watched: %s", strerror(errno));
}

event_base *loop_library(loop *l) {
    static const bool prepared = library_prepare(); // once a process, whichever thread is first
    (void)prepared;
    if (l->library != nullptr) return l->library;
    l->library = base_new();
    l->sockets = event_new(l->library, l->poller.fd, EV_READ | EV_PERSIST, sockets_ready, l);
    l->alarm = evtimer_new(l->library, alarm_rang, l);
    if (l->sockets == nullptr || l->alarm == nullptr) fatal("loop: no event of libevent");
    return l->library;
}

void loop_turn(loop *l, bool block) {
    const int ms = poller_busy(&l->poller) ? 0 : later_wait_ms(&l->laters, block ? -1 : 0);
    if (l->library != nullptr && library_has_work(l))
        turn_with_library(l, ms);
    else
        poller_run(&l->poller, ms);
    later_run_due(&l->laters);
    clock_refresh(&l->clock);
}

void loop_wake(loop *l) {
    int keep = errno; // a signal handler must not change it
    uint64_t one = 1;
    ssize_t n;
    do
        n = write(l->wake_fd, &one, sizeof one);
    while (n < 0 && errno == EINTR);
    // EAGAIN: the counter is at its top, so the bell is ringing already.
    errno = keep;
}

} // namespace belfry
