// Fuzzes proto/deflate. The input's first two bytes choose the limit; the rest is, one after the other, taken for a
// compressed payload and for a message to be compressed. What must hold:
// - no more than the limit comes out, and the memory for it goes by the limit;
// - a larger limit changes nothing about what fits a smaller one, and nothing stays from one message to the next;
// - what was compressed is smaller than the message, and inflates to it, within the narrow window, too.
//
// One thread.
#include "base/frame.h"
#include "proto/deflate.h"

#include <stdlib.h>
#include <string>

using namespace belfry;

namespace {

void require(bool holds) {
    if (!holds) abort();
}

void check_inflating(view payload, size_t limit) {
    static inflater *used = inflater_new(); // with whatever the inputs before have left in it
    inflater *fresh = inflater_new();
    buffer first = {}, second = {};
    inflate_result result = inflate_message(used, payload, limit, &first);
    require(first.size <= limit + 1);
    require(first.capacity <= 2 * (limit + payload.size() * 4) + 16384 + 2 * frame_padding);
    inflate_result again = inflate_message(fresh, payload, limit, &second);
    require(again == result && second.size == first.size);
    if (result == inflate_result::ok) {
        require(first.size <= limit && first.capacity >= first.size + frame_padding);
        require(buffer_view(&first) == buffer_view(&second));
        require(inflate_message(used, payload, first.size, &second) == inflate_result::ok);
        require(buffer_view(&first) == buffer_view(&second));
        if (first.size > 0) require(inflate_message(used, payload, first.size - 1, &second) == inflate_result::too_big);
    }
    if (result == inflate_result::bad)
        require(inflate_message(fresh, payload, limit * 2, &second) == inflate_result::bad);
    buffer_free(&first);
    buffer_free(&second);
    inflater_free(fresh);
}

void check_deflating(view message) {
    static deflater *packer = deflater_new(0);
    static inflater *unpacker = inflater_new();
    buffer packed = {}, out = {};
    for (deflate_window window : {deflate_wide, deflate_narrow}) {
        if (!deflate_message(packer, window, message, &packed)) continue;
        require(packed.size < message.size());
        require(inflate_message(unpacker, buffer_view(&packed), message.size(), &out) == inflate_result::ok);
        require(buffer_view(&out) == message);
    }
    buffer_free(&packed);
    buffer_free(&out);
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 2 || size > 65536) return 0;
    size_t limit = data[0] + size_t{data[1]} * 256;
    view input(reinterpret_cast<const char *>(data) + 2, size - 2);
    check_inflating(input, limit);
    check_deflating(input);
    return 0;
}
