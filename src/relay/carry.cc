// Letters for sessions without WebSocket. Any worker.
#include "relay/carry.h"

#include "base/frame.h"
#include "proto/json.h"

namespace belfry {

int64_t carry_charge(const carry_letter *l) {
    return letter_charge + (l->body ? l->body->size : 0);
}

int64_t carried_charge(const carried_letter *l) {
    return letter_charge + l->body->size;
}

void carry_free(carry_letter *l) {
    if (l->body) frame_unref(l->body);
    delete l;
}

void carried_free(carried_letter *l) {
    frame_unref(l->body);
    delete l;
}

void carry_send(shard *s, carry_letter *l) {
    l->head = {letter_type::carry, s->index};
    s->outbox_bytes.fetch_add(carry_charge(l), std::memory_order_relaxed);
    mailbox_send(&s->outbox, &l->head);
}

void carry_reply(shard *s, carry_letter *l, int status, frame *body) {
    auto *answer = new carried_letter{{letter_type::carried, s->index}, l->remote, l->from, status, body};
    carry_free(l);
    s->outbox_bytes.fetch_add(carried_charge(answer), std::memory_order_relaxed);
    mailbox_send(&s->outbox, &answer->head);
}

frame *carry_error(int status, view why) {
    buffer text = {};
    json_write_error(&text, status, why);
    frame *f = frame_copy(buffer_view(&text));
    buffer_free(&text);
    return f;
}

void carry_refuse(shard *s, carry_letter *l, int status, view why) {
    carry_reply(s, l, status, carry_error(status, why));
}

} // namespace belfry
