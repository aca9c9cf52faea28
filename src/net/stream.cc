// Plain streams over a socket, and what all streams share: the re-aimed watch, closing, and the text of a failure.
// A stream belongs to one loop and to that loop's thread.
#include "net/stream.h"

#include "base/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace belfry {

namespace {

thread_local char why[256] = "";

stream_result plain_failed(const char *call) {
    stream_set_why("%s: %s", call, strerror(errno));
    return stream_result::failed;
}

stream_result plain_handshake(stream *) {
    return stream_result::ok;
}

// MSG_NOSIGNAL: a peer that is gone is an error of this connection, not a SIGPIPE for the process.
ssize_t transmit_pieces(int fd, const struct iovec *iov, int count) {
    struct msghdr message = {};
    message.msg_iov = const_cast<struct iovec *>(iov); // sendmsg does not change it
    message.msg_iovlen = static_cast<size_t>(count);
    return sendmsg(fd, &message, MSG_NOSIGNAL);
}

// recv(2) and send(2) without glibc's wrappers, which in a process with threads switch thread cancellation on and off
// around each call: 1.4 % of the CPU time of a tunnelled frame, for a feature that is not used here.
ssize_t receive(int fd, void *into, size_t size) {
#ifdef SYS_recvfrom
    return syscall(SYS_recvfrom, fd, into, size, 0, nullptr, nullptr);
#else
    return recv(fd, into, size, 0);
#endif
}

ssize_t transmit(int fd, const void *from, size_t size) {
#ifdef SYS_sendto
    return syscall(SYS_sendto, fd, from, size, MSG_NOSIGNAL, nullptr, 0);
#else
    return send(fd, from, size, MSG_NOSIGNAL);
#endif
}

stream_result plain_read(stream *s, char *into, size_t size, size_t *got) {
    *got = 0;
    ssize_t n;
    do
        n = receive(s->fd, into, size);
    while (n < 0 && errno == EINTR);
    if (n > 0) {
        *got = static_cast<size_t>(n);
        // A short read has emptied the socket (epoll(7)); only an end that came with the bytes is left.
        s->more = s->edges && (*got == size || s->watch.ended);
        return stream_result::ok;
    }
    s->more = false;
    if (n == 0) return stream_result::eof;
    if (errno != EAGAIN) return plain_failed("recv");
    s->wants = stream_readable;
    return stream_result::again;
}

stream_result plain_write(stream *s, const struct iovec *iov, int count, size_t *written) {
    *written = 0;
    ssize_t n;
    // One piece goes by send(2), which has no message head for the kernel to copy in.
    do
        n = count == 1 ? transmit(s->fd, iov->iov_base, iov->iov_len) : transmit_pieces(s->fd, iov, count);
    while (n < 0 && errno == EINTR);
    if (n >= 0) {
        *written = static_cast<size_t>(n);
        return stream_result::ok;
    }
    if (errno != EAGAIN) return plain_failed("send");
    s->wants = stream_writable;
    return stream_result::again;
}

void plain_shutdown(stream *s) {
    if (s->fd >= 0) shutdown(s->fd, SHUT_WR);
}

bool plain_pending(const stream *s) {
    return s->more;
}

void plain_close(stream *) {}

constexpr stream_ops plain_ops = {
    .handshake = plain_handshake,
    .read = plain_read,
    .write = plain_write,
    .shutdown = plain_shutdown,
    .pending = plain_pending,
    .close = plain_close,
};

} // namespace

void stream_open(stream *s, const stream_ops *ops, loop *on, int fd, stream_callback ready) {
    *s = {};
    s->ops = ops;
    s->on = on;
    s->fd = fd;
    s->watch.ready = ready;
}

void stream_open_plain(stream *s, loop *on, int fd, stream_callback ready) {
    stream_open(s, &plain_ops, on, fd, ready);
}

void stream_watch(stream *s, unsigned what) {
    if (s->fd < 0 || watch_start(&s->on->poller, &s->watch, s->fd, what, s->edges)) return;
    // epoll out of memory or watches: the owner's deadline ends this connection; the others go on.
    static log_limit limit; // it would be said of each one that comes
    uint64_t held = 0;
    if (log_limit_pass(&limit, &held))
        log_error("stream: descriptor %d can't be watched: %s (%llu more not shown)", s->fd, strerror(errno),
                  static_cast<unsigned long long>(held));
}

void stream_watch_edges(stream *s) {
    if (s->tls != nullptr || s->fd < 0) return;
    s->edges = true;
    stream_watch(s, s->watch.what); // what is there already counts as an edge
}

bool stream_broken(const stream *s) {
    int wrong = 0;
    socklen_t size = sizeof wrong;
    return s->fd >= 0 && getsockopt(s->fd, SOL_SOCKET, SO_ERROR, &wrong, &size) == 0 && wrong != 0;
}

void stream_again(stream *s) {
    if (s->fd >= 0) watch_again(&s->on->poller, &s->watch);
}

void stream_close(stream *s) {
    if (s->fd < 0) return;
    stream_watch(s, 0);
    s->ops->close(s);
    s->tls = nullptr;
    close(s->fd); // Linux frees the number even where it says EINTR, so it is never tried again
    s->fd = -1;
}

const char *stream_why() {
    return why;
}

void stream_set_why(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(why, sizeof why, format, arguments);
    va_end(arguments);
}

} // namespace belfry
