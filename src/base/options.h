// One row per option: from the rows come parsing, units, defaults, bounds, -T, the man page and the control
// API's answer. A row describes a field of a plain struct by its offset; the struct's own default values are
// never relied on: options_defaults writes them from the rows.
//
// Main thread only. Cold path: std::string and std::vector are fine here.
#pragma once

#include "base/bytes.h"
#include "base/error.h"

#include <stddef.h>
#include <stdint.h>
#include <string>
#include <vector>

namespace belfry {

enum class option_type : uint8_t {
    boolean,  // bool               yes no on off true false 1 0
    integer,  // int64_t            decimal
    size,     // int64_t bytes      64k 1m 2g (1024-based), plain bytes
    duration, // int64_t ms         10s 500ms 5m 1h 2d; a bare number other than 0 is an error: name the unit
    text,     // std::string
    list,     // std::vector<std::string>: the option repeats, and each value may be a comma-separated list
    lines,    // std::vector<std::string>: the option repeats, each value is kept whole
    choice,   // int32_t            index into row.choices
    secret,   // std::string        as text, but shown as *** by option_format; of a URL only the password is hidden
    secrets,  // std::vector<std::string>: the option repeats, each value is kept whole, each is shown as ***
    rate,     // struct rate        20/s, 20/s burst=40, 64k/s burst=256k, 100/m, 5/h; 0 or empty: no limit
};

// So much in so long, and how much of it at once.
struct rate {
    int64_t amount;    // 0: no limit, and the rest is 0 too
    int64_t period_ms; // 1000, 60000 or 3600000: a second, a minute, an hour
    int64_t burst;     // at least 1; the amount, where none is written
    bool operator==(const rate &) const = default;
};
inline constexpr int64_t rate_most = int64_t{1} << 40; // of amount and burst

struct option_row {
    const char *section; // section kind: "belfry", "listener", "route", ...
    const char *name;
    option_type type;
    size_t offset;             // of the field in the section's struct
    const char *default_value; // as it would be written in the file; "" = empty
    int64_t minimum;           // integer, size, duration: inclusive bounds (ms, bytes)
    int64_t maximum;
    const char *const *choices; // choice: null-terminated names
    bool reload;                // true: felt on reload; false: needs a restart
    const char *help;           // one line: why, not what
};

// The row with this section and name, or null.
const option_row *option_find(const option_row *rows, size_t count, view section, view name);
// True for list, lines and secrets: each value is one more, the field is a vector of strings.
inline bool option_repeats(const option_row *row) {
    return row->type == option_type::list || row->type == option_type::lines || row->type == option_type::secrets;
}
// Writes every row of the section's default into `object`. Defaults are correct by test; a bad one is fatal.
void options_defaults(const option_row *rows, size_t count, view section, void *object);
// Parses `value` into the field. For list, lines and secrets: appends (the first time the caller clears the default).
// An empty value appends nothing. False with e.g. `"10x" is not a duration: write 500ms, 10s, 5m, 1h or 2d` in
// `e`, and the field is as it was.
[[nodiscard]] bool option_parse(const option_row *row, view value, void *object, error *e);
// Appends the field as it would be written in the file, durations and sizes in the largest exact unit (10s, 64k,
// 0s); list joined by ", "; lines joined by "\n" (no entry holds one), as are the *** of secrets; a secret as ***
// unless empty; a rate without its burst where that is the amount.
void option_format(const option_row *row, const void *object, buffer *out);
// Whether the field is the same in both, secrets compared as they are.
[[nodiscard]] bool option_equal(const option_row *row, const void *a, const void *b);
// Takes the field over.
void option_copy(const option_row *row, const void *from, void *to);
// The candidate nearest to `name` by optimal string alignment distance, if that is at most 1 + length/3; else null.
const char *nearest_name(view name, const char *const *candidates, size_t count);

} // namespace belfry
