// What the control API answers (contracts section 9), over control_http and the node. Main thread.
#pragma once

#include "main/config.h"
#include "main/control_http.h"
#include "relay/node.h"

namespace belfry {

struct bound_listener {
    std::string name, address;
    bool tls;
};

struct control_api {
    struct node *node;                          // borrowed
    const config *settings;                     // borrowed
    const std::vector<bound_listener> *listeners; // borrowed
    const control_http *http;                   // borrowed; null while it is being made
    json_reader *reader;                        // owned
    uint64_t started_ms;                        // wall clock
    loop *on;                                   // borrowed
};

void control_api_init(control_api *a, node *n, const config *settings, const std::vector<bound_listener> *listeners, loop *on);
void control_api_destroy(control_api *a);
// A control_handler; the context is the control_api.
void control_api_handle(control_conn *c, const control_request *q, void *context);

} // namespace belfry
