// Writes the bodies of hook calls (contracts section 7). What is called a slice was validated by a json_reader, so it
// can't break out of the object that it is put into. Owns nothing; pure. Answers are read in hook_json_answer.cc.
#include "proto/hook_json.h"

#include "proto/uri.h"
#include "proto/utf8.h"

#include <string>
#include <vector>

namespace belfry {

const char *hook_event_name(hook_event e) {
    static const char *const names[] = {"connect", "join", "publish", "call", "message", "refresh", "notify"};
    return names[static_cast<size_t>(e)];
}

bool hook_event_safe(hook_event e) {
    return e == hook_event::connect || e == hook_event::join || e == hook_event::refresh || e == hook_event::notify;
}

namespace {

// `,"name":"text"`; `name` needs no escapes.
void append_text(buffer *out, view name, view text) {
    buffer_append(out, ",\"");
    buffer_append(out, name);
    buffer_append(out, "\":");
    json_write_string(out, text);
}

void append_text_if(buffer *out, view name, view text) {
    if (!text.empty()) append_text(out, name, text);
}

void append_slice_if(buffer *out, view name, view slice) {
    if (slice.empty()) return;
    buffer_append(out, ",\"");
    buffer_append(out, name);
    buffer_append(out, "\":");
    buffer_append(out, slice);
}

void begin(buffer *out, hook_event event, view conn) {
    buffer_append(out, "{\"event\":\"");
    buffer_append(out, hook_event_name(event));
    buffer_append_char(out, '"');
    append_text(out, "conn", conn);
}

void begin_asked(buffer *out, hook_event event, const hook_asker *a) {
    begin(out, event, a->conn);
    append_text_if(out, "user", a->user);
    append_slice_if(out, "state", a->state);
}

// False where it is badly encoded or no UTF-8.
bool decode(view in, std::string *out) {
    size_t size = 0;
    out->resize(in.size());
    if (!uri_decode(in, true, out->data(), &size)) return false;
    out->resize(size);
    return utf8_valid(*out);
}

void append_query(buffer *out, view query) {
    std::vector<std::string> seen;
    std::string name, value;
    view raw_name, raw_value;
    buffer_append(out, ",\"query\":{");
    while (seen.size() < hook_query_max && uri_next_parameter(&query, &raw_name, &raw_value)) {
        if (!decode(raw_name, &name) || !decode(raw_value, &value)) continue;
        bool known = false;
        for (const std::string &s : seen)
            known = known || s == name;
        if (known) continue;
        if (!seen.empty()) buffer_append_char(out, ',');
        json_write_string(out, name);
        buffer_append_char(out, ':');
        json_write_string(out, value);
        seen.push_back(name);
    }
    buffer_append_char(out, '}');
}

} // namespace

void hook_write_connect(buffer *out, const hook_connect_request *q) {
    begin(out, hook_event::connect, q->conn);
    append_text(out, "ip", q->ip);
    append_text_if(out, "origin", q->origin);
    append_text(out, "path", q->path);
    append_query(out, q->query);
    buffer_append(out, ",\"subprotocols\":[");
    for (size_t i = 0; i < q->subprotocol_count; i++) {
        if (i > 0) buffer_append_char(out, ',');
        json_write_string(out, q->subprotocols[i]);
    }
    buffer_append_char(out, ']');
    append_slice_if(out, "claims", q->claims);
    buffer_append_char(out, '}');
}

void hook_write_join(buffer *out, const hook_asker *a, view room) {
    begin_asked(out, hook_event::join, a);
    append_text(out, "room", room);
    buffer_append_char(out, '}');
}

void hook_write_publish(buffer *out, const hook_asker *a, view room, view data) {
    begin_asked(out, hook_event::publish, a);
    append_text(out, "room", room);
    append_slice_if(out, "data", data);
    buffer_append_char(out, '}');
}

void hook_write_call(buffer *out, const hook_asker *a, view method, view data) {
    begin_asked(out, hook_event::call, a);
    append_text(out, "method", method);
    append_slice_if(out, "data", data);
    buffer_append_char(out, '}');
}

void hook_write_message(buffer *out, const hook_asker *a, view bytes, bool binary) {
    begin_asked(out, hook_event::message, a);
    if (!binary) {
        append_text(out, "data", bytes);
    } else {
        buffer_append(out, ",\"data64\":\"");
        buffer_reserve(out, 4 * ((bytes.size() + 2) / 3));
        out->size += base64_encode(bytes, out->data + out->size);
        buffer_append_char(out, '"');
    }
    buffer_append_char(out, '}');
}

void hook_write_refresh(buffer *out, const hook_asker *a) {
    begin_asked(out, hook_event::refresh, a);
    buffer_append_char(out, '}');
}

void hook_write_notify_begin(buffer *out) {
    buffer_append(out, "{\"event\":\"notify\",\"events\":[");
}

void hook_write_notify_end(buffer *out) {
    buffer_append(out, "]}");
}

void hook_write_notification(buffer *out, const hook_notification *n) {
    buffer_append(out, "{\"id\":");
    json_write_string(out, n->id);
    append_text(out, "type", n->type);
    append_text_if(out, "conn", n->conn);
    append_text_if(out, "user", n->user);
    append_text_if(out, "room", n->room);
    if (n->code) buffer_printf(out, ",\"code\":%d", n->code);
    buffer_append(out, ",\"time\":");
    buffer_append_uint(out, n->time_ms);
    buffer_append_char(out, '}');
}

} // namespace belfry
