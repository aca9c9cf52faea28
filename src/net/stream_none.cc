// Streams without a socket: the ops table that does nothing. Of the owner's thread.
#include "net/stream.h"

namespace belfry {

namespace {

stream_result none_handshake(stream *) {
    return stream_result::ok;
}

stream_result none_read(stream *s, char *, size_t, size_t *got) {
    *got = 0;
    s->wants = stream_readable;
    return stream_result::again;
}

stream_result none_write(stream *s, const struct iovec *, int, size_t *written) {
    *written = 0;
    s->wants = stream_writable;
    return stream_result::again;
}

void none_shutdown(stream *) {}

bool none_pending(const stream *) {
    return false;
}

constexpr stream_ops none_ops = {
    .handshake = none_handshake,
    .read = none_read,
    .write = none_write,
    .shutdown = none_shutdown,
    .pending = none_pending,
    .close = none_shutdown,
};

} // namespace

void stream_open_none(stream *s, loop *on) {
    *s = {};
    s->ops = &none_ops;
    s->on = on;
    s->fd = -1;
}

} // namespace belfry
