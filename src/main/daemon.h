// What runs by a config: the node with its workers, the control API, the listening sockets. Main thread.
#pragma once

#include "main/config.h"
#include "main/control_api.h"
#include "main/sockets.h"

namespace belfry {

struct daemon {
    struct config *settings; // borrowed
    struct loop *loop;       // owned
    struct wheel timers;     // the control API's
    struct node node;
    control_api api;
    control_http *http; // owned
    sockets listening;
    std::vector<bound_listener> listeners;
    bool wrote_pid;
    int stops; // TERM, INT, QUIT so far
    uint64_t stop_deadline_ms;
};

// Runs until a signal ends it: the process's exit code. The settings are the caller's, to be freed afterwards.
int daemon_run(config *settings);

// FILE:LINE: text, or FILE: text where it is about all of it.
std::string config_error_line(const config_error *e);

} // namespace belfry
