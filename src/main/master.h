// The master: a process of one thread that reads no config, speaks no TLS and serves nobody. It forks the worker
// process that does all that (daemon.h), passes signals on to it, keeps duplicates of its listening sockets so that no
// connection is refused while one worker process follows another, starts it again when it crashes, and replaces
// itself and it by a new binary (USR2). Its PID is the service's for all that time.
#pragma once

#include "main/birth.h"

namespace belfry {

struct master_program {
    char **argv;      // borrowed: as it was started, and as a new binary is
    const char *file; // borrowed: the config
    // What a worker process does from its fork to its exit code. Owns what it is born with.
    int (*worker)(birth *born, const char *file);
};

// The master's life, to the service's exit code: 0 after an orderly end; that of the first worker process where it did
// not get as far as serving anybody; 1 where something had to be killed. Returns in the master alone.
int master_run(const master_program *program);

} // namespace belfry
