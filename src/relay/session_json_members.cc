// Members. On the thread of the connection.
#include "relay/session_json_members.h"

#include "proto/server_json.h"
#include "relay/presence.h"
#include "relay/presence_worker.h"
#include "relay/room.h"
#include "relay/session_json_words.h"

namespace belfry {

void json_members(conn *c, const client_request *q) {
    const membership *m = room_membership(c, q->room);
    if (!q->has_id) return json_error(c, false, 0, 400, "members: \"id\" is missing");
    if (!m || !membership_counts(m))
        return json_error(c, true, q->id, 403, json_about("members: only members may ask who is in", q->room));
    if (!m->in->rule || !m->in->rule->presence)
        return json_error(c, true, q->id, 404, json_about("members: presence is off for", q->room));
    presence_ask_members(c, q->room, q->id);
}

// What the client's queue takes without being full, with room for what else is under way.
static size_t room_left(const conn *c) {
    uint64_t queued = conn_queued(c);
    return queued < c->send_queue ? (c->send_queue - queued) / 2 : 0;
}

void json_members_told(conn *c, const members_letter *l) {
    if (!l->members) return json_error(c, true, l->request_id, 503, "members: not known now, try again");
    buffer list = {};
    size_t most = room_left(c);
    bool truncated = l->truncated;
    for (view rest = frame_view(l->members); !rest.empty();) {
        size_t end = rest.find(presence_separator);
        if (list.size + end + 1 > most) {
            truncated = true;
            break;
        }
        if (list.size) buffer_append_char(&list, ',');
        buffer_append(&list, rest.substr(0, end));
        rest.remove_prefix(end + 1);
    }
    server_json_ok_members(json_fresh(c), l->request_id, buffer_view(&list), l->count, truncated);
    buffer_free(&list);
    json_answer(c, true, l->request_id);
}

} // namespace belfry
