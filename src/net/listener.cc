// Accepting connections in bounded turns, with a back-off where descriptors or memory run out.
// A listener belongs to one loop and to that loop's thread.
#include "net/listener.h"

#include "base/log.h"

#include <errno.h>
#include <string.h>

namespace belfry {

namespace {

constexpr int accepts_a_turn = 64;
constexpr uint32_t backoff_first_ms = 100;
constexpr uint32_t backoff_last_ms = 1000;

enum class refusal : uint8_t { none_waiting, of_one, of_all };

// What accept(2) said. Linux also hands on errors that are already pending on the new connection; they end that one
// only, and so does EPERM, a firewall's answer.
refusal classify(int number) {
    switch (number) {
    case EAGAIN:
        return refusal::none_waiting;
    case EINTR:
    case ECONNABORTED:
    case EPROTO:
    case EPERM:
    case ENETDOWN:
    case ENOPROTOOPT:
    case EHOSTDOWN:
    case ENONET:
    case EHOSTUNREACH:
    case EOPNOTSUPP:
    case ENETUNREACH:
        return refusal::of_one;
    default: // EMFILE, ENFILE, ENOBUFS, ENOMEM; anything else would come back at once as well
        return refusal::of_all;
    }
}

void stop(listener *l) {
    watch_stop(&l->on->poller, &l->readable, l->fd);
}

// The waiting connection keeps the descriptor readable: without a pause the loop would spin at 100 % CPU.
void back_off(listener *l, int number) {
    l->exhausted++;
    l->paused = true;
    stop(l);
    later_post_in(&l->retry, l->backoff_ms);

    static log_limit limit = {.burst = 1};
    uint64_t held = 0;
    if (log_limit_pass(&limit, &held)) {
        address here;
        address_text text = {};
        if (address_of_socket(l->fd, &here))
            text = address_format(reinterpret_cast<const struct sockaddr *>(&here.storage), here.size);
        log_warn("listener: accept on %s paused for %u ms: %s (%llu more held back)", text.text, l->backoff_ms,
                 strerror(number), static_cast<unsigned long long>(held));
    }
    l->backoff_ms = l->backoff_ms * 2 > backoff_last_ms ? backoff_last_ms : l->backoff_ms * 2;
}

void start(listener *l) {
    if (!watch_start(&l->on->poller, &l->readable, l->fd, watch_readable, false)) back_off(l, errno);
}

void listener_readable(watch *w, unsigned) {
    listener *l = BELFRY_CONTAINER_OF(w, listener, readable);
    // The callee may pause or stop the listener, which shows in `paused`.
    for (int i = 0; i < accepts_a_turn && !l->paused; i++) {
        struct sockaddr_storage peer;
        socklen_t size = sizeof peer;
        peer.ss_family = AF_UNSPEC;
        int fd = accept4(l->fd, reinterpret_cast<struct sockaddr *>(&peer), &size, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) {
            int number = errno;
            refusal r = classify(number);
            if (r == refusal::of_all) back_off(l, number);
            if (r != refusal::of_one) return;
            continue;
        }
        if (size > sizeof peer) size = sizeof peer;
        l->backoff_ms = backoff_first_ms;
        l->accepted++;
        l->accept(fd, reinterpret_cast<struct sockaddr *>(&peer), size, l->context);
    }
}

void listener_retry(later *retry) {
    listener *l = BELFRY_CONTAINER_OF(retry, listener, retry);
    l->paused = false;
    start(l);
}

} // namespace

void listener_start(listener *l, loop *on, int fd, listener_accept accept, void *context) {
    *l = {};
    l->on = on;
    l->fd = fd;
    l->backoff_ms = backoff_first_ms;
    l->accept = accept;
    l->context = context;
    l->readable.ready = listener_readable;
    later_init(&l->retry, &on->laters, listener_retry);
    start(l);
}

void listener_pause(listener *l) {
    if (l->held || l->fd < 0) return;
    l->held = l->paused = true;
    stop(l);
    later_cancel(&l->retry);
}

// Ends only what listener_pause began: a back-off runs its time, else every closed connection would cut it short.
void listener_resume(listener *l) {
    if (!l->held || l->fd < 0) return;
    l->held = l->paused = false;
    start(l);
}

void listener_stop(listener *l) {
    if (l->on == nullptr || l->fd < 0) return;
    stop(l);
    later_cancel(&l->retry);
    l->paused = true;
    l->fd = -1;
}

} // namespace belfry
