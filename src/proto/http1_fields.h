// What request and response heads have in common, and trailers with them: the rules for each byte, the field lines, the
// framing fields. For the files of proto/http1 alone; everybody else includes "proto/http1.h".
//
// Pure functions over the caller's bytes. Any thread.
#pragma once

#include "base/bytes.h"
#include "proto/http1.h"

#include <array>
#include <stddef.h>
#include <stdint.h>

namespace belfry {

// Letters, digits and `members`: a class of characters to look up bytes in.
constexpr std::array<bool, 256> http1_make_table(view members) {
    std::array<bool, 256> table = {};
    for (const char c : members) {
        table[static_cast<unsigned char>(c)] = true;
    }
    for (size_t c = 0; c < 128; c++) {
        if ((c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z')) table[c] = true;
    }
    return table;
}

inline constexpr std::array<bool, 256> http1_tchars = http1_make_table("!#$%&'*+-.^_`|~"); // RFC 9110 section 5.6.2

inline bool http1_in_table(const std::array<bool, 256> &table, char c) {
    return table[static_cast<unsigned char>(c)];
}

// Notes why, and is the result.
inline http1_result http1_refuse(http1_result result, const char *text, const char **why) {
    *why = text;
    return result;
}

// Why a byte may not follow the one before it in a head or in trailers; null where it may. `before` is LF at the start
// of a line, NUL at the start of a head.
const char *http1_byte_refused(char before, char c);

// Looks for the empty line that ends a head, at each byte once. Every refusal belongs to one byte, so that the answer
// does not depend on how the head was cut into pieces. `target_begin`: where a request's target begins, 0 for a
// response.
http1_result http1_scan_head(view bytes, http1_scan *scan, size_t target_begin, size_t *head_size, const char **why);

// The next line without its CRLF. Only for bytes in which each CR is followed by LF, as the scan makes sure.
view http1_take_line(view *rest);

// HTTP/1.x, digit by digit. `malformed` is the text for anything else.
http1_result http1_parse_version(view version, const char *malformed, uint8_t *minor, const char **why);

// NAME ":" OWS VALUE OWS, of one line without its CRLF. False, with *why, where it is none.
[[nodiscard]] bool http1_split_field(view line, http1_field *out, const char **why);

// The fields of a head, borrowed.
struct http1_field_list {
    const http1_field *fields; // borrowed
    uint32_t count;
};

// All lines up to the empty one; `fields` takes http1_field_max.
http1_result http1_parse_fields(view rest, http1_field *fields, uint32_t *count, const char **why);

struct http1_framing {
    bool has_content_length;
    bool chunked;
    uint64_t content_length;
};

// RFC 9112 section 6: whatever leaves in doubt where the body ends is refused.
http1_result http1_parse_framing(http1_field_list list, uint8_t minor_version, http1_framing *out, const char **why);

const http1_field *http1_list_find(http1_field_list list, view name, size_t *count);
[[nodiscard]] bool http1_list_contains(http1_field_list list, view name, view token);
// By Connection and version (RFC 9112 section 9.3).
[[nodiscard]] bool http1_list_persistent(http1_field_list list, uint8_t minor_version);

} // namespace belfry
