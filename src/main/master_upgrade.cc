// USR2: the new binary is asked whether it could serve (-t), executed in the master's place, and takes over what the
// old one kept. At each step before the new worker process serves, a failure leaves the old one in charge. The
// master's only thread.
#include "base/error.h"
#include "base/log.h"
#include "main/master_impl.h"
#include "main/notify_socket.h"
#include "main/upgrade_state.h"
#include "net/packets.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

namespace belfry {

static constexpr uint64_t check_ms = 60000;      // for the new binary's -t
static constexpr size_t check_output_max = 8192; // bytes of what it says
static constexpr int no_such_binary = 127;

// ---------------------------------------------------------------- asking the new binary

static const char *why_not(master *m) {
    const worker_process *w = master_current(m);
    size_t retired = 0, starting = 0;
    for (const worker_process &each : m->workers) {
        retired += each.role == worker_role::retired;
        starting += each.role == worker_role::starting;
    }
    if (m->stops || m->ending) return "it is stopping";
    if (w && w->stopping) return "it is stopping";
    if (m->check.pid) return "an upgrade is under way";
    if (starting) return "a worker process is just starting";
    if (retired >= retired_max) return "too many old worker processes still say goodbye to their clients";
    return nullptr;
}

// In the child: the new binary with the master's environment and none of its descriptors.
[[noreturn]] static void run_check(const master *m, int output) {
    sigprocmask(SIG_UNBLOCK, &m->heeded, nullptr);
    signal(SIGPIPE, SIG_DFL);
    dup2(output, STDOUT_FILENO);
    dup2(output, STDERR_FILENO);
    setenv(upgrade_format_variable, upgrade_format, 1);
    execl(m->path.c_str(), m->program->argv[0], "-t", "-c", m->program->file, static_cast<char *>(nullptr));
    dprintf(STDERR_FILENO, "%s: %s\n", m->path.c_str(), strerror(errno));
    _exit(no_such_binary);
}

void upgrade_begin(master *m) {
    m->upgrade_waits = false;
    if (const char *why = why_not(m)) return log_warn("USR2: no upgrade now, %s", why);
    if (m->settle_at_ms) {
        m->upgrade_waits = true;
        return log_info("USR2: an upgrade's handover is under way, the next one follows it");
    }
    int ends[2];
    if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0) return log_error("upgrade: pipe: %s", strerror(errno));
    pid_t pid = fork();
    if (pid == 0) run_check(m, ends[1]);
    close(ends[1]);
    if (pid < 0) {
        log_error("upgrade: fork: %s", strerror(errno));
        close(ends[0]);
        return;
    }
    log_info("upgrade: asking %s whether it could serve", m->path.c_str());
    m->check.pid = pid;
    m->check.output = ends[0];
    m->check.text.clear();
    m->check.deadline_ms = master_now_ms() + check_ms;
}

static void end_output(upgrade_check *c) {
    if (c->output >= 0) close(c->output);
    c->output = -1;
}

void upgrade_read(master *m) {
    upgrade_check *c = &m->check;
    char bytes[4096];
    ssize_t n;
    while (c->output >= 0 && (n = read(c->output, bytes, sizeof bytes)) != 0) {
        if (n < 0 && errno == EINTR) continue;
        if (n < 0 && errno == EAGAIN) return;
        if (n < 0) break;
        if (c->text.size() < check_output_max) c->text.append(bytes, static_cast<size_t>(n));
    }
    end_output(c);
}

static void log_output(const std::string *text) {
    for (size_t at = 0; at < text->size() && at < check_output_max;) {
        size_t end = text->find('\n', at) == std::string::npos ? text->size() : text->find('\n', at);
        if (end > at) log_error("upgrade: %s", text->substr(at, end - at).c_str());
        at = end + 1;
    }
}

void upgrade_cancel(master *m) {
    m->upgrade_waits = false;
    if (m->check.pid) kill(m->check.pid, SIGKILL);
}

// ---------------------------------------------------------------- executing it

static void describe(const master *m, upgrade_state *s) {
    *s = {m->generation, m->crashes,  m->backoff_ms, m->pid_file, m->log_target,
          m->log_level,  m->log_json, m->inherited,  m->orphans,  {}};
    for (const worker_process &w : m->workers) {
        if (w.channel < 0) continue; // as good as gone
        s->workers.push_back({static_cast<uint64_t>(w.pid), static_cast<uint64_t>(w.channel),
                              w.role == worker_role::retired, w.stopping, w.generation, w.started_ms, w.node, w.kept});
    }
}

static void keep_over_exec(int fd) {
    fcntl(fd, F_SETFD, 0);
}
static void close_at_exec(int fd) {
    fcntl(fd, F_SETFD, FD_CLOEXEC);
}

// A memory file that outlives the exec. -1 where there can be none.
static int write_down(const upgrade_state *s) {
    std::string bytes = upgrade_state_encode(s);
    int fd = memfd_create("belfry-upgrade", 0);
    size_t done = 0;
    while (fd >= 0 && done < bytes.size()) {
        ssize_t n = write(fd, bytes.data() + done, bytes.size() - done);
        if (n > 0) done += static_cast<size_t>(n);
        if (n < 0 && errno != EINTR) break;
    }
    if (fd >= 0 && done < bytes.size()) {
        close(fd);
        return -1;
    }
    return fd;
}

// Signals stay blocked over the exec, and pending: none is lost while the new binary gets on its feet.
static void execute(master *m) {
    upgrade_state s;
    describe(m, &s);
    int fd = write_down(&s);
    if (fd < 0) return log_error("upgrade: no memory file: %s; the old binary goes on", strerror(errno));
    setenv(upgrade_variable, std::to_string(fd).c_str(), 1);
    log_info("upgrade: executing %s", m->path.c_str());
    notify_send("STATUS=upgrading");
    upgrade_state_descriptors(&s, keep_over_exec);
    execv(m->path.c_str(), m->program->argv);
    log_error("upgrade: %s: %s; the old binary goes on", m->path.c_str(), strerror(errno));
    upgrade_state_descriptors(&s, close_at_exec);
    unsetenv(upgrade_variable);
    close(fd);
}

bool upgrade_checked(master *m, pid_t pid, int status) {
    upgrade_check *c = &m->check;
    if (pid != c->pid) return false;
    upgrade_read(m);
    end_output(c);
    c->pid = 0;
    if (m->stops || m->ending) return true;
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        execute(m);
    else {
        log_output(&c->text);
        log_error("upgrade: %s; the old one goes on", WIFEXITED(status) && WEXITSTATUS(status) == no_such_binary
                                                          ? "the new binary can't be run"
                                                          : "the new binary can't serve this config");
    }
    return true;
}

void upgrade_turn(master *m, uint64_t now_ms) {
    if (m->check.pid && now_ms >= m->check.deadline_ms) {
        log_error("upgrade: the new binary takes too long with -t");
        m->check.deadline_ms = now_ms + check_ms;
        kill(m->check.pid, SIGKILL);
    }
    if (m->settle_at_ms && now_ms >= m->settle_at_ms) m->settle_at_ms = 0;
    if (m->upgrade_waits && !m->settle_at_ms) upgrade_begin(m);
}

// ---------------------------------------------------------------- in the new binary

static bool read_back(int fd, std::string *out) {
    char bytes[4096];
    if (lseek(fd, 0, SEEK_SET) < 0) return false;
    for (ssize_t n; (n = read(fd, bytes, sizeof bytes)) != 0;) {
        if (n < 0 && errno != EINTR) return false;
        if (n > 0) out->append(bytes, static_cast<size_t>(n));
    }
    return true;
}

static void take_over(master *m, const upgrade_state *s) {
    m->generation = static_cast<uint32_t>(s->generation);
    m->crashes = s->crashes;
    m->backoff_ms = s->backoff_ms;
    m->pid_file = s->pid_file;
    m->log_target = s->log_target, m->log_level = s->log_level, m->log_json = s->log_json;
    m->inherited = s->inherited;
    m->orphans = s->orphans;
    m->served = true;
    for (const upgrade_worker &w : s->workers)
        m->workers.push_back({static_cast<pid_t>(w.pid),
                              static_cast<int>(w.channel),
                              w.retired ? worker_role::retired : worker_role::serving,
                              w.stopping,
                              static_cast<uint32_t>(w.generation),
                              w.started_ms,
                              w.node,
                              w.kept,
                              {}});
}

bool upgrade_resume(master *m) {
    const char *text = getenv(upgrade_variable);
    if (!text) return false;
    uint64_t fd = 0;
    std::string bytes;
    upgrade_state s;
    bool fine = bytes_parse_uint(text, &fd) && fd < INT32_MAX && read_back(static_cast<int>(fd), &bytes) &&
                upgrade_state_decode(bytes, &s);
    if (!fine) fatal("what the old binary left in %s=%s is not to be read", upgrade_variable, text);
    unsetenv(upgrade_variable);
    close(static_cast<int>(fd));
    upgrade_state_descriptors(&s, close_at_exec);
    take_over(m, &s);
    error e;
    int level = m->log_level.empty() ? 2 : m->log_level[0] - '0';
    if (!m->log_target.empty() &&
        !log_open(m->log_target.c_str(), static_cast<log_level>(level), m->log_json == "1", &e))
        log_warn("master: %s", e.text);
    return true;
}

// ---------------------------------------------------------------- handing over

static bool tell(const worker_process *w, channel_kind kind, int fd) {
    channel_message c = {kind, {}};
    constexpr int wait_ms = 1000;
    return packet_send_within(w->channel, channel_encode(&c), &fd, 1, wait_ms) == packet_sent::whole;
}

void upgrade_hand_over(master *m, worker_process *from, worker_process *to) {
    from->role = worker_role::retired;
    if (m->stops) return; // both know
    m->settle_at_ms = master_now_ms() + handover_ms;
    log_info("upgrade: worker process %d serves, the old one, %d, hands over", to->pid, from->pid);
    error e;
    int ends[2];
    if (!packet_pair(ends, &e)) {
        log_error("upgrade: %s; the old worker process drains", e.text);
        kill(from->pid, SIGTERM);
        return;
    }
    if (!tell(to, channel_kind::succeed, ends[0]) || !tell(from, channel_kind::retire, ends[1])) {
        log_error("upgrade: the worker processes can't be told to hand over; the old one drains");
        kill(from->pid, SIGTERM);
    }
    close(ends[0]);
    close(ends[1]);
}

} // namespace belfry
