// The worker processes: forking them, hearing them, and what becomes of their ends. The master's only thread.
#include "base/error.h"
#include "base/log.h"
#include "main/backoff.h"
#include "main/master_impl.h"
#include "main/notify_socket.h"
#include "net/packets.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

namespace belfry {

// ---------------------------------------------------------------- birth

static void copy_kept(const std::vector<kept_address> *from, birth *to) {
    to->kept.insert(to->kept.end(), from->begin(), from->end());
}

static bool is_among(const birth *b, int fd) {
    for (const kept_address &a : b->kept)
        for (int one : a.fds)
            if (one == fd) return true;
    return false;
}

// What is the master's, or another worker process's, is not the new one's.
static void close_others(master *m, const birth *b, const worker_process *all, size_t count) {
    close(m->signals);
    if (m->check.output >= 0) close(m->check.output);
    auto drop = [b](const std::vector<kept_address> *of) {
        for (const kept_address &a : *of)
            for (int fd : a.fds)
                if (!is_among(b, fd)) close(fd);
    };
    for (size_t i = 0; i < count; i++) {
        if (all[i].channel >= 0) close(all[i].channel);
        drop(&all[i].kept);
        drop(&all[i].coming);
    }
    drop(&m->orphans);
}

[[noreturn]] static void be_worker(master *m, birth *b) {
    close_others(m, b, m->workers.data(), m->workers.size());
    exit(m->program->worker(b, m->program->file));
}

bool worker_fork(master *m, const std::vector<kept_address> *kept, const std::string &node, bool upgrade) {
    error e;
    int ends[2];
    if (!packet_pair(ends, &e)) return log_error("can't start a worker process: %s", e.text), false;
    birth b = {ends[1], getpid(), m->generation + 1, m->crashes, !m->served, upgrade, node, m->watchdog_ms / 4, {}};
    copy_kept(&m->inherited, &b); // first, for among the others they come again, as if they were the service's own
    copy_kept(kept, &b);
    pid_t pid = fork();
    if (pid == 0) {
        close(ends[0]);
        be_worker(m, &b);
    }
    close(ends[1]);
    if (pid < 0) {
        log_error("can't start a worker process: fork: %s", strerror(errno));
        close(ends[0]);
        return false;
    }
    m->generation++;
    m->workers.push_back({pid, ends[0], worker_role::starting, false, m->generation, master_now_ms(), "", {}, {}});
    return true;
}

// ---------------------------------------------------------------- what they say

static void take_log(master *m, const channel_message *c) {
    if (m->log_target == c->fields[0] && m->log_level == c->fields[1] && m->log_json == c->fields[2]) return;
    m->log_target = c->fields[0], m->log_level = c->fields[1], m->log_json = c->fields[2];
    error e;
    int level = m->log_level.size() == 1 ? m->log_level[0] - '0' : -1;
    if (level < 0 || level > static_cast<int>(log_level::debug)) level = static_cast<int>(log_level::info);
    if (!log_open(m->log_target.c_str(), static_cast<log_level>(level), m->log_json == "1", &e))
        log_warn("master: %s", e.text);
}

// Of what a worker process can cause at will: it may be broken, or in somebody else's hands.
static void complain(const worker_process *w, const char *what) {
    static log_limit limit;
    uint64_t held = 0;
    if (log_limit_pass(&limit, &held))
        log_error("master: worker process %d %s (%llu more not shown)", w->pid, what,
                  static_cast<unsigned long long>(held));
}

static void take_address(worker_process *w, const channel_message *c, packet *p) {
    size_t have = p->count;
    for (const kept_address &a : w->coming)
        have += a.fds.size();
    bool control = c->fields[0] == "control";
    // Without an address it would be systemd's, and believed (kept_sockets.h).
    if ((!control && c->fields[0] != "listener") || c->fields[2].empty() || p->count == 0 ||
        have > kept_descriptors_max) {
        complain(w, "tells of sockets that can't be its own");
        return packet_close_descriptors(p);
    }
    w->coming.push_back({control, c->fields[1], c->fields[2], {p->descriptors, p->descriptors + p->count}});
    p->count = 0;
}

static void serve(master *m, worker_process *w) {
    if (w->role != worker_role::starting) return;
    worker_process *before = master_current(m);
    w->role = worker_role::serving;
    close_kept(&m->orphans);
    if (before != w) upgrade_hand_over(m, before, w);
    notify_send("READY=1\nSTATUS=serving, worker process " + std::to_string(w->pid));
    if (m->served && before == w) log_info("worker process %d serves", w->pid);
    m->served = true;
    if (m->stops) kill(w->pid, m->stops == 1 ? SIGTERM : SIGINT);
}

// Paths that the master will write to or remove are believed only before `ready`, for after it the worker process has
// given its privileges up and met clients.
static void hear_early(master *m, worker_process *w, const channel_message *c) {
    if (w->role != worker_role::starting) return;
    if (c->kind == channel_kind::log) {
        take_log(m, c);
    } else if (c->kind == channel_kind::pid_file) {
        if (!m->pid_file.empty() && m->pid_file != c->fields[0]) unlink(m->pid_file.c_str());
        m->pid_file = c->fields[0];
    } else {
        w->node = c->fields[0];
    }
}

static void hear(master *m, worker_process *w, const channel_message *c, packet *p) {
    bool serves = w->role == worker_role::serving;
    switch (c->kind) {
    case channel_kind::log:
    case channel_kind::pid_file:
    case channel_kind::node:
        return hear_early(m, w, c);
    case channel_kind::keep_none:
        return close_kept(&w->coming);
    case channel_kind::keep:
        return take_address(w, c, p);
    case channel_kind::kept:
        close_kept(&w->kept);
        w->kept.swap(w->coming);
        // It has its own duplicates of those that it goes on with. The others would hold their addresses.
        if (w->role == worker_role::starting) close_kept(&m->orphans);
        return;
    case channel_kind::ready:
        return serve(m, w);
    case channel_kind::reloading:
        if (serves) notify_send(notify_reloading(clock_monotonic_ns()));
        return;
    case channel_kind::reloaded:
        if (serves) notify_send("READY=1");
        return;
    case channel_kind::stopping:
        w->stopping = true;
        if (serves) notify_send("STOPPING=1\nSTATUS=saying goodbye to clients");
        return;
    case channel_kind::alive:
        if (serves && m->watchdog_ms) notify_send("WATCHDOG=1");
        return;
    case channel_kind::settled:
        if (serves) m->settle_at_ms = 0;
        return;
    case channel_kind::retire:
    case channel_kind::succeed:
        return; // the master's own words
    }
}

// What a worker process can say at once is bounded, so that one that talks without end does not keep signals waiting.
void worker_listen(master *m, worker_process *w) {
    for (int i = 0; i < 256 && w->channel >= 0; i++) {
        packet p;
        switch (packet_receive(w->channel, m->packet, &p)) {
        case packet_got::nothing:
            return;
        case packet_got::ended:
            close(w->channel);
            w->channel = -1;
            return;
        case packet_got::broken:
            complain(w, "said something that was cut off; may more files be open (LimitNOFILE)?");
            continue;
        case packet_got::whole:
            break;
        }
        channel_message c;
        if (channel_decode(view(m->packet, p.size), &c))
            hear(m, w, &c, &p);
        else
            complain(w, "says what is not understood; both should be of one version: restart the service");
        packet_close_descriptors(&p);
    }
}

// ---------------------------------------------------------------- ends

static std::string how_it_ended(int status) {
    if (WIFEXITED(status)) return "exit code " + std::to_string(WEXITSTATUS(status));
    int number = WTERMSIG(status);
    const char *name = sigabbrev_np(number);
    std::string text = std::string("killed by SIG") + (name ? name : std::to_string(number).c_str());
    return WCOREDUMP(status) ? text + ", core dumped" : text;
}

static void end_with(master *m, const worker_process *w, int status) {
    bool exited = WIFEXITED(status);
    m->exit_code = exited ? WEXITSTATUS(status) : 1;
    m->ending = true;
    // One that failed to start has said why.
    bool quiet = exited && (status == 0 || !m->served);
    if (!quiet && !m->killed)
        log_error("worker process %d did not end in order: %s", w->pid, how_it_ended(status).c_str());
    master_signal_all(m, SIGTERM); // those that an upgrade left behind, or has just begun
}

// The connections that wait in them are the next one's.
static void adopt_sockets(master *m, worker_process *w) {
    if (w->kept.empty()) return;
    close_kept(&m->orphans);
    m->orphans.swap(w->kept);
}

static void start_again_later(master *m, worker_process *w, int status) {
    uint64_t now = master_now_ms();
    m->crashes++;
    m->backoff_ms = backoff_next(m->backoff_ms, now - w->started_ms);
    m->restart_at_ms = now + m->backoff_ms;
    adopt_sockets(m, w);
    log_error("worker process %d crashed: %s; starting it again in %llu ms (crash %llu)", w->pid,
              how_it_ended(status).c_str(), static_cast<unsigned long long>(m->backoff_ms),
              static_cast<unsigned long long>(m->crashes));
    notify_send("STATUS=worker process crashed (" + how_it_ended(status) + "), crash " + std::to_string(m->crashes));
}

static void bury(master *m, worker_process *w, int status) {
    const worker_process *other = nullptr; // that serves, or is about to
    for (const worker_process &each : m->workers)
        if (&each != w && each.role != worker_role::retired) other = &each;
    if (w->role == worker_role::retired) {
        if (status == 0)
            log_info("the old worker process %d has ended", w->pid);
        else if (!m->killed)
            log_error("the old worker process %d did not end in order: %s", w->pid, how_it_ended(status).c_str());
        m->settle_at_ms = 0;
    } else if (w->role == worker_role::starting && other) {
        if (!m->stops)
            log_error("upgrade: the new worker process %d ended before it served (%s); the old one goes on", w->pid,
                      how_it_ended(status).c_str());
    } else if (m->stops || m->ending || w->stopping || status == 0 || !m->served) {
        end_with(m, w, status);
    } else if (other) { // which an upgrade has started already
        m->crashes++;
        adopt_sockets(m, w); // in case the new one fails
        log_error("worker process %d crashed while the new one starts: %s", w->pid, how_it_ended(status).c_str());
    } else {
        start_again_later(m, w, status);
    }
}

void master_reap(master *m) {
    int status;
    for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0;) {
        if (upgrade_checked(m, pid, status)) continue;
        for (size_t i = 0; i < m->workers.size(); i++) {
            worker_process *w = &m->workers[i];
            if (w->pid != pid) continue;
            worker_listen(m, w); // its last words
            bury(m, w, status);
            if (w->channel >= 0) close(w->channel);
            close_kept(&w->kept);
            close_kept(&w->coming);
            m->workers.erase(m->workers.begin() + static_cast<ptrdiff_t>(i));
            break;
        }
    }
}

void workers_turn(master *m, uint64_t now_ms) {
    if (m->restart_at_ms && now_ms >= m->restart_at_ms) {
        m->restart_at_ms = 0;
        if (!worker_fork(m, &m->orphans, "", false)) m->restart_at_ms = now_ms + backoff_most_ms;
    }
    for (worker_process &w : m->workers)
        if (w.role == worker_role::starting && now_ms >= w.started_ms + worker_ready_ms) {
            log_error("worker process %d does not get ready: killing it", w.pid);
            w.started_ms = now_ms;
            kill(w.pid, SIGKILL);
        }
    if (m->kill_at_ms && now_ms >= m->kill_at_ms) {
        m->kill_at_ms = 0;
        m->killed = !m->workers.empty();
        if (m->killed) log_error("a worker process does not end: killing it");
        master_signal_all(m, SIGKILL);
    }
}

} // namespace belfry
