// See session_json_words.h. On the thread of the connection.
#include "relay/session_json_words.h"

#include "proto/server_json.h"
#include "relay/websocket.h"

namespace belfry {

buffer *json_fresh(conn *c) {
    buffer_clear(&c->on->scratch);
    return &c->on->scratch;
}

void json_say(conn *c) {
    websocket_send(c, ws_text, buffer_view(&c->on->scratch));
    if (c->on->scratch.capacity > scratch_keep) buffer_free(&c->on->scratch);
}

void json_error(conn *c, bool has_id, int64_t id, int code, view text) {
    server_json_error(json_fresh(c), has_id, id, code, text);
    json_say(c);
}

void json_ok(conn *c, bool has_id, int64_t id) {
    if (!has_id) return;
    server_json_ok(json_fresh(c), id, view());
    json_say(c);
}

std::string json_about(const char *what, view room) {
    return std::string(what) + " " + std::string(room);
}

} // namespace belfry
