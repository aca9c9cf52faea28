// Making and freeing frames. A frame is made on one thread and freed on whichever drops the last reference,
// so its memory comes from malloc (which is thread-safe) and not from a slab (which belongs to a thread).
#include "base/frame.h"

#include "base/error.h"

#include <new>
#include <stdlib.h>
#include <string.h>

namespace belfry {

frame *frame_new(size_t size) {
    // The limit leaves room for a header in 32-bit sums; real messages are far below it (max_message).
    if (size >= size_t{1} << 31) fatal("frame_new: %zu bytes are more than a frame can hold", size);
    frame *f = new (memory_get(sizeof(frame) + size + frame_padding)) frame;
    f->references.store(1, std::memory_order_relaxed); // published to other threads by the ring that carries it
    f->size = static_cast<uint32_t>(size);
    f->room = f->key = 0;
    memset(f->data + size, 0, frame_padding);
    return f;
}

frame *frame_copy(view bytes) {
    return frame_join(bytes, view());
}

frame *frame_join(view first, view second) {
    // Checked before the sum, which must not wrap; frame_new checks the sum.
    if (first.size() > SIZE_MAX - second.size()) fatal("frame_join: %zu and %zu bytes", first.size(), second.size());
    frame *f = frame_new(first.size() + second.size());
    if (!first.empty()) memcpy(f->data, first.data(), first.size());
    if (!second.empty()) memcpy(f->data + first.size(), second.data(), second.size());
    return f;
}

void frame_free(frame *f) {
    // The decrement to 0 was an acquire: every other holder's reads are over before the memory goes.
    f->~frame();
    free(f);
}

} // namespace belfry
