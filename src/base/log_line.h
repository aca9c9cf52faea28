// One line for a log while it is being written: the time, words, fields; what came from outside is escaped, so that
// nobody can forge a line. On the caller's stack, no allocation. Any thread.
//
// Bytes below 0x20 and 0x7f are escaped as \xHH in text and per RFC 8259 in JSON; so are U+0080 to U+009f, which
// terminals obey, and what is not UTF-8 (in JSON as U+FFFD, for a line that is not JSON is a line lost).
#pragma once

#include "base/bytes.h"

namespace belfry {

// What a text may have before it is escaped: one byte becomes at most 6 (\u00XX).
inline constexpr size_t log_text_max = 2000;
// Of a field's name and what stands around its value, and of a number's digits.
inline constexpr size_t log_field_slack = 48;

struct log_line {
    bool json;
    size_t size = 0;
    char text[16384];
};

void log_line_put(log_line *l, view bytes); // as it is: never what came from outside
void log_line_put_escaped(log_line *l, view bytes);
// 2026-11-21T22:07:43.123Z, now.
void log_line_put_time(log_line *l);

// Fields behind a line's beginning: in text form ` name=value`, quoted ("...", with \" and \\) where the value is
// anything but letters, digits and what URLs, addresses and ids are made of; in JSON `,"name":"value"`. A value is cut
// with "..." after log_text_max / 2 bytes; a field for which there is no room any more is left out, so that a line is
// always whole.
void log_line_field(log_line *l, const char *name, view value);
void log_line_number(log_line *l, const char *name, uint64_t value);
// ms as seconds with three places: 12.345
void log_line_seconds(log_line *l, const char *name, uint64_t ms);

} // namespace belfry
