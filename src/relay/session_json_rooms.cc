// Join, leave, publish. On the thread of the connection.
#include "relay/session_json_rooms.h"

#include "proto/room_name.h"
#include "proto/server_json.h"
#include "relay/hook.h"
#include "relay/plain_session.h"
#include "relay/replay.h"
#include "relay/room.h"
#include "relay/session_edge.h"
#include "relay/session_json_words.h"

namespace belfry {

static constexpr const char *no_join = "not allowed to join", *no_publish = "not allowed to publish in";

static void refuse(conn *c, const client_request *q, int code, const std::string &text) {
    json_error(c, q->has_id, q->id, code, text);
}

// What the backend, or the lack of its answer, says to a client. False where it is a yes.
static bool refused_by_hook(const hook_call *h, const hook_outcome *o, const char *what) {
    if (o->status != 200) {
        json_error(h->on, h->has_id, h->request_id, o->status,
                   json_about(what, h->room) + ": the backend did not answer");
        return true;
    }
    if (!o->answer.has_error) return false;
    json_error(h->on, h->has_id, h->request_id, o->answer.error_code,
               o->answer.error_message.empty() ? view(json_about(what, h->room)) : o->answer.error_message);
    return true;
}

static position place_of(const client_request *q) {
    position place = {};
    if (q->has_since && !position_set(&place, q->since_epoch, q->since_offset)) place = {};
    return place;
}

static hook_call *call_new(conn *c, hook_event event, const client_request *q,
                           void (*done)(hook_call *, const hook_outcome *)) {
    hook_call *h = hook_new(c, event, done);
    h->has_id = q->has_id;
    h->request_id = q->id;
    h->room = q->room;
    h->echo = q->echo;
    h->has_since = q->has_since;
    h->since = place_of(q);
    return h;
}

// ---------------------------------------------------------------- join

static void answer_join(conn *c, const membership *m, server_recovery recovered, size_t replayed) {
    server_json_ok_joined(json_fresh(c), m->request_id, room_name(m->in), &m->in->at, recovered, replayed);
    json_answer(c, true, m->request_id);
}

// Who joined with `since` and wants no answer has to know that something is missing all the same.
static void answer_not_recovered(conn *c, const membership *m) {
    if (m->wants_answer) return answer_join(c, m, server_recovery::no, 0);
    server_json_gap(json_fresh(c), room_name(m->in));
    json_say(c);
}

static void answer_admitted(conn *c, const membership *m) {
    if (m->asked_since) return answer_not_recovered(c, m);
    if (m->wants_answer) answer_join(c, m, server_recovery::not_asked, 0);
}

void json_joined(conn *c, membership *m) {
    if (m->ask) return; // what it has missed comes first
    room_admit(m);
    answer_admitted(c, m);
}

void json_recovered(conn *c, membership *m, const join_answer_letter *a) {
    room_admit(m);
    if (!a->recovered || !replay_fits(c, a)) return answer_not_recovered(c, m);
    if (m->wants_answer) answer_join(c, m, server_recovery::yes, a->replay.size());
    replay_deliver(c, a);
}

void json_refused(conn *c, membership *m, int code, const char *why) {
    if (m->wants_answer)
        json_error(c, true, m->request_id, code, json_about("not joined", room_name(m->in)) + ": " + why);
}

// Asks for what was missed where there is anything to ask for.
static void begin(conn *c, membership *m, bool has_id, int64_t id, bool since, const position *place) {
    m->wants_answer = has_id;
    m->request_id = id;
    m->asked_since = since;
    if (since) (void)room_ask_since(c->on, m, place); // else it is not recovered
}

// The right was given. A `since` that is none is an epoch that no room has.
static void enter(conn *c, view room, bool has_id, int64_t id, bool since, const position *place) {
    membership *m = room_membership(c, room);
    if (!m && room_counted(c) >= c->route->max_rooms)
        return json_error(c, has_id, id, 429, "too many rooms on this connection");
    switch (room_join(c->on, c, room, &m)) {
    case join_result::full:
        return json_error(c, has_id, id, 409, json_about("full:", room));
    case join_result::already:
        if (!m->member) return json_error(c, has_id, id, 409, json_about("already joining", room));
        begin(c, m, has_id, id, since, place);
        if (!m->ask) answer_admitted(c, m);
        return;
    case join_result::joined:
    case join_result::waiting:
        begin(c, m, has_id, id, since, place);
        if (m->in->active) json_joined(c, m);
        return;
    }
}

// What a join's answer says about this client is added to what is known.
static void take_info(conn *c, view more) {
    buffer merged = {};
    client *who = client_of(c);
    if (hook_merge_info(c->on->reader, who->info, more, &merged)) who->info = buffer_view(&merged);
    buffer_free(&merged);
    room_info_changed(c);
}

static void join_done(hook_call *h, const hook_outcome *o) {
    if (refused_by_hook(h, o, no_join)) return;
    if (o->answer.has_info && !o->answer.info.empty()) take_info(h->on, o->answer.info);
    enter(h->on, h->room, h->has_id, h->request_id, h->has_since, &h->since);
}

static void ask_join(conn *c, const client_request *q) {
    conn_id_text id;
    hook_call *h = call_new(c, hook_event::join, q, join_done);
    hook_asker asker = hook_asker_of(c, &id);
    hook_write_join(hook_body(h), &asker, q->room);
    hook_send(h);
}

void json_join(conn *c, const client_request *q) {
    const char *why = nullptr;
    if (!room_membership(c, q->room)) {
        if (room_name_reserved(q->room))
            return refuse(c, q, 403, json_about(no_join, q->room) + ": names with @ are reserved");
        switch (room_may_join(c, room_rule_find(c->on->settings, q->room), q->room, &why)) {
        case room_verdict::no:
            return refuse(c, q, 403, json_about(no_join, q->room) + ": " + why);
        case room_verdict::ask:
            return ask_join(c, q);
        case room_verdict::yes:
            break;
        }
    }
    position place = place_of(q);
    enter(c, q->room, q->has_id, q->id, q->has_since, &place);
}

void json_rejoin(conn *c, const plain_rejoin *r) {
    client_request q = {};
    q.op = client_op::join;
    q.room = r->room;
    q.has_room = q.has_since = true;
    q.since_epoch = position_epoch(&r->since);
    q.since_offset = r->since.offset;
    if (r->granted)
        enter(c, q.room, false, 0, true, &r->since);
    else
        json_join(c, &q);
}

void json_leave(conn *c, const client_request *q) {
    membership *m = room_membership(c, q->room);
    if (!m) return refuse(c, q, 404, json_about("not in", q->room));
    if (room_name_reserved(q->room))
        return refuse(c, q, 403, json_about("not allowed to leave", q->room) + ": names with @ are reserved");
    if (!m->member) json_refused(c, m, 409, "left before the join was complete");
    room_leave(c->on, m);
    json_ok(c, q->has_id, q->id);
}

// ---------------------------------------------------------------- publish

static void publish_done(hook_call *h, const hook_outcome *o) {
    conn *c = h->on;
    if (refused_by_hook(h, o, no_publish)) return;
    if (!o->answer.deliver) return json_ok(c, h->has_id, h->request_id);
    view data = o->answer.has_data ? o->answer.data : buffer_view(&h->data);
    session_publish(c, h->room, frame_copy(data), payload_kind::json, h->echo, h->has_id, h->request_id);
}

static void ask_publish(conn *c, const client_request *q) {
    conn_id_text id;
    hook_call *h = call_new(c, hook_event::publish, q, publish_done);
    hook_asker asker = hook_asker_of(c, &id);
    buffer_append(&h->data, q->data);
    hook_write_publish(hook_body(h), &asker, q->room, q->data);
    hook_send(h);
}

void json_publish(conn *c, const client_request *q) {
    const char *why = nullptr;
    if (room_name_reserved(q->room))
        return refuse(c, q, 403, json_about(no_publish, q->room) + ": names with @ are reserved");
    const membership *m = room_membership(c, q->room);
    const room_rule *rule = m ? m->in->rule : room_rule_find(c->on->settings, q->room);
    room_verdict verdict = room_may_publish(c, rule, q->room, m && membership_counts(m), &why);
    if (verdict == room_verdict::no) return refuse(c, q, 403, json_about(no_publish, q->room) + ": " + why);
    chain_verdict denied;
    if (!session_publish_passes(c, q->room, rule, q->data, &denied)) {
        refuse(c, q, denied.status, json_about(no_publish, q->room) + ": " + std::string(denied.reason));
        return session_close_denied(c, &denied);
    }
    if (verdict == room_verdict::ask) return ask_publish(c, q);
    session_publish(c, q->room, frame_copy(q->data), payload_kind::json, q->echo, q->has_id, q->id);
}

} // namespace belfry
