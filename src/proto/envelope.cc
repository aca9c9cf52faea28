// Reads a backend's commands (contracts section 8), whichever door they came through.
// Owns nothing; the reader's thread. Members that the named operation does not know are ignored, whatever they hold.
// The node's own envelope is in node_envelope.cc.
#include "proto/envelope.h"

#include "proto/room_name.h"
#include "proto/utf8.h"

namespace belfry {

namespace {

constexpr size_t id_max = 255;     // bytes of "id" and "key": as long as a room's name
constexpr size_t reason_max = 123; // RFC 6455 section 5.5: a Close frame holds 125 bytes, two are the code
// A user and a connection are addressed by the rooms "@user:ID" and "@conn:ID" (contracts section 3).
constexpr size_t address_max = room_name_max - sizeof "@user:" + 1;
constexpr uint16_t code_default = 4403;

// One command being read. Everything kept in `scratch` together is no longer than the source, for which there is room
// from the start; so it never moves.
struct reading {
    json_object object;
    buffer *scratch;
    command *out;
    error *e;
};

bool fail(reading *c, const char *member, const char *rule) {
    error_set(c->e, "%s: %s", member, rule);
    return false;
}

// A text without escapes is a part of the source; any other belongs to the reader and is copied, to outlive it.
view keep(reading *c, const json_member *member) {
    view text = member->text;
    if (text.data() == member->raw.data() + 1) return text;
    buffer_append(c->scratch, text);
    return view(c->scratch->data + c->scratch->size - text.size(), text.size());
}

// A string of 1 to `max` bytes (of 0 where `may_be_empty`). Leaves `out` alone where the member is absent.
bool take_text(reading *c, const char *name, size_t max, bool may_be_empty, view *out) {
    const json_member *member = json_find(&c->object, name);
    if (!member) return true;
    if (member->type != json_type::string) return fail(c, name, "must be a string");
    if (!member->text_valid) return fail(c, name, "has half a surrogate pair");
    if (member->text.empty() && !may_be_empty) return fail(c, name, "must not be empty");
    if (member->text.size() > max) {
        error_set(c->e, "%s: must be %zu bytes at most", name, max);
        return false;
    }
    *out = keep(c, member);
    return true;
}

bool take_bool(reading *c, const char *name, bool *out) {
    const json_member *member = json_find(&c->object, name);
    if (!member) return true;
    if (member->type != json_type::boolean) return fail(c, name, "must be true or false");
    *out = member->raw == "true";
    return true;
}

bool check_name(reading *c, const char *member, view name) {
    const char *rule = room_name_check(name);
    return !rule || fail(c, member, rule);
}

// A connection's or a user's id: a part of a room's name.
bool take_address(reading *c, const char *name, view *out) {
    if (!take_text(c, name, address_max, false, out)) return false;
    return out->empty() || check_name(c, name, *out);
}

bool take_room(reading *c) {
    view room;
    if (!take_text(c, "room", room_name_max, false, &room)) return false;
    if (room.empty()) return true;
    c->out->rooms[0] = room;
    c->out->room_count = 1;
    return check_name(c, "room", room);
}

// An array of at most `max` strings, each a valid part of a room's name.
bool take_names(reading *c, const char *name, view *out, size_t max, size_t *count) {
    const json_member *member = json_find(&c->object, name);
    if (!member) return true;
    if (member->type != json_type::array) return fail(c, name, "must be an array of strings");
    const char *rule = json_read_strings(member->raw, out, max, count, c->scratch);
    if (rule) return fail(c, name, rule);
    for (size_t i = 0; i < *count; i++) {
        rule = room_name_check(out[i]);
        if (!rule) continue;
        error_set(c->e, "%s: entry %zu: %s", name, i + 1, rule);
        return false;
    }
    return true;
}

bool read_rooms(reading *c) {
    bool one = json_find(&c->object, "room") != nullptr;
    bool many = json_find(&c->object, "rooms") != nullptr;
    if (one == many) return fail(c, "room, rooms", "a publish needs exactly one of them");
    if (one) return take_room(c);
    if (!take_names(c, "rooms", c->out->rooms, command_rooms_max, &c->out->room_count)) return false;
    return c->out->room_count > 0 || fail(c, "rooms", "must name one room at least");
}

bool read_payload(reading *c) {
    const json_member *data = json_find(&c->object, "data");
    const json_member *data64 = json_find(&c->object, "data64");
    if (!data == !data64) return fail(c, "data, data64", "a publish needs exactly one of them");
    if (data) {
        c->out->kind = payload_kind::json;
        c->out->data = data->raw;
        return true;
    }
    if (data64->type != json_type::string) return fail(c, "data64", "must be a string");
    char *begin = c->scratch->data + c->scratch->size;
    size_t size = 0;
    if (!base64_decode(data64->text, begin, &size)) return fail(c, "data64", "is not base64 with padding");
    c->scratch->size += size;
    c->out->data = view(begin, size);
    c->out->kind = utf8_valid(c->out->data) ? payload_kind::text : payload_kind::binary;
    return true;
}

bool read_publish(reading *c) {
    if (!read_rooms(c) || !read_payload(c)) return false;
    if (!take_names(c, "except", c->out->except, command_except_max, &c->out->except_count)) return false;
    if (!take_text(c, "id", id_max, false, &c->out->id)) return false;
    if (!take_text(c, "key", id_max, false, &c->out->key)) return false;
    const json_member *from = json_find(&c->object, "from");
    if (!from) return true;
    if (from->type != json_type::object) return fail(c, "from", "must be an object");
    if (from->raw.size() > command_from_max) return fail(c, "from", "is larger than 4096 bytes");
    c->out->from = from->raw;
    return true;
}

// "conn" or "user", and "room" too where `room_counts`: exactly one of them.
bool read_target(reading *c, bool room_counts) {
    int targets = (json_find(&c->object, "conn") != nullptr) + (json_find(&c->object, "user") != nullptr);
    if (room_counts) targets += json_find(&c->object, "room") != nullptr;
    if (targets != 1) {
        if (room_counts) return fail(c, "conn, user, room", "exactly one of them is needed");
        return fail(c, "conn, user", "exactly one of them is needed");
    }
    return take_address(c, "conn", &c->out->conn) && take_address(c, "user", &c->out->user);
}

bool read_membership(reading *c) {
    if (!json_find(&c->object, "room")) return fail(c, "room", "is missing");
    return read_target(c, false) && take_room(c);
}

bool read_disconnect(reading *c) {
    c->out->code = code_default;
    if (!read_target(c, true) || !take_room(c)) return false;
    const json_member *code = json_find(&c->object, "code");
    if (code) {
        if (!code->is_integer || !command_close_code(code->integer))
            return fail(c, "code", "must be 1000, 1001, 1008, 1011 to 1013 or 3000 to 4999");
        c->out->code = static_cast<uint16_t>(code->integer);
    }
    return take_text(c, "reason", reason_max, true, &c->out->reason) && take_bool(c, "reconnect", &c->out->reconnect);
}

// What the backend wrote goes into logs: printable ASCII only, and not much of it.
bool fail_unknown(reading *c, view op) {
    char shown[33];
    size_t size = op.size() < sizeof shown ? op.size() : sizeof shown - 1;
    for (size_t i = 0; i < size; i++) {
        char letter = op[i];
        bool printable = letter >= 0x20 && letter < 0x7f && letter != '"' && letter != '\\';
        shown[i] = printable ? letter : '?';
    }
    shown[size] = '\0';
    error_set(c->e, "op: \"%s%s\" is none of publish, join, leave, disconnect, refresh", shown,
              size < op.size() ? "..." : "");
    return false;
}

bool read_command(reading *c, view op) {
    if (op == "publish") {
        c->out->op = command_op::publish;
        return read_publish(c);
    }
    if (op == "join" || op == "leave") {
        c->out->op = op == "join" ? command_op::join : command_op::leave;
        return read_membership(c);
    }
    if (op == "disconnect") {
        c->out->op = command_op::disconnect;
        return read_disconnect(c);
    }
    if (op == "refresh") {
        c->out->op = command_op::refresh;
        return read_target(c, false);
    }
    return fail_unknown(c, op);
}

} // namespace

bool command_close_code(int64_t code) {
    if (code == 1000 || code == 1001 || code == 1008) return true;
    return (code >= 1011 && code <= 1013) || (code >= 3000 && code <= 4999);
}

bool command_parse(json_reader *r, view source, command *out, buffer *scratch, error *e) {
    *out = command{};
    out->op = command_op::unknown;
    buffer_clear(scratch);
    buffer_reserve(scratch, source.size());
    reading c;
    c.scratch = scratch;
    c.out = out;
    c.e = e;
    if (!json_parse_object(r, source, &c.object, e)) return false;
    const json_member *op = json_find(&c.object, "op");
    if (!op) return fail(&c, "op", "is missing");
    if (op->type != json_type::string) return fail(&c, "op", "must be a string");
    return read_command(&c, op->text);
}

} // namespace belfry
