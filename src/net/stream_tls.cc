// TLS streams: the ops table over an SSL on the connection's own socket.
//
// The SSL belongs to its stream, the stream to one loop and that loop's thread. No buffer is kept here: OpenSSL gives
// its record buffers back whenever they are empty, and writes are gathered in the thread's buffer.
#include "net/stream.h"

#include <arpa/inet.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <string.h>
#include <sys/socket.h>

namespace belfry {

namespace {

// In stream->wants after a read that gave data and then met a failure: stream_pending is true, so that the owner comes
// back for it although the socket has nothing more. Never set together with another bit.
constexpr uint8_t failure_kept = 0x80;

SSL *ssl_of(const stream *s) {
    return static_cast<SSL *>(s->tls);
}

// Sorts out a call that gave no success. OpenSSL's queue was empty before it.
stream_result tls_result(stream *s, int returned, const char *call) {
    const int why = SSL_get_error(ssl_of(s), returned);
    switch (why) {
    case SSL_ERROR_WANT_READ:
        s->wants = stream_readable;
        return stream_result::again;
    case SSL_ERROR_WANT_WRITE:
        s->wants = stream_writable;
        return stream_result::again;
    case SSL_ERROR_ZERO_RETURN:
        return stream_result::eof;
    default:
        break;
    }
    const long verified = SSL_get_verify_result(ssl_of(s));
    if (ERR_peek_error() == 0) // the socket's own failure, or a call after a fatal one
        stream_set_why("%s: %s", call, errno != 0 ? strerror(errno) : "the connection is broken");
    else if (ERR_GET_REASON(ERR_peek_error()) == SSL_R_CERTIFICATE_VERIFY_FAILED && verified != X509_V_OK)
        stream_set_why("%s: certificate refused: %s", call, X509_verify_cert_error_string(verified));
    else {
        error e;
        tls_take_error(&e);
        stream_set_why("%s: %s", call, e.text);
    }
    ERR_clear_error();
    return stream_result::failed;
}

void before_call() {
    ERR_clear_error(); // SSL_get_error looks at the thread's queue, whoever filled it
    errno = 0;
}

stream_result tls_handshake(stream *s) {
    before_call();
    const int r = SSL_do_handshake(ssl_of(s));
    if (r == 1) return stream_result::ok;
    const stream_result result = tls_result(s, r, "TLS handshake");
    if (result != stream_result::eof) return result;
    stream_set_why("TLS handshake: the peer closed the connection");
    return stream_result::failed;
}

// One record holds at most 16 KB, and the receive buffer takes four: all that the peer sent is taken in one turn.
// A record costs about 2 us however small it is; more of them wait for the next turn, so that records of one byte
// starve nobody.
constexpr int tls_records_a_read = 32;

stream_result tls_read(stream *s, char *into, size_t size, size_t *got) {
    *got = 0;
    for (int records = 0; *got < size && records < tls_records_a_read; records++) {
        size_t n = 0;
        before_call();
        const int r = SSL_read_ex(ssl_of(s), into + *got, size - *got, &n);
        if (r == 1) {
            *got += n;
            continue;
        }
        const stream_result result = tls_result(s, r, "TLS read");
        if (*got == 0) return result;
        // Data first. An end is remembered by the SSL itself; a failure would leave no trace on the socket.
        if (result == stream_result::failed) s->wants = failure_kept;
        break;
    }
    return stream_result::ok;
}

// What one record takes, in one piece: straight from a large first part, else gathered. A gathered copy of 16 KB costs
// 1 us; a record of its own for each part costs a header, a tag and a system call.
size_t gather(stream *s, const struct iovec *iov, int count, const void **from) {
    *from = iov->iov_base;
    if (count == 1 || iov->iov_len >= loop_gather_size)
        return iov->iov_len < loop_gather_size ? iov->iov_len : loop_gather_size;
    size_t size = 0;
    for (int i = 0; i < count && size < loop_gather_size; i++) {
        const size_t room = loop_gather_size - size;
        const size_t n = iov[i].iov_len < room ? iov[i].iov_len : room;
        if (n != 0) memcpy(s->on->gather + size, iov[i].iov_base, n);
        size += n;
    }
    *from = s->on->gather;
    return size;
}

stream_result tls_write(stream *s, const struct iovec *iov, int count, size_t *written) {
    *written = 0;
    if (count <= 0) return stream_result::ok;
    const void *from = nullptr;
    const size_t size = gather(s, iov, count, &from);
    if (size == 0) return stream_result::ok; // SSL_write of nothing is undefined
    before_call();
    const int r = SSL_write_ex(ssl_of(s), from, size, written);
    return r == 1 ? stream_result::ok : tls_result(s, r, "TLS write");
}

void tls_shutdown(stream *s) {
    if (s->fd < 0) return;
    // After a failure, and before the handshake is over, there is nothing to say good-bye with.
    if (SSL_is_init_finished(ssl_of(s))) {
        before_call();
        SSL_shutdown(ssl_of(s));
        ERR_clear_error();
    }
    shutdown(s->fd, SHUT_WR);
}

bool tls_pending(const stream *s) {
    return SSL_pending(ssl_of(s)) > 0 || (SSL_get_shutdown(ssl_of(s)) & SSL_RECEIVED_SHUTDOWN) != 0 ||
           s->wants == failure_kept;
}

void tls_close(stream *s) {
    SSL_free(ssl_of(s));
    s->tls = nullptr;
}

constexpr stream_ops tls_ops = {
    .handshake = tls_handshake,
    .read = tls_read,
    .write = tls_write,
    .shutdown = tls_shutdown,
    .pending = tls_pending,
    .close = tls_close,
};

SSL *open_any(stream *s, loop *on, int fd, stream_callback ready, tls_context *context) {
    stream_open(s, &tls_ops, on, fd, ready);
    SSL *ssl = SSL_new(tls_native(context));
    if (ssl == nullptr || SSL_set_fd(ssl, fd) != 1) fatal("tls: out of memory");
    s->tls = ssl;
    return ssl;
}

} // namespace

void stream_open_tls(stream *s, loop *on, int fd, stream_callback ready, tls_context *context) {
    SSL_set_accept_state(open_any(s, on, fd, ready, context));
}

void stream_open_tls_client(stream *s, loop *on, int fd, stream_callback ready, tls_context *context,
                            const char *host) {
    SSL *ssl = open_any(s, on, fd, ready, context);
    SSL_set_connect_state(ssl);
    struct in6_addr address;
    const bool numeric = inet_pton(AF_INET, host, &address) == 1 || inet_pton(AF_INET6, host, &address) == 1;
    X509_VERIFY_PARAM *wanted = SSL_get0_param(ssl);
    X509_VERIFY_PARAM_set_hostflags(wanted, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    // A name goes into SNI too (RFC 6066 section 3 knows no addresses).
    const bool good = numeric ? X509_VERIFY_PARAM_set1_ip_asc(wanted, host) == 1
                              : SSL_set1_host(ssl, host) == 1 && SSL_set_tlsext_host_name(ssl, host) == 1;
    if (!good) fatal("tls: the host name %s can't be set", host);
}

} // namespace belfry
