// The Sec-WebSocket-Extensions fields of a request, RFC 6455 section 9.1, read word by word from the front: nothing is
// looked at twice, so the time is linear whatever they hold.
//
// Pure; views into the request. Any thread. Fuzzed (fuzz_handshake, fuzz_deflate_offer).
#pragma once

#include "base/bytes.h"
#include "proto/http1.h"

#include <stdint.h>

namespace belfry {

enum class extension_item {
    extension, // a new element of the list: name
    parameter, // of the last extension: name, and a value where it has one
    end,
    malformed, // the reading ends here; the handshake is refused with 400
};

struct extension_reader {
    const http1_request *request; // borrowed
    uint32_t field = 0;           // the next one to be looked at
    view rest = {};               // of the current field
    bool inside = false;          // an extension of this field was named: ';' may follow, or its end
};

struct extension_word {
    view name;
    view value;     // without its quotes; a quoted one may have backslashes in it: extension_value
    bool has_value; // a value has one character at least
};

// The next item of all fields of that name, in their order. Empty elements are passed over (RFC 9110 section 5.6.1.2).
[[nodiscard]] extension_item extension_next(extension_reader *r, extension_word *out);

// The value with its backslashes taken away, where it has at most `size` characters; empty where it is longer.
[[nodiscard]] view extension_value(const extension_word *w, char *out, size_t size);

} // namespace belfry
