// permessage-deflate's data, RFC 7692 section 7.2: whole messages into compressed ones and back, without context
// takeover. The only place that names zlib (deflate.cc).
//
// A deflater or inflater belongs to one thread and has no state from one message to the next; what zlib needs (256 KiB
// a window that is in use; 40 KiB to inflate) it allocates at first use and keeps. Pure. Fuzzed.
#pragma once

#include "base/bytes.h"

#include <stddef.h>
#include <stdint.h>

namespace belfry {

struct deflater;
struct inflater;

// How far back a compressed message may refer to itself.
enum deflate_window : uint8_t {
    deflate_wide,   // 32,768 bytes: server_max_window_bits not asked for, or 15
    deflate_narrow, // 256 bytes: within any server_max_window_bits, 8 to 15
    deflate_window_count
};

// `shortest`: bytes of a message below which compressing does not pay.
[[nodiscard]] deflater *deflater_new(size_t shortest);
void deflater_free(deflater *d); // null: nothing
[[nodiscard]] bool deflater_tries(const deflater *d, size_t size);

// Replaces *out by the message compressed, ready to be a frame's payload: raw deflate, flushed, without the last
// 00 00 ff ff (7.2.1). False where that is not smaller than the message: it goes plain (section 6 allows that for any
// message). Out of memory is fatal.
[[nodiscard]] bool deflate_message(deflater *d, deflate_window window, view message, buffer *out);

[[nodiscard]] inflater *inflater_new();
void inflater_free(inflater *i); // null: nothing

enum class inflate_result {
    ok,
    too_big, // more than `limit` bytes would come out: 1009
    bad,     // no deflate data, or it ends inside a block: 1007
};

// Replaces *out by what a message's payload, all fragments together, stands for (7.2.2): the 00 00 ff ff is appended,
// blocks with BFINAL are followed by others (7.2.3.4, 7.2.3.5), the window is of 32 KiB. Stops at limit + 1 bytes of
// output, and never has more than that, frame_padding and a doubling's slack allocated. With `ok`, frame_padding more
// bytes than out->size may be read. Out of memory is fatal.
[[nodiscard]] inflate_result inflate_message(inflater *i, view payload, size_t limit, buffer *out);

} // namespace belfry
