// Bodies of proxied requests. Owner's thread.
#include "relay/proxy_body.h"

#include "relay/proxy_clock.h"

namespace belfry {

static constexpr view last_chunk_without_trailers = "0\r\n\r\n";

// False once it was refused: *p is gone.
static bool runs(const conn *c, const proxying *p) {
    return c->exchange && c->exchange->proxy == p;
}

// Where a link is there, content goes to it; else it is kept. True while more may come.
static bool has_room(const proxying *p) {
    if (!proxying_linked(p)) return p->kept.size < proxy_kept_max;
    return http_link_queued(p->call.link) <= http_link_high_water;
}

static void write_chunk(view content, buffer *out) {
    char line[http1_chunk_head_size];
    buffer_append(out, view(line, http1_write_chunk_head(content.size(), line)));
    buffer_append(out, content);
    buffer_append(out, "\r\n");
}

// Keeps it for another try, as long as that is possible at all.
static void keep_sent(proxying *p, view content) {
    if (!p->kept_all) return;
    if (p->kept.size + content.size() <= proxy_kept_max) return buffer_append(&p->kept, content);
    proxy_body_forget(p);
}

void proxy_body_forget(proxying *p) {
    p->kept_all = p->call.safe = false;
    buffer_free(&p->kept);
}

// Pieces of one read, which become one chunk. The last one comes with the end of the body.
static void send_on(proxying *p, view content) {
    if (!proxying_linked(p)) return buffer_append(&p->kept, content);
    keep_sent(p, content);
    bool chunked = p->body == http1_body_kind::chunked;
    view pieces[proxying_pieces_max] = {view(), content, view(), view()};
    char line[http1_chunk_head_size];
    buffer end = {};
    if (chunked && !content.empty()) {
        pieces[0] = view(line, http1_write_chunk_head(content.size(), line));
        pieces[2] = "\r\n";
    }
    if (chunked && p->in_done) {
        pieces[3] = last_chunk_without_trailers;
        if (!http1_body_trailers(&p->in).empty()) {
            http1_write_last_chunk(http1_body_trailers(&p->in), &end);
            pieces[3] = buffer_view(&end);
        }
    }
    proxying_to_backend(p->call.link, pieces, proxying_pieces_max);
    buffer_free(&end);
    if (p->in_done) http_link_request_done(p->call.link);
}

void proxy_body_write_kept(proxying *p, buffer *out) {
    if (p->body != http1_body_kind::chunked) return buffer_append(out, buffer_view(&p->kept));
    if (p->kept.size) write_chunk(buffer_view(&p->kept), out);
    if (p->in_done) http1_write_last_chunk(http1_body_trailers(&p->in), out);
}

void proxy_body_sent(proxying *p) {
    if (p->in_done) http_link_request_done(p->call.link);
    if (p->kept.size > proxy_kept_max) proxy_body_forget(p);
}

// ---------------------------------------------------------------- from the client

// Adds to *content; false where the request was refused.
static bool take_content(proxying *p, view data, buffer *content) {
    int64_t most = p->on->route->max_body;
    p->in_bytes += data.size();
    p->on->on->count.edge.request_bytes += data.size();
    if (most && p->in_bytes > static_cast<uint64_t>(most)) {
        proxying_refuse(p, 413, refuse_too_large, "the body is larger than max_body");
        return false;
    }
    buffer_append(content, data);
    return true;
}

// Chunks of one read are put together, whatever size they came in.
static char *take_chunks(proxying *p, char *begin, char *end) {
    buffer *content = &p->on->on->scratch;
    buffer_clear(content);
    view rest(begin, static_cast<size_t>(end - begin)), data;
    const char *why = "";
    for (;;) {
        switch (http1_body_next(&p->in, &rest, &data, &why)) {
        case http1_body_event::data:
            if (!take_content(p, data, content)) return end;
            continue;
        case http1_body_event::end:
            p->in_done = true;
            break;
        case http1_body_event::more:
            break;
        case http1_body_event::failed:
            proxying_refuse(p, 400, refuse_bad_request, why);
            return end;
        }
        send_on(p, buffer_view(content));
        return begin + (rest.data() - begin);
    }
}

// A body by length was checked against max_body before.
static char *take_length(proxying *p, char *begin, char *end) {
    view rest(begin, static_cast<size_t>(end - begin)), data, none;
    const char *why = "";
    if (http1_body_next(&p->in, &rest, &data, &why) == http1_body_event::data) {
        p->in_bytes += data.size();
        p->on->on->count.edge.request_bytes += data.size();
    }
    view left = rest;
    p->in_done = http1_body_next(&p->in, &left, &none, &why) == http1_body_event::end;
    send_on(p, data);
    return begin + (rest.data() - begin);
}

char *proxy_body_bytes(proxying *p, char *begin, char *end) {
    if (!has_room(p)) {
        conn_pause(p->on);
        proxy_clock_arm(p);
        return begin;
    }
    conn *c = p->on;
    char *stopped = p->body == http1_body_kind::chunked ? take_chunks(p, begin, end) : take_length(p, begin, end);
    if (runs(c, p) && p->in_done) proxy_clock_arm(p);
    return stopped;
}

// ---------------------------------------------------------------- pauses, the end

// After the end of the client's side the connection feeds nothing any more.
static void feed_rest(proxying *p) {
    conn *c = p->on;
    while (c->rest.size && !p->in_done && has_room(p)) {
        char *begin = c->rest.data, *end = begin + c->rest.size;
        char *stopped = proxy_body_bytes(p, begin, end);
        if (!runs(c, p)) return;
        if (stopped == begin) return;
        buffer_consume(&c->rest, static_cast<size_t>(stopped - begin));
    }
    if (c->rest.size || p->in_done) return;
    c->on->count.refused[refuse_gone]++;
    conn_abort(c); // it ended within its own request
}

void proxy_body_resume(proxying *p) {
    if (p->in_done || !has_room(p)) return;
    if (p->on->eof_seen) return feed_rest(p);
    conn_resume(p->on);
    proxy_clock_body(p);
}

bool proxy_body_eof(proxying *p) {
    return p->in_done || (p->on->rest.size && !has_room(p));
}

} // namespace belfry
