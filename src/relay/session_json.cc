// The JSON protocol, contracts section 4: one object a text frame. Owner's thread.
#include "proto/client_json.h"
#include "proto/room_name.h"
#include "proto/server_json.h"
#include "relay/expiry.h"
#include "relay/hook.h"
#include "relay/plain_session.h"
#include "relay/room.h"
#include "relay/session_edge.h"
#include "relay/session_json_members.h"
#include "relay/session_json_rooms.h"
#include "relay/session_json_words.h"
#include "relay/transport.h"

#include <string>
#include <vector>

namespace belfry {

static constexpr size_t method_max = 255; // bytes of a call's method: as long as a room's name

static void refuse(conn *c, const client_request *q, int code, view text) {
    json_error(c, q->has_id, q->id, code, text);
}

// ---------------------------------------------------------------- what clients ask

static void called(hook_call *h, const hook_outcome *o) {
    conn *c = h->on;
    if (o->status != 200) return json_error(c, h->has_id, h->request_id, o->status, "call: the backend did not answer");
    if (o->answer.has_error)
        return json_error(c, h->has_id, h->request_id, o->answer.error_code,
                          o->answer.error_message.empty() ? view("refused by the backend") : o->answer.error_message);
    if (!h->has_id) return;
    server_json_ok_data(json_fresh(c), h->request_id, o->answer.has_data ? o->answer.data : view("null"));
    json_answer(c, true, h->request_id);
}

static void on_call(conn *c, const client_request *q) {
    conn_id_text id;
    if (!hook_wanted(c)) return refuse(c, q, 501, "call: this server asks no backend");
    if (q->method.empty() || q->method.size() > method_max)
        return refuse(c, q, 400, "method: must be a string of 1 to 255 bytes");
    hook_call *h = hook_new(c, hook_event::call, called);
    hook_asker asker = hook_asker_of(c, &id);
    h->has_id = q->has_id;
    h->request_id = q->id;
    hook_write_call(hook_body(h), &asker, q->method, q->data);
    hook_send(h);
}

static void on_auth(conn *c, const client_request *q) {
    chain_verdict v = {};
    if (chain_renew(c, q->token, &v) != chain_result::pass) {
        if (!v.module) return refuse(c, q, 501, "auth: this server checks no tokens");
        return refuse(c, q, v.status ? v.status : 401, "auth: " + std::string(v.reason));
    }
    expiry_renewed(c);
    room_info_changed(c);
    if (!q->has_id) return;
    server_json_ok_expires(json_fresh(c), q->id, expiry_left(c));
    json_answer(c, true, q->id);
}

static void published(conn *c, const answer_letter *a) {
    if (a->code == 0) {
        server_json_ok_published(json_fresh(c), a->request_id, &a->at, a->duplicate);
        return json_answer(c, true, a->request_id);
    }
    json_error(c, true, a->request_id, a->code, "the broker is out of reach or did not confirm it, try again");
}

static void on_ping(conn *c, const client_request *q) {
    server_json_pong(json_fresh(c), q->has_id, q->id);
    json_answer(c, q->has_id, q->id);
}

static bool room_named(conn *c, const client_request *q) {
    const char *bad = q->has_room ? room_name_check(q->room) : "\"room\" is missing";
    if (!bad) return true;
    refuse(c, q, 400, std::string("room: ") + bad);
    return false;
}

static void act(conn *c, const client_request *q) {
    switch (q->op) {
    case client_op::join:
        if (room_named(c, q)) json_join(c, q);
        return;
    case client_op::leave:
        if (room_named(c, q)) json_leave(c, q);
        return;
    case client_op::publish:
        if (room_named(c, q)) json_publish(c, q);
        return;
    case client_op::ping:
        return on_ping(c, q);
    case client_op::call:
        return on_call(c, q);
    case client_op::members:
        if (room_named(c, q)) json_members(c, q);
        return;
    case client_op::auth:
        return on_auth(c, q);
    case client_op::unknown:
        return refuse(c, q, 400, "unknown type \"" + std::string(q->type.substr(0, 64)) + "\"");
    }
}

static void refuse_unreadable(conn *c, const error *e) {
    std::string reason = std::string("not a protocol object: ") + e->text;
    if (c->plain) return json_error(c, false, 0, 400, reason); // it came by a request, which has an answer
    transport_close(c, 4400, view(reason).substr(0, 120));
}

static void read(conn *c, uint8_t, char *data, size_t size) {
    client_request q;
    error e;
    client_parse result = client_json_parse(c->on->reader, view(data, size), &q, &e);
    if (!plain_session_begin(c, q.has_id, q.id)) return;
    if (result == client_parse::ok)
        act(c, &q);
    else if (result == client_parse::bad_member)
        json_error(c, q.has_id, q.id, 400, e.text);
    else
        refuse_unreadable(c, &e);
    plain_session_end(c);
}

static const chain_waiter waiter = {read, session_message_denied};

static void message(conn *c, uint8_t opcode, char *data, size_t size) {
    if (opcode != ws_text) return transport_close(c, 1003, "the JSON protocol takes text frames");
    if (session_message_passes(c, opcode, data, size, &waiter)) read(c, opcode, data, size);
}

// ---------------------------------------------------------------- what the server says by itself

static void opened(conn *c) {
    conn_id_text id = conn_id_format(conn_id_of(c));
    std::vector<view> names;
    std::vector<position> places;
    server_welcome w = {};
    buffer connection = {};
    w.conn = id;
    if (c->plain) plain_session_name(c, &connection);
    w.connection = buffer_view(&connection);
    w.ping_seconds = c->route->ping_interval / 1000;
    for (const membership *m = c->rooms; m; m = m->next) {
        if (room_name_reserved(room_name(m->in))) continue;
        names.push_back(room_name(m->in));
        places.push_back(m->in->at);
    }
    w.rooms = names.data();
    w.positions = places.data();
    w.room_count = names.size();
    if (client *who = c->client) {
        w.user = who->user;
        w.info = who->info;
        w.expires_in = expiry_left(c);
        if (who->has_greeting) (who->greeting_binary ? w.data64 : w.data) = who->greeting;
    }
    server_json_welcome(json_fresh(c), &w);
    buffer_free(&connection);
    json_say(c);
    if (!c->client) return;
    c->client->has_greeting = false;
    std::string().swap(c->client->greeting);
}

static void removed(conn *c, view room, const char *reason) {
    server_json_removed(json_fresh(c), room, reason);
    json_say(c);
}

static void bye(conn *c, uint16_t code, view reason, bool reconnect, uint64_t after_ms) {
    if (c->plain) {
        c->plain->said_bye = true;
        c->plain->after_ms = after_ms;
    }
    server_json_bye(json_fresh(c), code, reason, reconnect, after_ms);
    json_say(c);
}

const session_ops session_json = {"belfry.v1.json", form_json, opened,  message, json_joined, json_refused,
                                  json_recovered,   published, removed, bye,     json_rejoin};

} // namespace belfry
