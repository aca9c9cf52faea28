// A client's request as bytes between nodes. Owns nothing; the reader's thread.
#include "proto/peer_carry.h"

namespace belfry {

namespace {

bool fail(error *e, const char *member, const char *rule) {
    error_set(e, "carry: %s: %s", member, rule);
    return false;
}

// Absent: what *out holds already.
bool take_text(const json_object *head, const char *name, size_t most, view *out, error *e) {
    const json_member *member = json_find(head, name);
    if (!member) return true;
    if (member->type != json_type::string || !member->text_valid || member->text.size() > most)
        return fail(e, name, "must be a string that is not too long");
    *out = member->text;
    return true;
}

bool take_count(const json_object *head, const char *name, uint64_t *out, error *e) {
    const json_member *member = json_find(head, name);
    if (!member) return true;
    if (!member->is_integer || member->integer < 0) return fail(e, name, "must be an integer of 0 or more");
    *out = static_cast<uint64_t>(member->integer);
    return true;
}

} // namespace

void peer_carry_write(const peer_carry *c, buffer *out) {
    buffer_append(out, c->poll ? "{\"op\":\"poll\",\"session\":" : "{\"op\":\"message\",\"session\":");
    json_write_string(out, c->session);
    if (!c->user.empty()) {
        buffer_append(out, ",\"user\":");
        json_write_string(out, c->user);
    }
    if (c->sequence) {
        buffer_append(out, ",\"sequence\":");
        buffer_append_uint(out, c->sequence);
    }
    buffer_append(out, "}\n");
    buffer_append(out, c->body);
}

bool peer_carry_parse(json_reader *r, view source, peer_carry *out, error *e) {
    *out = {};
    size_t line = source.find('\n');
    if (line == view::npos) return fail(e, "head", "does not end in a line feed");
    json_object head;
    if (!json_parse_object(r, source.substr(0, line), &head, e)) return false;
    view op;
    if (!take_text(&head, "op", 16, &op, e)) return false;
    if (op != "poll" && op != "message") return fail(e, "op", "must be poll or message");
    out->poll = op == "poll";
    if (!take_text(&head, "session", peer_carry_session_max, &out->session, e)) return false;
    if (out->session.empty()) return fail(e, "session", "is missing");
    out->body = source.substr(line + 1);
    return take_text(&head, "user", peer_carry_user_max, &out->user, e) &&
           take_count(&head, "sequence", &out->sequence, e);
}

} // namespace belfry
