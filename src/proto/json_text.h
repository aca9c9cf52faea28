// The lexical half of JSON: strings, numbers, literals and white space (RFC 8259 sections 2, 3, 6, 7), byte by byte and
// without simdjson. Used by json.cc alone; json_unescape and json_write_string, which json.h declares, live with it.
// Pure; any thread.
#pragma once

#include "proto/json.h"

namespace belfry {

// RFC 8259 section 2: these four and no others.
inline bool json_is_space(char c) {
    return c == ' ' || c == '\n' || c == '\r' || c == '\t';
}
view json_trim(view s);

// `at` stands behind an opening quote. The byte behind the closing one; null where the string does not end before
// `end`, holds a control character or an escape that is none. Says nothing about UTF-8.
const char *json_string_end(const char *at, const char *end);

// Null where `token` is exactly one string, number or literal, else a static text that says which rule it breaks.
// Fills in type, is_integer and integer.
const char *json_scalar_check(view token, json_member *out);

// Splits an array that was validated before and has no white space around it: begin with *at = 1. False at its end.
bool json_next_valid(view array, size_t *at, view *element);

// By the first byte of a valid value.
json_type json_type_of(view value);

} // namespace belfry
