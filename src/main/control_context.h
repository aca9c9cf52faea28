// What the parts of the control API work with. Main thread.
#pragma once

#include "main/birth.h"
#include "main/config.h"
#include "main/control_http.h"
#include "main/limits.h"
#include "main/sockets.h"
#include "relay/node.h"

namespace belfry {

struct control_live;
struct reload;
struct stopping;

struct control_api {
    struct node *node;                            // borrowed
    const config *settings;                       // borrowed
    const std::vector<bound_listener> *listeners; // borrowed
    const control_http *http;                     // borrowed; null while it is being made
    struct reload *reload;                        // borrowed
    const process_limits *limits;                 // borrowed
    const birth *born;                            // borrowed
    json_reader *reader;                          // owned
    uint64_t started_ms;                          // wall clock
    loop *on;                                     // borrowed
    struct stopping *stopping = nullptr;          // borrowed
    struct control_live *live = nullptr;          // owned
    uint64_t sockets_refused = 0;                 // of those that the process was born with (kept_sockets.h)
};

} // namespace belfry
