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
constexpr size_t key_max = 255;
constexpr size_t position_line_max = position_epoch_max + 1 + 20;

view kind_name(payload_kind kind) {
    switch (kind) {
    case payload_kind::json:
        return "json";
    case payload_kind::text:
        return "text";
    case payload_kind::binary:
        return "binary";
    case payload_kind::any:
        break;
    }
    return "any";
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
    if (!bytes_are_base64url(node)) return fail(e, "node", "must be base64url");
    *out = node;
    return true;
}

bool take_kind(const json_object *head, payload_kind *out, error *e) {
    const json_member *member = json_find(head, "kind");
    if (member && member->type == json_type::string) {
        for (payload_kind kind : {payload_kind::json, payload_kind::text, payload_kind::binary, payload_kind::any}) {
            if (member->text != kind_name(kind)) continue;
            *out = kind;
            return true;
        }
    }
    return fail(e, "kind", "must be json, text, binary or any");
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

bool take_key(const json_object *head, view *out, buffer *scratch, error *e) {
    const json_member *member = json_find(head, "key");
    if (!member) return true;
    if (member->type != json_type::string || !member->text_valid) return fail(e, "key", "must be a string");
    if (member->text.empty() || member->text.size() > key_max) return fail(e, "key", "must be 1 to 255 bytes");
    buffer_append(scratch, member->text);
    *out = view(scratch->data + scratch->size - member->text.size(), member->text.size());
    return true;
}

bool take_what(const json_object *head, bool *is_member, error *e) {
    const json_member *member = json_find(head, "what");
    if (!member) return true;
    *is_member = member->type == json_type::string && member->text == "member";
    return *is_member || fail(e, "what", "must be member, or left out");
}

bool take_ack(const json_object *head, bool *ack, error *e) {
    const json_member *member = json_find(head, "ack");
    if (!member) return true;
    *ack = member->type == json_type::boolean && member->raw == "true";
    return *ack || fail(e, "ack", "must be true, or left out");
}

// The line in front, where there is one; the rest goes to *rest.
bool take_position(view source, struct position *out, view *rest, error *e) {
    *rest = source;
    if (source.starts_with("{")) return true;
    size_t line = source.substr(0, position_line_max + 1).find('\n');
    size_t space = source.substr(0, line).find(' ');
    uint64_t offset = 0;
    if (line == view::npos || space == view::npos ||
        !bytes_parse_uint(source.substr(space + 1, line - space - 1), &offset) || offset == 0 || offset > INT64_MAX ||
        !position_set(out, source.substr(0, space), offset))
        return fail(e, "position", "must be an epoch, a space, an offset and a line feed");
    *rest = source.substr(line + 1);
    return true;
}

// What presence announces is put into an object of the protocol without its braces.
bool is_member_event(payload_kind kind, view payload) {
    return kind == payload_kind::json && payload.starts_with("{") && payload.ends_with("}") &&
           payload.find('"') != view::npos;
}

bool payload_matches(json_reader *r, payload_kind kind, view payload) {
    if (kind == payload_kind::json) return json_valid(r, payload);
    return kind != payload_kind::text || utf8_valid(payload);
}

} // namespace

void envelope_write_head(const envelope *m, buffer *out) {
    buffer_append(out, "{\"v\":1,\"node\":");
    json_write_string(out, m->node);
    buffer_append(out, ",\"seq\":");
    buffer_append_uint(out, m->sequence);
    buffer_append(out, ",\"kind\":\"");
    buffer_append(out, kind_name(m->kind));
    buffer_append_char(out, '"');
    if (m->member) buffer_append(out, ",\"what\":\"member\"");
    if (m->ack) buffer_append(out, ",\"ack\":true");
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
    if (!m->key.empty()) {
        buffer_append(out, ",\"key\":");
        json_write_string(out, m->key);
    }
    buffer_append(out, ",\"time\":");
    buffer_append_uint(out, m->time_ms);
    buffer_append_char(out, '}');
}

void envelope_write(const envelope *m, buffer *out) {
    envelope_write_head(m, out);
    buffer_append_char(out, '\n');
    buffer_append(out, m->payload);
}

bool envelope_parse(json_reader *r, view source, envelope *out, buffer *scratch, error *e) {
    *out = envelope{};
    buffer_clear(scratch);
    view rest;
    if (!take_position(source, &out->at, &rest, e)) return false;
    size_t line = rest.find('\n');
    if (line == view::npos) return fail(e, "head", "does not end in a line feed");
    view text = rest.substr(0, line);
    json_object head;
    if (!json_parse_object(r, text, &head, e)) return false;
    const json_member *v = json_find(&head, "v");
    if (!v || !v->is_integer || v->integer != version) return fail(e, "v", "must be 1");
    buffer_reserve(scratch, text.size());
    if (!take_node(&head, &out->node, e) || !take_count(&head, "seq", &out->sequence, e) ||
        !take_count(&head, "time", &out->time_ms, e) || !take_kind(&head, &out->kind, e) ||
        !take_what(&head, &out->member, e) || !take_ack(&head, &out->ack, e) || !take_except(&head, out, scratch, e) ||
        !take_key(&head, &out->key, scratch, e) || !take_from(&head, &out->from, e))
        return false;
    out->payload = rest.substr(line + 1);
    if (!payload_matches(r, out->kind, out->payload)) return fail(e, "payload", "is not of its kind");
    return !out->member || is_member_event(out->kind, out->payload) || fail(e, "payload", "is no member event");
}

} // namespace belfry
