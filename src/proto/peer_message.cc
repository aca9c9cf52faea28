// Reads and writes what nodes say to each other. Owns nothing; the reader's thread.
#include "proto/peer_message.h"

namespace belfry {

namespace {

constexpr int64_t version = 1;
constexpr size_t node_max = 32;
constexpr view what_names[peer_what_count] = {"order", "receivers", "carry"};

bool fail(error *e, const char *member, const char *rule) {
    error_set(e, "peer message: %s: %s", member, rule);
    return false;
}

// In base64url nothing needs an escape, so the view may point into the source.
bool take_from(const json_object *head, view *out, error *e) {
    const json_member *member = json_find(head, "from");
    if (!member || member->type != json_type::string) return fail(e, "from", "must be a string");
    *out = member->raw.substr(1, member->raw.size() - 2);
    if (out->empty() || out->size() > node_max || !bytes_are_base64url(*out))
        return fail(e, "from", "must be 1 to 32 characters of base64url");
    return true;
}

bool take_number(const json_member *member, const char *name, uint64_t *out, error *e) {
    if (!member->is_integer || member->integer < 0) return fail(e, name, "must be an integer of 0 or more");
    *out = static_cast<uint64_t>(member->integer);
    return true;
}

bool take_what(const json_object *head, peer_what *out, error *e) {
    const json_member *member = json_find(head, "what");
    if (member && member->type == json_type::string)
        for (size_t i = 0; i < peer_what_count; i++)
            if (member->text == what_names[i]) {
                *out = static_cast<peer_what>(i);
                return true;
            }
    return fail(e, "what", "must be order, receivers or carry");
}

bool take_code(const json_object *head, int *out, error *e) {
    const json_member *member = json_find(head, "code");
    if (!member || !member->is_integer || member->integer < 200 || member->integer > 599)
        return fail(e, "code", "must be an integer of 200 to 599");
    *out = static_cast<int>(member->integer);
    return true;
}

} // namespace

void peer_message_write(const peer_message *m, buffer *out) {
    buffer_append(out, "{\"v\":1,\"from\":");
    json_write_string(out, m->from);
    buffer_append(out, m->is_answer ? ",\"answer\":" : ",\"ask\":");
    buffer_append_uint(out, m->number);
    if (m->is_answer) {
        buffer_append(out, ",\"code\":");
        buffer_append_int(out, m->code);
    } else {
        buffer_append(out, ",\"what\":");
        json_write_string(out, what_names[static_cast<size_t>(m->what)]);
    }
    buffer_append(out, "}\n");
    buffer_append(out, m->body);
}

bool peer_message_parse(json_reader *r, view source, peer_message *out, error *e) {
    *out = {};
    size_t line = source.find('\n');
    if (line == view::npos) return fail(e, "head", "does not end in a line feed");
    json_object head;
    if (!json_parse_object(r, source.substr(0, line), &head, e)) return false;
    const json_member *v = json_find(&head, "v");
    if (!v || !v->is_integer || v->integer != version) return fail(e, "v", "must be 1");
    if (!take_from(&head, &out->from, e)) return false;
    const json_member *ask = json_find(&head, "ask"), *answer = json_find(&head, "answer");
    if (!ask == !answer) return fail(e, "ask, answer", "must be one of them");
    out->is_answer = answer != nullptr;
    out->body = source.substr(line + 1);
    if (out->is_answer) return take_number(answer, "answer", &out->number, e) && take_code(&head, &out->code, e);
    return take_number(ask, "ask", &out->number, e) && take_what(&head, &out->what, e);
}

} // namespace belfry
