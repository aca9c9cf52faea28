// Entries of Redis streams as XRANGE and XREADGROUP give them: an id, then field and value by turns. Other people write
// to the same Redis, so each is checked. Pure; any thread. Fuzzed.
#pragma once

#include "base/bytes.h"
#include "base/error.h"

#include <stdint.h>

namespace belfry {

// MILLISECONDS-SEQUENCE (Redis: two unsigned 64-bit numbers).
struct stream_id {
    uint64_t ms, sequence;
};
// False where the text is not that, both parts written out without leading zeros.
[[nodiscard]] bool stream_id_parse(view text, stream_id *out);

// A kept message: id OFFSET-0, offset 1 or more, and nothing but the field `m`: the envelope (proto/envelope.h) without
// a position, still to be parsed.
[[nodiscard]] bool stream_entry_history(view id, const view *words, size_t word_count, uint64_t *offset, view *envelope,
                                        error *e);

// A command of a backend: its field `command`, once; other fields are ignored. Still to be parsed.
[[nodiscard]] bool stream_entry_command(const view *words, size_t word_count, view *command, error *e);

} // namespace belfry
