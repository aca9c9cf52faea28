// Links to backends: connecting, TLS, one request at a time, its answer read by the strict parsers of proto/.
// A link belongs to its owner and to one loop's thread.
//
// Every callback may close the link, so each is the last thing done with a state, and what follows looks at the state
// anew. A link watches its socket for reading all the time, in the pool as well, where an end or a byte closes it; for
// writing only while the socket is full. So a request on a link that stays costs no epoll_ctl.
#include "net/http_client.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

namespace belfry {

namespace {

enum link_state : uint8_t {
    closed, // zero: also what was never opened
    dead,   // failed, or of no more use after its answer; the owner closes it
    connecting,
    handshaking, // TLS
    idle,        // connected, no request under way
    awaits_head,
    reads_body,
    tunnels,
    half_closed, // a tunnel whose backend ended its side
};

bool live(const http_link *l) {
    return l->state > dead;
}

bool reading(const http_link *l) {
    return live(l) && !l->paused && l->state != half_closed;
}

// A watch for nothing takes a reading put off with it: it is put off again.
void rewatch(http_link *l) {
    if (l->state < idle) return;
    stream_watch(&l->stream, (reading(l) ? stream_readable : 0) | (l->blocked ? stream_writable : 0));
    if (l->again) stream_again(&l->stream);
}

void read_again(http_link *l) {
    l->again = true;
    stream_again(&l->stream);
}

void fail(http_link *l, http_failure what, const char *why) {
    l->state = dead;
    stream_watch(&l->stream, 0); // level-triggered: an end that nobody reads would wake us for ever
    l->events->failed(l, what, why);
}

// ---------------------------------------------------------------- writing

// The queue to the socket, as far as it takes it. Calls nothing back.
void flush(http_link *l) {
    const uint32_t before = l->outq.bytes;
    stream_result result = stream_result::ok;
    while (l->outq.count != 0 && result == stream_result::ok)
        result = outq_flush(&l->outq, l->chunks, &l->stream);
    l->sent += before - l->outq.bytes;
    l->blocked = result == stream_result::again && l->stream.wants == stream_writable;
    if (result == stream_result::eof || result == stream_result::failed) {
        // A backend that refuses a body half-way (413, say) answers and closes: what it said is still there to read,
        // and reading tells of the failure otherwise.
        l->broken = true;
        outq_clear(&l->outq, l->chunks);
    }
    if (l->shut && l->outq.count == 0 && !l->broken) stream_shutdown(&l->stream);
    rewatch(l);
    if (l->broken) read_again(l);
}

void tell_drained(http_link *l) {
    if (!l->above_water || l->outq.bytes > http_link_low_water) return;
    l->above_water = false;
    if (l->events->drained) l->events->drained(l);
}

// ---------------------------------------------------------------- reading

// Bytes behind a whole answer belong to none: who sends them is not to be trusted with another request.
void finish_answer(http_link *l, bool bytes_behind) {
    if (bytes_behind) l->keep_alive = false;
    l->state = l->keep_alive ? idle : dead;
    if (!l->keep_alive) stream_watch(&l->stream, 0); // whatever comes is not heard
    l->events->end(l);
}

// A body is announced where none may follow (HEAD, 204, 304). Some backends send it all the same, a moment later, when
// it would be taken for the answer to somebody else's request: such a link carries no other.
bool announces_in_vain(const http1_response *r, http1_body_kind kind) {
    return kind == http1_body_kind::none && (r->chunked || r->content_length != 0);
}

void take_head(http_link *l, view *rest) {
    http1_response r;
    const char *why = nullptr;
    const http1_result result = http1_parse_response(*rest, &l->scan, &r, &why);
    if (result == http1_result::incomplete) return;
    if (result != http1_result::complete) return fail(l, http_failure::malformed, why);
    rest->remove_prefix(r.head_size);
    l->scan = {};
    if (r.status < 200 && r.status != 101) {
        if (l->interims++ == http_link_interims_max)
            return fail(l, http_failure::malformed, "too many interim answers");
        return l->events->head(l, &r);
    }
    const http1_body_kind kind = http1_response_body_kind(&r, l->method);
    http1_body_start(&l->body, kind, r.content_length);
    l->keep_alive = r.keep_alive && kind != http1_body_kind::until_close && !announces_in_vain(&r, kind);
    l->state = reads_body;
    const bool switches = r.status == 101;
    l->events->head(l, &r);
    if (switches && l->state == reads_body) fail(l, http_failure::malformed, "a 101 that was not asked for");
}

// True where there may be more to take.
bool take_body(http_link *l, view *rest) {
    view data;
    const char *why = nullptr;
    switch (http1_body_next(&l->body, rest, &data, &why)) {
    case http1_body_event::data:
        l->events->body(l, data);
        return true;
    case http1_body_event::more:
        return false;
    case http1_body_event::end:
        finish_answer(l, !rest->empty());
        return false;
    case http1_body_event::failed:
        fail(l, http_failure::malformed, why);
        return false;
    }
    return false;
}

// Hands out what [*rest] holds until it is used up, or nobody takes more. False: what is left is of no use any more.
bool feed(http_link *l, view *rest) {
    while (reading(l)) {
        if (l->state == reads_body) { // also without a byte: the end may be what a pause held back
            if (take_body(l, rest)) continue;
            return l->state == reads_body && l->paused;
        }
        if (rest->empty()) return false;
        if (l->state == tunnels) {
            const view data = *rest;
            *rest = {};
            l->events->body(l, data);
        } else if (l->state == awaits_head) {
            const size_t before = rest->size();
            take_head(l, rest);
            if (l->state == awaits_head && rest->size() == before) return true;
        } else {
            fail(l, http_failure::malformed, "bytes that belong to no answer");
        }
    }
    return live(l) && l->paused;
}

void backend_ended(http_link *l) {
    const char *why = "the backend ended the connection";
    if (l->state == tunnels) {
        l->state = half_closed;
        rewatch(l);
        return l->events->end(l);
    }
    if (l->state != reads_body) return fail(l, http_failure::closed, why);
    if (http1_body_eof(&l->body, &why) != http1_body_event::end) return fail(l, http_failure::closed, why);
    l->keep_alive = false;
    finish_answer(l, false);
}

void keep_rest(http_link *l, view rest) {
    buffer_clear(&l->rest);
    if (rest.empty())
        buffer_free(&l->rest);
    else
        buffer_append(&l->rest, rest);
}

// What was left over comes first, then one read behind it, in the thread's buffer: only a left-over is ever copied.
void read_some(http_link *l) {
    struct loop *on = l->stream.on;
    char *begin = on->receive;
    const size_t have = l->rest.size, room = loop_headroom + loop_receive_size - have;
    size_t got = 0;
    if (have != 0) memcpy(begin, l->rest.data, have);
    const stream_result result = room != 0 ? stream_read(&l->stream, begin + have, room, &got) : stream_result::ok;
    l->received += got;
    if (result == stream_result::again && l->stream.wants == stream_writable) l->blocked = true; // TLS writes first
    view rest(begin, have + got);
    const bool keep = feed(l, &rest);
    if (!live(l)) return;
    keep_rest(l, keep ? rest : view());
    if (l->paused) return rewatch(l); // an end is seen again when reading goes on
    if (result == stream_result::eof) return backend_ended(l);
    if (result == stream_result::failed) return fail(l, http_failure::closed, stream_why());
    if (l->outq.count != 0 && !l->blocked) flush(l); // TLS had to read before it could write
    rewatch(l);
    if (room == 0 || stream_pending(&l->stream)) read_again(l);
    tell_drained(l); // last: it may close the link
}

// ---------------------------------------------------------------- connecting

void on_ready(watch *w, unsigned ready);

void tell_connected(http_link *l) {
    l->state = idle;
    l->keep_alive = l->request_done = true;
    rewatch(l);
    l->events->connected(l);
}

void shake_hands(http_link *l) {
    switch (stream_handshake(&l->stream)) {
    case stream_result::ok:
        return tell_connected(l);
    case stream_result::again:
        return stream_watch(&l->stream, l->stream.wants);
    case stream_result::eof:
    case stream_result::failed:
        return fail(l, http_failure::connect, stream_why());
    }
}

// Nothing is read before the TLS object has the socket: plain bytes that somebody put in front of the handshake fail
// it, and can't be taken for an answer.
void finish_connect(http_link *l) {
    int wrong = 0;
    socklen_t size = sizeof wrong;
    if (getsockopt(l->stream.fd, SOL_SOCKET, SO_ERROR, &wrong, &size) != 0) wrong = errno;
    if (wrong != 0) return fail(l, http_failure::connect, strerror(wrong));
    if (l->tls == nullptr) return tell_connected(l);
    stream_watch(&l->stream, 0);
    stream_open_tls_client(&l->stream, l->stream.on, l->stream.fd, on_ready, l->tls, l->host);
    tls_unref(l->tls);
    l->tls = nullptr;
    l->state = handshaking;
    shake_hands(l);
}

void on_ready(watch *w, unsigned ready) {
    http_link *l = BELFRY_CONTAINER_OF(w, http_link, stream.watch);
    if (l->state == connecting) return finish_connect(l);
    if (l->state == handshaking) return shake_hands(l);
    if ((ready & stream_writable) != 0) {
        flush(l);
        tell_drained(l);
    }
    if ((ready & stream_readable) == 0) return;
    l->again = false;
    if (reading(l)) read_some(l);
}

} // namespace

bool http_link_open(http_link *l, loop *on, slab *chunks, const address *to, tls_context *tls, const char *host,
                    const http_link_events *events, void *owner, error *e) {
    *l = {};
    l->events = events;
    l->owner = owner;
    l->chunks = chunks;
    l->host = host;
    l->stream.fd = -1;
    const int fd = address_connect(to, e);
    if (fd < 0) return false;
    l->tls = tls != nullptr ? tls_ref(tls) : nullptr;
    stream_open_plain(&l->stream, on, fd, on_ready);
    l->state = connecting;
    stream_watch(&l->stream, stream_writable);
    return true;
}

void http_link_begin(http_link *l, view method) {
    l->method = method;
    l->state = awaits_head;
    l->interims = 0;
    l->request_done = false;
    l->received = l->sent = 0;
    l->requests++;
    l->scan = {};
    http1_body_free(&l->body);
}

void http_link_send(http_link *l, frame *f) {
    if (l->state < idle || l->broken || l->shut || f->size == 0) return frame_unref(f);
    outq_push(&l->outq, l->chunks, f);
    if (l->outq.count == 1 && !l->blocked) flush(l);
    if (l->outq.bytes > http_link_low_water) l->above_water = true;
}

void http_link_request_done(http_link *l) {
    l->request_done = true;
}

void http_link_tunnel(http_link *l) {
    if (l->state != reads_body) return;
    l->state = tunnels;
    l->tunnel = true;
    l->keep_alive = false;
    stream_watch_edges(&l->stream);
}

void http_link_pause(http_link *l) {
    l->paused = true;
    rewatch(l);
}

void http_link_resume(http_link *l) {
    if (!l->paused) return;
    l->paused = false;
    rewatch(l);
    if (l->state >= idle) read_again(l);
}

bool http_link_reusable(const http_link *l) {
    return l->state == idle && l->keep_alive && l->request_done && !l->broken && !l->shut && !l->paused &&
           l->outq.count == 0;
}

void http_link_shutdown(http_link *l) {
    if (l->shut || l->state < idle) return;
    l->shut = true;
    if (l->outq.count == 0 && !l->broken) stream_shutdown(&l->stream);
}

void http_link_close(http_link *l) {
    if (l->state == closed) return;
    l->state = closed;
    tls_unref(l->tls);
    l->tls = nullptr;
    outq_clear(&l->outq, l->chunks);
    buffer_free(&l->rest);
    http1_body_free(&l->body);
    stream_close(&l->stream);
}

} // namespace belfry
