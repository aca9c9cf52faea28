// SOCK_SEQPACKET with descriptors. No state: any thread; a watch is of its loop's thread.
#include "net/packets.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

namespace belfry {

namespace {

// Room for the ancillary data of a whole message, aligned as cmsg(3) wants it.
union control_room {
    char bytes[CMSG_SPACE(sizeof(int) * packet_descriptors_max)];
    struct cmsghdr align;
};

// What came along, into `out`. All are in it, also where the message is then refused.
void take_descriptors(struct msghdr *m, packet *out) {
    for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) continue;
        size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < count; i++) {
            int fd;
            memcpy(&fd, CMSG_DATA(c) + i * sizeof fd, sizeof fd);
            if (out->count < packet_descriptors_max)
                out->descriptors[out->count++] = fd;
            else
                close(fd);
        }
    }
}

void aim(packet_watch *w, unsigned what) {
    if (!watch_start(&w->on->poller, &w->watch, w->fd, what, false))
        fatal("packets: the socket can't be watched: %s", strerror(errno));
}

void watched(watch *of, unsigned) {
    auto *w = BELFRY_CONTAINER_OF(of, packet_watch, watch);
    w->ready(w->context);
}

} // namespace

bool packet_pair(int ends[2], error *e) {
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) == 0) return true;
    error_set(e, "socketpair: %s", strerror(errno));
    return false;
}

packet_sent packet_send(int fd, view bytes, const int *descriptors, size_t count) {
    // An empty message would look like the end to its receiver.
    if (bytes.empty() || bytes.size() > packet_size_max || count > packet_descriptors_max)
        fatal("packet_send: %zu bytes with %zu descriptors", bytes.size(), count);
    struct iovec iov = {const_cast<char *>(bytes.data()), bytes.size()};
    struct msghdr m = {};
    m.msg_iov = &iov;
    m.msg_iovlen = 1;
    control_room room = {};
    if (count) {
        m.msg_control = room.bytes;
        m.msg_controllen = CMSG_SPACE(sizeof(int) * count);
        struct cmsghdr *c = CMSG_FIRSTHDR(&m);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(int) * count);
        memcpy(CMSG_DATA(c), descriptors, sizeof(int) * count);
    }
    ssize_t n;
    do
        n = sendmsg(fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT);
    while (n < 0 && errno == EINTR);
    if (n >= 0) return packet_sent::whole;
    // ETOOMANYREFS: too many descriptors are on their way, to whomever; they arrive.
    bool full = errno == EAGAIN || errno == ENOBUFS || errno == ENOMEM || errno == ETOOMANYREFS;
    return full ? packet_sent::full : packet_sent::gone;
}

packet_sent packet_send_within(int fd, view bytes, const int *descriptors, size_t count, int ms) {
    constexpr int step_ms = 10; // the shortage may be one that poll(2) does not tell the end of
    for (int waited = 0;; waited += step_ms) {
        packet_sent sent = packet_send(fd, bytes, descriptors, count);
        if (sent != packet_sent::full || waited >= ms) return sent;
        struct timespec pause = {0, step_ms * 1000000};
        nanosleep(&pause, nullptr);
    }
}

packet_got packet_receive(int fd, char *into, packet *out) {
    *out = {};
    struct iovec iov = {into, packet_size_max};
    struct msghdr m = {};
    control_room room = {};
    m.msg_iov = &iov;
    m.msg_iovlen = 1;
    m.msg_control = room.bytes;
    m.msg_controllen = sizeof room.bytes;
    ssize_t n;
    do
        n = recvmsg(fd, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    while (n < 0 && errno == EINTR);
    if (n < 0) return errno == EAGAIN ? packet_got::nothing : packet_got::ended;
    take_descriptors(&m, out);
    if (m.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) {
        packet_close_descriptors(out);
        return packet_got::broken;
    }
    if (n == 0) {
        packet_close_descriptors(out);
        return packet_got::ended;
    }
    out->size = static_cast<size_t>(n);
    return packet_got::whole;
}

void packet_close_descriptors(packet *p) {
    for (size_t i = 0; i < p->count; i++)
        close(p->descriptors[i]);
    p->count = 0;
}

void packet_watch_start(packet_watch *w, loop *on, int fd, void (*ready)(void *context), void *context) {
    *w = {};
    w->watch.ready = watched;
    w->on = on;
    w->fd = fd;
    w->ready = ready;
    w->context = context;
    aim(w, watch_readable);
}

void packet_watch_writable(packet_watch *w, bool also) {
    if (!w->watch.what) return;
    aim(w, also ? watch_readable | watch_writable : watch_readable);
}

void packet_watch_stop(packet_watch *w) {
    if (w->watch.what) watch_stop(&w->on->poller, &w->watch, w->fd);
}

} // namespace belfry
