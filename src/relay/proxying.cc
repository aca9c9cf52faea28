// Proxied requests: their end, and bytes on their way through. Owner's thread.
#include "relay/proxying.h"

#include "base/log.h"
#include "relay/conn_record.h"

#include <poll.h>
#include <sys/socket.h>

namespace belfry {

void proxying_free(proxying *p) {
    if (!p->over) upstream_call_cancel(&p->call);
    http1_body_free(&p->in);
    buffer_free(&p->kept);
    ws_boundary_free(&p->boundary);
    if (p->publish) publish_field_free(p->publish);
    if (p->hold) hold_field_free(p->hold);
    delete p;
}

static void break_off(conn *c, refuse_reason reason, view why) {
    static log_limit limit;
    uint64_t held = 0;
    c->on->count.refused[reason]++;
    c->exchange->cut_why = "the backend's answer broke off";
    if (log_limit_pass(&limit, &held))
        log_warn("proxy: an answer to %s on %s was broken off: %.*s (%llu more not shown)", conn_peer_text(c).text,
                 c->route->path.c_str(), static_cast<int>(why.size()), why.data(),
                 static_cast<unsigned long long>(held));
    proxying_reset(c);
}

void proxying_refuse(proxying *p, int status, refuse_reason reason, view why) {
    conn *c = p->on;
    exchange *x = p->x;
    if (p->head_out) return break_off(c, reason, why);
    c->on->count.edge.answers[0]++;
    x->proxy = nullptr;
    proxying_free(p);
    x->events->refuse(x, status, reason, why, status == 503 ? "Retry-After: 1\r\n" : "");
}

void proxying_reset(conn *c) {
    struct linger now = {1, 0};
    setsockopt(c->stream.fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    conn_abort(c);
}

bool proxying_client_dead(const conn *c) {
    struct pollfd p = {c->stream.fd, 0, 0};
    return poll(&p, 1, 0) > 0 && (p.revents & (POLLERR | POLLHUP)) != 0;
}

// ---------------------------------------------------------------- bytes on their way through

static int gather(const view *pieces, int count, struct iovec *iov, size_t *total) {
    int n = 0;
    for (int i = 0; i < count; i++) {
        if (pieces[i].empty()) continue;
        iov[n++] = {const_cast<char *>(pieces[i].data()), pieces[i].size()}; // struct iovec knows no const
        *total += pieces[i].size();
    }
    return n;
}

// What is behind the first `skip` bytes, as one frame.
static frame *copy_rest(const struct iovec *iov, int count, size_t skip, size_t total) {
    frame *f = frame_new(total - skip);
    char *to = f->data;
    for (int i = 0; i < count; i++) {
        size_t passed = skip < iov[i].iov_len ? skip : iov[i].iov_len;
        skip -= passed;
        size_t n = iov[i].iov_len - passed;
        if (n) memcpy(to, static_cast<const char *>(iov[i].iov_base) + passed, n);
        to += n;
    }
    return f;
}

bool proxying_to_client(conn *c, const view *pieces, int count) {
    struct iovec iov[proxying_pieces_max];
    size_t total = 0, written = 0;
    int n = gather(pieces, count, iov, &total);
    if (!total) return true;
    if (!c->outq.count && !c->blocked && !c->shut) {
        stream_result result = stream_write(&c->stream, iov, n, &written);
        c->on->count.bytes_out += written;
        if (c->record) c->record->bytes_out += written;
        if (result == stream_result::eof || result == stream_result::failed) return false;
    }
    return written == total || conn_send(c, copy_rest(iov, n, written, total));
}

void proxying_to_backend(http_link *l, const view *pieces, int count) {
    struct iovec iov[proxying_pieces_max];
    size_t total = 0, written = 0;
    int n = gather(pieces, count, iov, &total);
    if (!total) return;
    if (!l->outq.count && !l->blocked && !l->broken && !l->shut) {
        // Where this fails, the link's own write fails too, and the link tells of it.
        if (stream_write(&l->stream, iov, n, &written) != stream_result::ok) written = 0;
        l->sent += written;
    }
    if (written < total) http_link_send(l, copy_rest(iov, n, written, total));
}

} // namespace belfry
