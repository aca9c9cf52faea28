// Fuzzes what nodes say to each other: what parses is written and parsed again to the same.
#include "base/frame.h"
#include "proto/peer_message.h"

#include <stdlib.h>

using namespace belfry;

namespace {

void require(bool fine) {
    if (!fine) abort();
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static json_reader *reader = json_reader_new();
    frame *source = frame_copy(view(reinterpret_cast<const char *>(data), size));
    peer_message m, again;
    error e;
    if (peer_message_parse(reader, frame_view(source), &m, &e)) {
        require(!m.from.empty() && m.from.size() <= 32);
        require(!m.is_answer || (m.code >= 200 && m.code <= 599));
        buffer out = {};
        peer_message_write(&m, &out);
        frame *second = frame_copy(buffer_view(&out));
        require(peer_message_parse(reader, frame_view(second), &again, &e));
        require(again.is_answer == m.is_answer && again.from == m.from && again.number == m.number);
        require(again.body == m.body && (m.is_answer ? again.code == m.code : again.what == m.what));
        frame_unref(second);
        buffer_free(&out);
    } else {
        require(e.text[0] != 0);
    }
    frame_unref(source);
    return 0;
}
