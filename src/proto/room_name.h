// Names of rooms and the patterns of [room] sections. Pure; any thread.
#pragma once

#include "base/bytes.h"

namespace belfry {

inline constexpr size_t room_name_max = 255; // bytes

// 1 to 255 bytes of valid UTF-8 without control characters (C0, DEL, C1) or white space (ASCII and Unicode
// White_Space). Null where it is fine, else a static text that says which rule it breaks.
const char *room_name_check(view name);

// True for names that begin with '@': Belfry's own.
inline bool room_name_reserved(view name) {
    return !name.empty() && name[0] == '@';
}

// A pattern is a name in which '*' stands for any run of bytes, also none. Linear time in both lengths for one star;
// O(n*m) at most for several, no recursion.
bool room_pattern_match(view pattern, view name);

} // namespace belfry
