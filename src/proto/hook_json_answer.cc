// Reads what a backend answers to a hook call (contracts section 7). Owns nothing; the reader's thread. Which members
// mean something to which event is for the caller to know: all are checked whatever was asked, so that a backend learns
// of its mistakes at once.
#include "base/frame.h"
#include "proto/envelope.h"
#include "proto/hook_json.h"
#include "proto/room_name.h"

namespace belfry {

namespace {

constexpr size_t reason_max = 123; // RFC 6455 section 5.5: a Close frame holds 125 bytes, two are the code
constexpr uint16_t close_code_default = 4403;

// One answer being read. Everything kept in `scratch` together is no longer than the source, for which there is room
// from the start; so it never moves.
struct reading {
    json_reader *reader;
    json_object object;
    buffer *scratch;
    hook_answer *out;
    error *e;
    bool failed; // by an element of an array
};

bool fail(reading *a, const char *member, const char *rule) {
    error_set(a->e, "%s: %s", member, rule);
    return false;
}

// Null where it is absent, or null itself.
const json_member *find(const json_object *o, const char *name) {
    const json_member *member = json_find(o, name);
    return member && member->type != json_type::null ? member : nullptr;
}

// A text without escapes is a part of the source; any other belongs to the reader and is copied, to outlive it.
view keep(reading *a, const json_member *member) {
    view text = member->text;
    if (text.data() == member->raw.data() + 1) return text;
    buffer_append(a->scratch, text);
    return view(a->scratch->data + a->scratch->size - text.size(), text.size());
}

bool take_text(reading *a, const json_object *from, const char *name, size_t max, view *out) {
    const json_member *member = find(from, name);
    if (!member) return true;
    if (member->type != json_type::string || !member->text_valid)
        return fail(a, name, "must be a string of valid Unicode");
    if (member->text.size() > max) return fail(a, name, "is too long");
    *out = keep(a, member);
    return true;
}

bool take_bool(reading *a, const char *name, bool *out) {
    const json_member *member = find(&a->object, name);
    if (!member) return true;
    if (member->type != json_type::boolean) return fail(a, name, "must be true or false");
    *out = member->raw == "true";
    return true;
}

bool take_user(reading *a) {
    if (!take_text(a, &a->object, "user", hook_user_max, &a->out->user)) return false;
    if (!find(&a->object, "user")) return true;
    return !room_name_check(a->out->user) ||
           fail(a, "user", "must be 1 to 249 bytes without white space and control characters");
}

bool take_value(reading *a, const char *name, bool *has, view *out) {
    const json_member *member = json_find(&a->object, name);
    if (!member) return true;
    if (member->raw.size() > hook_value_max) return fail(a, name, "is larger than 4096 bytes");
    *has = true;
    if (member->type != json_type::null) *out = member->raw;
    return true;
}

bool take_expires(reading *a) {
    const json_member *member = find(&a->object, "expires_in");
    if (!member) return true;
    if (!member->is_integer || member->integer < 1 || static_cast<uint64_t>(member->integer) > hook_expires_max)
        return fail(a, "expires_in", "must be a whole number of seconds, from 1 to ten years");
    a->out->has_expires = true;
    a->out->expires_in = static_cast<uint64_t>(member->integer);
    return true;
}

bool take_rooms(reading *a, const char *name, view *out, size_t *count) {
    const json_member *member = find(&a->object, name);
    if (!member) return true;
    if (member->type != json_type::array) return fail(a, name, "must be an array of strings");
    const char *rule = json_read_strings(member->raw, out, hook_rooms_max, count, a->scratch);
    for (size_t i = 0; !rule && i < *count; i++)
        rule = room_name_reserved(out[i]) ? "names with @ are reserved" : room_name_check(out[i]);
    return !rule || fail(a, name, rule);
}

bool take_data(reading *a) {
    const json_member *data = json_find(&a->object, "data"), *data64 = find(&a->object, "data64");
    if (data && data64) return fail(a, "data, data64", "only one of them may be there");
    a->out->has_data = data != nullptr;
    if (data) a->out->data = data->raw;
    if (!data64) return true;
    if (data64->type != json_type::string) return fail(a, "data64", "must be a string");
    char *begin = a->scratch->data + a->scratch->size;
    size_t size = 0;
    if (!base64_decode(data64->text, begin, &size)) return fail(a, "data64", "is not base64 with padding");
    a->scratch->size += size;
    a->out->has_data64 = true;
    a->out->data = view(begin, size);
    return true;
}

bool take_error(reading *a) {
    const json_member *member = find(&a->object, "error");
    if (!member) return true;
    json_object o;
    error ignored;
    if (member->type != json_type::object || !json_parse_nested(a->reader, member->raw, &o, &ignored))
        return fail(a, "error", "must be an object");
    a->out->has_error = true;
    const json_member *code = find(&o, "code");
    if (code && (!code->is_integer || code->integer < 400 || code->integer > 599))
        return fail(a, "error", "code must be a number from 400 to 599");
    if (code) a->out->error_code = static_cast<int>(code->integer);
    return take_text(a, &o, "message", hook_message_max, &a->out->error_message);
}

bool take_disconnect(reading *a) {
    const json_member *member = find(&a->object, "disconnect");
    if (!member) return true;
    json_object o;
    error ignored;
    if (member->type != json_type::object || !json_parse_nested(a->reader, member->raw, &o, &ignored))
        return fail(a, "disconnect", "must be an object");
    a->out->disconnect = true;
    const json_member *code = find(&o, "code");
    if (code && (!code->is_integer || !command_close_code(code->integer)))
        return fail(a, "disconnect", "code must be 1000, 1001, 1008, 1011 to 1013 or 3000 to 4999");
    if (code) a->out->close_code = static_cast<uint16_t>(code->integer);
    return take_text(a, &o, "reason", reason_max, &a->out->reason);
}

bool add_command(view raw, json_type type, void *context) {
    auto *a = static_cast<reading *>(context);
    a->failed = type != json_type::object || a->out->command_count == hook_commands_max;
    if (a->failed) return fail(a, "commands", "must be an array of at most 64 objects");
    a->out->commands[a->out->command_count++] = raw;
    return true;
}

// Last of all: walking an array takes the reader, and with it what json_parse_object has unescaped.
bool take_commands(reading *a) {
    const json_member *member = find(&a->object, "commands");
    if (!member) return true;
    if (member->type != json_type::array) return fail(a, "commands", "must be an array of at most 64 objects");
    return json_each_element(a->reader, member->raw, add_command, a, a->e) && !a->failed;
}

} // namespace

void hook_answer_empty(hook_answer *out) {
    *out = hook_answer{};
    out->deliver = true;
    out->error_code = 403;
    out->close_code = close_code_default;
}

bool hook_answer_parse(json_reader *r, view source, hook_answer *out, buffer *scratch, error *e) {
    hook_answer_empty(out);
    buffer_clear(scratch);
    buffer_reserve(scratch, source.size());
    reading a;
    a.reader = r;
    a.scratch = scratch;
    a.out = out;
    a.e = e;
    a.failed = false;
    if (!json_parse_object(r, source, &a.object, e)) return false;
    return take_user(&a) && take_value(&a, "info", &out->has_info, &out->info) &&
           take_value(&a, "state", &out->has_state, &out->state) && take_expires(&a) &&
           take_rooms(&a, "rooms", out->rooms, &out->room_count) &&
           take_rooms(&a, "join", out->join, &out->join_count) &&
           take_rooms(&a, "publish", out->publish, &out->publish_count) && take_data(&a) &&
           take_bool(&a, "deliver", &out->deliver) && take_bool(&a, "expired", &out->expired) && take_error(&a) &&
           take_disconnect(&a) && take_commands(&a);
}

// ---------------------------------------------------------------- info

namespace {

void append_members(buffer *out, const json_object *o, const json_object *but) {
    for (size_t i = 0; i < o->count; i++) {
        const json_member *m = &o->members[i];
        if (but && json_find(but, m->name)) continue;
        if (out->data[out->size - 1] != '{') buffer_append_char(out, ',');
        json_write_string(out, m->name);
        buffer_append_char(out, ':');
        buffer_append(out, m->raw);
    }
}

} // namespace

bool hook_merge_info(json_reader *r, view info, view more, buffer *out) {
    buffer both = {}, merged = {};
    json_object o, a, b;
    error ignored;
    // As one object, so that what the reader unescapes for the one outlives the other.
    buffer_append(&both, "{\"a\":");
    buffer_append(&both, info.empty() ? view("null") : info);
    buffer_append(&both, ",\"b\":");
    buffer_append(&both, more);
    buffer_append_char(&both, '}');
    buffer_reserve(&both, frame_padding);
    if (json_parse_object(r, buffer_view(&both), &o, &ignored) && o.members[0].type == json_type::object &&
        o.members[1].type == json_type::object && json_parse_nested(r, o.members[0].raw, &a, &ignored) &&
        json_parse_nested(r, o.members[1].raw, &b, &ignored)) {
        buffer_append_char(&merged, '{');
        append_members(&merged, &a, &b);
        append_members(&merged, &b, nullptr);
        buffer_append_char(&merged, '}');
    } else {
        buffer_append(&merged, more);
    }
    bool fits = merged.size <= hook_value_max;
    if (fits) buffer_append(out, buffer_view(&merged));
    buffer_free(&both);
    buffer_free(&merged);
    return fits;
}

} // namespace belfry
