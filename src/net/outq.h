// What a connection still has to write: references to frames, in order. The connection never owns encoded bytes.
//
// Two references live inside; more go to 128-byte chunks of a slab that the thread's connections share, so a delivery
// allocates nothing once the slab is warm. One thread.
#pragma once

#include "base/frame.h"
#include "base/slab.h"
#include "net/stream.h"

#include <stdint.h>

namespace belfry {

inline constexpr uint32_t outq_inline = 2;
inline constexpr uint32_t outq_chunk_slots = 15;

struct outq_chunk {
    outq_chunk *next;               // owned
    frame *slots[outq_chunk_slots]; // counted
};

// What was written is counted here, where a flush is anyway, and moved to colder places before it runs over: one flush
// adds loop_iov_max to messages and 2^30 to written at most.

struct outq {
    frame *first[outq_inline];      // counted; used before any chunk is
    outq_chunk *head, *tail;        // owned, in the slab
    uint32_t count;                 // frames waiting
    uint32_t bytes;                 // bytes waiting, what was written of the first frame taken off
    uint32_t offset;                // bytes of the first frame already written
    uint16_t pinned;                // frames whose bytes may be in a TLS record that the socket did not take yet
    uint16_t messages;              // frames that were written or taken whole and are messages; the owner takes it off
    uint32_t written;               // bytes, ditto
    uint8_t first_begin, first_end; // first[begin..end) is in use
    uint8_t chunk_begin, chunk_end; // in head, in tail
};

void outq_init(outq *q);                               // all zero is the same
void outq_push_chunk(outq *q, slab *chunks, frame *f); // outq_push's slow part; not to be called
// The slab for chunks: object size sizeof(outq_chunk).
// Takes over one reference. The caller has checked its limit against q->bytes.
inline void outq_push(outq *q, slab *chunks, frame *f) {
    q->count++;
    q->bytes += f->size;
    // Once there are chunks, what comes in goes behind them, also where inline slots are free again.
    if (q->head == nullptr && q->first_end < outq_inline)
        q->first[q->first_end++] = f;
    else
        outq_push_chunk(q, chunks, f);
}
// One write call at most. ok: all written, or progress was made and there is more (q->count != 0): the socket may take
// more. again: the socket is full. eof or failed: give up.
[[nodiscard]] stream_result outq_flush(outq *q, slab *chunks, stream *s);
// Takes the first frame out, whole: for a queue that no stream writes. Its reference is the caller's; null where the
// queue is empty.
frame *outq_take(outq *q, slab *chunks);
// Whether the owner has to take messages and written off.
inline bool outq_counts_full(const outq *q) {
    return ((q->written >> 16 | q->messages) & 0x8000) != 0;
}
// Drops all frames, also a begun one; the counts go, too. Returns how many.
uint32_t outq_clear(outq *q, slab *chunks);
// Looks at all frames in order; `written`: bytes of the first one that are on the wire already.
void outq_each(const outq *q, void (*visit)(const frame *f, uint32_t written, void *context), void *context);
// How many frames at the front must stay where they are: one whose first bytes are on the wire, and those in a pending
// TLS record.
inline uint32_t outq_fixed(const outq *q) {
    uint32_t begun = q->offset != 0 ? 1 : 0;
    return begun < q->pinned ? q->pinned : begun;
}
// Takes out all frames behind those, in order; their references are the caller's, who pushes again what shall stay.
// `into` has room for q->count - outq_fixed(q).
void outq_unload(outq *q, slab *chunks, frame **into);
// Drops all frames but one whose first bytes are on the wire, and those in a pending TLS record (OpenSSL sealed their
// bytes already and wants the same ones again); `keep_first` keeps the first one anyway. Returns how many it dropped.
uint32_t outq_drop_unsent(outq *q, slab *chunks, bool keep_first);

} // namespace belfry
