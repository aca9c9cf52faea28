// What the parts of the control API work with. Main thread.
#pragma once

#include "main/config.h"
#include "main/control_http.h"
#include "main/sockets.h"
#include "relay/node.h"

namespace belfry {

struct control_api {
    struct node *node;                            // borrowed
    const config *settings;                       // borrowed
    const std::vector<bound_listener> *listeners; // borrowed
    const control_http *http;                     // borrowed; null while it is being made
    json_reader *reader;                          // owned
    uint64_t started_ms;                          // wall clock
    loop *on;                                     // borrowed
};

} // namespace belfry
