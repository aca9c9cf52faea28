// Admission: the handshake path. On the worker thread of the connection.
#include "relay/admission.h"

#include "base/log.h"
#include "proto/handshake.h"
#include "proto/room_name.h"
#include "proto/uri.h"
#include "relay/session.h"
#include "relay/websocket.h"

#include <string>

namespace belfry {

void admission_refuse(conn *c, int status, refuse_reason reason, view why, view extra) {
    static log_limit limit = {.burst = 20};
    uint64_t held = 0;
    c->on->count.refused[reason]++;
    c->answered = true;
    if (log_limit_pass(&limit, &held))
        log_info("refused %d %s: %s on %s: %.*s (%llu more not shown)", status, refuse_reason_name(reason), c->peer,
                 c->listener->name.c_str(), static_cast<int>(why.size()), why.data(),
                 static_cast<unsigned long long>(held));
    buffer *out = &c->on->scratch;
    buffer_clear(out);
    http1_write_error(status, why, extra, false, out);
    if (!conn_send(c, frame_copy(buffer_view(out))))
        return conn_abort(c); // can't be: the queue is empty before the answer
    conn_linger(c);
}

// ---------------------------------------------------------------- which rooms

struct room_list {
    std::string names[64];
    size_t count = 0;
    const char *why = nullptr; // static; set where a room is refused
    int status = 0;
};

static void list_refuse(room_list *list, int status, const char *why) {
    list->status = status;
    list->why = why;
}

static void list_add(const conn *c, room_list *list, const std::string &name) {
    if (const char *bad = room_name_check(name)) return list_refuse(list, 400, bad);
    for (size_t i = 0; i < list->count; i++)
        if (list->names[i] == name) return;
    if (list->count == 64 || static_cast<int64_t>(list->count) == c->route->max_rooms)
        return list_refuse(list, 400, "too many rooms");
    list->names[list->count++] = name;
}

// join_on_connect's templates: {conn}, {query.NAME}. The config was checked: nothing else is in braces.
static std::string expand(const conn *c, const std::string &pattern, view query) {
    std::string out;
    for (size_t at = 0; at < pattern.size();) {
        size_t open = pattern.find('{', at), close = pattern.find('}', at);
        if (open == std::string::npos || close == std::string::npos) return out + pattern.substr(at);
        out += pattern.substr(at, open - at);
        view name = view(pattern).substr(open + 1, close - open - 1);
        if (name == "conn")
            out += view(conn_id_format(conn_id_of(c)));
        else
            out += uri_parameter(query, name.substr(view("query.").size()));
        at = close + 1;
    }
    return out;
}

// A room that the client named, in whole or in part: subject to `join` and the reserved names, unlike one that the
// config names.
static void list_add_wish(const conn *c, room_list *list, const std::string &room) {
    const char *why;
    if (const char *bad = room_name_check(room)) return list_refuse(list, 400, bad);
    if (room_name_reserved(room)) return list_refuse(list, 403, "room: names with @ are reserved");
    if (!room_may_join(room_rule_find(c->on->settings, room), &why))
        return list_refuse(list, 403, "not allowed to join a room that was asked for");
    list_add(c, list, room);
}

static void list_query_rooms(const conn *c, view query, room_list *list) {
    view name, value;
    while (!list->why && uri_next_parameter(&query, &name, &value)) {
        if (name != "room") continue;
        std::string room(value.size(), 0);
        size_t size = 0;
        if (!uri_decode(value, true, room.data(), &size)) return list_refuse(list, 400, "room: bad percent-encoding");
        room.resize(size);
        list_add_wish(c, list, room);
    }
}

static void list_rooms(const conn *c, view query, room_list *list) {
    for (const std::string &pattern : c->route->join_on_connect) {
        if (list->why) return;
        bool wish = pattern.find("{query.") != std::string::npos;
        (wish ? list_add_wish : list_add)(c, list, expand(c, pattern, query));
    }
    if (!list->why && c->session == &session_raw) list_query_rooms(c, query, list);
}

// ---------------------------------------------------------------- admitting

static char *admitting_bytes(conn *, char *begin, char *) {
    return begin;
}
static void head_eof(conn *c, const char *) {
    c->on->count.refused[refuse_gone]++;
    conn_abort(c);
}
static void admitting_deadline(conn *c) {
    admission_refuse(c, 503, refuse_timeout, "the broker did not answer within handshake_timeout",
                     "Retry-After: 1\r\n");
}
static const conn_phase admitting_phase = {"admitting", admitting_bytes, head_eof, admitting_deadline, room_leave_all};

// All first rooms are active: 101, then the session. The answer was written into c->message when the head was there.
static void admit(conn *c) {
    if (c->on->draining) return admission_refuse(c, 503, refuse_draining, "shutting down", "Retry-After: 1\r\n");
    frame *answer = frame_copy(buffer_view(&c->message));
    buffer_free(&c->message);
    if (!conn_send(c, answer)) return conn_abort(c); // can't be: the queue is empty before the answer
    c->answered = true;
    c->on->count.handshakes++;
    for (membership *m = c->rooms; m; m = m->next)
        room_admit(m);
    websocket_open(c);
    c->session->opened(c);
    if (!c->closed) conn_resume(c);
}

void admission_room_active(membership *m) {
    conn *c = m->who;
    if (c->phase != &admitting_phase) {
        if (c->open) c->session->joined(c, m);
        return;
    }
    if (--c->rooms_waiting == 0) admit(c);
}

bool admission_refuse_waiting(conn *c, int status, refuse_reason reason, view why) {
    if (c->phase != &admitting_phase) return false;
    admission_refuse(c, status, reason, why, status == 503 ? "Retry-After: 1\r\n" : "");
    return true;
}

void admission_room_refused(membership *m) {
    conn *c = m->who;
    if (admission_refuse_waiting(c, 503, refuse_room, "the broker can't subscribe to a room")) return;
    if (c->open) c->session->refused(c, m, 503, "the broker can't subscribe to it now, try again");
    room_leave(c->on, m);
}

static void join_first_rooms(conn *c, const room_list *list) {
    conn_set_phase(c, &admitting_phase);
    conn_pause(c); // what the client sends already waits until the 101 is out
    for (size_t i = 0; i < list->count; i++) {
        membership *m;
        switch (room_join(c->on, c, list->names[i], &m)) {
        case join_result::waiting:
            c->rooms_waiting++;
            break;
        case join_result::full:
            return admission_refuse(c, 503, refuse_room, "a room is full", "Retry-After: 5\r\n");
        case join_result::joined:
        case join_result::already:
            break;
        }
    }
    if (c->rooms_waiting == 0) admit(c);
}

// ---------------------------------------------------------------- the head

static refuse_reason reason_of(int status) {
    switch (status) {
    case 404:
        return refuse_not_found;
    case 405:
        return refuse_method_not_allowed;
    case 408:
        return refuse_timeout;
    case 413:
        return refuse_too_large;
    case 414:
        return refuse_target_too_long;
    case 421:
        return refuse_misdirected;
    case 426:
        return refuse_upgrade_required;
    case 431:
        return refuse_head_too_large;
    case 505:
        return refuse_http_version;
    default:
        return refuse_bad_request;
    }
}

static void refuse_status(conn *c, int status, view why, view extra) {
    admission_refuse(c, status, reason_of(status), why, extra);
}

// The first of ours that the client names decides; a client that names none of ours gets the route's.
static view choose_session(conn *c, const handshake *h) {
    for (uint32_t i = 0; i < h->protocol_count; i++)
        for (const session_ops *s : {&session_json, &session_raw}) {
            if (h->protocols[i] != s->subprotocol) continue;
            c->session = s;
            return s->subprotocol;
        }
    c->session = c->route->protocol == route_raw ? &session_raw : &session_json;
    return view();
}

// False where it was refused.
static bool find_route(conn *c, const http1_request *q) {
    char path[http1_target_max];
    size_t size = 0;
    bool other_host = false;
    if (!uri_normalise_path(q->path, path, &size))
        return refuse_status(c, 400, "the path is not normal", view()), false;
    c->route = route_find(c->on->settings, view(path, size), q->authority, &other_host);
    if (c->route) return true;
    if (other_host)
        refuse_status(c, 421, "this host has no such route", view());
    else
        refuse_status(c, 404, "no route for this path", view());
    return false;
}

static void on_request(conn *c, const http1_request *q) {
    if (c->over_limit) return admission_refuse(c, 503, refuse_full, "max_connections reached", "Retry-After: 5\r\n");
    if (c->on->draining) return admission_refuse(c, 503, refuse_draining, "shutting down", "Retry-After: 1\r\n");
    if (!find_route(c, q)) return;
    handshake h;
    handshake_verdict verdict = handshake_check(q, &h);
    if (verdict.status != 101) return refuse_status(c, verdict.status, verdict.why, verdict.field);
    view protocol = choose_session(c, &h);
    c->form = static_cast<uint8_t>(c->session->form);
    room_list list;
    list_rooms(c, q->query, &list);
    if (list.why) return admission_refuse(c, list.status, refuse_room, list.why, view());
    handshake_write_101(h.key, protocol, &c->message);
    join_first_rooms(c, &list);
}

static char *head_bytes(conn *c, char *begin, char *end) {
    http1_request request;
    const char *why = "";
    http1_result result = http1_parse_request(view(begin, static_cast<size_t>(end - begin)), &c->scan, &request, &why);
    if (result == http1_result::incomplete) return begin;
    if (result == http1_result::complete) {
        on_request(c, &request);
        return begin + request.head_size;
    }
    refuse_status(c, static_cast<int>(result), why, view());
    return end;
}

static void head_deadline(conn *c) {
    refuse_status(c, 408, "no whole request within handshake_timeout", view());
}

const conn_phase head_phase = {"head", head_bytes, head_eof, head_deadline, nullptr};

} // namespace belfry
