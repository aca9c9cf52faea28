// A client's request on its way to the node that has its session: what relay/carry.h takes between workers, as bytes. A
// JSON head, a line feed, the body as it is:
//   {"op":"poll","session":"c_....","user":"56","sequence":3}\n
//   {"op":"message","session":"c_...."}\nBODY
// Pure; the reader's thread. Fuzzed.
#pragma once

#include "proto/json.h"

#include <stdint.h>

namespace belfry {

inline constexpr size_t peer_carry_session_max = 255; // bytes
inline constexpr size_t peer_carry_user_max = 249;

struct peer_carry {
    bool poll;         // else message
    view session;      // 1 to 255 bytes
    view user;         // empty: nobody says who asks
    uint64_t sequence; // poll: of the last batch that the client has
    view body;
};

void peer_carry_write(const peer_carry *c, buffer *out);
// False with a text in `e` where it is none. `source` is padded; views into it or into the reader: valid until the
// reader parses again.
[[nodiscard]] bool peer_carry_parse(json_reader *r, view source, peer_carry *out, error *e);

} // namespace belfry
