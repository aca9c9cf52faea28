// A connected socket, plain or TLS, behind one table of functions; nothing above net/ knows an SSL.
//
// A stream is embedded in its owner (a connection), belongs to one loop, and never owns buffers: reads land in the
// thread's receive buffer, writes come from frames or the thread's gather buffer. No function blocks.
#pragma once

#include "base/error.h"
#include "net/loop.h"
#include "net/tls.h"

#include <stdint.h>
#include <sys/uio.h>

namespace belfry {

enum class stream_result : uint8_t {
    ok,
    again,  // not now: what must be waited for is in stream->wants (stream_read, stream_write)
    eof,    // the peer ended its side (TLS: close_notify, or a bare FIN)
    failed, // reset, TLS failure: the stream is only good for stream_close; stream_why says why
};

inline constexpr unsigned stream_readable = watch_readable, stream_writable = watch_writable;

struct stream;

struct stream_ops {
    stream_result (*handshake)(stream *s);
    stream_result (*read)(stream *s, char *into, size_t size, size_t *got);
    // Writes from the front of iov as much as one system call (plain) or one record (TLS) takes. After `again` the next
    // call must start with the same bytes, and at least as many (SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER lets them live
    // elsewhere).
    stream_result (*write)(stream *s, const struct iovec *iov, int count, size_t *written);
    // Ends our side: close_notify where the stream is TLS, then shutdown(SHUT_WR). Best effort.
    void (*shutdown)(stream *s);
    bool (*pending)(const stream *s); // a read may give more without the loop saying that the socket is readable
    // Frees what `tls` stands for; the descriptor is stream_close's to close.
    void (*close)(stream *s);
};

// Called on the loop when what stream_watch asked for is there: bits stream_readable, stream_writable. The watch is the
// stream's; BELFRY_CONTAINER_OF(w, owner, stream.watch) is who owns it.
using stream_callback = watch_callback;

struct stream {
    // What a write touches comes first: the owner puts it behind its own hot fields, on the same cache line.
    const stream_ops *ops; // borrowed, static
    loop *on;              // borrowed
    void *tls;             // owned: the SSL, or null
    int fd;                // owned; -1 once closed
    uint8_t wants;         // after `again`: stream_readable or stream_writable
    bool edges : 1;        // stream_watch_edges
    bool more : 1;         // a read may bring more although no edge will say so
    struct watch watch;    // one, re-aimed
};

// What the loop looks out for now: stream_readable, stream_writable.
inline unsigned stream_watched(const stream *s) {
    return s->watch.what;
}

// A stream without a socket: nothing is ever readable or written. For an owner whose queue is emptied by other means.
void stream_open_none(stream *s, loop *on);
// Takes over fd. Nothing is watched yet.
void stream_open_plain(stream *s, loop *on, int fd, stream_callback ready);
// A server stream; the SSL (about 13 KB) is made here, so the caller waits for the first readable byte before. Call
// stream_handshake until it is ok.
void stream_open_tls(stream *s, loop *on, int fd, stream_callback ready, tls_context *context);
// A client stream; host (NUL-terminated) for SNI and verification.
void stream_open_tls_client(stream *s, loop *on, int fd, stream_callback ready, tls_context *context, const char *host);

// Re-aims the embedded watch; a call that changes nothing costs nothing.
void stream_watch(stream *s, unsigned what);
// From now on a plain stream's watch is edge-triggered, which saves the kernel a poll of each socket in each turn:
// 1.2 % of the CPU time of a tunnelled frame. TLS streams stay as they are. The owner reads again while stream_pending
// says so.
void stream_watch_edges(stream *s);
// The socket has failed (SO_ERROR) while nobody read or wrote: what stream_watch does not tell of who waits for
// nothing. The failure is told once, by this or by a read or write.
bool stream_broken(const stream *s);
// Calls `ready` with stream_readable from the loop although the socket may have nothing: for bytes that were read
// already, by the owner or by TLS. The stream must be watched.
void stream_again(stream *s);

inline stream_result stream_handshake(stream *s) {
    return s->ops->handshake(s);
}
inline stream_result stream_read(stream *s, char *into, size_t size, size_t *got) {
    return s->ops->read(s, into, size, got);
}
inline stream_result stream_write(stream *s, const struct iovec *iov, int count, size_t *written) {
    s->on->writes++;
    return s->ops->write(s, iov, count, written);
}
inline void stream_shutdown(stream *s) {
    s->ops->shutdown(s);
}
inline bool stream_pending(const stream *s) {
    return s->ops->pending(s);
}
// Closes the descriptor and frees the SSL. Safe to call twice.
void stream_close(stream *s);
// Why the last call on this thread failed: a short text for the log, valid until the next failure.
const char *stream_why();
// For the ops tables: all that the streams of a descriptor have in common.
void stream_open(stream *s, const stream_ops *ops, loop *on, int fd, stream_callback ready);
__attribute__((format(printf, 1, 2))) void stream_set_why(const char *format, ...);

} // namespace belfry
