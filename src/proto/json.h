// JSON by simdjson, with two promises simdjson's on-demand front-end does not make by itself: every value is
// checked whole (grammar, escapes, UTF-8, depth), also those that are only passed on; and a value that is passed on is
// the verbatim slice of its source. So what a hostile client sends as `data` can never break out of the object that it
// is put into.
//
// One reader belongs to one thread and is used again and again (it keeps simdjson's buffers). The source needs
// frame_padding readable bytes behind it. Fuzzed.
#pragma once

#include "base/bytes.h"
#include "base/error.h"

#include <stdint.h>

namespace belfry {

inline constexpr int json_depth_max = 64; // nested arrays and objects, the outermost included

struct json_reader; // owns a simdjson parser and a scratch buffer for unescaped strings

[[nodiscard]] json_reader *json_reader_new();
void json_reader_free(json_reader *r);

enum class json_type : uint8_t { null, boolean, number, string, array, object };

// One member of an object. `raw` is the verbatim slice (no white space around it). `name` and `text` are unescaped and
// live until the reader's next call to json_parse_object (the other functions leave them alone).
struct json_member {
    view name;
    view raw;
    json_type type;
    view text;       // string: unescaped content, always valid UTF-8
    bool text_valid; // string: false where an escape is half a surrogate pair; such a text holds U+FFFD instead
    bool is_integer; // number: is -2^63..2^63-1 without fraction or exponent
    int64_t integer;
};

inline constexpr size_t json_members_max = 64;
struct json_object {
    size_t count;
    json_member members[json_members_max];
};

// Parses `source` as one JSON object (and nothing behind it but white space). False with a reason (never the client's
// bytes) for anything that is not strict RFC 8259, nested deeper than json_depth_max, with a member named twice or
// named by half a surrogate pair, or with more than json_members_max members on the top level.
[[nodiscard]] bool json_parse_object(json_reader *r, view source, json_object *out, error *e);

// The same for an object inside the last one, given as a member's raw slice. What json_parse_object handed out stays
// valid. Each slice may be parsed once.
[[nodiscard]] bool json_parse_nested(json_reader *r, view raw, json_object *out, error *e);

// The same for an array of objects or of anything: calls `each` with every element's raw slice, in order; stops where
// it returns false (the answer is then still true: the array is one). The whole array is checked before the first call,
// so a bad element at the end means no calls at all, and `each` may use the reader for what it likes.
[[nodiscard]] bool json_each_element(json_reader *r, view source, bool (*each)(view raw, json_type type, void *context),
                                     void *context, error *e);

// True where `source` (padded) is exactly one valid JSON value of any type within the depth limit.
[[nodiscard]] bool json_valid(json_reader *r, view source);

// Unescapes a raw JSON string (with its quotes; already validated by a reader) into `out`, appended: never more than
// raw.size() - 2 bytes, always valid UTF-8. False where an escape is half a surrogate pair; U+FFFD stands in for it.
bool json_unescape(view raw, buffer *out);

// Unescapes every element of the array of strings `raw` (already validated by a reader): views into `raw`, or into
// `scratch` where there are escapes. `scratch` must have room for raw.size() more bytes, so that it need not move.
// Null, or which rule the array breaks: strings only, no half surrogate pairs, at most `max` of them.
const char *json_read_strings(view raw, view *out, size_t max, size_t *count, buffer *scratch);

const json_member *json_find(const json_object *o, view name);

// Appends `text` as a JSON string with quotes. Bytes that are no valid UTF-8 become U+FFFD.
void json_write_string(buffer *out, view text);

// Appends {"error":{"code":CODE,"message":"MESSAGE"}}, the body of every refusal; `message` as json_write_string.
void json_write_error(buffer *out, int code, view message);

// The version of simdjson that this was built with. Static text.
const char *json_library_version();

} // namespace belfry
