// Replays. Owner's thread.
#include "relay/replay.h"

#include "relay/conn.h"
#include "relay/message.h"
#include "relay/shard.h"

namespace belfry {

static constexpr uint64_t answer_room = 1024; // bytes that the `ok` may take

static frame *form_of(conn *c, message *m) {
    shard *s = c->on;
    return message_form(m, static_cast<wire_form>(c->form), s->reader, &s->scratch, s->packer);
}

bool replay_fits(conn *c, const join_answer_letter *a) {
    uint64_t charge = conn_queued(c) + answer_room;
    for (message *m : a->replay) {
        charge += conn_charge(form_of(c, m));
        if (charge > c->limit) return false;
    }
    return true;
}

void replay_deliver(conn *c, const join_answer_letter *a) {
    for (message *m : a->replay) {
        if (!c->open) return;
        frame *f = frame_ref(form_of(c, m));
        if (conn_deliver(c, f))
            c->on->count.replayed++;
        else
            frame_unref(f);
    }
}

} // namespace belfry
