// See session_json_words.h. On the thread of the connection.
#include "relay/session_json_words.h"

#include "proto/server_json.h"
#include "relay/transport.h"

namespace belfry {

buffer *json_fresh(conn *c) {
    buffer_clear(&c->on->scratch);
    return &c->on->scratch;
}

static void trim(conn *c) {
    if (c->on->scratch.capacity > scratch_keep) buffer_free(&c->on->scratch);
}

void json_say(conn *c) {
    transport_send(c, ws_text, buffer_view(&c->on->scratch));
    trim(c);
}

static void answer(conn *c, bool has_id, int64_t id, int status) {
    transport_answer(c, has_id, id, status, buffer_view(&c->on->scratch));
    trim(c);
}

void json_answer(conn *c, bool has_id, int64_t id) {
    answer(c, has_id, id, 200);
}

void json_error(conn *c, bool has_id, int64_t id, int code, view text) {
    server_json_error(json_fresh(c), has_id, id, code, text);
    answer(c, has_id, id, code);
}

void json_ok(conn *c, bool has_id, int64_t id) {
    if (!has_id) return;
    server_json_ok(json_fresh(c), id, view());
    json_answer(c, true, id);
}

std::string json_about(const char *what, view room) {
    return std::string(what) + " " + std::string(room);
}

} // namespace belfry
