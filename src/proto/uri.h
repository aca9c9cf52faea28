// Pieces of request targets: percent-decoding, query parameters (RFC 3986, and the query form of
// application/x-www-form-urlencoded). Pure; any thread. Fuzzed.
#pragma once

#include "base/bytes.h"

#include <string>

namespace belfry {

// Decodes %XX (and '+' to a space where `plus`) into `out`, which takes in.size() bytes.
// False where a % is not followed by two hex digits; *out_size is then undefined.
[[nodiscard]] bool uri_decode(view in, bool plus, char *out, size_t *out_size);

// Appends `in` with everything but unreserved characters percent-encoded.
void uri_encode(view in, buffer *out);

// Walks NAME=VALUE pairs of a query: start with *rest = query; true and raw (not decoded) pieces until none is left.
[[nodiscard]] bool uri_next_parameter(view *rest, view *name, view *value);

// The decoded value of the first parameter of that name; empty where there is none, or where its encoding is bad.
std::string uri_parameter(view query, view wanted);

// A path that routes can be matched on: decodes %XX once, refuses (false) an encoded NUL, '/' or '\\',
// any control, and "." or ".." segments (also encoded), so that a prefix match means what it says. `out` takes
// in.size() bytes.
[[nodiscard]] bool uri_normalise_path(view in, char *out, size_t *out_size);

} // namespace belfry
