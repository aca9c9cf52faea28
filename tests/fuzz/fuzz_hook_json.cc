// Fuzzes hook_answer_parse and hook_merge_info: whatever a backend answers, what comes out keeps to its bounds and is
// safe to pass on; and the writers, with what came out, make JSON.
#include "base/frame.h"
#include "proto/envelope.h"
#include "proto/hook_json.h"
#include "proto/room_name.h"
#include "proto/utf8.h"

#include <stdlib.h>

using namespace belfry;

namespace {

json_reader *checker;

void require(bool fine) {
    if (!fine) abort();
}

void check_json(view json) {
    frame *copy = frame_copy(json);
    require(json_valid(checker, frame_view(copy)));
    frame_unref(copy);
}

void check_names(const view *names, size_t count) {
    require(count <= hook_rooms_max);
    for (size_t i = 0; i < count; i++)
        require(!room_name_check(names[i]) && !room_name_reserved(names[i]));
}

void check_answer(const hook_answer *a) {
    require(a->user.size() <= hook_user_max && (a->user.empty() || !room_name_check(a->user)));
    for (view value : {a->info, a->state}) {
        require(value.size() <= hook_value_max);
        if (!value.empty()) check_json(value);
    }
    require(!a->has_expires || (a->expires_in >= 1 && a->expires_in <= hook_expires_max));
    check_names(a->rooms, a->room_count);
    check_names(a->join, a->join_count);
    check_names(a->publish, a->publish_count);
    require(!(a->has_data && a->has_data64));
    if (a->has_data) check_json(a->data);
    require(a->error_code >= 400 && a->error_code <= 599);
    require(utf8_valid(a->error_message) && utf8_valid(a->reason));
    require(command_close_code(a->close_code));
    require(a->command_count <= hook_commands_max);
    for (size_t i = 0; i < a->command_count; i++) {
        require(a->commands[i].starts_with('{'));
        check_json(a->commands[i]);
    }
}

void check_writers(const hook_answer *a, view bytes) {
    buffer out = {};
    hook_asker asker = {"c_1", a->user, a->state};
    hook_connect_request q = {};
    q.conn = q.path = q.ip = "x";
    q.query = bytes;
    q.claims = a->info;
    hook_write_connect(&out, &q);
    check_json(buffer_view(&out));
    json_object connect, query;
    error e;
    buffer_reserve(&out, frame_padding);
    require(json_parse_object(checker, buffer_view(&out), &connect, &e));
    const json_member *parameters = json_find(&connect, "query");
    require(parameters != nullptr);
    bool parsed = json_parse_nested(checker, parameters->raw, &query, &e);
    require(parsed || view(e.text).find("too many") != view::npos); // and nothing named twice
    buffer_clear(&out);
    hook_write_publish(&out, &asker, "r", a->has_data ? a->data : view("null"));
    check_json(buffer_view(&out));
    buffer_clear(&out);
    hook_write_message(&out, &asker, bytes, true);
    check_json(buffer_view(&out));
    buffer_free(&out);
}

void check_merge(json_reader *reader, const hook_answer *a) {
    buffer out = {};
    if (!a->info.empty() && hook_merge_info(reader, a->state, a->info, &out)) {
        require(out.size <= hook_value_max);
        check_json(buffer_view(&out));
    }
    buffer_free(&out);
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static json_reader *reader = json_reader_new();
    if (!checker) checker = json_reader_new();
    view bytes(reinterpret_cast<const char *>(data), size);
    frame *source = frame_copy(bytes);
    buffer scratch = {};
    hook_answer answer;
    error e;
    if (hook_answer_parse(reader, frame_view(source), &answer, &scratch, &e)) {
        check_answer(&answer);
        check_writers(&answer, bytes);
        check_merge(reader, &answer);
    } else {
        require(e.text[0] != '\0');
    }
    buffer_free(&scratch);
    frame_unref(source);
    return 0;
}
