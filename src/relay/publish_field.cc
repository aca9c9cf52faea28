// Publish by answer. On the thread of the answer's connection.
#include "relay/publish_field.h"

#include "base/log.h"
#include "proto/room_name.h"

namespace belfry {

static void note(conn *c, const char *what, view room) {
    static log_limit limit;
    uint64_t held = 0;
    c->on->count.edge.publish_failures++;
    if (log_limit_pass(&limit, &held))
        log_warn("Belfry-Publish from upstream %s on %s not published: %s%s%.*s (%llu more not shown)",
                 c->route->upstream.c_str(), c->route->path.c_str(), what, room.empty() ? "" : ": ",
                 static_cast<int>(room.size()), room.data(), static_cast<unsigned long long>(held));
}

// Null, or why nothing can be published there. Of the names with '@' those that a command may name.
static const char *check_room(view room) {
    if (const char *why = room_name_check(room)) return why;
    if (!room_name_reserved(room) || room == "@all") return nullptr;
    if (room.starts_with("@user:") && room.size() > 6) return nullptr;
    if (room.starts_with("@conn:") && room.size() > 6) return nullptr;
    return "names with @ are reserved";
}

// All lines of the field together are one list (RFC 9110 section 5.3). False: there is no such field.
static bool list_rooms(conn *c, const http1_response *r, std::vector<std::string> *rooms) {
    bool found = false, noted = false;
    for (uint32_t i = 0; i < r->field_count; i++) {
        if (!bytes_equal_nocase(r->fields[i].name, "Belfry-Publish")) continue;
        found = true;
        view rest = r->fields[i].value, room;
        while (http1_next_element(&rest, &room)) {
            if (const char *why = check_room(room)) {
                note(c, why, room);
            } else if (rooms->size() == publish_rooms_max) {
                if (!noted) note(c, "more than 64 rooms, the others are left out", view());
                noted = true;
            } else {
                rooms->emplace_back(room);
            }
        }
    }
    return found;
}

static bool encoded(const http1_response *r) {
    size_t count = 0;
    const http1_field *f = http1_find(r, "Content-Encoding", &count);
    return count > 1 || (f && !f->value.empty() && !bytes_equal_nocase(f->value, "identity"));
}

publish_field *publish_field_new(conn *c, const http1_response *r, bool has_body) {
    if (!c->route->publish_header) return nullptr;
    std::vector<std::string> rooms;
    if (!list_rooms(c, r, &rooms) || rooms.empty()) return nullptr;
    size_t count = 0;
    const http1_field *data = http1_find(r, "Belfry-Publish-Data", &count);
    const char *why = nullptr;
    if (count > 1)
        why = "two Belfry-Publish-Data fields";
    else if (!data && encoded(r))
        why = "the body has a Content-Encoding";
    else if (!data && !has_body)
        why = "the answer has no body";
    if (why) {
        note(c, why, rooms[0]);
        return nullptr;
    }
    auto *f = new publish_field{};
    f->rooms = static_cast<std::vector<std::string> &&>(rooms);
    f->from_body = !data;
    if (data) buffer_append(&f->payload, data->value);
    return f;
}

void publish_field_body(conn *c, publish_field *f, view data) {
    if (!f->from_body || f->too_large) return;
    if (f->payload.size + data.size() > static_cast<uint64_t>(c->on->settings->max_message)) {
        f->too_large = true;
        buffer_free(&f->payload);
        return note(c, "the body is larger than [broker] max_message", f->rooms[0]);
    }
    buffer_append(&f->payload, data);
}

void publish_field_end(conn *c, publish_field *f) {
    shard *s = c->on;
    if (f->too_large) return;
    if (shard_backlogged(s)) return note(c, "too many messages are on their way already", f->rooms[0]);
    frame *source = frame_copy(buffer_view(&f->payload));
    for (const std::string &room : f->rooms) {
        message_parts parts = {room, source, frame_view(source), payload_kind::any, view(), s->loop->clock.wall_ms};
        message *m = message_new(&parts);
        s->outbox_bytes.fetch_add(static_cast<int64_t>(m->payload.size()) + letter_charge, std::memory_order_relaxed);
        auto *l = new publish_letter{{letter_type::publish, s->index}, m, conn_id{}, false, 0};
        mailbox_send(&s->outbox, &l->head);
        s->count.edge.published++;
    }
    frame_unref(source);
}

void publish_field_free(publish_field *f) {
    buffer_free(&f->payload);
    delete f;
}

} // namespace belfry
