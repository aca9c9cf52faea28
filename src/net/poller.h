// What waits for sockets: the bare epoll set of one loop. It tells of readiness in one call for each descriptor that
// has something, and costs 16 bytes in the object that waits, instead of the 128 of libevent's `struct event` and 40
// more in its tables; and 3 % less CPU time for each tunnelled frame.
//
// A poller belongs to one loop and to that loop's thread.
#pragma once

#include <stddef.h>
#include <stdint.h>

struct epoll_event;

namespace belfry {

inline constexpr unsigned watch_readable = 1, watch_writable = 2;

struct watch;
// `ready`: what is there, of what was asked for. May start, change and stop any watch of the loop, also free its own.
using watch_callback = void (*)(watch *w, unsigned ready);

// Embedded in who waits, zeroed before its first use, and stopped before it or its descriptor goes.
struct watch {
    watch_callback ready;
    uint32_t again; // 1 + its place in poller.again; 0: none
    uint8_t what;   // what it waits for; 0: it is not in the set
    bool edges;
    bool ended; // the peer has ended its side, bytes before that may wait; only seen with `edges` and watch_readable
};

struct poller {
    int fd;                    // owned: the epoll descriptor
    int batch_at, batch_count; // of `batch`: what is told of now, and how many there are
    struct epoll_event *batch; // owned; whose watch stopped meanwhile is null
    watch **again;             // owned; its watches are borrowed, null where they stopped meanwhile
    uint32_t again_count, again_room;
};

// Fatal where the kernel has no descriptor or memory for it.
void poller_init(poller *p);
// No watch may be left.
void poller_free(poller *p);

// From now on `w` waits for `what`, on fd, level-triggered or, with `edges`, once for each change (what is there
// already counts as one; epoll(7)). A call that changes nothing costs nothing. An error of the socket makes all that
// was asked for ready. `what` 0 is watch_stop. One watch a descriptor in a poller. False: the kernel has no memory or
// watches left, or the descriptor is one that can't be waited for, or another watch's (errno); then it waits for
// nothing.
[[nodiscard]] bool watch_start(poller *p, watch *w, int fd, unsigned what, bool edges);
// Its callback is not called any more, also not for what this turn has already found. Before the descriptor is closed,
// fatal behind that: a duplicate of it, in whichever process, would keep it in the set. Safe where it is not started.
void watch_stop(poller *p, watch *w, int fd);
// Calls it with watch_readable in this turn or the next, although its descriptor may have nothing: for bytes that were
// read already. It must have been started. poller_busy is true until then.
void watch_again(poller *p, watch *w);

// Somebody must not be kept waiting: poller_run is called with a time-out of 0.
inline bool poller_busy(const poller *p) {
    return p->again_count > 0;
}
// Waits up to `ms` (-1: for ever; a signal ends it early), then tells each that is ready, up to 1,024 of them.
void poller_run(poller *p, int ms);

} // namespace belfry
