// Heads on their way through the proxy: a request for a backend, an answer for a client, written anew from what was
// parsed. No line is copied as it came, so nothing that two parsers could read differently gets through.
//
// Pure functions that append to the caller's buffer; nothing is owned here. Any thread. Fuzzed.
#pragma once

#include "base/bytes.h"
#include "proto/http1.h"
#include "proto/http1_body.h"

#include <stddef.h>
#include <stdint.h>

namespace belfry {

inline constexpr size_t http1_connection_options_max = 32; // in all Connection fields of a request
inline constexpr size_t http1_request_id_max = 128;        // bytes
inline constexpr size_t http1_traceparent_size = 55;       // bytes of version 00
inline constexpr size_t http1_traceparent_random = 24;     // bytes that make one

struct forward_request_options {
    view host;        // the Host field for the backend: a valid one, never empty
    view scheme;      // "http" or "https": how the client speaks to Belfry
    view client_host; // whose connection this is: an IP address without port or brackets; empty for a unix socket
    view request_id;  // X-Request-Id to send; empty = none
    view traceparent; // traceparent to send; empty = none
    // client_host is a trusted proxy: what it says of the client (X-Forwarded-*, Forwarded, X-Real-IP) is kept, and
    // client_host appended. Else all that is dropped and made anew.
    bool trusted;
    bool upgrade_websocket;  // a tunnel: Connection and Upgrade are sent, and Sec-WebSocket-* fields pass
    http1_body_kind body;    // what will follow: none, length or chunked
    uint64_t content_length; // of kind length
    view extra;              // whole field lines; the client's fields of these names are dropped
};

// Why a request must not be forwarded (static text, answered with 400), or null. Asked before http1_forward_request:
// CONNECT; a Connection field that is no list of tokens or a long one; or one that names a field which must get through
// (Host, Cookie, Authorization, Origin, Content-*, X-Forwarded-* ...): a proxy that obeyed would let the client take
// away what the backend or a proxy in front of Belfry relies on.
const char *http1_forward_refuse(const http1_request *r);

// Appends the target for a backend: origin-form "/path?query" whatever form the client used, or "*".
void http1_forward_target(const http1_request *r, buffer *out);

// Appends the head of the request for a backend, always HTTP/1.1. `target`: as of http1_forward_target, or rewritten;
// no space or control in it.
// Dropped: what Connection names, and all that is for one hop (RFC 9110 section 7.6.1; Trailer passes with a chunked
// body), Expect, HTTP2-Settings, Proxy, Belfry-*, and any field that becomes one of those known here when '_' is read
// as
// '-', as CGI-like backends do (X_Forwarded_For). Written anew: Host, framing, X-Forwarded-For/-Proto/-Host, Forwarded
// (RFC 7239), X-Request-Id, traceparent. tracestate passes only where the client's trace goes on.
void http1_forward_request(const http1_request *r, view target, const forward_request_options *o, buffer *out);

// Appends the head of an answer for a client; of an interim one (1xx), too, for which neither body nor keep_alive
// count, and which an HTTP/1.0 client does not get (nothing is appended). 101 keeps its Upgrade. `body`: what is sent
// to the client, see http1_client_body_kind; chunked for an HTTP/1.0 client is taken for until_close. `length` counts
// for kind length; with kind none (HEAD, 204, 304) the backend's own Content-Length passes as what it says of the
// content, except with 204. until_close says "Connection: close" whatever keep_alive is. Dropped: what
// http1_forward_request drops as being for one hop, and the fields named in `drop`. `extra`: whole field lines, beside
// the backend's.
void http1_forward_response(const http1_response *r, http1_body_kind body, uint64_t length, bool client_http11,
                            bool keep_alive, const view *drop, size_t drop_count, view extra, buffer *out);

// Whether a client's X-Request-Id may be passed on, into log lines and answers, too: 1 to http1_request_id_max letters,
// digits and "-._~:+/=@".
[[nodiscard]] bool http1_request_id_valid(view id);

// W3C Trace Context, version 00: 00-TRACE-PARENT-FLAGS in lower-case hex, neither id all zeros.
[[nodiscard]] bool http1_traceparent_valid(view traceparent);

// A new, valid traceparent whose flags say "not recorded". Its 32 digits from byte 3 do as a request id.
void http1_traceparent_make(const uint8_t random[http1_traceparent_random], char out[http1_traceparent_size]);

} // namespace belfry
