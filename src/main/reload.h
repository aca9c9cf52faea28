// Reloading: the file is read beside the configuration in force, new addresses are opened, and only where all of that
// went well does the node go over to it; else nothing has changed. One at a time: who asks while one is under way gets
// the next one, all of them together, so the last file wins. Belongs to the daemon (daemon_reload.cc). Main thread.
#pragma once

#include "main/config.h"
#include "main/control_http.h"
#include "main/limits.h"
#include "main/sockets.h"

#include <stdint.h>
#include <string>
#include <vector>

namespace belfry {

struct daemon;

struct reload {
    struct daemon *of; // borrowed
    std::string file;
    // What the status tells.
    uint64_t generation;  // of the configuration in force: 1 from the start, one more with each reload
    uint64_t loaded_ms;   // since when it is, wall clock
    uint64_t done;        // reloads that went well
    uint64_t failed;      // that did not
    std::string error;    // why the last of those did not: its first mistake, and how many there are
    uint64_t error_ms;    // and when, wall clock; 0: never
    std::string warnings; // of the last reload: `,"warnings":[...]`, or empty
    // What was asked for, and by whom; a signal asks for nobody.
    bool wanted;
    std::vector<control_conn *> asking; // counted
    // Under way.
    config *next;                          // owned; null: no reload is under way
    std::vector<control_conn *> answering; // counted
    sockets listening;                     // with it
    control_change *control;               // owned
    struct process_limits limits;          // with it
    bool adopted;                          // the node has gone over
};

void reload_init(reload *r, struct daemon *of, const char *file);
// Asks for one. `from` (null: nobody) is answered when it is over: 200 {"generation"}, 422 with all mistakes, 409 while
// the node stops.
void reload_ask(reload *r, control_conn *from);
// Once a turn of the main loop, before node_turn.
void reload_turn(reload *r);
// True while something would be left undone if the loop slept.
inline bool reload_busy(const reload *r) {
    return r->adopted || (r->wanted && !r->next);
}
// The end, while the control API is still there: whoever waits is let go, what was opened is closed.
void reload_end(reload *r);
// After the node's end: the configuration that was being gone over to.
void reload_destroy(reload *r);

} // namespace belfry
