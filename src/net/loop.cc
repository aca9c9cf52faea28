// The event loop of one thread: libevent without locks, an eventfd bell, the thread's buffers.
// Owned by the thread that runs it; loop_wake alone is for others.
#include "net/loop.h"

#include "base/error.h"
#include "base/frame.h"
#include "base/log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

namespace belfry {

namespace {

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
    event_config_set_flag(config, EVENT_BASE_FLAG_NO_CACHE_TIME); // a look at the clock each turn, that nobody uses
    event_base *base = event_base_new_with_config(config);
    event_config_free(config);
    if (base == nullptr) fatal("loop: no event_base: %s", strerror(errno));
    return base;
}

// How often it has rung since the last time; 0: it has not.
uint64_t read_rings(evutil_socket_t fd) {
    uint64_t rings;
    ssize_t n = read(fd, &rings, sizeof rings);
    if (n < 0 && errno != EAGAIN && errno != EINTR) fatal("loop: eventfd or timerfd: %s", strerror(errno));
    return n == sizeof rings ? rings : 0;
}

// Only silences the bell: what it announces is read once a turn by whoever runs the loop, not here.
void loop_woken(evutil_socket_t fd, short, void *) {
    (void)read_rings(fd);
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
void loop_ticked(evutil_socket_t fd, short, void *context) {
    auto *l = static_cast<loop *>(context);
    const uint64_t rings = read_rings(fd), now = clock_monotonic_ns();
    if (!rings) return;
    if (l->lag_window_end_ns) // else it is the first one: the loop has only begun to turn
        note_lag(l, now);
    else
        l->lag_window_end_ns = now + loop_lag_window_ms * 1000000;
    l->tick_due_ns += rings * l->tick_period_ns;
}

} // namespace

loop *loop_new() {
    // Events are embedded in connections, so the library at run time must not think that they are larger than the
    // header did at compile time.
    if (event_get_struct_event_size() > sizeof(struct event))
        fatal("loop: libevent %s has events of %zu bytes, this program was built for %zu: build it again",
              event_get_version(), event_get_struct_event_size(), sizeof(struct event));
    static const bool prepared = library_prepare(); // once a process, whichever thread is first
    (void)prepared;

    loop *l = static_cast<loop *>(memory_get_zeroed(sizeof(loop)));
    l->base = base_new();
    l->receive = static_cast<char *>(memory_get_zeroed(loop_headroom + loop_receive_size + frame_padding));
    l->gather = static_cast<char *>(memory_get(loop_gather_size));
    l->iov = static_cast<struct iovec *>(memory_get(size_t{loop_iov_max} * sizeof(struct iovec)));
    l->tick_fd = -1;
    l->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (l->wake_fd < 0) fatal("loop: eventfd: %s", strerror(errno));
    if (event_assign(&l->wake, l->base, l->wake_fd, EV_READ | EV_PERSIST, loop_woken, l) != 0 ||
        event_add(&l->wake, nullptr) != 0)
        fatal("loop: the eventfd can't be watched: %s", strerror(errno));
    clock_refresh(&l->clock);
    return l;
}

void loop_free(loop *l) {
    if (l == nullptr) return;
    event_del(&l->wake);
    if (l->tick_fd >= 0) event_del(&l->tick);
    event_base_free(l->base);
    close(l->wake_fd);
    if (l->tick_fd >= 0) close(l->tick_fd);
    free(l->iov);
    free(l->gather);
    free(l->receive);
    free(l);
}

// A timerfd and not a timer of libevent's: with no timer in its heap, epoll_wait has no time-out, and each turn saves
// the kernel's timer and two looks at the clock, 1 % of the CPU time of a tunnelled frame.
void loop_tick(loop *l, uint64_t ms) {
    l->tick_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    timespec period = {static_cast<time_t>(ms / 1000), static_cast<long>(ms % 1000 * 1000000)};
    itimerspec when = {period, period};
    l->tick_period_ns = ms * 1000000;
    l->tick_due_ns = clock_monotonic_ns() + l->tick_period_ns;
    if (l->tick_fd < 0 || timerfd_settime(l->tick_fd, 0, &when, nullptr) != 0)
        fatal("loop: no timer: %s", strerror(errno));
    if (event_assign(&l->tick, l->base, l->tick_fd, EV_READ | EV_PERSIST, loop_ticked, l) != 0 ||
        event_add(&l->tick, nullptr) != 0)
        fatal("loop: the timer can't be watched: %s", strerror(errno));
}

void loop_turn(loop *l, bool block) {
    int how = block ? EVLOOP_ONCE : EVLOOP_ONCE | EVLOOP_NONBLOCK;
    // -1 is the poll call itself failing (a closed epoll descriptor): nothing could be served any more.
    if (event_base_loop(l->base, how) < 0) fatal("loop: libevent can't wait: %s", strerror(errno));
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
