// Fuzzes what the two processes of an upgrade say to each other: the first byte chooses what the rest is taken for.
// What can be read is written again to the same bytes; and the frame parser goes on from a state that came so, whatever
// comes.
#include "proto/handover.h"

#include <stdlib.h>
#include <string>

using namespace belfry;

namespace {

void require(bool fine) {
    if (!fine) abort();
}

void is(buffer *written, view bytes) {
    require(buffer_view(written) == bytes);
    buffer_free(written);
}

void goes_on(const handover_conn *c) {
    std::string bytes(c->rest);
    bytes.append("\x81\x85\0\0\0\0Hello\x80\x80\1\2\3\4", 17);
    ws_parser p = c->parser;
    uint64_t received = c->message_received;
    const ws_limits limits = {1 << 20, 1 << 20, c->deflate != 0};
    ws_bytes data = {bytes.data(), bytes.data() + bytes.size()};
    for (size_t i = 0; i <= 2 * bytes.size(); i++) {
        ws_event e = ws_parse(&p, &limits, &received, &data);
        if (e.type == ws_event_type::more || e.type == ws_event_type::failed) return;
    }
    abort(); // no end
}

void conn(view bytes) {
    handover_conn c;
    const char *why = nullptr;
    buffer out = {};
    if (!handover_parse(bytes, &c, &why)) return require(why && *why);
    handover_describe(&c, &out);
    is(&out, bytes);
    require(!c.begun || !c.frames.empty());
    for (const handover_frame &f : c.frames)
        require(!f.bytes.empty() && (f.room < c.rooms.size() || f.room >= handover_room_self));
    goes_on(&c);
}

void message(view bytes) {
    handover_message m;
    buffer out = {};
    if (!handover_read(bytes, &m)) return;
    require(m.names.size() <= handover_names_max);
    handover_write(&m, &out);
    is(&out, bytes);
}

void order(view bytes) {
    handover_order o;
    buffer out = {};
    if (!handover_order_read(bytes, &o)) return;
    handover_order_write(&o, &out);
    is(&out, bytes);
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (!size) return 0;
    view rest(reinterpret_cast<const char *>(data) + 1, size - 1);
    if (data[0] % 3 == 0)
        conn(rest);
    else if (data[0] % 3 == 1)
        message(rest);
    else
        order(rest);
    return 0;
}
