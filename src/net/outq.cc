// The output queue of a connection: frame references, inline first, then in chunks; written with one call a turn.
// Owned by its connection, on that connection's thread. With outq_push this is the fan-out's inner loop.
#include "net/outq.h"

namespace belfry {

static_assert(sizeof(outq_chunk) == 128, "a chunk is two cache lines");

namespace {

// Walks the waiting frames in order without taking them out.
struct cursor {
    const outq *q;
    uint32_t inline_at;
    const outq_chunk *chunk; // borrowed
    uint32_t chunk_at;
};

cursor cursor_begin(const outq *q) {
    return {q, q->first_begin, q->head, q->chunk_begin};
}

// Not to be called more than q->count times.
const frame *cursor_next(cursor *c) {
    if (c->inline_at < c->q->first_end) return c->q->first[c->inline_at++];
    if (c->chunk_at == outq_chunk_slots) {
        c->chunk = c->chunk->next;
        c->chunk_at = 0;
    }
    return c->chunk->slots[c->chunk_at++];
}

// Takes the first frame out. Its reference is the caller's; count is kept here, bytes and offset are not.
frame *take_first(outq *q, slab *chunks) {
    q->count--;
    if (q->first_begin < q->first_end) {
        frame *f = q->first[q->first_begin++];
        if (q->first_begin == q->first_end) q->first_begin = q->first_end = 0;
        return f;
    }
    outq_chunk *chunk = q->head;
    frame *f = chunk->slots[q->chunk_begin++];
    if (chunk == q->tail) {
        if (q->chunk_begin < q->chunk_end) return f;
        q->head = q->tail = nullptr;
        q->chunk_begin = q->chunk_end = 0;
    } else {
        if (q->chunk_begin < outq_chunk_slots) return f;
        q->head = chunk->next;
        q->chunk_begin = 0;
    }
    slab_put(chunks, chunk);
    return f;
}

const frame *peek_first(const outq *q) {
    return q->first_begin < q->first_end ? q->first[q->first_begin] : q->head->slots[q->chunk_begin];
}

// Fills iov from the front of the queue until `limit` bytes are there. Returns the number of entries, which is the
// number of frames.
int gather(const outq *q, struct iovec *iov, size_t limit) {
    uint32_t frames = q->count < loop_iov_max ? q->count : loop_iov_max;
    cursor c = cursor_begin(q);
    size_t skip = q->offset, total = 0;
    uint32_t n = 0;
    while (n < frames && total < limit) {
        const frame *f = cursor_next(&c);
        iov[n].iov_base = const_cast<char *>(f->data) + skip; // struct iovec knows no const
        iov[n].iov_len = f->size - skip;
        total += iov[n].iov_len;
        skip = 0;
        n++;
    }
    return static_cast<int>(n);
}

// A frame is let go as soon as its last byte is written: a slow reader holds what it has not got, no more.
void advance(outq *q, slab *chunks, size_t written) {
    q->bytes -= static_cast<uint32_t>(written);
    q->written += static_cast<uint32_t>(written);
    while (q->count != 0) {
        size_t left = peek_first(q)->size - q->offset;
        if (written < left) {
            q->offset += static_cast<uint32_t>(written);
            return;
        }
        written -= left;
        q->offset = 0;
        frame *f = take_first(q, chunks);
        if (frame_is_message(f)) q->messages++;
        frame_unref(f);
    }
}

} // namespace

void outq_init(outq *q) {
    *q = {};
}

void outq_push_chunk(outq *q, slab *chunks, frame *f) {
    if (q->tail == nullptr || q->chunk_end == outq_chunk_slots) {
        outq_chunk *chunk = static_cast<outq_chunk *>(slab_get(chunks));
        chunk->next = nullptr;
        if (q->tail == nullptr)
            q->head = chunk;
        else
            q->tail->next = chunk;
        q->tail = chunk;
        q->chunk_end = 0;
    }
    q->tail->slots[q->chunk_end++] = f;
}

stream_result outq_flush(outq *q, slab *chunks, stream *s) {
    if (q->count == 0) return stream_result::ok;
    struct iovec *iov = s->on->iov;
    // TLS takes one record a call, so more than a record's worth would be looked at for nothing.
    int n = gather(q, iov, s->tls != nullptr ? loop_gather_size : SIZE_MAX);
    size_t written = 0;
    stream_result result = stream_write(s, iov, n, &written);
    if (result == stream_result::ok) {
        q->pinned = 0;
        advance(q, chunks, written);
    } else if (result == stream_result::again && s->tls != nullptr) {
        q->pinned = static_cast<uint16_t>(n);
    }
    return result;
}

frame *outq_take(outq *q, slab *chunks) {
    if (!q->count) return nullptr;
    frame *f = take_first(q, chunks);
    q->bytes -= f->size;
    q->written += f->size;
    if (frame_is_message(f)) q->messages++;
    return f;
}

void outq_each(const outq *q, void (*visit)(const frame *f, uint32_t written, void *context), void *context) {
    cursor c = cursor_begin(q);
    for (uint32_t i = 0; i < q->count; i++)
        visit(cursor_next(&c), i == 0 ? q->offset : 0, context);
}

uint32_t outq_clear(outq *q, slab *chunks) {
    uint32_t dropped = q->count;
    while (q->count != 0)
        frame_unref(take_first(q, chunks));
    outq_init(q);
    return dropped;
}

namespace {

// Moves the first `keep` frames, with what is known of them, to a queue of their own.
outq split(outq *q, slab *chunks, uint32_t keep) {
    outq kept = {};
    while (kept.count < keep)
        outq_push(&kept, chunks, take_first(q, chunks));
    kept.bytes -= q->offset;
    kept.offset = q->offset;
    kept.pinned = q->pinned;
    kept.messages = q->messages;
    kept.written = q->written;
    return kept;
}

} // namespace

void outq_unload(outq *q, slab *chunks, frame **into) {
    outq kept = split(q, chunks, outq_fixed(q));
    while (q->count != 0)
        *into++ = take_first(q, chunks);
    *q = kept;
}

uint32_t outq_drop_unsent(outq *q, slab *chunks, bool keep_first) {
    uint32_t keep = outq_fixed(q);
    if (keep == 0 && keep_first) keep = 1;
    if (keep >= q->count) return 0;

    outq kept = split(q, chunks, keep);
    uint32_t dropped = outq_clear(q, chunks);
    *q = kept;
    return dropped;
}

} // namespace belfry
