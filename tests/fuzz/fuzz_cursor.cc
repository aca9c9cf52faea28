// Fuzzes proto/cursor: the bytes are an event id, the name of a session and a poll cursor. What must hold:
// - what is read can be written again and read again, and is the same;
// - rooms are names that a room may have, none of Belfry's own, none twice, within the bounds.
//
// One thread.
#include "proto/cursor.h"
#include "proto/room_name.h"

#include <stdlib.h>

using namespace belfry;

namespace {

void require(bool holds) {
    if (!holds) abort();
}

void event_id(view text) {
    cursor found, again;
    buffer names = {}, out = {}, other = {};
    if (cursor_parse(text, &found, &names)) {
        require(found.count >= 1 && found.count <= cursor_rooms_max);
        size_t written = 0;
        for (size_t i = 0; i < found.count; i++) {
            const cursor_room *r = &found.rooms[i];
            require(!room_name_check(r->room) && !room_name_reserved(r->room) && !position_none(&r->at));
            for (size_t j = 0; j < i; j++)
                require(found.rooms[j].room != r->room);
            if (cursor_add(&out, written, &r->at, r->room)) written++;
        }
        require(out.size <= cursor_size_max);
        require(cursor_parse(buffer_view(&out), &again, &other) && again.count == written);
        if (written == found.count)
            for (size_t i = 0; i < written; i++)
                require(again.rooms[i].room == found.rooms[i].room &&
                        position_same_epoch(&again.rooms[i].at, &found.rooms[i].at) &&
                        again.rooms[i].at.offset == found.rooms[i].at.offset);
    }
    buffer_free(&names);
    buffer_free(&out);
    buffer_free(&other);
}

void poll(view text) {
    poll_cursor found;
    if (!poll_cursor_parse(text, &found)) return;
    buffer out = {};
    poll_cursor_write(&out, &found);
    require(buffer_view(&out) == text);
    buffer_free(&out);
    session_name name;
    require(session_name_parse(text.substr(0, text.rfind('.')), &name));
    require(name.conn == found.of.conn && name.key == found.of.key);
    require(!session_name_parse(text, &name)); // never both
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const view text(reinterpret_cast<const char *>(data), size);
    event_id(text);
    poll(text);
    return 0;
}
