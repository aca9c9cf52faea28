// epoll(7) without anything between. Of one loop's thread.
#include "net/poller.h"

#include "base/error.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace belfry {

namespace {

constexpr int batch_max = 1024;

// epoll_wait(2) without glibc's wrapper, which in a process with threads switches thread cancellation on and off around
// it: half a percent of the CPU time of a tunnelled frame, for a feature that is not used here.
int wait(int fd, struct epoll_event *into, int ms) {
#ifdef SYS_epoll_wait
    return static_cast<int>(syscall(SYS_epoll_wait, fd, into, batch_max, ms));
#else
    return epoll_wait(fd, into, batch_max, ms);
#endif
}

uint32_t events_of(unsigned what, bool edges) {
    uint32_t events = 0;
    if (what & watch_readable) events |= edges ? EPOLLIN | EPOLLRDHUP : EPOLLIN;
    if (what & watch_writable) events |= EPOLLOUT;
    return edges ? events | EPOLLET : events;
}

// An error, and an end of both sides that nobody asked to be told of apart, shows in the next call, whichever it is.
unsigned ready_of(uint32_t events) {
    if ((events & EPOLLERR) || ((events & EPOLLHUP) && !(events & EPOLLRDHUP))) return watch_readable | watch_writable;
    unsigned ready = 0;
    if (events & (EPOLLIN | EPOLLRDHUP)) ready |= watch_readable;
    if (events & EPOLLOUT) ready |= watch_writable;
    return ready;
}

void forget_again(poller *p, watch *w) {
    if (!w->again) return;
    p->again[w->again - 1] = nullptr;
    w->again = 0;
}

void tell_batch(poller *p) {
    while (p->batch_at < p->batch_count) {
        const struct epoll_event *e = &p->batch[p->batch_at++];
        auto *w = static_cast<watch *>(e->data.ptr);
        if (w == nullptr) continue;
        if (e->events & EPOLLRDHUP) w->ended = true;
        // A callback before this one may have changed what it waits for.
        const unsigned ready = ready_of(e->events) & w->what;
        if (ready) w->ready(w, ready);
    }
}

// Those that come meanwhile are the next turn's, which does not sleep: nobody can keep the loop in here.
void tell_again(poller *p) {
    const uint32_t count = p->again_count;
    for (uint32_t i = 0; i < count; i++) {
        watch *w = p->again[i];
        if (w == nullptr) continue;
        forget_again(p, w);
        w->ready(w, watch_readable);
    }
    uint32_t left = 0;
    for (uint32_t i = count; i < p->again_count; i++) {
        watch *w = p->again[i];
        if (w == nullptr) continue;
        p->again[left++] = w;
        w->again = left;
    }
    p->again_count = left;
}

} // namespace

void poller_init(poller *p) {
    *p = {};
    p->fd = epoll_create1(EPOLL_CLOEXEC);
    if (p->fd < 0) fatal("poller: epoll_create1: %s", strerror(errno));
    p->batch = static_cast<struct epoll_event *>(memory_get(batch_max * sizeof(struct epoll_event)));
}

void poller_free(poller *p) {
    close(p->fd);
    free(p->batch);
    free(p->again);
}

bool watch_start(poller *p, watch *w, int fd, unsigned what, bool edges) {
    if (what == 0) {
        watch_stop(p, w, fd);
        return true;
    }
    if (w->what == what && w->edges == edges) return true;
    struct epoll_event e = {};
    e.events = events_of(what, edges);
    e.data.ptr = w;
    if (epoll_ctl(p->fd, w->what ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, fd, &e) != 0) {
        const int number = errno;
        watch_stop(p, w, fd);
        errno = number;
        return false;
    }
    w->what = static_cast<uint8_t>(what);
    w->edges = edges;
    return true;
}

void watch_stop(poller *p, watch *w, int fd) {
    if (!w->what) return;
    w->what = 0;
    forget_again(p, w);
    for (int i = p->batch_at; i < p->batch_count; i++)
        if (p->batch[i].data.ptr == w) p->batch[i].data.ptr = nullptr;
    // Or it would call into what is about to be freed.
    if (epoll_ctl(p->fd, EPOLL_CTL_DEL, fd, nullptr) != 0) fatal("poller: descriptor %d: %s", fd, strerror(errno));
}

void watch_again(poller *p, watch *w) {
    if (w->again || !w->what) return;
    if (p->again_count == p->again_room) {
        p->again_room = p->again_room ? p->again_room * 2 : 16;
        p->again = static_cast<watch **>(memory_resize(p->again, p->again_room * sizeof(watch *)));
    }
    p->again[p->again_count++] = w;
    w->again = p->again_count;
}

void poller_run(poller *p, int ms) {
    int count = wait(p->fd, p->batch, poller_busy(p) ? 0 : ms);
    if (count < 0) {
        if (errno != EINTR) fatal("poller: can't wait: %s", strerror(errno)); // nothing could be served any more
        count = 0;
    }
    p->batch_at = 0;
    p->batch_count = count;
    tell_batch(p);
    p->batch_at = p->batch_count = 0;
    if (p->again_count) tell_again(p);
}

} // namespace belfry
