// Sessions without WebSocket: who may speak for them, and messages by POST. Owner's thread.
#include "relay/plain_session.h"

#include "base/hash.h"
#include "proto/cursor.h"
#include "proto/utf8.h"
#include "relay/client.h"
#include "relay/conn_record.h"
#include "relay/session.h"
#include "relay/transport.h"

#include <string.h>

namespace belfry {

// ---------------------------------------------------------------- life

plain_session *plain_session_new(conn *c) {
    auto *p = new plain_session{};
    unsigned char random[16];
    random_bytes(random, sizeof random);
    base64url_encode(view(reinterpret_cast<char *>(random), sizeof random), p->key);
    p->on = c;
    c->plain = p;
    return p;
}

void plain_session_free(conn *c) {
    plain_session *p = c->plain;
    if (!p) return;
    c->plain = nullptr;
    for (const plain_post &post : p->posts)
        carry_refuse(c->on, post.letter, 404, "the session has ended");
    if (p->asked) carry_refuse(c->on, p->asked, 404, "the session has ended");
    if (p->last) frame_unref(p->last);
    buffer_free(&p->first);
    delete p;
}

void plain_session_name(const conn *c, buffer *out) {
    buffer_append(out, conn_id_format(conn_id_of(c)));
    buffer_append_char(out, '.');
    buffer_append(out, view(c->plain->key, plain_key_size));
}

conn *plain_session_find(shard *s, carry_letter *l) {
    session_name name;
    conn_id id;
    conn *c = nullptr;
    if (session_name_parse(l->session, &name) && conn_id_parse(name.conn, &id)) c = conn_find(s, id);
    bool there =
        c && c->plain && transport_of(c) && bytes_equal_constant_time(name.key, view(c->plain->key, plain_key_size));
    if (!there) {
        carry_refuse(s, l, 404, "there is no such session");
        return nullptr;
    }
    // Where no token says who asks, the key does.
    if (l->user.empty() || client_user(c) == l->user) return c;
    carry_refuse(s, l, 403, "the session is another user's");
    return nullptr;
}

// ---------------------------------------------------------------- messages

static uint64_t now_of(const conn *c) {
    return c->on->loop->clock.monotonic_ms;
}

static void reply(conn *c, size_t index, int status, view payload) {
    plain_session *p = c->plain;
    carry_letter *l = p->posts[index].letter;
    p->posts.erase(p->posts.begin() + static_cast<ptrdiff_t>(index));
    carry_reply(c->on, l, status, frame_copy(payload));
}

static void refuse(conn *c, size_t index, int status, view why) {
    plain_session *p = c->plain;
    carry_letter *l = p->posts[index].letter;
    p->posts.erase(p->posts.begin() + static_cast<ptrdiff_t>(index));
    carry_refuse(c->on, l, status, why);
}

// Index of the one that the session looks at: of those given, the last.
static size_t index_of_current(const plain_session *p) {
    size_t i = p->posts.size();
    while (i && !p->posts[i - 1].given)
        i--;
    return i - 1;
}

static void forget_old(conn *c) {
    plain_session *p = c->plain;
    for (size_t i = p->posts.size(); i-- > 0;)
        if (now_of(c) - p->posts[i].since_ms > plain_post_ms && !(p->reading && i == index_of_current(p)))
            refuse(c, i, 504, "no answer in time");
}

void plain_session_post(conn *c, carry_letter *l) {
    plain_session *p = c->plain;
    if (c->close_sent) return carry_refuse(c->on, l, 404, "the session has ended");
    if (l->body->size > static_cast<uint64_t>(c->route->max_message)) // where the POST came to may allow more
        return carry_refuse(c->on, l, 413, "the body is larger than max_message");
    if (p->posts.size() == plain_posts_max) forget_old(c);
    if (p->posts.size() == plain_posts_max)
        return carry_refuse(c->on, l, 429, "too many messages wait for their answers");
    p->posts.push_back({l, now_of(c), false, false, false, 0});
    plain_session_run(c);
}

static void give(conn *c, size_t index) {
    plain_session *p = c->plain;
    frame *body = frame_ref(p->posts[index].letter->body);
    // Judged here, since the POST may have come to another route: every client of WebSocket that got bytes as text
    // would have to end its connection (RFC 6455 section 8.1).
    bool binary = c->session->form == form_raw && !utf8_valid(frame_view(body));
    uint8_t opcode = binary ? ws_binary : ws_text;
    p->posts[index].given = p->reading = true;
    c->on->count.messages_in++;
    if (c->record) {
        c->record->messages_in++;
        c->record->bytes_in += body->size;
    }
    c->spoke_ms = now_of(c);
    c->session->message(c, opcode, body->data, body->size); // padded, and nobody else's
    frame_unref(body);
}

void plain_session_run(conn *c) {
    while (plain_session *p = c->plain) {
        if (c->closed || c->close_sent || c->paused || c->holds || p->reading) return;
        size_t next = p->posts.empty() ? 0 : index_of_current(p) + 1; // SIZE_MAX + 1: none was given yet
        if (next == p->posts.size()) return;
        if (shard_backlogged(c->on))
            refuse(c, next, 503, "too many messages are on their way already");
        else
            give(c, next);
    }
}

bool plain_session_begin(conn *c, bool has_id, int64_t id) {
    plain_session *p = c->plain;
    if (!p || !p->reading) return true;
    for (const plain_post &other : p->posts)
        if (has_id && other.named && other.has_id && other.id == id) {
            p->reading = false;
            refuse(c, index_of_current(p), 409, "id: another message with it waits for its answer");
            return false;
        }
    plain_post *post = &p->posts[index_of_current(p)];
    post->named = true;
    post->has_id = has_id;
    post->id = id;
    return true;
}

void plain_session_end(conn *c) {
    plain_session *p = c->plain;
    if (!p || !p->reading) return;
    size_t current = index_of_current(p);
    p->reading = false;
    if (!p->posts[current].has_id) reply(c, current, 202, "{}");
}

void plain_session_denied(conn *c, int status, view why) {
    plain_session *p = c->plain;
    if (!p || !p->reading) return;
    p->reading = false;
    refuse(c, index_of_current(p), status ? status : 429, why);
}

// Backends name codes of their own, too.
static int http_status(int status) {
    return status >= 200 && status <= 599 ? status : 400;
}

bool plain_session_answer(conn *c, bool has_id, int64_t id, int status, view payload) {
    plain_session *p = c->plain;
    if (!has_id) { // of what is being looked at, or of nothing that anybody waits for
        if (!p->reading) return false;
        p->reading = false;
        reply(c, index_of_current(p), http_status(status), payload);
        return true;
    }
    for (size_t i = 0; i < p->posts.size(); i++) {
        if (!p->posts[i].named || !p->posts[i].has_id || p->posts[i].id != id) continue;
        if (p->reading && i == index_of_current(p)) p->reading = false;
        reply(c, i, http_status(status), payload);
        return true;
    }
    return false;
}

} // namespace belfry
