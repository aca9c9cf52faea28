// Where one WebSocket frame ends and the next begins (RFC 6455 section 5.2), in a backend's stream that is passed on to
// a client unread: only between frames can a Close be put in when the backend dies.
//
// Bytes pass as they are. The beginning of a frame that is not whole yet is held back, up to ws_held_max, so that the
// client stands between two frames nearly always; of a longer frame the bytes pass as they come. Pure; belongs to one
// tunnel, on its thread. Fuzzed.
#pragma once

#include "base/bytes.h"

#include <stdint.h>

namespace belfry {

inline constexpr size_t ws_held_max = 16384; // bytes of a frame, its header included, that is held until it is whole

// All zero at the start. Only functions of this header look inside.
struct ws_boundary {
    uint64_t left;   // bytes to come of the long frame that is passing
    buffer held;     // owned: the beginning of a short frame; no memory between frames
    size_t handed;   // bytes at the front of `held` that were handed out: done with
    bool closed;     // a Close frame has passed: nothing may follow (section 5.5.1)
    const char *why; // static; null while all frames are such as a server may send
};

// What may be written now, in this order. Either is empty often.
struct ws_passed {
    view first;  // in `held`: until the next call of ws_boundary_pass or ws_boundary_release
    view second; // in the caller's bytes
};

// Takes all of `bytes`. Behind a Close frame, and behind a frame that no server may send (masked, a reserved opcode, a
// control frame that is fragmented or above 125 bytes, a length of 2^63 or more), everything is dropped: see `closed`
// and `why`. Reserved bits pass: they are the extensions'.
[[nodiscard]] ws_passed ws_boundary_pass(ws_boundary *b, view bytes);

// True where the client stands between two frames, once all that was passed is written: what is held back was not.
inline bool ws_boundary_between(const ws_boundary *b) {
    return b->left == 0;
}

// Gives back the memory of what was handed out and is written. To be called after each pass.
void ws_boundary_release(ws_boundary *b);

// Gives all memory back.
void ws_boundary_free(ws_boundary *b);

} // namespace belfry
