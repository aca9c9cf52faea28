// What both protocols share: a client's publish on its way to the node.
#include "relay/session.h"

#include "base/log.h"

namespace belfry {

void session_publish(conn *c, view room, frame *source, payload_kind kind, bool echo, bool wants_answer,
                     int64_t request_id) {
    shard *s = c->on;
    conn_id id = conn_id_of(c);
    conn_id_text text = conn_id_format(id);
    view self = text;
    buffer from = {};
    buffer_append(&from, "{\"conn\":\"");
    buffer_append(&from, self);
    buffer_append(&from, "\"}");
    message *m = message_new(room, source, frame_view(source), kind, buffer_view(&from), s->loop->clock.wall_ms, &self,
                             echo ? 0 : 1);
    buffer_free(&from);
    frame_unref(source);
    auto *l = new publish_letter{{letter_type::publish, s->index}, m, id, wants_answer, request_id};
    mailbox_send(&s->outbox, &l->head);
    c->published = true;
    if (mailbox_backlogged(&s->outbox)) { // the node is behind: this client waits, nothing is dropped
        conn_pause(c);
        list_remove(&c->place);
        list_push_back(&s->paused, &c->place);
    }
}

} // namespace belfry
