// The bodies of HTTP/1 messages: where they end (RFC 9112 section 6.3), their content cut out of the bytes as these
// come, chunks (section 7.1) read and written, trailers (RFC 9110 section 6.5).
//
// Pure: bytes in, slices of them out; no clock, no socket. An http1_body belongs to one message on one connection and
// to one thread at a time. It allocates for trailers alone. Fuzzed.
#pragma once

#include "base/bytes.h"
#include "proto/http1.h"

#include <stddef.h>
#include <stdint.h>

namespace belfry {

inline constexpr size_t http1_chunk_line_max = 256; // bytes of size, extensions and CRLF
inline constexpr size_t http1_trailers_max = 8192;  // bytes of all trailers as they come, their last CRLF included
inline constexpr size_t http1_trailer_max = 32;     // trailer lines
inline constexpr size_t http1_chunk_head_size = 20; // room for http1_write_chunk_head

enum class http1_body_kind : uint8_t { none, length, chunked, until_close };

// Of a request: chunked, length (also "Content-Length: 0"), or none.
http1_body_kind http1_request_body_kind(const http1_request *r);

// Of an answer: none to HEAD, with 1xx, 204 and 304, and for a 2xx to CONNECT, whatever its fields say; else chunked,
// length, or, where neither is given, until_close: the connection can't be used again then, whatever keep_alive says.
http1_body_kind http1_response_body_kind(const http1_response *r, view request_method);

// What an answer's body becomes for a client: none and length as they are; chunked and until_close are chunked where
// the client speaks HTTP/1.1, and until_close where it doesn't.
http1_body_kind http1_client_body_kind(http1_body_kind from_backend, bool client_http11);

// The reader of one body. All zero is a body of kind none. Only functions of this header look inside.
struct http1_body {
    http1_body_kind kind;
    uint8_t state;
    uint8_t digits;         // of the chunk size so far
    uint8_t trailer_count;  // lines so far, dropped ones too
    uint16_t line_size;     // bytes of the chunk line so far
    uint16_t trailers_size; // bytes of the trailers so far, as they came
    uint32_t kept;          // bytes of `trailers` that were accepted; behind them the line that is being read
    uint64_t left;          // of the body (length) or of the chunk
    const char *why;        // borrowed (static); why the body failed
    buffer trailers;        // owned
};

// Begins a body; *b is all zero, or was freed. `length` counts for kind length alone.
void http1_body_start(http1_body *b, http1_body_kind kind, uint64_t length);

enum class http1_body_event : uint8_t {
    more,   // *rest is used up: call again with the bytes that come next
    data,   // *data is the next piece of content, never empty: call again
    end,    // the body is whole; *rest is what follows it. The same event for each further call
    failed, // no body: *why (static text). The connection can't be used again. The same event for each further call
};

// Takes from the front of *rest until there is something to tell. *data points into *rest, no copy. The content is the
// same however the bytes are cut.
//
// Strict: a chunk's size is 1 to 16 hex digits with nothing around them, its line is no longer than
// http1_chunk_line_max, extensions (";" NAME [ "=" VALUE ], dropped) are as RFC 9112 section 7.1.1 has them but for the
// white space that it calls bad, lines end in CRLF. Trailers hold to the rules of field lines in heads.
[[nodiscard]] http1_body_event http1_body_next(http1_body *b, view *rest, view *data, const char **why);

// The peer closed, and every byte that it sent went through http1_body_next: `end` where the body is whole (until_close
// ends in this way), else `failed`.
[[nodiscard]] http1_body_event http1_body_eof(http1_body *b, const char **why);

// After `end`: trailers that may be passed on, as "NAME: VALUE\r\n" lines; empty for most bodies. Those that must not
// come late (RFC 9110 section 6.5.1) are left out. Lives until http1_body_free or http1_body_start.
view http1_body_trailers(const http1_body *b);

// Gives the trailers back; *b is all zero again. Safe to call twice.
void http1_body_free(http1_body *b);

// Writes the line in front of a chunk ("1a\r\n"), returns its size. `size` is not 0, which would end the body. Behind
// the chunk comes CRLF.
size_t http1_write_chunk_head(uint64_t size, char out[http1_chunk_head_size]);

// Appends the end of a chunked body. `trailers`: whole lines, as of http1_body_trailers.
void http1_write_last_chunk(view trailers, buffer *out);

} // namespace belfry
