// Fuzzes clients' requests between nodes: what parses is written and parsed again to the same.
#include "base/frame.h"
#include "proto/peer_carry.h"

#include <stdlib.h>
#include <string>

using namespace belfry;

namespace {

void require(bool fine) {
    if (!fine) abort();
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static json_reader *reader = json_reader_new();
    frame *source = frame_copy(view(reinterpret_cast<const char *>(data), size));
    peer_carry c, again;
    error e;
    if (peer_carry_parse(reader, frame_view(source), &c, &e)) {
        require(!c.session.empty() && c.session.size() <= peer_carry_session_max);
        std::string session(c.session), user(c.user); // the reader's, until it parses again
        buffer out = {};
        peer_carry_write(&c, &out);
        frame *second = frame_copy(buffer_view(&out));
        require(peer_carry_parse(reader, frame_view(second), &again, &e));
        require(again.poll == c.poll && again.body == c.body);
        require(again.session == session && again.user == user);
        require(again.sequence == c.sequence);
        frame_unref(second);
        buffer_free(&out);
    } else {
        require(e.text[0] != 0);
    }
    frame_unref(source);
    return 0;
}
