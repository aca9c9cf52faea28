// HTTP/1 request and response heads, strictly by RFC 9112: one parser decides what a message is, and anything that two
// parsers could read in two ways is refused.
//
// Pure: bytes in, a structure of views out; no allocation, no clock. Any thread. Fuzzed.
#pragma once

#include "base/bytes.h"

#include <stddef.h>
#include <stdint.h>

namespace belfry {

inline constexpr size_t http1_head_max = 16384;  // bytes of a whole head, request line and last CRLF included
inline constexpr size_t http1_target_max = 8192; // bytes of a request target
inline constexpr size_t http1_field_max = 100;   // field lines

// What became of a head. The value of a refused request is the HTTP status to answer with; a refused response is a
// backend's fault, and 502 whatever the value.
enum class http1_result : uint16_t {
    complete = 0,
    incomplete = 1,    // give more bytes
    bad_request = 400, // not HTTP/1, or ambiguous
    target_too_long = 414,
    head_too_large = 431,
    version_not_supported = 505, // HTTP/2.0 and the like in HTTP/1 syntax
};

struct http1_field {
    view name;  // as sent; compare with bytes_equal_nocase
    view value; // trimmed of spaces and tabs; no CR, LF, NUL or other control inside (HTAB may be)
};

// Views into the bytes that were parsed; they live as long as those.
struct http1_request {
    view method; // a token; case matters
    view target; // as sent
    view path;   // origin-form or the path of an absolute-form; starts with '/'; "*" for OPTIONS *; empty for CONNECT
    view query;  // behind the first '?', without it; may be empty
    view authority;        // of an absolute-form, else the Host field (RFC 9112 section 3.2.2)
    uint8_t minor_version; // 1 for HTTP/1.1, 0 for HTTP/1.0
    bool keep_alive;       // by Connection and version (RFC 9112 section 9.3)
    bool has_content_length;
    bool chunked;         // Transfer-Encoding is exactly "chunked"
    bool expect_continue; // Expect: 100-continue
    uint64_t content_length;
    size_t head_size; // bytes of the whole head; the body starts there
    uint32_t field_count;
    http1_field fields[http1_field_max];
};

struct http1_response {
    int status;            // 100 to 599
    view reason;           // as sent; may be empty
    uint8_t minor_version; // 1 for HTTP/1.1, 0 for HTTP/1.0
    bool keep_alive;       // by Connection and version; a body that ends with the connection says otherwise
    bool has_content_length;
    bool chunked; // Transfer-Encoding is exactly "chunked"
    uint64_t content_length;
    size_t head_size; // bytes of the whole head; the body, if there is one (http1_response_body_kind), starts there
    uint32_t field_count;
    http1_field fields[http1_field_max];
};

// Where an incomplete head was left, so that a head that arrives byte by byte is scanned once.
// All zero at the start of each head. A complete head may be parsed again from its first byte (its views die when
// the bytes move while a body is awaited).
struct http1_scan {
    uint32_t scanned; // bytes already looked at
};

// Parses the head at the start of `bytes`. `incomplete`: call again with the same bytes and more behind them
// (their address may change). Refused as soon as the bytes seen show it: a first byte that starts no method
// (a TLS hello, say), a bare LF or CR, a head above the limits.
//
// Refused with bad_request: bare LF or CR, NUL and other controls, obs-fold, white space before the colon or at
// the start of a line, empty or non-token names, no or several Host fields in HTTP/1.1, a Host that is no
// uri-host[:port], Content-Length that is no number, repeated or beside Transfer-Encoding, Transfer-Encoding
// other than "chunked" or in HTTP/1.0, a '#', a space or a non-ASCII byte in the target, authority-form for
// anything but CONNECT, and a request line that is not METHOD SP TARGET SP HTTP/1.x. One empty line (CRLF) in
// front of the request line is passed over (RFC 9112 section 2.2).
// On a refusal *why points to a static text for the log and the answer.
[[nodiscard]] http1_result http1_parse_request(view bytes, http1_scan *scan, http1_request *out, const char **why);

// Parses the head of an answer, in the same way and as strictly: bytes that do not begin with "HTTP/" (HTTP/0.9,
// another protocol) are refused with the first that shows it, and so are an empty line in front, a status line that is
// not HTTP/1.x SP 3DIGIT SP [REASON], a status outside of 100 to 599, and each fault of a field line or of the framing
// that is refused in a request. Interim responses (1xx) are heads of their own: parse again behind head_size. Where the
// body ends also depends on the request: http1_response_body_kind in proto/http1_body.h.
[[nodiscard]] http1_result http1_parse_response(view bytes, http1_scan *scan, http1_response *out, const char **why);

// The only field of that name; null where there is none, and where there are several: who may come in must not hang
// on which of two Origin fields is read. *count (may be null) gets how many there are.
const http1_field *http1_find(const http1_request *r, view name, size_t *count);
const http1_field *http1_find(const http1_response *r, view name, size_t *count);

// Walks a comma-separated list of tokens (RFC 9110 section 5.6.1) in one field value. Start with *rest = value;
// true and the next element (trimmed, never empty) in *element until there is none.
[[nodiscard]] bool http1_next_element(view *rest, view *element);

// True where the list field of that name, all its lines taken together, has the token (ASCII case does not count).
[[nodiscard]] bool http1_list_has(const http1_request *r, view name, view token);
[[nodiscard]] bool http1_list_has(const http1_response *r, view name, view token);

// True where every byte is a tchar and there is at least one (RFC 9110 section 5.6.2).
[[nodiscard]] bool http1_is_token(view s);

// The reason phrase of a status, "Unknown" for others.
const char *http1_reason(int status);

} // namespace belfry
