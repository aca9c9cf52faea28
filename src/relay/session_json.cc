// The JSON protocol, contracts section 4: one object a text frame. Owner's thread.
#include "proto/client_json.h"
#include "proto/room_name.h"
#include "proto/server_json.h"
#include "relay/session.h"
#include "relay/websocket.h"

#include <string>

namespace belfry {

// The thread's scratch buffer with one object in it, sent.
static void say(conn *c) {
    websocket_send(c, ws_text, buffer_view(&c->on->scratch));
    if (c->on->scratch.capacity > scratch_keep) buffer_free(&c->on->scratch);
}

static buffer *fresh(conn *c) {
    buffer_clear(&c->on->scratch);
    return &c->on->scratch;
}

static void answer_error(conn *c, bool has_id, int64_t id, int code, view text) {
    server_json_error(fresh(c), has_id, id, code, text);
    say(c);
}

static void refuse(conn *c, const client_request *q, int code, const std::string &text) {
    answer_error(c, q->has_id, q->id, code, text);
}

static void answer_ok(conn *c, const client_request *q) {
    if (!q->has_id) return;
    server_json_ok(fresh(c), q->id, view());
    say(c);
}

static std::string about(const char *what, view room) {
    return std::string(what) + " " + std::string(room);
}

// ---------------------------------------------------------------- what clients ask

// Nothing to recover from: rooms keep no history, so a joiner that names `since` is told recovered:false.
static void answer_join(conn *c, int64_t id, view room, bool since) {
    if (since)
        server_json_ok_not_recovered(fresh(c), id, room);
    else
        server_json_ok(fresh(c), id, room);
    say(c);
}

static void joined(conn *c, membership *m) {
    room_admit(m);
    if (m->wants_answer) answer_join(c, m->request_id, room_name(m->in), m->asked_since);
}

static void refused(conn *c, membership *m, int code, const char *why) {
    if (m->wants_answer) answer_error(c, true, m->request_id, code, about("not joined", room_name(m->in)) + ": " + why);
}

static void on_join(conn *c, const client_request *q) {
    const char *why = nullptr;
    membership *m = room_membership(c, q->room);
    if (!m) {
        if (room_name_reserved(q->room))
            return refuse(c, q, 403, about("not allowed to join", q->room) + ": names with @ are reserved");
        if (!room_may_join(room_rule_find(c->on->settings, q->room), &why))
            return refuse(c, q, 403, about("not allowed to join", q->room) + ": " + why);
        if (c->room_count >= c->route->max_rooms) return refuse(c, q, 429, "too many rooms on this connection");
    }
    switch (room_join(c->on, c, q->room, &m)) {
    case join_result::full:
        return refuse(c, q, 409, about("full:", q->room));
    case join_result::already:
        if (!m->member) return refuse(c, q, 409, about("already joining", q->room));
        if (q->has_id) answer_join(c, q->id, q->room, q->has_since);
        return;
    case join_result::joined:
    case join_result::waiting:
        break;
    }
    m->wants_answer = q->has_id;
    m->request_id = q->id;
    m->asked_since = q->has_since;
    if (m->in->active) joined(c, m);
}

static void on_leave(conn *c, const client_request *q) {
    membership *m = room_membership(c, q->room);
    if (!m) return refuse(c, q, 404, about("not in", q->room));
    if (!m->member) refused(c, m, 409, "left before the join was complete");
    room_leave(c->on, m);
    answer_ok(c, q);
}

static void on_publish(conn *c, const client_request *q) {
    const char *why = nullptr;
    membership *m = room_membership(c, q->room);
    if (room_name_reserved(q->room))
        return refuse(c, q, 403, about("not allowed to publish in", q->room) + ": names with @ are reserved");
    if (!room_may_publish(m ? m->in->rule : room_rule_find(c->on->settings, q->room), m && m->member, &why))
        return refuse(c, q, 403, about("not allowed to publish in", q->room) + ": " + why);
    session_publish(c, q->room, frame_copy(q->data), payload_kind::json, q->echo, q->has_id, q->id);
}

static void published(conn *c, int64_t request_id, int code) {
    if (code == 0)
        server_json_ok(fresh(c), request_id, view());
    else
        server_json_error(fresh(c), true, request_id, code,
                          "the broker is out of reach or did not confirm it, try again");
    say(c);
}

static void on_ping(conn *c, const client_request *q) {
    server_json_pong(fresh(c), q->has_id, q->id);
    say(c);
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
        if (room_named(c, q)) on_join(c, q);
        return;
    case client_op::leave:
        if (room_named(c, q)) on_leave(c, q);
        return;
    case client_op::publish:
        if (room_named(c, q)) on_publish(c, q);
        return;
    case client_op::ping:
        return on_ping(c, q);
    case client_op::call:
        return refuse(c, q, 501, "call: this server asks no backend");
    case client_op::members:
        return refuse(c, q, 501, "members: this server keeps no presence");
    case client_op::auth:
        return refuse(c, q, 501, "auth: this server checks no tokens");
    case client_op::unknown:
        return refuse(c, q, 400, "unknown type \"" + std::string(q->type.substr(0, 64)) + "\"");
    }
}

static void message(conn *c, uint8_t opcode, char *data, size_t size) {
    if (opcode != ws_text) return websocket_close(c, 1003, "the JSON protocol takes text frames");
    client_request q;
    error e;
    switch (client_json_parse(c->on->reader, view(data, size), &q, &e)) {
    case client_parse::ok:
        return act(c, &q);
    case client_parse::bad_member:
        return answer_error(c, q.has_id, q.id, 400, e.text);
    case client_parse::not_an_object: {
        std::string reason = std::string("not a protocol object: ") + e.text;
        return websocket_close(c, 4400, view(reason).substr(0, 120));
    }
    }
}

// ---------------------------------------------------------------- what the server says by itself

static void opened(conn *c) {
    conn_id_text id = conn_id_format(conn_id_of(c));
    view *names = static_cast<view *>(memory_get((c->room_count + 1) * sizeof(view)));
    size_t count = 0;
    for (const membership *m = c->rooms; m; m = m->next)
        names[count++] = room_name(m->in);
    server_json_welcome(fresh(c), id, c->route->ping_interval / 1000, names, count);
    free(names);
    say(c);
}

static void removed(conn *c, view room, const char *reason) {
    server_json_removed(fresh(c), room, reason);
    say(c);
}

static void bye(conn *c, uint16_t code, view reason, bool reconnect, uint64_t after_ms) {
    server_json_bye(fresh(c), code, reason, reconnect, after_ms);
    say(c);
}

const session_ops session_json = {"belfry.v1.json", form_json, opened,  message, joined,
                                  refused,          published, removed, bye};

} // namespace belfry
