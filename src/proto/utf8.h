// UTF-8 that fails at the first bad byte and carries its state across fragments (RFC 3629: no overlong forms, no
// surrogates, nothing above U+10FFFF). ASCII runs are skipped eight bytes at a time. Pure; any thread. Fuzzed.
#pragma once

#include "base/bytes.h"

#include <stdint.h>

namespace belfry {

inline constexpr uint8_t utf8_start = 0; // the state at the start, and at the end of every whole text
inline constexpr uint8_t utf8_bad = 0xff;

// The state after `bytes`; utf8_bad as soon as no continuation could make it valid. Any other value but
// utf8_start: the text ends inside a character.
[[nodiscard]] uint8_t utf8_step(uint8_t state, view bytes);

inline bool utf8_valid(view bytes) {
    return utf8_step(utf8_start, bytes) == utf8_start;
}

} // namespace belfry
