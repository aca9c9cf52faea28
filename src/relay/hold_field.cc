// Streams held for a backend. On the thread of the answer's connection.
#include "relay/hold_field.h"

#include "base/log.h"
#include "proto/room_name.h"
#include "relay/plain_request.h"

namespace belfry {

static void note(conn *c, const char *what, view room) {
    static log_limit limit;
    uint64_t held = 0;
    c->on->count.edge.publish_failures++;
    if (log_limit_pass(&limit, &held))
        log_warn("Belfry-Hold from upstream %s on %s: %s%s%.*s (%llu more not shown)", c->route->upstream.c_str(),
                 c->route->path.c_str(), what, room.empty() ? "" : ": ", static_cast<int>(room.size()), room.data(),
                 static_cast<unsigned long long>(held));
}

static const char *check_room(view room) {
    if (const char *why = room_name_check(room)) return why;
    return room_name_reserved(room) ? "names with @ are reserved" : nullptr;
}

static bool knows(const std::vector<std::string> *rooms, view room) {
    for (const std::string &one : *rooms)
        if (one == room) return true;
    return false;
}

// All lines of the field together are one list (RFC 9110 section 5.3).
static void list_rooms(conn *c, const http1_response *r, std::vector<std::string> *rooms) {
    auto most = static_cast<size_t>(c->route->max_rooms);
    if (most > hold_rooms_max) most = hold_rooms_max;
    for (uint32_t i = 0; i < r->field_count; i++) {
        if (!bytes_equal_nocase(r->fields[i].name, "Belfry-Hold")) continue;
        view rest = r->fields[i].value, room;
        while (http1_next_element(&rest, &room)) {
            if (const char *why = check_room(room))
                note(c, why, room);
            else if (rooms->size() == most)
                note(c, "more rooms than a stream may have, this one is left out", room);
            else if (!knows(rooms, room))
                rooms->emplace_back(room);
        }
    }
}

static bool is_event_stream(const http1_response *r) {
    size_t count = 0;
    const http1_field *type = http1_find(r, "Content-Type", nullptr);
    (void)http1_find(r, "Content-Encoding", &count);
    return type && !count &&
           bytes_equal_nocase(bytes_trim(type->value.substr(0, type->value.find(';'))), "text/event-stream");
}

hold_field *hold_field_new(const exchange *x, const http1_response *r) {
    conn *c = x->on;
    size_t count = 0;
    (void)http1_find(r, "Belfry-Hold", &count);
    if (!count || !c->route->publish_header || r->status != 200) return nullptr;
    if (x->request.method != "GET" || x->request.minor_version < 1 || x->kind != BELFRY_HTTP) return nullptr;
    if (!plain_request_wants_events(&x->request)) return nullptr;
    std::vector<std::string> rooms;
    list_rooms(c, r, &rooms);
    if (rooms.empty()) {
        note(c, "no room is named", view());
        return nullptr;
    }
    auto *h = new hold_field{};
    h->rooms = static_cast<std::vector<std::string> &&>(rooms);
    h->with_body = is_event_stream(r);
    return h;
}

void hold_field_body(conn *c, hold_field *h, view data) {
    auto most = static_cast<size_t>(c->route->send_queue) / 2;
    if (most > hold_body_max) most = hold_body_max;
    if (!h->with_body || h->too_large) return;
    if (h->body.size + data.size() <= most) return buffer_append(&h->body, data);
    h->too_large = true;
    buffer_free(&h->body);
    note(c, "the body is larger than 64 KB, or half of send_queue: it is left out", h->rooms[0]);
}

void hold_field_free(hold_field *h) {
    buffer_free(&h->body);
    delete h;
}

} // namespace belfry
