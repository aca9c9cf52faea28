// The message that nodes send each other on belfry:message:ROOM: a JSON head, a line feed, the payload verbatim.
// Owns nothing; the reader's thread. Redis is shared, so whatever else writes to that channel must not get through: the
// payload is checked again before it goes, unescaped, into JSON or into a text frame.
#include "proto/envelope.h"

#include "proto/room_name.h"
#include "proto/utf8.h"

#include <algorithm>

namespace belfry {

namespace {

constexpr int64_t version = 1;
constexpr size_t node_max = 32;

view kind_name(payload_kind kind) {
    switch (kind) {
    case payload_kind::json:
        return "json";
    case payload_kind::text:
        return "text";
    case payload_kind::any:
    case payload_kind::binary:
        break;
    }
    return "binary";
}

bool fail(error *e, const char *member, const char *rule) {
    error_set(e, "envelope: %s: %s", member, rule);
    return false;
}

bool take_count(const json_object *head, const char *name, uint64_t *out, error *e) {
    const json_member *member = json_find(head, name);
    if (!member || !member->is_integer || member->integer < 0) return fail(e, name, "must be an integer of 0 or more");
    *out = static_cast<uint64_t>(member->integer);
    return true;
}

// RFC 4648 section 5, so nothing in it needs an escape and the view may point into the source.
bool take_node(const json_object *head, view *out, error *e) {
    const json_member *member = json_find(head, "node");
    if (!member || member->type != json_type::string) return fail(e, "node", "must be a string");
    view node = member->raw.substr(1, member->raw.size() - 2);
    if (node.empty() || node.size() > node_max) return fail(e, "node", "must be 1 to 32 characters");
    for (char c : node) {
        bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
        if (!letter && !(c >= '0' && c <= '9') && c != '-' && c != '_') return fail(e, "node", "must be base64url");
    }
    *out = node;
    return true;
}

bool take_kind(const json_object *head, payload_kind *out, error *e) {
    const json_member *member = json_find(head, "kind");
    if (member && member->type == json_type::string) {
        for (payload_kind kind : {payload_kind::json, payload_kind::text, payload_kind::binary}) {
            if (member->text != kind_name(kind)) continue;
            *out = kind;
            return true;
        }
    }
    return fail(e, "kind", "must be json, text or binary");
}

bool take_except(const json_object *head, envelope *out, buffer *scratch, error *e) {
    const json_member *member = json_find(head, "except");
    if (!member) return true;
    if (member->type != json_type::array) return fail(e, "except", "must be an array of strings");
    const char *rule = json_read_strings(member->raw, out->except, command_except_max, &out->except_count, scratch);
    for (size_t i = 0; !rule && i < out->except_count; i++)
        rule = room_name_check(out->except[i]);
    return !rule || fail(e, "except", rule);
}

bool take_from(const json_object *head, view *out, error *e) {
    const json_member *member = json_find(head, "from");
    if (!member) return true;
    if (member->type != json_type::object) return fail(e, "from", "must be an object");
    *out = member->raw;
    return true;
}

bool payload_matches(json_reader *r, payload_kind kind, view payload) {
    if (kind == payload_kind::json) return json_valid(r, payload);
    return kind != payload_kind::text || utf8_valid(payload);
}

} // namespace

void envelope_write(const envelope *m, buffer *out) {
    buffer_append(out, "{\"v\":1,\"node\":");
    json_write_string(out, m->node);
    buffer_append(out, ",\"seq\":");
    buffer_append_uint(out, m->sequence);
    buffer_append(out, ",\"kind\":\"");
    buffer_append(out, kind_name(m->kind));
    buffer_append_char(out, '"');
    for (size_t i = 0; i < m->except_count; i++) {
        buffer_append(out, i == 0 ? ",\"except\":[" : ",");
        json_write_string(out, m->except[i]);
    }
    if (m->except_count > 0) buffer_append_char(out, ']');
    if (!m->from.empty()) {
        buffer_append(out, ",\"from\":");
        buffer_append(out, m->from);
        // A backend may have written `from` over several lines; the head is one. In valid JSON a raw line feed can only
        // be white space between tokens.
        char *end = out->data + out->size;
        std::replace(end - m->from.size(), end, '\n', ' ');
    }
    buffer_append(out, ",\"time\":");
    buffer_append_uint(out, m->time_ms);
    buffer_append(out, "}\n");
    buffer_append(out, m->payload);
}

bool envelope_parse(json_reader *r, view source, envelope *out, buffer *scratch, error *e) {
    *out = envelope{};
    buffer_clear(scratch);
    size_t line = source.find('\n');
    if (line == view::npos) return fail(e, "head", "does not end in a line feed");
    view text = source.substr(0, line);
    json_object head;
    if (!json_parse_object(r, text, &head, e)) return false;
    const json_member *v = json_find(&head, "v");
    if (!v || !v->is_integer || v->integer != version) return fail(e, "v", "must be 1");
    buffer_reserve(scratch, text.size());
    if (!take_node(&head, &out->node, e) || !take_count(&head, "seq", &out->sequence, e) ||
        !take_count(&head, "time", &out->time_ms, e) || !take_kind(&head, &out->kind, e) ||
        !take_except(&head, out, scratch, e) || !take_from(&head, &out->from, e))
        return false;
    out->payload = source.substr(line + 1);
    return payload_matches(r, out->kind, out->payload) || fail(e, "payload", "is not of its kind");
}

} // namespace belfry
