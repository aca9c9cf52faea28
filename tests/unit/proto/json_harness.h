// Padded sources for the tests of everything that reads JSON. They live until the test's teardown, which a failed
// assertion does not skip.
#pragma once

#include "base/frame.h"
#include "proto/json.h"

#include <string.h>

namespace belfry {

struct json_harness {
    json_reader *reader = nullptr;
    frame *sources[512];
    size_t count = 0;
};

inline json_harness harness;

inline int harness_begin(void **) {
    harness.reader = json_reader_new();
    harness.count = 0;
    return 0;
}

inline int harness_end(void **) {
    for (size_t i = 0; i < harness.count; i++)
        frame_unref(harness.sources[i]);
    harness.count = 0;
    json_reader_free(harness.reader);
    harness.reader = nullptr;
    return 0;
}

// A copy of `text` with `padding` behind it, again and again until frame_padding bytes are full.
inline view source_before(view text, view padding) {
    if (harness.count == sizeof harness.sources / sizeof harness.sources[0]) fatal("too many sources in one test");
    frame *f = frame_copy(text);
    harness.sources[harness.count++] = f;
    for (size_t i = 0; i < frame_padding; i++)
        f->data[f->size + i] = padding[i % padding.size()];
    return frame_view(f);
}

inline view source(view text) {
    return source_before(text, view("\0", 1));
}

// True where `inner` lies in `outer`'s bytes.
inline bool lies_in(view inner, view outer) {
    return inner.data() >= outer.data() && inner.data() + inner.size() <= outer.data() + outer.size();
}

} // namespace belfry
