// permessage-deflate by zlib. Each object is its thread's.
#include "proto/deflate.h"

#include "base/error.h"
#include "base/frame.h"

#include <algorithm>
#include <stdint.h>
#include <string.h>
#define ZLIB_CONST // next_in is const then
#include <zlib.h>

namespace belfry {

static constexpr view tail = {"\x00\x00\xff\xff", 4};
// JSON of 1, 64 and 512 KiB takes 23 us, 1.7 ms and 15 ms, and shrinks to 42, 27 and 27 %. Level 6: 24 us, 4.6 ms, 42
// ms, 42, 24 and 23 %: too long for the other connections of the thread.
static constexpr int deflate_level = 4;
static constexpr size_t piece_max = 1u << 30; // avail_in and avail_out have 32 bits

struct deflater {
    size_t shortest;
    z_stream streams[deflate_window_count];
    bool made[deflate_window_count];
};

struct inflater {
    z_stream stream;
    bool made;
};

static const unsigned char *bytes_of(view v) {
    return reinterpret_cast<const unsigned char *>(v.data());
}
static unsigned char *space_of(buffer *b) {
    return reinterpret_cast<unsigned char *>(b->data + b->size);
}

// ---------------------------------------------------------------- out

deflater *deflater_new(size_t shortest) {
    auto *d = new deflater{};
    d->shortest = shortest;
    return d;
}

void deflater_free(deflater *d) {
    if (!d) return;
    for (int w = 0; w < deflate_window_count; w++)
        if (d->made[w]) deflateEnd(&d->streams[w]);
    delete d;
}

bool deflater_tries(const deflater *d, size_t size) {
    return size >= d->shortest;
}

// Narrow: zlib has no raw deflate with a window of 2^8 bytes, and none is needed. Its matches reach back at most
// the window less MIN_LOOKAHEAD, which is 262 (deflate.h, MAX_DIST): 250 bytes with a window of 2^9.
static z_stream *ready(deflater *d, deflate_window window) {
    z_stream *z = &d->streams[window];
    int result;
    if (d->made[window]) {
        result = deflateReset(z);
    } else {
        result = deflateInit2(z, deflate_level, Z_DEFLATED, window == deflate_wide ? -15 : -9, 8, Z_DEFAULT_STRATEGY);
        d->made[window] = true;
    }
    if (result != Z_OK) fatal("zlib can't compress: %s", zError(result));
    return z;
}

bool deflate_message(deflater *d, deflate_window window, view message, buffer *out) {
    buffer_clear(out);
    if (message.size() <= tail.size() || message.size() > piece_max) return false;
    z_stream *z = ready(d, window);
    size_t space = message.size() + tail.size(); // one that fills all of it saves nothing
    buffer_reserve(out, space);
    z->next_in = bytes_of(message);
    z->avail_in = static_cast<uInt>(message.size());
    z->next_out = space_of(out);
    z->avail_out = static_cast<uInt>(space);
    int result = deflate(z, Z_SYNC_FLUSH);
    if (result != Z_OK) fatal("zlib can't compress: %s", zError(result));
    if (!z->avail_out) return false;
    out->size = space - z->avail_out;
    if (!buffer_view(out).ends_with(tail)) fatal("zlib's Z_SYNC_FLUSH does not end with an empty block");
    out->size -= tail.size();
    return true;
}

// ---------------------------------------------------------------- in

inflater *inflater_new() {
    return new inflater{};
}

void inflater_free(inflater *i) {
    if (!i) return;
    if (i->made) inflateEnd(&i->stream);
    delete i;
}

// As much room as is due next: doubling, but never more than what may come out and one byte, which tells that it is
// too much.
static size_t make_room(buffer *out, size_t most, size_t first) {
    if (out->size + frame_padding >= out->capacity) {
        size_t wanted = std::min(most, std::max(first, out->size * 2));
        buffer_reserve(out, wanted + frame_padding - out->size);
    }
    return std::min({out->capacity - frame_padding, most, out->size + piece_max}) - out->size;
}

// Inflates one piece of input. *at_start: no byte was taken since the stream began, or began anew behind a BFINAL
// block.
static inflate_result inflate_piece(z_stream *z, view piece, size_t limit, buffer *out, bool *at_start) {
    z->next_in = bytes_of(piece);
    z->avail_in = static_cast<uInt>(piece.size());
    do {
        size_t room = make_room(out, limit + 1, std::max<size_t>(4096, piece.size() * 4));
        z->next_out = space_of(out);
        z->avail_out = static_cast<uInt>(room);
        uInt before = z->avail_in;
        int result = inflate(z, Z_SYNC_FLUSH);
        out->size += room - z->avail_out;
        if (out->size > limit) return inflate_result::too_big;
        if (z->avail_in < before) *at_start = false;
        if (result == Z_STREAM_END) {
            *at_start = true;
            result = inflateReset(z);
        }
        if (result == Z_MEM_ERROR) fatal("out of memory: zlib can't inflate");
        // Z_BUF_ERROR: the last piece of output had filled its room exactly, and there was no more.
        if (result != Z_OK && result != Z_BUF_ERROR) return inflate_result::bad;
    } while (z->avail_in || !z->avail_out);
    return inflate_result::ok;
}

inflate_result inflate_message(inflater *i, view payload, size_t limit, buffer *out) {
    buffer_clear(out);
    if (payload.size() > piece_max) return inflate_result::too_big;
    z_stream *z = &i->stream;
    int made = i->made ? inflateReset(z) : inflateInit2(z, -15);
    if (made != Z_OK) fatal("zlib can't inflate: %s", zError(made));
    i->made = true;
    bool at_start = true;
    inflate_result result = inflate_result::ok;
    if (!payload.empty()) result = inflate_piece(z, payload, limit, out, &at_start);
    // A payload that ends with a BFINAL block is whole, and an empty one is an empty message: the rest of an empty
    // block would not be one.
    if (result == inflate_result::ok && !at_start) {
        result = inflate_piece(z, tail, limit, out, &at_start);
        // zlib.h, inflate(): 128 is "between two blocks", less bits of the last byte that were not used. All else is
        // data that ends inside a block.
        if (result == inflate_result::ok && !at_start && z->data_type != 128) result = inflate_result::bad;
    }
    if (result == inflate_result::ok) buffer_reserve(out, frame_padding);
    return result;
}

} // namespace belfry
