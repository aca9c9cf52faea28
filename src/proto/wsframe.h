// WebSocket frames, RFC 6455 section 5, as a server reads and writes them.
//
// The parser unmasks in place, eight bytes at a time, and hands out views into the caller's bytes; it never
// copies, allocates or waits for a whole message. What it could not use yet (an incomplete header, or a control
// frame not yet whole: 139 bytes at most) it leaves to the caller, who puts it in front of the next bytes.
// Pure; one parser belongs to one connection, on its thread. Fuzzed.
#pragma once

#include "base/bytes.h"

#include <stdint.h>

namespace belfry {

enum ws_opcode : uint8_t {
    ws_continuation = 0x0,
    ws_text = 0x1,
    ws_binary = 0x2,
    ws_close = 0x8,
    ws_ping = 0x9,
    ws_pong = 0xa,
};
// Beside the opcode in a message's first byte: it is compressed (RFC 7692 section 6).
inline constexpr uint8_t ws_rsv1 = 0x40;

inline constexpr size_t ws_header_max = 14;                           // bytes: 2 + 8 + 4
inline constexpr size_t ws_control_max = 125;                         // bytes of a control frame's payload
inline constexpr size_t ws_rest_max = ws_header_max + ws_control_max; // what a parse may leave over

// 24 bytes a connection; all zero at the start.
struct ws_parser {
    uint64_t remaining;  // bytes of the current data frame's payload still to come
    uint32_t mask;       // the current frame's key, rotated to the next byte
    uint8_t opcode;      // of the message under way: ws_text or ws_binary; 0 between messages
    uint8_t utf8;        // utf8_step's state, text messages only
    uint8_t in_frame;    // 1 inside a data frame's payload
    bool final : 1;      // FIN of the current data frame
    bool compressed : 1; // RSV1 of the message under way
    uint32_t fragments;  // data frames of the message under way, counted without wrapping
};

enum class ws_event_type : uint8_t {
    more,    // all usable bytes were used: read on
    data,    // a piece of a data message: opcode, payload, first, last
    control, // a whole control frame: opcode close, ping or pong; payload
    failed,  // close_code and why say it; the parser must not be fed again
};

struct ws_event {
    ws_event_type type;
    uint8_t opcode;      // data: the message's (text or binary), never continuation
    bool first;          // data: the message's first piece
    bool last;           // data: the message is complete with this piece
    bool compressed;     // data: the message is what proto/deflate.h inflates; its text was not looked at
    uint16_t close_code; // failed: 1002, 1007 or 1009. control close: the peer's code, 1005 where it sent none
    view payload;        // data and control: unmasked, inside the caller's bytes; close: the reason behind the code
    const char *why;     // failed: static text, names the rule
};

// The limits of a connection.
struct ws_limits {
    uint64_t
        message; // bytes of a message, all fragments together; a frame header that promises more fails at once (1009)
    uint64_t bookkeeping; // bytes: every data frame of one message is charged ws_fragment_cost; above it fails (1009)
    bool deflate = false; // permessage-deflate is agreed on: RSV1 may mark a message
};
inline constexpr uint64_t ws_fragment_cost = 16;
// What a compressed message may have beyond limits.message: of bytes that can't be compressed, zlib makes more.
inline constexpr uint64_t ws_deflate_slack(uint64_t message) {
    return message / 16 + 64;
}

// Takes the next event out of *data, whose bytes it may change (unmask). Advances data->begin. With `more`, what is
// still between begin and end must come again in front of the next bytes. `received` counts the current message's bytes
// so far: the caller keeps it (zero at the start of each message: the parser resets it itself). Fails (RFC 6455): any
// RSV bit (5.2; but RSV1 on a message's first frame where deflate is agreed on, RFC 7692 6.1), reserved opcodes (5.2),
// unmasked frames (5.1), control frames fragmented or above 125 (5.5), non-minimal or 63-bit-exceeding lengths (5.2),
// continuation without a message, a new message inside one (5.4), bad UTF-8 in text at the earliest byte (8.1: 1007; of
// a compressed text the caller checks what it inflates to), close payloads of 1 byte, close codes that may not be on
// the wire (7.4), close reasons that are no UTF-8 (1007). Zero-length non-final pieces produce no event.
struct ws_bytes {
    char *begin;
    char *end;
};
[[nodiscard]] ws_event ws_parse(ws_parser *p, const ws_limits *limits, uint64_t *received, ws_bytes *data);

// True for codes that an endpoint may send (RFC 6455 section 7.4 and the IANA registry): 1000-1003, 1007-1014,
// 3000-4999.
bool ws_close_code_valid(uint16_t code);

// Writes a server frame's header (FIN set, unmasked) for a payload of n bytes; returns its size, 2, 4 or 10. `opcode`
// may have ws_rsv1 beside it.
size_t ws_write_header(uint8_t opcode, uint64_t n, char out[10]);

// XORs n bytes with the key (in network order, rotation 0 at data[0]); returns the key rotated for what follows.
uint32_t ws_unmask(char *data, size_t n, uint32_t mask);

} // namespace belfry
