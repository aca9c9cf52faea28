// Fuzzes client_json_parse: whatever a client sends, what comes out is safe to pass on.
#include "base/frame.h"
#include "proto/client_json.h"
#include "proto/utf8.h"

#include <stdlib.h>
#include <string.h>

using namespace belfry;

namespace {

void require(bool fine) {
    if (!fine) abort();
}

// `data` goes verbatim into an object for everybody in the room.
void check_data(json_reader *checker, view data) {
    frame *copy = frame_copy(data);
    require(json_valid(checker, frame_view(copy)));
    frame_unref(copy);
}

void check_request(json_reader *checker, const client_request *request, view source) {
    for (view text : {request->type, request->room, request->method, request->token, request->since_epoch})
        require(utf8_valid(text));
    require(request->has_room || request->room.empty());
    require(request->has_id || request->id == 0);
    require(request->has_since || request->since_epoch.empty());
    bool has_data = request->op == client_op::publish || request->op == client_op::call;
    require(has_data || request->data == "null");
    require(request->data.size() <= source.size());
    check_data(checker, request->data);
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static json_reader *reader = json_reader_new();
    static json_reader *checker = json_reader_new();
    frame *source = frame_copy(view(reinterpret_cast<const char *>(data), size));
    client_request request;
    error e;
    client_parse answer = client_json_parse(reader, frame_view(source), &request, &e);
    require((answer == client_parse::ok) == (e.text[0] == '\0'));
    json_object object;
    error ignored;
    bool is_object = json_parse_object(checker, frame_view(source), &object, &ignored);
    const json_member *type = is_object ? json_find(&object, "type") : nullptr;
    require((answer != client_parse::not_an_object) == (type && type->type == json_type::string));
    if (answer == client_parse::ok) check_request(checker, &request, frame_view(source));
    frame_unref(source);
    return 0;
}
