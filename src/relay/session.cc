// What both protocols share: a client's publish on its way to the node.
#include "relay/session.h"

#include "relay/client.h"

namespace belfry {

void session_publish(conn *c, view room, frame *source, payload_kind kind, bool echo, bool wants_answer,
                     int64_t request_id) {
    shard *s = c->on;
    conn_id id = conn_id_of(c);
    conn_id_text self = conn_id_format(id);
    view sender = self;
    buffer from = {};
    client_write_from(c, &from);
    message_parts parts = {room,
                           source,
                           frame_view(source),
                           kind,
                           buffer_view(&from),
                           s->loop->clock.wall_ms,
                           &sender,
                           echo ? size_t{0} : 1};
    message *m = message_new(&parts);
    buffer_free(&from);
    frame_unref(source);
    s->outbox_bytes.fetch_add(static_cast<int64_t>(m->payload.size()) + letter_charge, std::memory_order_relaxed);
    auto *l = new publish_letter{{letter_type::publish, s->index}, m, id, wants_answer, request_id};
    mailbox_send(&s->outbox, &l->head);
    c->published = true;
}

} // namespace belfry
