// Cookies (RFC 6265): reading what a browser sent.
//
// Pure; views point into the caller's bytes. Any thread. Fuzzed.
#pragma once

#include "base/bytes.h"
#include "proto/http1.h"

#include <stddef.h>

namespace belfry {

// Walks the pairs of one Cookie field: start with *rest = its value; true and the next pair until there is none.
// A ';' always ends a pair, in quotes as well, and the first '=' ends the name, as browsers have it (section 5.2);
// spaces and tabs around both are no part of them. Quotes around a whole value are taken off (section 4.1.1); a lone
// quote is a byte of the value. Pairs without '=' or whose name is no token are passed over.
[[nodiscard]] bool cookie_next(view *rest, view *name, view *value);

// The value of the only cookie of that name in all Cookie fields; case counts. Empty where there is none, where it is
// empty, and where there are several: who somebody is must not hang on which of two is read. *count (may be null) gets
// how many there are.
view cookie_find(const http1_request *r, view name, size_t *count);

} // namespace belfry
