// Immutable, counted bytes: what is written to sockets. One frame may stand in the output queues of ten
// thousand connections on several threads; nobody changes it after it was made.
//
// The count is atomic: about 5 ns uncontended, against 7,000 ns for the send(2) of a delivery, so a count per
// thread would not pay. Fan-out takes all its references with one frame_ref_many.
#pragma once

#include "base/bytes.h"

#include <atomic>
#include <stddef.h>
#include <stdint.h>

namespace belfry {

// Readable (zero) bytes behind a frame's content, so that simdjson may read past the end (SIMDJSON_PADDING).
inline constexpr size_t frame_padding = 64;

// What a queue that is too long may do with a frame is told by two marks, set by whoever made it before anybody else
// sees it. A frame without a room is an answer or a control frame: it is never dropped.
struct frame {
    std::atomic<uint32_t> references; // counted
    uint32_t size;                    // bytes of data
    uint64_t room;                    // hash of the room that the message was published in; 0: none
    uint64_t key;                     // hash of the message's key, which a newer one replaces; 0: none, or frame_gap
    char data[];
};

// The key of a frame that tells its reader of what is missing in `room`; never dropped. Keys' hashes are above it.
inline constexpr uint64_t frame_gap = 1;

inline bool frame_droppable(const frame *f) {
    return f->room != 0 && f->key != frame_gap;
}

// The key of a frame without a room that is no message: a control frame, a head, a comment. Only who counts what a
// connection was sent asks for it.
inline constexpr uint64_t frame_no_message = 1;

inline bool frame_is_message(const frame *f) {
    return f->room != 0 || f->key == 0;
}
// Marks it.
inline frame *frame_as_no_message(frame *f) {
    f->key = frame_no_message;
    return f;
}

// One reference, no marks, data uninitialised, padding zeroed. size < 2^31. malloc'ed.
[[nodiscard]] frame *frame_new(size_t size);
[[nodiscard]] frame *frame_copy(view bytes);
// A frame that is two views, one behind the other.
[[nodiscard]] frame *frame_join(view first, view second);
inline frame *frame_ref(frame *f) {
    f->references.fetch_add(1, std::memory_order_relaxed);
    return f;
}
inline void frame_ref_many(frame *f, uint32_t n) {
    f->references.fetch_add(n, std::memory_order_relaxed);
}
void frame_free(frame *f); // frame_unref's slow part; not to be called
inline void frame_unref(frame *f) {
    if (f->references.fetch_sub(1, std::memory_order_acq_rel) == 1) frame_free(f);
}
inline void frame_unref_many(frame *f, uint32_t n) {
    if (f->references.fetch_sub(n, std::memory_order_acq_rel) == n) frame_free(f);
}
inline view frame_view(const frame *f) {
    return view(f->data, f->size);
}

} // namespace belfry
