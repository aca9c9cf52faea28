// What nodes say to each other, one to one: questions and answers on PREFIXnode:ID. A JSON head, a line feed, the body
// as it is:
//   {"v":1,"from":"k3Fq","ask":17,"what":"order"}\nBODY          a question; `ask` is the asking node's number
//   {"v":1,"from":"Zz09","answer":17,"code":200}\nBODY           its answer
// Pure; the reader's thread. Fuzzed: whoever may write to Redis may write to these channels.
#pragma once

#include "proto/json.h"

#include <stdint.h>

namespace belfry {

enum class peer_what : uint8_t {
    order,     // the body is a command for connections of the node: code 200, or 404 (it has none of them)
    receivers, // the body is the number of a publish of the asking node: how many members got it here
    carry,     // the body is a client's request for a connection of the node (relay/carry.h)
};
inline constexpr size_t peer_what_count = 3;

struct peer_message {
    bool is_answer;
    view from;       // the sender's node id: 1 to 32 characters of base64url
    uint64_t number; // of the question
    peer_what what;  // of a question
    int code;        // of an answer: an HTTP status, 200 to 599
    view body;
};

void peer_message_write(const peer_message *m, buffer *out);
// False with a text in `e` where it is none. `source` is padded (frame_padding); views into it.
[[nodiscard]] bool peer_message_parse(json_reader *r, view source, peer_message *out, error *e);

} // namespace belfry
