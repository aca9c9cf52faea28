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

// Above half of its queue, on_slow = latest puts messages into the place of others.
uint64_t replay_room(const conn *c) {
    uint64_t most = c->route->on_slow == slow_latest ? c->send_queue / 2 : c->send_queue;
    return most > conn_queued(c) ? most - conn_queued(c) : 0;
}

bool replay_fits(conn *c, const join_answer_letter *a) {
    uint64_t room = replay_room(c), charge = answer_room;
    for (message *m : a->replay) {
        charge += conn_charge(form_of(c, m));
        if (charge > room) return false;
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
