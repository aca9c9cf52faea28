// Fuzzes the writers: whatever the texts hold, the output is one JSON object that says what went in. The input is up to
// four texts, parted by NUL bytes.
#include "base/frame.h"
#include "proto/json.h"
#include "proto/server_json.h"
#include "proto/utf8.h"

#include <stdlib.h>
#include <string.h>

using namespace belfry;

namespace {

server_message head;

void require(bool fine) {
    if (!fine) abort();
}

// Parses and forgets `out`; the member `name` must hold `text` (where that is UTF-8).
void check(json_reader *reader, buffer *out, view type, view name, view text) {
    frame *padded = frame_copy(buffer_view(out));
    json_object object;
    error e;
    require(json_parse_object(reader, frame_view(padded), &object, &e));
    require(object.members[0].name == "type" && object.members[0].text == type);
    const json_member *member = json_find(&object, name);
    require(member && member->type == json_type::string && member->text_valid);
    if (utf8_valid(text)) require(member->text == text);
    require(frame_view(padded).find('\n') == view::npos); // one line, also where it is shown in logs
    frame_unref(padded);
    buffer_clear(out);
}

void check_binary(json_reader *reader, buffer *out, view bytes) {
    frame *padded = frame_copy(buffer_view(out));
    json_object object;
    error e;
    require(json_parse_object(reader, frame_view(padded), &object, &e));
    const json_member *member = json_find(&object, "data64");
    require(member && member->type == json_type::string);
    char *decoded = static_cast<char *>(malloc(member->text.size() + 1));
    size_t size = 0;
    require(base64_decode(member->text, decoded, &size) && view(decoded, size) == bytes);
    free(decoded);
    frame_unref(padded);
    buffer_clear(out);
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static json_reader *reader = json_reader_new();
    view texts[4];
    view rest(reinterpret_cast<const char *>(data), size);
    for (view &text : texts) {
        size_t end = rest.find('\0');
        text = rest.substr(0, end);
        rest.remove_prefix(end == view::npos ? rest.size() : end + 1);
    }
    buffer out = {};
    server_welcome welcome = {};
    welcome.conn = texts[0];
    welcome.user = texts[1];
    welcome.rooms = &texts[1];
    welcome.room_count = 1;
    welcome.data64 = texts[1];
    server_json_welcome(&out, &welcome);
    check(reader, &out, "welcome", "conn", texts[0]);
    if (!texts[0].empty()) {
        server_json_ok(&out, -1, texts[0]);
        check(reader, &out, "ok", "room", texts[0]);
    }
    server_json_error(&out, true, INT64_MIN, 403, texts[1]);
    check(reader, &out, "error", "message", texts[1]);
    head = {texts[0], "{}", UINT64_MAX, {}};
    server_json_message(&out, &head, "[1]");
    check(reader, &out, "message", "room", texts[0]);
    head = {texts[0], {}, 0, {}};
    server_json_message_text(&out, &head, texts[1]);
    check(reader, &out, "message", "data", texts[1]);
    head = {texts[0], {}, 0, {}};
    server_json_message_binary(&out, &head, texts[2]);
    check_binary(reader, &out, texts[2]);
    server_json_ok_members(&out, 1, "{\"conn\":\"a\"},{\"conn\":\"b\"}", size, size & 1);
    check(reader, &out, "ok", "type", "ok");
    server_json_removed(&out, texts[2], texts[3]);
    check(reader, &out, "removed", "reason", texts[3]);
    server_json_gap(&out, texts[3]);
    check(reader, &out, "gap", "room", texts[3]);
    server_json_bye(&out, 4503, texts[0], true, 8200);
    check(reader, &out, "bye", "reason", texts[0]);
    buffer_free(&out);
    return 0;
}
