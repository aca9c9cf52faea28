// Makes the output queue of a slow reader shorter: messages give way to newer ones of their key, or to all newer ones.
// Answers and control frames stay, and so does what the peer has the first bytes of. One thread.
#pragma once

#include "net/outq.h"

namespace belfry {

struct outq_thinning {
    uint64_t most; // bytes that may stay, `cost` for each frame included
    uint64_t cost;
    // A newer message takes the place of an older one of the same room and key first. What then still has to go is
    // taken from the messages without a key as long as there are any: a key's last value goes last.
    bool by_key;
    // Makes a frame that says that something is missing in `room` (a hash), or null where the reader has no words for
    // it. It stands where the room's first message was dropped, so before every message that is newer than the gap; a
    // room whose gap still waits in the queue gets no other.
    frame *(*gap)(void *context, uint64_t room);
    void *context;
};

struct outq_thinned {
    uint32_t replaced; // messages for which a newer one of their key is there
    uint32_t dropped;  // messages that are missing now
    uint32_t gaps;     // what `gap` has made
};

// O(frames waiting). Drops the oldest until `most` is kept or nothing droppable is left. Takes 8 to 40 bytes a frame
// from the heap meanwhile.
[[nodiscard]] outq_thinned outq_thin(outq *q, slab *chunks, const outq_thinning *how);

} // namespace belfry
