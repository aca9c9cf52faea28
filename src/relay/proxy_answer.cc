// Answers of backends. Owner's thread.
#include "relay/proxy_answer.h"

#include "proto/http1_forward.h"
#include "relay/access.h"
#include "relay/proxy_body.h"
#include "relay/proxy_clock.h"

namespace belfry {

static constexpr size_t replaced_max = 32; // fields of the answer that modules have set

// Queues the scratch buffer's content for the client. False: the connection is gone, and *p.
static bool send_scratch(proxying *p) {
    conn *c = p->on;
    p->out_bytes += c->on->scratch.size;
    if (conn_send(c, frame_copy(buffer_view(&c->on->scratch)))) return true;
    proxying_reset(c);
    return false;
}

// What modules say goes before what the backend says (CORS, most of all); of what may come several times, both count.
static size_t list_replaced(view fields, view *names) {
    size_t count = 0;
    while (!fields.empty() && count < replaced_max) {
        view line = fields.substr(0, fields.find("\r\n"));
        view name = line.substr(0, line.find(':'));
        if (!bytes_equal_nocase(name, "Set-Cookie") && !bytes_equal_nocase(name, "Vary")) names[count++] = name;
        fields.remove_prefix(line.size() + 2 < fields.size() ? line.size() + 2 : fields.size());
    }
    return count;
}

static void write_head(proxying *p, const http1_response *r, buffer *out) {
    const exchange *x = p->x;
    view replaced[replaced_max], fields = buffer_view(&x->fields);
    size_t count = list_replaced(fields, replaced);
    http1_forward_response(r, p->answer, r->content_length, x->request.minor_version >= 1, p->keep_alive, replaced,
                           count, fields, out);
}

// 1xx: passed to clients that know them. 100 is ours to say, and was.
static void pass_interim(proxying *p, const http1_response *r) {
    conn *c = p->on;
    if (r->status == 100 || p->x->request.minor_version < 1 || conn_queued(c) > proxy_high_water) return;
    buffer_clear(&c->on->scratch);
    http1_forward_response(r, http1_body_kind::none, 0, true, true, nullptr, 0, view(), &c->on->scratch);
    send_scratch(p);
}

void proxy_answer_head(proxying *p, const http1_response *r) {
    conn *c = p->on;
    if (r->status < 200) return pass_interim(p, r);
    const http1_request *q = &p->x->request;
    http1_body_kind from = http1_response_body_kind(r, q->method);
    proxy_body_forget(p);
    p->answer = http1_client_body_kind(from, q->minor_version >= 1);
    // Behind an answer to half a request comes the rest of it, and behind a refused Upgrade what was meant for a
    // tunnel: neither is to be taken for the next request.
    p->keep_alive = q->keep_alive && p->in_done && p->x->kind != BELFRY_TUNNEL &&
                    p->answer != http1_body_kind::until_close && !conn_leaving(c);
    c->on->count.edge.answers[r->status / 100]++;
    p->publish = publish_field_new(c, r, from != http1_body_kind::none);
    if (p->in_done) p->hold = hold_field_new(p->x, r);
    if (p->hold) return; // the client gets another head, once all of this is here
    buffer_clear(&c->on->scratch);
    write_head(p, r, &c->on->scratch);
    p->head_out = true;
    p->x->status = static_cast<uint16_t>(r->status);
    send_scratch(p);
}

void proxy_answer_body(proxying *p, view data) {
    conn *c = p->on;
    char line[http1_chunk_head_size];
    view pieces[3] = {view(), data, view()};
    if (p->answer == http1_body_kind::chunked) {
        pieces[0] = view(line, http1_write_chunk_head(data.size(), line));
        pieces[2] = "\r\n";
    }
    if (p->publish) publish_field_body(c, p->publish, data);
    c->on->count.edge.response_bytes += data.size();
    if (p->hold) return hold_field_body(c, p->hold, data);
    p->out_bytes += pieces[0].size() + data.size() + pieces[2].size();
    if (!proxying_to_client(c, pieces, 3)) return proxying_reset(c);
    if (conn_queued(c) <= proxy_high_water || p->paused) return;
    p->paused = true;
    upstream_call_pause(&p->call);
    proxy_clock_answer(p);
}

static void hand_back(proxying *p) {
    exchange *x = p->x;
    bool keep_alive = p->keep_alive;
    access_answered(x, x->status, p->out_bytes);
    x->proxy = nullptr;
    proxying_free(p);
    x->events->answered(x, keep_alive);
}

static void hold(proxying *p) {
    exchange *x = p->x;
    hold_field *h = p->hold;
    p->hold = nullptr;
    x->proxy = nullptr;
    if (p->publish) publish_field_end(p->on, p->publish);
    proxying_free(p);
    x->events->held(x, h);
}

void proxy_answer_end(proxying *p, view trailers) {
    conn *c = p->on;
    p->over = true;
    if (p->hold) return hold(p);
    if (p->answer == http1_body_kind::chunked) {
        buffer_clear(&c->on->scratch);
        http1_write_last_chunk(trailers, &c->on->scratch);
        if (!send_scratch(p)) return;
    }
    if (p->publish) publish_field_end(c, p->publish);
    // A connection that ends behind this answer gives its reader linger_flush_ms, whatever is left to be read.
    const bool stays = p->keep_alive && !c->eof_seen && !conn_leaving(c);
    if (conn_queued(c) <= (stays ? proxy_left_over : 0)) return hand_back(p);
    p->finishing = true;
    proxy_clock_answer(p);
}

void proxy_answer_flushed(proxying *p) {
    if (p->finishing) return hand_back(p);
    if (!p->paused) return;
    p->paused = false;
    proxy_clock_arm(p);
    upstream_call_resume(&p->call);
}

} // namespace belfry
