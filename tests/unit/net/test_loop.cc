// The loop: waking it from elsewhere, its turns, libevent as its guest, its clock and its buffers.
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>
extern "C" {
#include <cmocka.h>
}

#include "base/frame.h"
#include "net/loop.h"

#include <errno.h>
#include <event2/event.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <unistd.h>

using namespace belfry;

static int refused_fd = -1; // can't be watched

extern "C" int epoll_ctl(int epoll, int what, int fd, struct epoll_event *event) noexcept {
    if (what == EPOLL_CTL_ADD && fd == refused_fd) {
        errno = ENOSPC;
        return -1;
    }
    return static_cast<int>(syscall(SYS_epoll_ctl, epoll, what, fd, event));
}

namespace {

loop *woken; // for the signal handler

int setup(void **state) {
    alarm(20); // a loop that is never woken fails instead of hanging
    *state = woken = loop_new();
    return 0;
}

int teardown(void **state) {
    loop_free(static_cast<loop *>(*state));
    alarm(0);
    return 0;
}

uint64_t now_ms() {
    return clock_monotonic_ns() / 1000000;
}

void a_turn_without_blocking_returns(void **state) {
    loop *l = static_cast<loop *>(*state);
    uint64_t before = now_ms();
    for (int i = 0; i < 100; i++)
        loop_turn(l, false);
    assert_true(now_ms() - before < 5000);
}

void a_bell_rung_before_the_turn_is_heard_once(void **state) {
    loop *l = static_cast<loop *>(*state);
    for (int i = 0; i < 5; i++)
        loop_wake(l);
    loop_turn(l, true); // returns, or the alarm ends the test
    uint64_t count;
    assert_int_equal(read(l->wake_fd, &count, sizeof count), -1); // silenced
    assert_int_equal(errno, EAGAIN);
}

void a_tick_makes_blocked_turns_return_for_ever(void **state) {
    loop *l = static_cast<loop *>(*state);
    loop_tick(l, 20);
    uint64_t before = now_ms();
    for (int i = 0; i < 5; i++)
        loop_turn(l, true);               // returns, or the alarm ends the test
    assert_true(now_ms() - before >= 80); // and not at once: the descriptor is read each time
}

void lag_is_how_late_a_tick_is_looked_at(void **state) {
    loop *l = static_cast<loop *>(*state);
    loop_tick(l, 20);
    assert_int_equal(histogram_count(&l->lag), 0);
    usleep(100000); // before the loop turns at all: a start is no lag
    loop_turn(l, true);
    assert_int_equal(histogram_count(&l->lag), 0);
    assert_int_equal(loop_lag_peak(l), 0);
    usleep(130000); // several ticks are missed, and are one that is late
    loop_turn(l, true);
    assert_int_equal(histogram_count(&l->lag), 1);
    assert_true(loop_lag_peak(l) >= 100000000);
    assert_int_equal(l->lag.sum_ns, loop_lag_peak(l));
    const uint64_t peak = loop_lag_peak(l);
    loop_turn(l, true); // a wake is no tick
    assert_int_equal(histogram_count(&l->lag), 2);
    assert_true(loop_lag_peak(l) >= peak);
    loop_wake(l);
    loop_turn(l, false);
    assert_in_range(histogram_count(&l->lag), 2, 3);
}

void the_longest_lag_is_forgotten_after_a_while(void **state) {
    loop *l = static_cast<loop *>(*state);
    loop_tick(l, 20);
    loop_turn(l, true);
    usleep(100000);
    loop_turn(l, true);
    const uint64_t peak = loop_lag_peak(l);
    assert_true(peak >= 50000000);
    l->lag_window_end_ns = 1; // ages ago: nothing of then is left
    loop_turn(l, true);
    assert_int_equal(l->lag_peaks_ns[1], 0);
    l->lag_peaks_ns[0] = 3600000000000;
    for (int window = 0; window < 2; window++) {
        l->lag_window_end_ns = clock_monotonic_ns(); // just now
        assert_int_equal(loop_lag_peak(l), 3600000000000);
        loop_turn(l, true);
    }
    assert_true(loop_lag_peak(l) < 3600000000000);
}

void *wake_later(void *context) {
    usleep(50000);
    loop_wake(static_cast<loop *>(context));
    return nullptr;
}

void another_thread_wakes_a_blocked_turn(void **state) {
    loop *l = static_cast<loop *>(*state);
    uint64_t before = now_ms();
    clock_refresh(&l->clock);
    uint64_t clock_before = l->clock.monotonic_ms;
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, nullptr, wake_later, l), 0);
    loop_turn(l, true);
    pthread_join(thread, nullptr);
    assert_true(now_ms() - before >= 45);
    assert_true(l->clock.monotonic_ms - clock_before >= 45); // refreshed after the wait
}

void on_signal(int) {
    loop_wake(woken);
}

void a_signal_handler_wakes_it_and_errno_stays(void **state) {
    loop *l = static_cast<loop *>(*state);
    struct sigaction act = {}, before;
    act.sa_handler = on_signal;
    sigaction(SIGUSR1, &act, &before);
    uint64_t top = UINT64_MAX - 1; // a counter at its top: the write in the handler fails with EAGAIN
    assert_int_equal(write(l->wake_fd, &top, sizeof top), sizeof top);
    errno = ENOTTY;
    raise(SIGUSR1);
    assert_int_equal(errno, ENOTTY);
    loop_turn(l, true);
    sigaction(SIGUSR1, &before, nullptr);
}

void the_buffers_are_as_large_as_promised(void **state) {
    loop *l = static_cast<loop *>(*state);
    memset(l->receive, 1, loop_headroom + loop_receive_size + frame_padding); // AddressSanitizer watches
    memset(l->gather, 1, loop_gather_size);
    memset(l->iov, 1, loop_iov_max * sizeof(struct iovec));
    assert_int_equal(l->writes, 0);
}

// What libevent's side of a turn has told.
struct guest {
    int rings, runs;
    later post;
};

void guest_rang(evutil_socket_t, short, void *context) {
    static_cast<guest *>(context)->rings++;
}

void guest_ran(later *l) {
    BELFRY_CONTAINER_OF(l, guest, post)->runs++;
}

void libevent_is_served_while_it_has_something(void **state) {
    loop *l = static_cast<loop *>(*state);
    guest g = {};
    later_init(&g.post, &l->laters, guest_ran);
    event *timer = evtimer_new(loop_library(l), guest_rang, &g);
    assert_ptr_equal(loop_library(l), loop_library(l));
    const struct timeval soon = {0, 30000};
    event_add(timer, &soon);
    loop_wake(l);
    loop_turn(l, true); // the bell, through libevent
    uint64_t count;
    assert_int_equal(read(l->wake_fd, &count, sizeof count), -1);
    assert_int_equal(g.rings, 0);
    later_post_in(&g.post, 1);
    while (!g.runs)
        loop_turn(l, true); // ours is due first
    assert_int_equal(g.rings, 0);
    while (!g.rings)
        loop_turn(l, true);
    event_active(timer, EV_TIMEOUT, 1); // without waiting for anything
    loop_turn(l, true);
    assert_int_equal(g.rings, 2);
    event_free(timer);
    later_post_in(&g.post, 1); // and without libevent again
    while (g.runs < 2)
        loop_turn(l, true);
}

void both_are_served_where_one_can_not_wait_for_the_other(void **state) {
    loop *l = static_cast<loop *>(*state);
    guest g = {};
    later_init(&g.post, &l->laters, guest_ran);
    event *timer = evtimer_new(loop_library(l), guest_rang, &g);
    const struct timeval soon = {0, 100000};
    event_add(timer, &soon);
    refused_fd = l->poller.fd;
    loop_wake(l);
    int turns = 0;
    for (; !g.rings; turns++) {
        loop_turn(l, true);
        if (turns == 0) later_post_in(&g.post, 1);
    }
    refused_fd = -1;
    uint64_t count;
    assert_int_equal(read(l->wake_fd, &count, sizeof count), -1); // the bell was heard
    assert_int_equal(g.runs, 1);
    assert_in_range(turns, 2, 50); // and the loop sleeps between them
    event_free(timer);
}

} // namespace

int main() {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_turn_without_blocking_returns, setup, teardown),
        cmocka_unit_test_setup_teardown(a_bell_rung_before_the_turn_is_heard_once, setup, teardown),
        cmocka_unit_test_setup_teardown(a_tick_makes_blocked_turns_return_for_ever, setup, teardown),
        cmocka_unit_test_setup_teardown(lag_is_how_late_a_tick_is_looked_at, setup, teardown),
        cmocka_unit_test_setup_teardown(the_longest_lag_is_forgotten_after_a_while, setup, teardown),
        cmocka_unit_test_setup_teardown(another_thread_wakes_a_blocked_turn, setup, teardown),
        cmocka_unit_test_setup_teardown(a_signal_handler_wakes_it_and_errno_stays, setup, teardown),
        cmocka_unit_test_setup_teardown(libevent_is_served_while_it_has_something, setup, teardown),
        cmocka_unit_test_setup_teardown(both_are_served_where_one_can_not_wait_for_the_other, setup, teardown),
        cmocka_unit_test_setup_teardown(the_buffers_are_as_large_as_promised, setup, teardown),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
