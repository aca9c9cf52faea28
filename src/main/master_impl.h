// The master's parts, for the master*.cc files alone: signals and life (master), worker processes and what they say
// (master_workers), a new binary (master_upgrade). One thread.
#pragma once

#include "main/channel.h"
#include "main/master.h"

#include <signal.h>
#include <sys/types.h>

namespace belfry {

inline constexpr uint64_t worker_ready_ms = 90000;    // within which a new worker process must serve
inline constexpr uint64_t worker_end_ms = 10000;      // within which one must be gone that was told to end at once
inline constexpr uint64_t handover_ms = 30000;        // within which an upgrade's handover is over, said or not
inline constexpr size_t retired_max = 8;              // worker processes that still drain; above it no other upgrade
inline constexpr size_t kept_descriptors_max = 16384; // of one worker process

enum class worker_role : uint8_t {
    starting, // not ready yet
    serving,
    retired, // another one serves; it drains
};

struct worker_process {
    pid_t pid;
    int channel; // owned; -1: it has closed its end
    worker_role role;
    bool stopping; // by itself: told to drain over the control API
    uint32_t generation;
    uint64_t started_ms;
    std::string node; // its node id
    std::vector<kept_address> kept, coming;
};

// `NEW_BINARY -t`, while it runs.
struct upgrade_check {
    pid_t pid = 0;   // 0: none
    int output = -1; // owned: the reading end of its standard output and error
    std::string text;
    uint64_t deadline_ms;
};

struct master {
    const master_program *program; // borrowed
    std::string path;              // the binary, as it was first called: by where it is, not by what it was
    sigset_t heeded;
    int signals; // owned: signalfd
    std::vector<worker_process> workers;
    std::vector<kept_address> orphans;   // owned: of a crashed worker process, for the next one
    std::vector<kept_address> inherited; // owned: from LISTEN_FDS; kept for as long as the master lives
    upgrade_check check;
    bool served;         // some worker process has been ready
    bool ending;         // the last orderly end, or the first start that failed: nothing is started again
    bool upgrade_waits;  // USR2 came while a handover was under way
    uint32_t generation; // of the worker process forked last
    uint64_t crashes;
    uint64_t backoff_ms;    // before the last start after a crash; 0: none
    uint64_t restart_at_ms; // 0: nothing to be started again
    uint64_t settle_at_ms;  // a handover is under way until then at most; 0: none
    uint64_t watchdog_ms, watchdog_at_ms;
    int stops; // TERM and QUIT so far; 2: at once
    uint64_t kill_at_ms;
    bool killed; // something did not end by itself
    int exit_code;
    std::string pid_file;
    std::string log_target, log_level, log_json; // as the worker process told
    char *packet;                                // owned: packet_size_max bytes
};

uint64_t master_now_ms();
void close_kept(std::vector<kept_address> *all);
// The one that signals go to: the serving one, else the one that starts; null where there is none.
worker_process *master_current(master *m);
// To every worker process.
void master_signal_all(master *m, int number);

// ---- worker processes ----

// Forks one; false where that can't be done (said in the log). What `kept` holds stays the master's.
[[nodiscard]] bool worker_fork(master *m, const std::vector<kept_address> *kept, const std::string &node, bool upgrade);
// Reads what it says; on its end the descriptor is closed.
void worker_listen(master *m, worker_process *w);
// Collects who has ended.
void master_reap(master *m);
// What is due by the clock: starts after a crash, ends that take too long.
void workers_turn(master *m, uint64_t now_ms);

// ---- upgrade ----

// USR2.
void upgrade_begin(master *m);
// Its output can be read, or has ended.
void upgrade_read(master *m);
void upgrade_turn(master *m, uint64_t now_ms);
// True where the process ended was the check.
[[nodiscard]] bool upgrade_checked(master *m, pid_t pid, int status);
void upgrade_cancel(master *m);
// The new worker process is ready: the serving one learns it.
void upgrade_hand_over(master *m, worker_process *from, worker_process *to);
// After the new binary was executed by a master: takes over what that one kept. False where there was none. A state
// that can't be read is fatal: there is a worker process that nobody would look after.
[[nodiscard]] bool upgrade_resume(master *m);

} // namespace belfry
