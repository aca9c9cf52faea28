// Writes server-sent events (WHATWG HTML, section 9.2: event streams). Each function appends one whole block to `out`.
// Pure; any thread. Fuzzed.
#pragma once

#include "base/bytes.h"

#include <stdint.h>

namespace belfry {

// An event with this data: a `data` line for each of its lines, which may end in LF, CR or CRLF; the reader sees an LF
// for each. `name` empty: a plain message, else an event type without line ends. `data` should be UTF-8: readers put
// U+FFFD for what is not.
void sse_write_event(buffer *out, view name, view data);
// Sets the reader's last event id and nothing else: a block without data is no event. `id` holds no CR, LF or NUL.
void sse_write_id(buffer *out, view id);
// How long a reader waits before it connects again.
void sse_write_retry(buffer *out, uint64_t ms);
// A comment line, which readers pass over: a sign of life.
void sse_write_comment(buffer *out, view text);

} // namespace belfry
