// The raw protocol: what the room gets is what the client gets. Owner's thread.
#include "proto/room_name.h"
#include "relay/hook.h"
#include "relay/plain_session.h"
#include "relay/replay.h"
#include "relay/session_edge.h"
#include "relay/transport.h"

namespace belfry {

// To this client alone: a hook's data, as text; its data64, as a binary frame.
static void say(conn *c, view data, bool binary) {
    buffer text = {};
    if (binary) return transport_send(c, ws_binary, data);
    session_raw_text(data, &text);
    transport_send(c, ws_text, buffer_view(&text));
    buffer_free(&text);
}

// The connect hook's data is the first message.
static void opened(conn *c) {
    client *who = c->client;
    if (!who || !who->has_greeting) return;
    say(c, who->greeting, who->greeting_binary);
    who->has_greeting = false;
    std::string().swap(who->greeting);
}

// ---------------------------------------------------------------- messages

static void answered(hook_call *h, const hook_outcome *o) {
    conn *c = h->on;
    if (o->status != 200 || o->answer.has_error) { // the protocol has no words for it; a failure was logged
        c->on->count.dropped[drop_hook]++;
        return;
    }
    if (o->answer.has_data || o->answer.has_data64) say(c, o->answer.data, o->answer.has_data64);
}

static void ask(conn *c, uint8_t opcode, view bytes) {
    conn_id_text id;
    hook_call *h = hook_new(c, hook_event::message, answered);
    hook_asker asker = hook_asker_of(c, &id);
    hook_write_message(hook_body(h), &asker, bytes, opcode != ws_text);
    hook_send(h);
}

// Without a hook, a client's frame goes to every joined room that lets it publish; the sender is left out unless the
// route says `echo = yes`.
static void publish(conn *c, uint8_t opcode, view bytes) {
    frame *source = nullptr;
    bool refused = false;
    chain_verdict v = {};
    for (const membership *m = c->rooms; m && !c->close_sent; m = m->next) {
        const char *why;
        view name = room_name(m->in);
        if (room_name_reserved(name) || room_may_publish(c, m->in->rule, name, m->member, &why) != room_verdict::yes)
            continue;
        if (!session_publish_passes(c, name, m->in->rule, bytes, &v)) {
            refused = true;
            session_close_denied(c, &v);
            continue;
        }
        if (!source) source = frame_copy(bytes);
        session_publish(c, name, frame_ref(source), opcode == ws_text ? payload_kind::text : payload_kind::binary,
                        c->route->echo, false, 0);
    }
    if (source)
        frame_unref(source);
    else if (!refused)
        c->on->count.dropped[drop_no_right]++;
}

static void act(conn *c, uint8_t opcode, char *data, size_t size) {
    if (hook_wanted(c))
        ask(c, opcode, view(data, size));
    else
        publish(c, opcode, view(data, size));
    plain_session_end(c);
}

static const chain_waiter waiter = {act, session_message_denied};

static void message(conn *c, uint8_t opcode, char *data, size_t size) {
    if (session_message_passes(c, opcode, data, size, &waiter)) act(c, opcode, data, size);
}

static void joined(conn *, membership *m) {
    if (!m->ask) room_admit(m); // else what it has missed comes first
}
static void refused(conn *, membership *, int, const char *) {}
static void recovered(conn *c, membership *m, const join_answer_letter *a) {
    room_admit(m);
    if (a->recovered && replay_fits(c, a)) replay_deliver(c, a);
}
static void published(conn *, const answer_letter *) {}
static void removed(conn *, view, const char *) {}
static void bye(conn *c, uint16_t, view, bool, uint64_t after_ms) {
    if (c->plain) c->plain->after_ms = after_ms; // server-sent events have a word for it
}

// No words for a room that it may not join any more, nor for one that could not be recovered.
static void rejoin(conn *c, const plain_rejoin *r) {
    const char *why;
    const room_rule *rule = room_rule_find(c->on->settings, r->room);
    if (!r->granted && room_may_join(c, rule, r->room, &why) != room_verdict::yes) return;
    if (!room_membership(c, r->room) && room_counted(c) >= c->route->max_rooms) return;
    membership *m = nullptr;
    join_result result = room_join(c->on, c, r->room, &m);
    if (result == join_result::full || m->ask) return;
    if (!room_ask_since(c->on, m, &r->since) && result == join_result::joined) room_admit(m);
}

const session_ops session_raw = {"belfry.v1.raw", form_raw,  opened,  message, joined, refused,
                                 recovered,       published, removed, bye,     rejoin};

} // namespace belfry
