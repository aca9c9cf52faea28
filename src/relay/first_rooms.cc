// First rooms. Owner's thread.
#include "relay/first_rooms.h"

#include "proto/room_name.h"
#include "proto/uri.h"
#include "relay/client.h"
#include "relay/room.h"
#include "relay/session.h"

namespace belfry {

static void refuse(first_rooms *list, int status, const char *why) {
    list->status = status;
    list->why = why;
}

// Reserved names are nobody's to name: a user called "@all" is not in a room of that name because of {user}.
static void add(const conn *c, first_rooms *list, const std::string &name) {
    if (const char *bad = room_name_check(name)) return refuse(list, 400, bad);
    if (room_name_reserved(name)) return refuse(list, 403, "room: names with @ are reserved");
    for (size_t i = 0; i < list->count; i++)
        if (list->names[i] == name) return;
    if (list->count == first_rooms_max || static_cast<int64_t>(list->count) == c->route->max_rooms)
        return refuse(list, 400, "too many rooms");
    list->names[list->count++] = name;
}

// join_on_connect's templates: {conn}, {user}, {query.NAME}. The config was checked: nothing else is in braces.
static std::string expand(const exchange *x, const std::string &pattern) {
    std::string out;
    for (size_t at = 0; at < pattern.size();) {
        size_t open = pattern.find('{', at), close = pattern.find('}', at);
        if (open == std::string::npos || close == std::string::npos) return out + pattern.substr(at);
        out += pattern.substr(at, open - at);
        view name = view(pattern).substr(open + 1, close - open - 1);
        if (name == "conn")
            out += view(conn_id_format(conn_id_of(x->on)));
        else if (name == "user")
            out += client_user(x->on);
        else
            out += uri_parameter(x->request.query, name.substr(view("query.").size()));
        at = close + 1;
    }
    return out;
}

// A room that the client named, in whole or in part: subject to `join` and the reserved names, unlike one that the
// config names. The join hook is not asked before there is a session.
static void add_wish(const conn *c, first_rooms *list, const std::string &room) {
    const char *why;
    if (const char *bad = room_name_check(room)) return refuse(list, 400, bad);
    if (room_may_join(c, room_rule_find(c->on->settings, room), room, &why) != room_verdict::yes)
        return refuse(list, 403, "not allowed to join a room that was asked for");
    add(c, list, room);
}

static void add_query_rooms(const conn *c, view query, first_rooms *list) {
    view name, value;
    while (!list->why && uri_next_parameter(&query, &name, &value)) {
        if (name != "room") continue;
        std::string room(value.size(), 0);
        size_t size = 0;
        if (!uri_decode(value, true, room.data(), &size)) return refuse(list, 400, "room: bad percent-encoding");
        room.resize(size);
        add_wish(c, list, room);
    }
}

void first_rooms_list(const exchange *x, first_rooms *list) {
    const conn *c = x->on;
    for (const std::string &pattern : c->route->join_on_connect) {
        if (list->why) return;
        // inbox:{user} of somebody without a name would be one room for all strangers
        if (pattern.find("{user}") != std::string::npos && client_user(c).empty()) continue;
        bool wish = pattern.find("{query.") != std::string::npos;
        (wish ? add_wish : add)(c, list, expand(x, pattern));
    }
    for (size_t i = 0; c->client && i < c->client->rooms.size() && !list->why; i++)
        add(c, list, c->client->rooms[i]);
    if (!list->why && (c->plain || c->session == &session_raw)) add_query_rooms(c, x->request.query, list);
    // The user's own room is beyond max_rooms.
    if (list->why || client_user(c).empty()) return;
    if (list->count == first_rooms_max) return refuse(list, 400, "too many rooms");
    list->names[list->count++] = "@user:" + std::string(client_user(c));
}

} // namespace belfry
