// The worker process's end of the channel to the master: what it is told, what it tells. Belongs to the daemon. Main
// thread.
#pragma once

#include "main/birth.h"
#include "net/packets.h"

namespace belfry {

struct daemon;

struct master_link {
    int fd; // owned; -1: there is no master any more
    packet_watch watch;
    char *received; // owned: packet_size_max bytes
    uint64_t alive_ms, alive_at_ms;
    std::vector<uint64_t> beats; // of each worker thread, when the master last heard
    // What the master has said, for the daemon to do in its turn.
    bool lost;                 // the master is gone
    bool retires;              // another worker process serves
    int retire_fd, succeed_fd; // owned until taken: the handover's socket; -1: none
};

// Takes d->born->channel; tells where the log is and which node this is.
void master_link_open(struct daemon *d);
void master_link_close(struct daemon *d);
// Once a turn: that all threads have turned, where the master wants to know.
void master_link_turn(struct daemon *d);

// Before master_link_ready: the file to be removed when all is over.
void master_link_pid_file(struct daemon *d, const std::string &path);
// After each change of d->listening or of the control API's sockets (start, reload, and when listening ends): the
// master keeps duplicates of exactly these. They must still be open, and what is not listened on any more not be among
// them: until the master has closed its duplicate too, the kernel goes on listening.
void master_link_sockets(struct daemon *d);
// Before anything is opened, of what the process was born with: what is not in `kept` the master closes, too, since its
// duplicates would hold the address. That may come after our own attempt to listen there; then the next process, which
// is born without them, succeeds.
void master_link_kept(struct daemon *d, const std::vector<kept_address> *kept);
void master_link_ready(struct daemon *d);
void master_link_reloading(struct daemon *d);
void master_link_reloaded(struct daemon *d);
// Draining by its own decision: when it ends, so does the master.
void master_link_stopping(struct daemon *d);
// The handover of an upgrade is over (the new process says so): another one may come.
void master_link_settled(struct daemon *d);

} // namespace belfry
