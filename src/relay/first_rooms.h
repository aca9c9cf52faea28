// The rooms that a connection is in from its first moment: its user's own, join_on_connect's, those that the connect
// hook names, and (raw protocol, and all without WebSocket) those of the query. Owner's thread.
#pragma once

#include "relay/exchange.h"

#include <string>

namespace belfry {

inline constexpr size_t first_rooms_max = 64;

struct first_rooms {
    std::string names[first_rooms_max];
    size_t count = 0;
    const char *why = nullptr; // static; set where a room is refused
    int status = 0;
};

// Checks names and rights; a room that is refused refuses the handshake.
void first_rooms_list(const exchange *x, first_rooms *out);

} // namespace belfry
