// A place in a room's history: `offset` counts its messages from 1 within an `epoch`; a new epoch says that offsets of
// older ones mean nothing. Plain data, any thread.
#pragma once

#include "base/bytes.h"

#include <stdint.h>
#include <string.h>

namespace belfry {

inline constexpr size_t position_epoch_max = 8; // characters of base64url

struct position {
    char epoch[position_epoch_max]; // filled up with zeros; empty: no position
    uint64_t offset;                // of the last message that it includes; 0: before the first
};

inline bool position_none(const position *p) {
    return p->epoch[0] == 0;
}
inline view position_epoch(const position *p) {
    return view(p->epoch, strnlen(p->epoch, position_epoch_max));
}
inline bool position_same_epoch(const position *a, const position *b) {
    return memcmp(a->epoch, b->epoch, position_epoch_max) == 0;
}
// False where the text is no epoch: 1 to 8 characters of base64url.
[[nodiscard]] inline bool position_set(position *p, view epoch, uint64_t offset) {
    *p = {};
    if (epoch.empty() || epoch.size() > position_epoch_max || !bytes_are_base64url(epoch)) return false;
    memcpy(p->epoch, epoch.data(), epoch.size());
    p->offset = offset;
    return true;
}

} // namespace belfry
