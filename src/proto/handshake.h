// The server's half of the WebSocket opening handshake, RFC 6455 sections 4.2 and 11.3.
//
// Pure: a parsed request in, a verdict out. Any thread. Fuzzed.
#pragma once

#include "base/bytes.h"
#include "proto/http1.h"

#include <stdint.h>

namespace belfry {

inline constexpr size_t handshake_protocols_max = 16; // subprotocols offered
inline constexpr size_t handshake_accept_size = 28;   // bytes of a Sec-WebSocket-Accept value

struct handshake {
    view key;    // Sec-WebSocket-Key as sent: 24 characters
    view origin; // empty where there is none
    bool has_origin;
    uint32_t protocol_count;
    view protocols[handshake_protocols_max]; // offered subprotocols in order, tokens, no duplicates
};

struct handshake_verdict {
    int status = 101;       // 101, or the refusal: 400, 405, 426
    const char *why = "";   // static text
    const char *field = ""; // static: extra field lines for the answer, each with its CRLF, or "". 405: Allow; 426:
                            // Upgrade with its Connection (RFC 9110 section 15.5.22) and Sec-WebSocket-Version
};

// True where the request means to upgrade to anything (an Upgrade field together with Connection: upgrade).
bool handshake_wanted(const http1_request *r);

// Checks everything that section 4.2.1 asks for: GET (405), HTTP/1.1, Upgrade with the token "websocket", Connection
// with the token "upgrade" (426 where it is not an upgrade at all), exactly one valid Key (16 bytes of strict base64),
// exactly one Version that is 13 (426 for another number), no body (no Content-Length but 0, no Transfer-Encoding), at
// most one Origin, a well-formed subprotocol list without duplicates, well-formed extension lists (RFC 6455
// section 9.1; quoted values must be tokens). Fields are parsed, never searched.
[[nodiscard]] handshake_verdict handshake_check(const http1_request *r, handshake *out);

// Sec-WebSocket-Accept for a key (section 4.2.2, item 5.4). `out` takes handshake_accept_size bytes, no NUL.
void handshake_accept(view key, char *out);

// The offered subprotocol that equals `name`, or -1.
int handshake_offers(const handshake *h, view name);

// Appends the whole 101 answer; `protocol` empty = no Sec-WebSocket-Protocol field; `extra`: field lines with their
// CRLF, or empty.
void handshake_write_101(view key, view protocol, view extra, buffer *out);

// Appends a whole refusal: status line, Date-less fields, `Connection: close` (or keep-alive), Content-Type
// application/json, Content-Length, `extra` field lines, and {"error":{"code":STATUS,"message":"MESSAGE"}} with MESSAGE
// escaped.
void http1_write_error(int status, view message, view extra, bool keep_alive, buffer *out);

} // namespace belfry
