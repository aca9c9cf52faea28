// Reads what a client of the JSON protocol says (contracts section 4).
// Owns nothing; the reader's thread. Members that the named type does not know are ignored, whatever they hold.
#include "proto/client_json.h"

namespace belfry {

namespace {

struct client_type {
    view name;
    client_op op;
};

constexpr client_type client_types[] = {
    {"join", client_op::join}, {"leave", client_op::leave},     {"publish", client_op::publish},
    {"call", client_op::call}, {"members", client_op::members}, {"auth", client_op::auth},
    {"ping", client_op::ping},
};

client_op find_op(view type) {
    for (const client_type &row : client_types)
        if (row.name == type) return row.op;
    return client_op::unknown;
}

// Each of these leaves `out` alone where the member is absent. `name` is a literal.
bool take_text(const json_object *object, const char *name, view *out, bool *has, error *e) {
    const json_member *member = json_find(object, name);
    if (!member) return true;
    if (member->type != json_type::string || !member->text_valid) {
        error_set(e, "%s: must be a string of valid Unicode", name);
        return false;
    }
    *out = member->text;
    if (has) *has = true;
    return true;
}

bool take_id(const json_object *object, client_request *out, error *e) {
    const json_member *member = json_find(object, "id");
    if (!member) return true;
    if (!member->is_integer) {
        error_set(e, "id: must be an integer");
        return false;
    }
    out->has_id = true;
    out->id = member->integer;
    return true;
}

bool take_echo(const json_object *object, client_request *out, error *e) {
    const json_member *member = json_find(object, "echo");
    if (!member) return true;
    if (member->type != json_type::boolean) {
        error_set(e, "echo: must be true or false");
        return false;
    }
    out->echo = member->raw == "true";
    return true;
}

void take_data(const json_object *object, client_request *out) {
    const json_member *member = json_find(object, "data");
    if (member) out->data = member->raw;
}

bool take_since(json_reader *r, const json_object *object, client_request *out, error *e) {
    const json_member *member = json_find(object, "since");
    if (!member) return true;
    json_object since;
    error ignored;
    if (member->type == json_type::object && json_parse_nested(r, member->raw, &since, &ignored)) {
        const json_member *epoch = json_find(&since, "epoch");
        const json_member *offset = json_find(&since, "offset");
        if (epoch && epoch->type == json_type::string && epoch->text_valid && offset && offset->is_integer &&
            offset->integer >= 0) {
            out->has_since = true;
            out->since_epoch = epoch->text;
            out->since_offset = static_cast<uint64_t>(offset->integer);
            return true;
        }
    }
    error_set(e, "since: must be an object with a string epoch and an integer offset of 0 or more");
    return false;
}

bool take_members(json_reader *r, const json_object *object, client_request *out, error *e) {
    switch (out->op) {
    case client_op::join:
        return take_text(object, "room", &out->room, &out->has_room, e) && take_since(r, object, out, e);
    case client_op::leave:
    case client_op::members:
        return take_text(object, "room", &out->room, &out->has_room, e);
    case client_op::publish:
        take_data(object, out);
        return take_text(object, "room", &out->room, &out->has_room, e) && take_echo(object, out, e);
    case client_op::call:
        take_data(object, out);
        return take_text(object, "method", &out->method, nullptr, e);
    case client_op::auth:
        return take_text(object, "token", &out->token, nullptr, e);
    case client_op::ping:
    case client_op::unknown:
        break;
    }
    return true;
}

} // namespace

client_parse client_json_parse(json_reader *r, view source, client_request *out, error *e) {
    *out = client_request{};
    out->op = client_op::unknown;
    out->data = "null";
    out->echo = true;
    json_object object;
    if (!json_parse_object(r, source, &object, e)) return client_parse::not_an_object;
    const json_member *type = json_find(&object, "type");
    if (!type || type->type != json_type::string) {
        error_set(e, "type: must be a string");
        return client_parse::not_an_object;
    }
    out->type = type->text;
    out->op = find_op(type->text);
    // First of all, so that an error about any other member can be answered with it.
    if (!take_id(&object, out, e)) return client_parse::bad_member;
    return take_members(r, &object, out, e) ? client_parse::ok : client_parse::bad_member;
}

} // namespace belfry
