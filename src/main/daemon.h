// What runs by a config: the node with its workers, the control API, the listening sockets. Main thread.
#pragma once

#include "main/birth.h"
#include "main/config.h"
#include "main/control_api.h"
#include "main/limits.h"
#include "main/master_link.h"
#include "main/reload.h"
#include "main/sockets.h"
#include "main/stopping.h"

namespace belfry {

struct daemon {
    const birth *born;       // borrowed
    struct config *settings; // owned
    struct loop *loop;       // owned
    struct wheel timers;     // the control API's
    struct node node;
    control_api api;
    control_http *http; // owned
    sockets listening;
    std::vector<bound_listener> listeners;
    struct reload reload;
    struct process_limits limits;
    master_link master;
    bool retired; // an upgrade's other process serves
    struct stopping stopping;
    struct handover_link *newer = nullptr, *older = nullptr; // owned: to an upgrade's other processes; or null
};

// A worker process's life, until a signal or its master ends it: the process's exit code. Takes the settings, from
// `new`, which were read from `file`: reloads read it again.
int daemon_run(const birth *born, const char *file, config *settings);

// No connection is accepted any more, those that are there live on; a reload listens again.
void daemon_stop_listening(daemon *d);

} // namespace belfry
