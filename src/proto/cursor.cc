// Event ids, names of sessions and poll cursors. Owns nothing; any thread.
#include "proto/cursor.h"

#include "proto/room_name.h"
#include "proto/uri.h"

namespace belfry {

// As buffer_append_uint writes it: no sign, no leading zeros.
static bool parse_number(view text, uint64_t *out) {
    if (text.size() > 1 && text[0] == '0') return false;
    return bytes_parse_uint(text, out);
}

// Cuts off what is before the first `mark`; false where there is none.
static bool cut(view *rest, char mark, view *part) {
    size_t end = rest->find(mark);
    if (end == view::npos) return false;
    *part = rest->substr(0, end);
    rest->remove_prefix(end + 1);
    return true;
}

// ---------------------------------------------------------------- event ids

bool cursor_add(buffer *out, size_t count, const position *at, view room) {
    size_t before = out->size;
    if (count >= cursor_rooms_max || room.size() > room_name_max) return false;
    if (count) buffer_append_char(out, ',');
    buffer_append(out, position_epoch(at));
    buffer_append_char(out, ':');
    buffer_append_uint(out, at->offset);
    buffer_append_char(out, ':');
    uri_encode(room, out);
    if (out->size <= cursor_size_max) return true;
    out->size = before;
    return false;
}

static bool parse_room(view text, cursor *out, buffer *names) {
    view epoch, number;
    uint64_t offset = 0;
    if (out->count == cursor_rooms_max || !cut(&text, ':', &epoch) || !cut(&text, ':', &number)) return false;
    cursor_room *r = &out->rooms[out->count];
    if (!parse_number(number, &offset) || !position_set(&r->at, epoch, offset)) return false;
    char *name = names->data + names->size;
    size_t size = 0;
    if (text.size() > 3 * room_name_max || !uri_decode(text, false, name, &size)) return false;
    r->room = view(name, size);
    if (room_name_check(r->room) || room_name_reserved(r->room)) return false;
    for (size_t i = 0; i < out->count; i++)
        if (out->rooms[i].room == r->room) return false;
    names->size += size;
    out->count++;
    return true;
}

bool cursor_parse(view text, cursor *out, buffer *names) {
    out->count = 0;
    if (text.empty() || text.size() > cursor_size_max) return false;
    buffer_clear(names);
    buffer_reserve(names, text.size()); // so that what is borrowed from it stays where it is
    view one;
    while (cut(&text, ',', &one))
        if (!parse_room(one, out, names)) return false;
    return parse_room(text, out, names);
}

// ---------------------------------------------------------------- sessions and polls

static bool is_part(view text) {
    return !text.empty() && text.size() <= session_part_max && bytes_are_base64url(text);
}

bool session_name_parse(view text, session_name *out) {
    if (!cut(&text, '.', &out->conn)) return false;
    out->key = text;
    return is_part(out->conn) && is_part(out->key);
}

void poll_cursor_write(buffer *out, const poll_cursor *c) {
    buffer_append(out, c->of.conn);
    buffer_append_char(out, '.');
    buffer_append(out, c->of.key);
    buffer_append_char(out, '.');
    buffer_append_uint(out, c->sequence);
}

bool poll_cursor_parse(view text, poll_cursor *out) {
    size_t last = text.rfind('.');
    if (last == view::npos) return false;
    return session_name_parse(text.substr(0, last), &out->of) && parse_number(text.substr(last + 1), &out->sequence);
}

} // namespace belfry
