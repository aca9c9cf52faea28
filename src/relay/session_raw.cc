// The raw protocol: what the room gets is what the client gets. Owner's thread.
#include "relay/session.h"
#include "relay/websocket.h"

namespace belfry {

static void opened(conn *) {}

// A client's frame goes to every joined room that lets it publish; the sender is left out unless the route says `echo =
// yes`.
static void message(conn *c, uint8_t opcode, char *data, size_t size) {
    frame *source = nullptr;
    for (const membership *m = c->rooms; m; m = m->next) {
        const char *why;
        if (!room_may_publish(m->in->rule, m->member, &why)) continue;
        if (!source) source = frame_copy(view(data, size));
        session_publish(c, room_name(m->in), frame_ref(source),
                        opcode == ws_text ? payload_kind::text : payload_kind::binary, c->route->echo, false, 0);
    }
    if (source)
        frame_unref(source);
    else
        c->on->count.dropped[drop_no_right]++;
}

static void joined(conn *, membership *m) {
    room_admit(m);
}
static void refused(conn *, membership *, int, const char *) {}
static void published(conn *, int64_t, int) {}
static void removed(conn *, view, const char *) {}
static void bye(conn *, uint16_t, view, bool, uint64_t) {}

const session_ops session_raw = {"belfry.v1.raw", form_raw, opened, message, joined, refused, published, removed, bye};

} // namespace belfry
