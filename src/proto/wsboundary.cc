// Frame boundaries in a stream that passes. Pure; one object belongs to one tunnel, on its thread.
#include "proto/wsboundary.h"

#include "proto/wsframe.h"

namespace belfry {

namespace {

constexpr size_t header_max = 10; // of a server's frame: no mask

struct head {
    uint64_t size; // of the whole frame, its header included; 0: the header is not whole
    bool close;
    const char *why; // static; null: a server may send it
};

head refused(const char *why) {
    return {0, false, why};
}

// The frame at the start of `bytes`.
head head_of(view bytes) {
    if (bytes.size() < 2) return {};
    const auto byte = [bytes](size_t i) { return static_cast<uint8_t>(bytes[i]); };
    const uint8_t opcode = byte(0) & 0x0f;
    const bool control = opcode >= ws_close;
    if (opcode > ws_pong || (opcode > ws_binary && !control)) return refused("a frame with a reserved opcode");
    if ((byte(1) & 0x80) != 0) return refused("a masked frame");
    const uint8_t seven = byte(1) & 0x7f;
    if (control && (seven > ws_control_max || (byte(0) & 0x80) == 0))
        return refused("a control frame that is fragmented or too long");
    const size_t length_size = seven < 126 ? 0 : seven == 126 ? 2 : 8;
    if (bytes.size() < 2 + length_size) return {};
    uint64_t length = length_size == 0 ? seven : 0;
    for (size_t i = 0; i < length_size; i++)
        length = length << 8 | byte(2 + i);
    if (length >> 63 != 0) return refused("a frame's length does not fit into 63 bits");
    return {2 + length_size + length, opcode == ws_close, nullptr};
}

view take(view *from, uint64_t n) {
    const view taken = from->substr(0, n < from->size() ? static_cast<size_t>(n) : from->size());
    from->remove_prefix(taken.size());
    return taken;
}

// Goes on with the frame whose beginning is held: until it is whole, or long enough to pass as it comes.
void fill_held(ws_boundary *b, view *bytes) {
    head h = head_of(buffer_view(&b->held));
    while (h.size == 0 && h.why == nullptr && !bytes->empty()) { // header_max times at most
        buffer_append_char(&b->held, bytes->front());
        bytes->remove_prefix(1);
        h = head_of(buffer_view(&b->held));
    }
    b->why = h.why;
    if (h.why != nullptr) buffer_free(&b->held);
    if (h.size == 0) return;
    const bool is_long = h.size > ws_held_max;
    if (!is_long) buffer_append(&b->held, take(bytes, h.size - b->held.size));
    if (!is_long && b->held.size < h.size) return;
    b->left = h.size - b->held.size;
    b->closed = h.close;
    b->handed = b->held.size;
}

// Whole frames from the front of `bytes`, and of a long one what is there. Leaves the beginning of a short one.
size_t pass_frames(ws_boundary *b, view bytes) {
    size_t passed = 0;
    while (!b->closed && b->left == 0) {
        const view rest = bytes.substr(passed);
        const head h = head_of(rest);
        b->why = h.why;
        if (h.size == 0 || (h.size > rest.size() && h.size <= ws_held_max)) break;
        const uint64_t here = h.size < rest.size() ? h.size : rest.size();
        passed += static_cast<size_t>(here);
        b->left = h.size - here;
        b->closed = h.close;
    }
    return passed;
}

} // namespace

ws_passed ws_boundary_pass(ws_boundary *b, view bytes) {
    static_assert(header_max < ws_held_max);
    ws_boundary_release(b);
    if (b->closed || b->why != nullptr) return {};
    view rest = bytes;
    if (b->held.size != 0) {
        fill_held(b, &rest);
        if (b->handed == 0) return {};
    }
    const char *begin = rest.data();
    b->left -= take(&rest, b->left).size();
    rest.remove_prefix(pass_frames(b, rest));
    const view second(begin, static_cast<size_t>(rest.data() - begin));
    if (!rest.empty() && !b->closed && b->why == nullptr) buffer_append(&b->held, rest);
    return {buffer_view(&b->held).substr(0, b->handed), second};
}

void ws_boundary_release(ws_boundary *b) {
    if (b->handed == 0) return;
    buffer_consume(&b->held, b->handed);
    b->handed = 0;
    if (b->held.size == 0) buffer_free(&b->held);
}

void ws_boundary_free(ws_boundary *b) {
    buffer_free(&b->held);
    *b = {};
}

} // namespace belfry
