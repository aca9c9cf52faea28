// The control API's HTTP server. Main thread.
#include "main/control_http.h"

#include "base/log.h"
#include "main/control_gate.h"
#include "net/stream.h"
#include "proto/handshake.h"
#include "proto/http1.h"

#include <algorithm>
#include <unistd.h>

namespace belfry {

static constexpr uint64_t request_ms = 10000; // for a whole request, and for its answer to be read
static constexpr uint64_t idle_ms = 60000;    // between requests

struct control_listener {
    listener accepting;
    int fd;           // owned
    control_http *of; // borrowed
    bool needs_token;
    bool inherited;        // and not committed: its path is the process's before, or after
    std::string written;   // as the config has it
    std::string address;   // port 0 resolved
    std::string unix_path; // removed at the end
};

struct control_change {
    control_http *of;                          // borrowed
    std::vector<control_listener *> listeners; // owned, or still one of those of `of`
};

struct control_http {
    loop *on;      // borrowed
    wheel *timers; // borrowed
    std::string token;
    size_t body_max;
    control_handler handler;
    void *context;                             // borrowed
    std::vector<control_listener *> listeners; // owned
    std::vector<std::string> addresses;
    std::vector<control_socket> inherited; // owned: open, not taken yet
    link connections;
    size_t count;
};

struct control_conn {
    struct link place; // in connections
    struct stream stream;
    control_http *of; // borrowed; null once closed
    struct timer timer;
    uint32_t references;
    bool needs_token, handling, keep_alive, ending;
    bool serving;                     // the loop over pipelined requests runs further up the stack
    const control_upgraded *upgraded; // borrowed, static; null: HTTP
    void *upgraded_context;           // borrowed
    buffer in, out;                   // owned
};

control_conn *control_ref(control_conn *c) {
    c->references++;
    return c;
}

void control_unref(control_conn *c) {
    if (--c->references) return;
    buffer_free(&c->in);
    buffer_free(&c->out);
    delete c;
}

static void close_conn(control_conn *c) {
    control_http *h = c->of;
    if (!h) return;
    c->of = nullptr;
    wheel_cancel(h->timers, &c->timer);
    stream_close(&c->stream);
    list_remove(&c->place);
    h->count--;
    if (c->upgraded) c->upgraded->gone(c, c->upgraded_context);
    control_unref(c);
}

static void deadline(control_conn *c, uint64_t ms) {
    wheel_set(c->of->timers, &c->timer, c->of->on->clock.monotonic_ms, ms);
}

// The main thread's wheel has one function for all timers: control connections are its only ones.
void control_http_fire(timer *t, void *) {
    close_conn(BELFRY_CONTAINER_OF(t, control_conn, timer));
}

// ---------------------------------------------------------------- out

static void serve(control_conn *c);

static void flush(control_conn *c) {
    while (c->of && c->out.size) {
        struct iovec v = {c->out.data, c->out.size};
        size_t written = 0;
        stream_result result = stream_write(&c->stream, &v, 1, &written);
        buffer_consume(&c->out, written);
        if (result == stream_result::again) return stream_watch(&c->stream, stream_writable);
        if (result != stream_result::ok) return close_conn(c);
        if (c->upgraded && written) deadline(c, control_stall_ms);
    }
    if (!c->of || c->handling) return;
    if (c->ending) {
        stream_shutdown(&c->stream);
        deadline(c, 1000);
        stream_watch(&c->stream, stream_readable);
        return;
    }
    buffer_free(&c->out);
    stream_watch(&c->stream, stream_readable);
    deadline(c, c->upgraded ? control_stall_ms : idle_ms);
}

void control_reply(control_conn *c, int status, view type, view body, view extra) {
    if (!c->of) return;
    c->handling = false;
    c->ending = c->ending || !c->keep_alive;
    buffer_printf(&c->out, "HTTP/1.1 %d %s\r\nContent-Type: %.*s\r\nContent-Length: %zu\r\nConnection: %s\r\n%.*s\r\n",
                  status, http1_reason(status), static_cast<int>(type.size()), type.data(), body.size(),
                  c->ending ? "close" : "keep-alive", static_cast<int>(extra.size()), extra.data());
    buffer_append(&c->out, body);
    flush(c);
    if (c->of && !c->ending) serve(c);
}

void control_reply_error(control_conn *c, int status, view message, view extra) {
    if (!c->of) return;
    c->handling = false;
    c->ending = c->ending || !c->keep_alive;
    http1_write_error(status, message, extra, !c->ending, &c->out);
    flush(c);
    if (c->of && !c->ending) serve(c);
}

// ---------------------------------------------------------------- upgraded

static void take_upgraded(control_conn *c) {
    if (c->of && !c->ending && c->in.size) c->upgraded->bytes(c, &c->in, c->upgraded_context);
}

void control_upgrade(control_conn *c, view answer, const control_upgraded *events, void *context) {
    c->upgraded = events;
    c->upgraded_context = context;
    c->handling = false;
    control_send(c, answer);
    take_upgraded(c);
}

size_t control_queued(const control_conn *c) {
    return c->out.size;
}

void control_send(control_conn *c, view bytes) {
    if (!c->of || c->ending) return;
    buffer_append(&c->out, bytes);
    flush(c);
}

void control_end(control_conn *c) {
    if (!c->of || c->ending) return;
    c->ending = true;
    flush(c);
}

// ---------------------------------------------------------------- in

static void refuse(control_conn *c, int status, view why, view extra) {
    c->ending = true; // what follows could be anything
    control_reply_error(c, status, why, extra);
}

// A whole head is there: the body, if it is, and the handler.
static void on_head(control_conn *c, const http1_request *q) {
    const bool page = q->method == "GET" && q->path == "/";
    if (!control_gate_origin(q)) return refuse(c, 403, "a page of another site asks", view());
    if (c->needs_token && !page && !control_gate_token(q, c->of->token))
        return refuse(c, 401, "a valid Authorization: Bearer TOKEN is needed", "WWW-Authenticate: Bearer\r\n");
    if (q->chunked) return refuse(c, 411, "send Content-Length, not chunks", view());
    if (q->content_length > (page ? 0 : c->of->body_max)) return refuse(c, 413, "the body is too large", view());
    size_t whole = q->head_size + q->content_length;
    if (c->in.size < whole) {
        if (q->expect_continue && c->in.size == q->head_size && !c->out.size) {
            buffer_append(&c->out, "HTTP/1.1 100 Continue\r\n\r\n");
            c->handling = true; // flush shall not think that an answer is complete
            flush(c);
            c->handling = false;
        }
        return;
    }
    c->keep_alive = q->keep_alive;
    c->handling = true;
    control_request request = {q->method, q->path, q->query,
                               buffer_view(&c->in).substr(q->head_size, q->content_length), q};
    deadline(c, request_ms);
    stream_watch(&c->stream, 0);
    control_http *h = c->of;
    control_ref(c); // the handler may answer at once, and that may close
    buffer taken = c->in;
    c->in = buffer{};
    buffer_append(&c->in, buffer_view(&taken).substr(whole)); // pipelined: served in order
    h->handler(c, &request, h->context);
    buffer_free(&taken);
    control_unref(c);
}

// False where no whole request is left.
static bool next_request(control_conn *c) {
    if (!c->in.size || c->handling || c->ending || !c->of || c->upgraded) return false;
    http1_request q;
    const char *why = "";
    http1_scan fresh = {}; // heads here are small and few: scanned anew
    size_t before = c->in.size;
    http1_result result = http1_parse_request(buffer_view(&c->in), &fresh, &q, &why);
    if (result == http1_result::incomplete) return false;
    if (result == http1_result::complete)
        on_head(c, &q);
    else
        refuse(c, static_cast<int>(result), why, view());
    return c->of && c->in.size != before;
}

// A loop, not a recursion through control_reply: one segment may hold two thousand requests.
static void serve(control_conn *c) {
    if (c->serving) return;
    c->serving = true;
    control_ref(c);
    while (next_request(c)) {
    }
    c->serving = false;
    control_unref(c);
}

static void on_ready(watch *w, unsigned ready) {
    control_conn *c = BELFRY_CONTAINER_OF(w, control_conn, stream.watch);
    control_ref(c);
    if (ready & stream_writable) flush(c);
    if (c->of && (ready & stream_readable)) {
        size_t got = 0;
        stream_result result = stream_read(&c->stream, c->of->on->receive, loop_receive_size, &got);
        if (c->ending) got = 0; // thrown away
        if (!c->upgraded && !c->in.size && got) deadline(c, request_ms);
        buffer_append(&c->in, view(c->of->on->receive, got));
        if (result == stream_result::eof || result == stream_result::failed)
            close_conn(c);
        else if (c->upgraded)
            take_upgraded(c);
        else if (!c->ending)
            serve(c);
    }
    control_unref(c);
}

static void on_accept(int fd, const struct sockaddr *, socklen_t, void *context) {
    auto *l = static_cast<control_listener *>(context);
    control_http *h = l->of;
    const size_t most = control_connections_max - (l->needs_token ? control_connections_own : 0);
    if (h->count >= most) {
        static log_limit limit;
        uint64_t held = 0;
        if (log_limit_pass(&limit, &held))
            log_warn("control: %zu connections already, one more was closed (%llu more not shown)", h->count,
                     static_cast<unsigned long long>(held));
        close(fd);
        return;
    }
    auto *c = new control_conn{};
    c->of = h;
    c->references = 1;
    c->needs_token = l->needs_token;
    list_push_back(&h->connections, &c->place);
    h->count++;
    timer_init(&c->timer);
    stream_open_plain(&c->stream, h->on, fd, on_ready);
    deadline(c, request_ms);
    stream_watch(&c->stream, stream_readable);
}

// ---------------------------------------------------------------- life

static bool has_listener(const std::vector<control_listener *> &all, const control_listener *l) {
    return std::find(all.begin(), all.end(), l) != all.end();
}

static int take_inherited(control_http *h, const std::string &written) {
    for (control_socket &s : h->inherited) {
        if (s.written != written) continue;
        int fd = s.fd;
        s = h->inherited.back();
        h->inherited.pop_back();
        return fd;
    }
    return -1;
}

static void drop_inherited(control_http *h) {
    for (const control_socket &s : h->inherited)
        close(s.fd);
    h->inherited.clear();
}

// Not accepting yet. Null with a reason.
static control_listener *open_listener(control_http *h, const std::string &text, error *e) {
    address a;
    if (!address_parse(text, &a, e)) return nullptr;
    int fd = take_inherited(h, text);
    const bool inherited = fd >= 0;
    if (!inherited) fd = address_listen(&a, false, e);
    if (fd < 0) return nullptr;
    auto *l = new control_listener{};
    l->inherited = inherited;
    l->fd = fd;
    l->of = h;
    l->needs_token = a.storage.ss_family != AF_UNIX;
    if (!l->needs_token) l->unix_path = text.substr(5);
    l->written = text;
    address bound;
    if (!address_of_socket(fd, &bound)) bound = a;
    l->address = address_format(reinterpret_cast<struct sockaddr *>(&bound.storage), bound.size).text;
    return l;
}

static void close_listener(control_listener *l) {
    listener_stop(&l->accepting);
    close(l->fd);
    if (!l->unix_path.empty() && !l->inherited) unlink(l->unix_path.c_str());
    delete l;
}

control_change *control_http_change(control_http *h, const std::vector<std::string> &listen, size_t *which, error *e) {
    auto *change = new control_change{h, {}};
    for (*which = 0; *which < listen.size(); ++*which) {
        control_listener *l = nullptr;
        for (control_listener *old : h->listeners)
            if (old->written == listen[*which] && !has_listener(change->listeners, old)) l = old;
        if (!l) l = open_listener(h, listen[*which], e);
        if (!l) {
            control_http_discard(change);
            return nullptr;
        }
        change->listeners.push_back(l);
    }
    return change;
}

// Whoever watches was let in by a token that is good no more. Requests show theirs each time.
static void end_watchers(control_http *h) {
    for (link *l = h->connections.next; l != &h->connections;) {
        control_conn *c = BELFRY_CONTAINER_OF(l, control_conn, place);
        l = l->next;
        if (c->upgraded && c->needs_token) close_conn(c);
    }
}

void control_http_commit(control_change *change, const std::string &token) {
    control_http *h = change->of;
    for (control_listener *l : h->listeners)
        if (!has_listener(change->listeners, l)) close_listener(l);
    h->addresses.clear();
    for (control_listener *l : change->listeners) {
        if (!has_listener(h->listeners, l)) listener_start(&l->accepting, h->on, l->fd, on_accept, l);
        l->inherited = false;
        h->addresses.push_back(l->address);
    }
    h->listeners = std::move(change->listeners);
    if (h->token != token) end_watchers(h);
    h->token = token;
    drop_inherited(h);
    delete change;
}

void control_http_inherit(control_http *h, const std::string &written, int fd) {
    h->inherited.push_back({written, fd});
}

std::vector<control_socket> control_http_sockets(const control_http *h) {
    std::vector<control_socket> all;
    for (const control_listener *l : h->listeners)
        all.push_back({l->written, l->fd});
    return all;
}

void control_http_leave(control_http *h) {
    for (control_listener *l : h->listeners) {
        l->unix_path.clear();
        close_listener(l);
    }
    h->listeners.clear();
}

void control_http_discard(control_change *change) {
    for (control_listener *l : change->listeners)
        if (!has_listener(change->of->listeners, l)) close_listener(l);
    delete change;
}

control_http *control_http_new(loop *on, wheel *timers, const std::vector<std::string> &listen,
                               const std::string &token, size_t body_max, control_handler handler, void *context,
                               error *e) {
    auto *h = new control_http{on, timers, "", body_max, handler, context, {}, {}, {}, {}, 0};
    list_init(&h->connections);
    size_t which;
    if (control_change *change = control_http_change(h, listen, &which, e)) {
        control_http_commit(change, token);
        return h;
    }
    control_http_free(h);
    return nullptr;
}

void control_http_free(control_http *h) {
    while (!list_empty(&h->connections))
        close_conn(BELFRY_CONTAINER_OF(h->connections.next, control_conn, place));
    for (control_listener *l : h->listeners)
        close_listener(l);
    drop_inherited(h);
    delete h;
}

const std::vector<std::string> &control_http_addresses(const control_http *h) {
    return h->addresses;
}

} // namespace belfry
