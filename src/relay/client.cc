// Who is behind a connection: made, freed, written into `from`. On the worker's thread.
#include "relay/client.h"

#include "proto/json.h"
#include "proto/room_name.h"
#include "relay/exchange.h"

namespace belfry {

client *client_of(conn *c) {
    if (c->client) return c->client;
    auto *who = new client{};
    who->on = c;
    who->address = c->exchange ? c->exchange->client : c->peer;
    deadline_init(&who->expiry, nullptr);
    list_init(&who->calls);
    c->client = who;
    return who;
}

void client_free(conn *c) {
    if (!c->client) return;
    wheel_cancel(&c->on->deadlines, &c->client->expiry.timer);
    delete c->client;
    c->client = nullptr;
}

void client_write_from(const conn *c, buffer *out) {
    buffer_append(out, "{\"conn\":\"");
    buffer_append(out, conn_id_format(conn_id_of(c)));
    buffer_append_char(out, '"');
    if (const client *who = c->client) {
        if (!who->user.empty()) {
            buffer_append(out, ",\"user\":");
            json_write_string(out, who->user);
        }
        if (!who->info.empty()) {
            buffer_append(out, ",\"info\":");
            buffer_append(out, who->info);
        }
    }
    buffer_append_char(out, '}');
}

static bool one_matches(const std::vector<std::string> &patterns, view room) {
    for (const std::string &pattern : patterns)
        if (room_pattern_match(pattern, room)) return true;
    return false;
}

bool client_may_join(const conn *c, view room) {
    return c->client && !room_name_reserved(room) && one_matches(c->client->join, room);
}

bool client_may_publish(const conn *c, view room) {
    return c->client && !room_name_reserved(room) && one_matches(c->client->publish, room);
}

} // namespace belfry
