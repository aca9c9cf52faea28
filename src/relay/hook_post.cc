// Signed POSTs. On the thread of the worker.
#include "relay/hook_post.h"

#include "base/hash.h"
#include "proto/hmac.h"
#include "relay/letter.h"
#include "relay/shard.h"

#include <string.h>
#include <string>

namespace belfry {

static constexpr size_t type_max = 128; // bytes of a Content-Type that is passed on

// ---------------------------------------------------------------- the request

void hook_signature(view secret, view id, uint64_t timestamp, view body, char out[hook_signature_size]) {
    static constexpr view prefix = "whsec_";
    std::string key(secret);
    size_t size = 0;
    if (secret.starts_with(prefix) && base64_decode(secret.substr(prefix.size()), key.data(), &size)) key.resize(size);
    std::string text(id);
    text += "." + std::to_string(timestamp) + ".";
    text += body;
    uint8_t mac[hmac_sha256_size];
    hmac_sha256(key, text, mac);
    memcpy(out, "v1,", 3);
    base64_encode(view(reinterpret_cast<const char *>(mac), sizeof mac), out + 3);
}

static void ready(upstream_call *call) {
    hook_post *p = BELFRY_CONTAINER_OF(call, hook_post, call);
    uint64_t now = p->on->loop->clock.wall_ms / 1000; // each attempt's own: a receiver refuses old ones
    buffer head = {};
    buffer_append(&head, "POST ");
    buffer_append(&head, p->path);
    buffer_append(&head, " HTTP/1.1\r\nHost: ");
    // The server's own name: the client's Host says nothing about who is asked here.
    upstream_host(upstream_settings_of(call->of), call->server->shared->settings, &head);
    buffer_printf(&head, "\r\nContent-Type: application/json\r\nContent-Length: %zu\r\nAccept: application/json\r\n",
                  p->body.size);
    buffer_append(&head, "X-Request-Id: ");
    buffer_append(&head, p->request_id.empty() ? view(p->id) : p->request_id);
    buffer_append(&head, "\r\nUser-Agent: Belfry\r\n");
    if (p->picked) p->picked(p, call->server->shared->settings->text);
    if (!p->secret.empty()) {
        char signature[hook_signature_size];
        hook_signature(p->secret, p->id, now, buffer_view(&p->body), signature);
        buffer_printf(&head, "webhook-id: %s\r\nwebhook-timestamp: %llu\r\nwebhook-signature: %.*s\r\n", p->id,
                      static_cast<unsigned long long>(now), static_cast<int>(sizeof signature), signature);
    }
    buffer_append(&head, buffer_view(&p->fields));
    buffer_append(&head, "\r\n");
    frame *whole = frame_join(buffer_view(&head), buffer_view(&p->body));
    buffer_free(&head);
    buffer_clear(&p->answer);
    buffer_clear(&p->type);
    p->status = 0;
    http_link_begin(call->link, "POST");
    http_link_request_done(call->link);
    http_link_send(call->link, whole);
}

// ---------------------------------------------------------------- the answer

static void finish(hook_post *p, int status, const char *why) {
    p->running = false;
    wheel_cancel(&p->on->deadlines, &p->deadline.timer);
    p->done(p, status, why);
}

static void give_up(hook_post *p, int status, const char *why) {
    upstream_call_cancel(&p->call);
    finish(p, status, why);
}

// Visible ASCII, spaces and tabs, and short: it may be passed on to a client.
static void keep_type(hook_post *p, const http1_response *r) {
    const http1_field *f = http1_find(r, "Content-Type", nullptr);
    if (!f || f->value.size() > type_max) return;
    for (char c : f->value)
        if (c != '\t' && (c < 0x20 || c >= 0x7f)) return;
    buffer_append(&p->type, f->value);
}

static void head(upstream_call *call, const http1_response *r) {
    hook_post *p = BELFRY_CONTAINER_OF(call, hook_post, call);
    if (r->status == 101) return give_up(p, 502, "the backend switched protocols");
    if (r->status < 200) return;
    p->status = r->status;
    p->server = uint64_t{1} << call->server->index;
    keep_type(p, r);
}

static void body(upstream_call *call, view data) {
    hook_post *p = BELFRY_CONTAINER_OF(call, hook_post, call);
    if (p->answer.size + data.size() > p->answer_max) return give_up(p, 502, "the backend's answer is too large");
    buffer_append(&p->answer, data);
}

static void ask_again(hook_post *p);

static void end(upstream_call *call, view) {
    hook_post *p = BELFRY_CONTAINER_OF(call, hook_post, call);
    if (p->status >= 500 && p->safe && !p->repeated) return ask_again(p);
    if (p->status >= 500) return finish(p, 502, "the backend answered with a 5xx");
    buffer_reserve(&p->answer, frame_padding);
    memset(p->answer.data + p->answer.size, 0, frame_padding);
    finish(p, p->status, "");
}

static void failed(upstream_call *call, upstream_failure why, bool) {
    hook_post *p = BELFRY_CONTAINER_OF(call, hook_post, call);
    bool alone = p->repeated && why == upstream_failure::no_server; // there is no other one to ask
    finish(p, upstream_failure_status(why), alone ? "the backend answered with a 5xx" : upstream_failure_name(why));
}

static const upstream_call_ops ops = {ready, head, body, end, failed, nullptr};

// Another server may do what this one could not; hook_timeout goes on.
static void ask_again(hook_post *p) {
    uint64_t hash = p->call.hash;
    bool has_key = p->call.has_key;
    p->repeated = true;
    upstream_call_start(&p->call, p->call.of, &ops, nullptr, true);
    p->call.hash = hash;
    p->call.has_key = has_key;
    p->call.tried = p->server;
}

static void timed_out(deadline *d) {
    hook_post *p = BELFRY_CONTAINER_OF(d, hook_post, deadline);
    if (p->unasked) return finish(p, 502, "the route has no hook any more");
    give_up(p, 504, "hook_timeout passed");
}

// ---------------------------------------------------------------- life

void hook_post_init(hook_post *p, shard *s, void (*done)(hook_post *, int, const char *)) {
    char random[16];
    p->on = s;
    p->done = done;
    random_fill(random, sizeof random); // names the call, is no secret
    memcpy(p->id, "msg_", 4);
    p->id[4 + base64url_encode(view(random, sizeof random), p->id + 4)] = '\0';
    deadline_init(&p->deadline, timed_out);
}

void hook_post_start(hook_post *p, const struct route *way, const view *key, bool safe) {
    p->running = true;
    p->safe = safe;
    p->started_ns = clock_monotonic_ns();
    p->unasked = way->hook.empty() || way->upstream_index < 0;
    wheel_set(&p->on->deadlines, &p->deadline.timer, p->on->loop->clock.monotonic_ms,
              p->unasked ? 0 : static_cast<uint64_t>(way->hook_timeout));
    if (p->unasked) return;
    p->path = way->hook;
    p->secret = way->hook_secret;
    p->answer_max = static_cast<size_t>(way->max_message) + hook_answer_slack;
    upstream_call_start(&p->call, p->on->upstreams[way->upstream_index], &ops, key, safe);
}

void hook_post_cancel(hook_post *p) {
    if (p->running) {
        upstream_call_cancel(&p->call);
        wheel_cancel(&p->on->deadlines, &p->deadline.timer);
        p->running = false;
    }
    for (buffer *b : {&p->body, &p->fields, &p->answer, &p->type})
        buffer_free(b);
}

void hook_commands(shard *s, const hook_answer *a) {
    for (size_t i = 0; i < a->command_count; i++) {
        frame *source = frame_copy(a->commands[i]);
        s->outbox_bytes.fetch_add(static_cast<int64_t>(source->size) + letter_charge, std::memory_order_relaxed);
        mailbox_send(&s->outbox, &(new command_letter{{letter_type::command, s->index}, source})->head);
    }
}

} // namespace belfry
