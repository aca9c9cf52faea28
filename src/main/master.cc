// The master's loop: signals in, deadlines, the end. One thread, no loop of net/'s.
#include "main/master_impl.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "main/backoff.h"
#include "main/listen_fds.h"
#include "main/notify_socket.h"
#include "net/packets.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <unistd.h>

namespace belfry {

static constexpr int heeded[] = {SIGTERM, SIGQUIT, SIGINT, SIGHUP, SIGUSR1, SIGUSR2, SIGWINCH, SIGCHLD};

uint64_t master_now_ms() {
    return clock_monotonic_ms();
}

void close_kept(std::vector<kept_address> *all) {
    for (kept_address &a : *all)
        for (int fd : a.fds)
            close(fd);
    all->clear();
}

worker_process *master_current(master *m) {
    worker_process *found = nullptr;
    for (worker_process &w : m->workers)
        if (w.role == worker_role::serving || (w.role == worker_role::starting && !found)) found = &w;
    return found;
}

void master_signal_all(master *m, int number) {
    for (const worker_process &w : m->workers)
        kill(w.pid, number);
}

// ---------------------------------------------------------------- signals

static void signal_current(master *m, int number) {
    if (worker_process *w = master_current(m)) kill(w->pid, number);
}

// The second one is passed on as INT, since two equal signals that come close together are one.
static void stop(master *m, bool now) {
    m->stops = now || m->stops ? 2 : 1;
    m->restart_at_ms = 0;
    upgrade_cancel(m);
    notify_send(m->stops == 1 ? "STOPPING=1\nSTATUS=saying goodbye to clients" : "STOPPING=1\nSTATUS=ending at once");
    master_signal_all(m, m->stops == 1 ? SIGTERM : SIGINT);
    if (m->stops == 2 && !m->kill_at_ms) m->kill_at_ms = master_now_ms() + worker_end_ms;
}

static void heed(master *m, const struct signalfd_siginfo *s) {
    switch (s->ssi_signo) {
    case SIGTERM:
    case SIGQUIT:
        return stop(m, false);
    case SIGINT:
        return stop(m, true);
    case SIGHUP:
        return signal_current(m, SIGHUP);
    case SIGUSR1:
        log_reopen();
        return master_signal_all(m, SIGUSR1);
    case SIGUSR2:
        return upgrade_begin(m);
    case SIGWINCH:
        // A terminal's, whose window has changed its size, means nothing.
        if (s->ssi_code != SI_KERNEL) signal_current(m, SIGWINCH);
        return;
    default: // CHLD: master_reap looks at each turn
        return;
    }
}

static void read_signals(master *m) {
    struct signalfd_siginfo s;
    while (read(m->signals, &s, sizeof s) == static_cast<ssize_t>(sizeof s))
        heed(m, &s);
}

// Blocked from here on in all that the master forks: a worker process lets them in when it can heed them.
static void catch_signals(master *m) {
    sigemptyset(&m->heeded);
    for (int number : heeded)
        sigaddset(&m->heeded, number);
    sigprocmask(SIG_BLOCK, &m->heeded, nullptr);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGCHLD, SIG_DFL); // where it is ignored, which is inherited, nobody hears how a child has ended
    m->signals = signalfd(-1, &m->heeded, SFD_NONBLOCK | SFD_CLOEXEC);
    if (m->signals < 0) fatal("master: signalfd: %s", strerror(errno));
}

// ---------------------------------------------------------------- the turn

// Milliseconds until something is due, for poll(2); -1: nothing is.
static int next_due(const master *m, uint64_t now) {
    uint64_t due = UINT64_MAX;
    auto consider = [&due](uint64_t at) {
        if (at && at < due) due = at;
    };
    consider(m->restart_at_ms);
    consider(m->kill_at_ms);
    consider(m->settle_at_ms);
    consider(m->watchdog_at_ms);
    if (m->check.pid) consider(m->check.deadline_ms);
    for (const worker_process &w : m->workers)
        if (w.role == worker_role::starting) consider(w.started_ms + worker_ready_ms);
    if (due == UINT64_MAX) return -1;
    if (due <= now) return 0;
    return due - now > INT_MAX ? INT_MAX : static_cast<int>(due - now);
}

static void wait_and_read(master *m) {
    std::vector<struct pollfd> all = {{m->signals, POLLIN, 0}, {m->check.output, POLLIN, 0}};
    for (const worker_process &w : m->workers)
        all.push_back({w.channel, POLLIN, 0});
    int ready = poll(all.data(), all.size(), next_due(m, master_now_ms()));
    if (ready < 0 && errno != EINTR) fatal("master: poll: %s", strerror(errno));
    if (ready <= 0) return;
    for (size_t i = 0; i < m->workers.size(); i++) // nobody is added or taken away by what they say
        if (all[i + 2].revents) worker_listen(m, &m->workers[i]);
    if (all[1].revents) upgrade_read(m);
    if (all[0].revents) read_signals(m);
}

// While no worker process serves, which then answers for itself, the master lives and that is enough.
static void watchdog_turn(master *m, uint64_t now) {
    if (!m->watchdog_ms || now < m->watchdog_at_ms) return;
    m->watchdog_at_ms = now + m->watchdog_ms / 4;
    worker_process *w = master_current(m);
    if (!w || w->role != worker_role::serving) notify_send("WATCHDOG=1");
}

static void live(master *m) {
    while (!m->workers.empty() || m->check.pid || (!m->ending && !m->stops)) {
        wait_and_read(m);
        master_reap(m);
        uint64_t now = master_now_ms();
        workers_turn(m, now);
        upgrade_turn(m, now);
        watchdog_turn(m, now);
    }
}

// ---------------------------------------------------------------- life

// Where the binary is found again when it has been replaced: /proc/self/exe would be the old one.
static std::string find_binary(const char *name) {
    std::string path = name;
    if (path.find('/') == std::string::npos) {
        const char *all = getenv("PATH");
        std::string rest = all ? all : "/usr/local/bin:/usr/bin:/bin";
        for (size_t at = 0; at <= rest.size();) {
            size_t end = rest.find(':', at) == std::string::npos ? rest.size() : rest.find(':', at);
            std::string candidate = rest.substr(at, end - at) + "/" + name;
            if (candidate[0] == '/' && access(candidate.c_str(), X_OK) == 0) return candidate;
            at = end + 1;
        }
    }
    char here[PATH_MAX];
    if (path[0] != '/' && getcwd(here, sizeof here)) path = std::string(here) + "/" + path;
    return path;
}

// The duplicates of sockets may be many: 64 worker threads, and as many again during an upgrade.
static void raise_descriptor_limit() {
    struct rlimit r;
    if (getrlimit(RLIMIT_NOFILE, &r) != 0) return;
    r.rlim_cur = r.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &r) != 0) log_warn("can't raise the limit of open files: %s", strerror(errno));
}

static void start_first(master *m) {
    error e;
    if (!listen_fds_take(&m->inherited, &e)) {
        fprintf(stderr, "belfry: %s\n", e.text);
        m->exit_code = 1;
        m->ending = true;
    } else if (!worker_fork(m, &m->orphans, "", false)) {
        m->exit_code = 1;
        m->ending = true;
    }
}

// After an upgrade: beside the one that still serves, or alone where it was about to be started again.
static void start_next(master *m) {
    const worker_process *old = master_current(m);
    bool forked = old ? worker_fork(m, &old->kept, old->node, true) : worker_fork(m, &m->orphans, "", false);
    if (!forked && !old) m->restart_at_ms = master_now_ms() + backoff_most_ms;
}

static void finish(master *m) {
    if (!m->pid_file.empty()) unlink(m->pid_file.c_str());
    close_kept(&m->orphans);
    close_kept(&m->inherited);
    close(m->signals);
    free(m->packet);
}

int master_run(const master_program *program) {
    master m = {};
    m.program = program;
    m.path = find_binary(program->argv[0]);
    m.packet = static_cast<char *>(memory_get(packet_size_max));
    catch_signals(&m);
    m.watchdog_ms = notify_watchdog_ms(getenv("WATCHDOG_USEC"), getenv("WATCHDOG_PID"), getpid());
    if (m.watchdog_ms) m.watchdog_at_ms = master_now_ms();
    raise_descriptor_limit();
    if (upgrade_resume(&m))
        start_next(&m);
    else
        start_first(&m);
    live(&m);
    if (m.killed && m.exit_code == 0) m.exit_code = 1;
    finish(&m);
    return m.exit_code;
}

} // namespace belfry
