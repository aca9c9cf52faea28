// A stream whose transport is made up: it takes as many bytes of each write as a test wants, and keeps them. Part of a
// test's fixture, and on the heap with it, since streams do not move. One thread.
#pragma once

#include "net/stream.h"

#include <stdlib.h>
#include <string.h>

namespace belfry {

inline constexpr size_t made_up_wire_max = 1 << 22;

// All zeroes, then stream_open_plain and made_up_begin; ends with made_up_end. A stream may also keep its real
// transport and use `wire` as it likes.
struct made_up_stream {
    struct stream stream; // first: the transport finds the rest by it
    size_t take;          // bytes of each write; SIZE_MAX: all
    bool full;            // takes none: `again`
    int offered_pieces;   // by the last write
    size_t offered_bytes;
    char *wire; // owned: what went out
    size_t wire_size;
};

inline stream_result made_up_write(stream *s, const struct iovec *iov, int count, size_t *written) {
    auto *m = reinterpret_cast<made_up_stream *>(s);
    m->offered_pieces = count;
    m->offered_bytes = 0;
    for (int i = 0; i < count; i++)
        m->offered_bytes += iov[i].iov_len;
    if (m->full) return stream_result::again;
    size_t left = m->take;
    for (int i = 0; i < count && left != 0; i++) {
        size_t n = iov[i].iov_len < left ? iov[i].iov_len : left;
        memcpy(m->wire + m->wire_size, iov[i].iov_base, n);
        m->wire_size += n;
        *written += n;
        left -= n;
    }
    return stream_result::ok;
}

inline constexpr stream_ops made_up_ops = {
    .handshake = nullptr,
    .read = nullptr,
    .write = made_up_write,
    .shutdown = nullptr,
    .pending = nullptr,
    .close = [](stream *) {},
};

// On descriptor `fd` (taken over), with its real transport until stream.ops = &made_up_ops.
inline void made_up_begin(made_up_stream *m, loop *on, int fd) {
    m->take = SIZE_MAX;
    m->wire = static_cast<char *>(malloc(made_up_wire_max));
    stream_open_plain(&m->stream, on, fd, nullptr);
}

inline void made_up_end(made_up_stream *m) {
    stream_close(&m->stream);
    free(m->wire);
}

} // namespace belfry
