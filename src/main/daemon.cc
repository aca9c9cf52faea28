// The daemon's life: start, the main thread's loop with its signals, the end.
#ifdef HAVE_CONFIG_H
#include <config.h>
#else
#define PACKAGE_VERSION "unknown"
#endif

#include "main/daemon.h"

#include "base/access_log.h"
#include "base/log.h"
#include "main/control_http.h"
#include "main/handover_link.h"
#include "main/kept_sockets.h"
#include "main/privileges.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

namespace belfry {

// ---------------------------------------------------------------- signals

static volatile sig_atomic_t pending_stop, pending_kill, pending_reopen, pending_reload, pending_deaf;
static loop *signal_loop;

// The master passes on what it gets, and a second TERM as INT; who sends signals to a whole group of processes
// (a terminal, a service manager) says everything twice, which does no harm.
static void on_signal(int number, siginfo_t *about, void *) {
    int saved = errno;
    if (number == SIGTERM || number == SIGQUIT)
        pending_stop = 1;
    else if (number == SIGINT)
        pending_kill = 1;
    else if (number == SIGUSR1)
        pending_reopen = 1;
    else if (number == SIGWINCH) // a terminal's, whose window has changed its size, means nothing
        pending_deaf = pending_deaf || about->si_code != SI_KERNEL;
    else
        pending_reload = 1;
    loop_wake(signal_loop);
    errno = saved;
}

static void catch_signals(loop *l) {
    signal_loop = l;
    struct sigaction act = {};
    act.sa_sigaction = on_signal;
    act.sa_flags = SA_RESTART | SA_SIGINFO;
    for (int number : {SIGTERM, SIGQUIT, SIGINT, SIGUSR1, SIGHUP, SIGWINCH})
        sigaction(number, &act, nullptr);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGUSR2, SIG_IGN); // the master's
    // Blocked since the fork: what came meanwhile comes now.
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_UNBLOCK, &all, nullptr);
}

// What comes from here on would ring the bell of a loop that is not there any more.
static void heed_no_signals() {
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, nullptr);
}

void daemon_stop_listening(daemon *d) {
    sockets none = {};
    sockets_replace(&d->listening, &none);
    sockets_replace(&d->reload.listening, &none); // the workers have them, and close them, by now
    d->listeners.clear();
    node_stop_listening(&d->node);
    master_link_sockets(d);
}

static void heed_signals(daemon *d) {
    if (pending_reopen) {
        pending_reopen = 0;
        log_reopen();
    }
    if (pending_reload) {
        pending_reload = 0;
        reload_ask(&d->reload, nullptr);
    }
    if (pending_deaf && d->stopping.stage < stop_stage::draining) {
        pending_deaf = 0;
        log_info("WINCH: accepting no more connections");
        daemon_stop_listening(d);
    }
    if (pending_stop) stopping_ask(&d->stopping, "TERM or QUIT", true);
    if (pending_kill) stopping_at_once(&d->stopping);
    pending_stop = 0;
    pending_kill = 0;
}

// ---------------------------------------------------------------- the master's word

// Who was accepted just before comes in all the same, and then hears the goodbye: a refusal would be for nothing.
static constexpr uint64_t handshakes_ms = 1000;

// Another process serves at the same addresses: nothing that it has now may be closed but for this one's own
// descriptors.
static void retire(daemon *d) {
    d->master.retires = false;
    d->retired = true;
    d->listening.open.clear();
    node_stop_listening(&d->node);
    control_http_leave(d->http);
    master_link_sockets(d);
    handover_begin_old(d, d->master.retire_fd);
    d->master.retire_fd = -1;
    stopping_ask(&d->stopping, "another process serves", false);
    d->stopping.due_ms += handshakes_ms;
}

static void heed_master(daemon *d) {
    master_link_turn(d);
    if (d->master.retires && !d->reload.next) retire(d); // what a reload is about to open is not there yet
    if (d->master.succeed_fd >= 0) {
        handover_begin_new(d, d->master.succeed_fd);
        d->master.succeed_fd = -1;
    }
    if (d->master.lost && !d->stopping.asked) log_error("the master process is gone: stopping");
    if (d->master.lost) stopping_ask(&d->stopping, "the master process is gone", false);
}

// ---------------------------------------------------------------- start

// Each worker's sockets are its own from worker_start on.
static std::vector<worker_socket> take_sockets(daemon *d, uint32_t worker) {
    std::vector<worker_socket> own;
    for (listening_socket &s : d->listening.open) {
        if (s.worker != worker) continue;
        for (const listener_settings &l : d->settings->relay.listeners)
            if (l.name == s.listener) own.push_back({s.fd, &l});
    }
    return own;
}

static void sockets_given(daemon *d, uint32_t worker) {
    for (listening_socket &s : d->listening.open)
        if (s.worker == worker) s.given = true;
}

static bool open_control(daemon *d, const std::vector<kept_address> *kept, error *e) {
    d->http = control_http_new(d->loop, &d->timers, {}, d->settings->control.token,
                               static_cast<size_t>(d->settings->broker.max_message) * 2 + 65536, control_api_handle,
                               &d->api, e);
    d->api.http = d->http;
    if (!d->http) return false;
    for (const kept_address &k : *kept)
        for (int fd : k.fds)
            if (k.control) control_http_inherit(d->http, k.written, fd);
    size_t which;
    control_change *change = control_http_change(d->http, d->settings->control.listen, &which, e);
    if (change) control_http_commit(change, d->settings->control.token);
    return change != nullptr;
}

// With the master's rights yet: what the process before can't be believed about is opened anew with the same rights.
static bool open_all(daemon *d, sockets *inherited, error *e) {
    std::vector<kept_address> kept = kept_sockets_true(&d->born->kept, &d->api.sockets_refused);
    if (d->api.sockets_refused) master_link_kept(d, &kept);
    *inherited = sockets_inherit(&kept, d->node.worker_count);
    sockets_fault fault;
    bool fine = sockets_open(inherited, &d->settings->relay, d->node.worker_count, &d->listening, &fault, e);
    if (!fine) {
        for (listening_socket &s : inherited->open)
            close(s.fd);
        inherited->open.clear();
    }
    d->listeners = sockets_bound(&d->listening, &d->settings->relay);
    return fine && open_control(d, &kept, e);
}

// The master's PID is the service's. A file that says so already, of the process before, is left as it is, for there
// may be readers. This is root yet, and the directory may be the daemon's user's, who could have put a link or a pipe
// there.
static bool write_pid(const std::string &path, pid_t pid, error *e) {
    if (path.empty()) return true;
    std::string text = std::to_string(pid) + "\n";
    char there[32] = {};
    constexpr int flags = O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC;
    int fd = open(path.c_str(), O_RDONLY | flags);
    ssize_t n = fd >= 0 ? read(fd, there, sizeof there) : -1;
    if (fd >= 0) close(fd);
    if (n >= 0 && view(there, static_cast<size_t>(n)) == text) return true;
    fd = open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | flags, 0644);
    errno = fd >= 0 ? 0 : errno; // a write that is cut short sets none
    bool fine = fd >= 0 && write(fd, text.data(), text.size()) == static_cast<ssize_t>(text.size());
    if (!fine) error_set(e, "pid_file %s: %s", path.c_str(), strerror(errno ? errno : ENOSPC));
    if (fd >= 0) close(fd);
    return fine;
}

// Files that must be at hand later: sockets to be connected to and removed, logs to be opened again.
static bool drop_privileges(const daemon *d, error *e) {
    const core_options *core = &d->settings->core;
    if (core->user.empty()) return true;
    std::vector<std::string> paths;
    for (const listening_socket &s : d->listening.open)
        if (s.written.starts_with("unix:") && !s.lent) paths.push_back(s.written.substr(5));
    for (const std::string &address : d->settings->control.listen)
        if (address.starts_with("unix:")) paths.push_back(address.substr(5));
    for (const std::string &log : {core->log, core->access_log})
        if (log.find('/') != std::string::npos) paths.push_back(log);
    return privileges_drop(core->user, paths, e);
}

// ---------------------------------------------------------------- life

static bool start(daemon *d, error *e) {
    sockets inherited;
    if (!open_all(d, &inherited, e)) return false;
    if (!write_pid(d->settings->core.pid_file, d->born->master, e)) return false;
    master_link_pid_file(d, d->settings->core.pid_file);
    if (!drop_privileges(d, e)) return false;
    if (d->settings->core.core_files) privileges_allow_cores();
    // Closes what is not listened on any more, and removes its path: not as root, for that path is what the worker
    // process before this one has told, which had met clients.
    sockets opened = d->listening;
    sockets_replace(&inherited, &opened);
    for (uint32_t w = 0; w < d->node.worker_count; w++) {
        std::vector<worker_socket> own = take_sockets(d, w);
        if (!worker_start(&d->node.workers[w], own.data(), own.size()))
            return error_set(e, "can't start worker thread %u", w), false;
        sockets_given(d, w);
    }
    for (const bound_listener &l : d->listeners)
        log_info("listening on %s (listener %s%s)", l.address.c_str(), l.name.c_str(), l.tls ? ", tls" : "");
    for (const std::string &address : control_http_addresses(d->http))
        log_info("control listening on %s", address.c_str());
    master_link_sockets(d);
    master_link_ready(d);
    return true;
}

static void serve(daemon *d) {
    while (!node_stopped(&d->node)) {
        loop_turn(d->loop, !node_busy(&d->node) && !reload_busy(&d->reload));
        heed_signals(d);
        heed_master(d);
        log_tend();
        wheel_advance(&d->timers, d->loop->clock.monotonic_ms);
        ticket_keys_tend(d->settings->tickets, d->settings->core.tls_ticket_rotate, d->loop->clock.monotonic_ms);
        reload_turn(&d->reload);
        handover_turn(d);
        stopping_turn(&d->stopping);
        node_turn(&d->node);
    }
}

// Of a process that does not start: another one serves at these addresses, or will in a moment. Their paths stay.
static void leave_addresses(daemon *d) {
    d->listening.open.clear();
    if (d->http) control_http_leave(d->http);
}

// Workers that never started have nothing to say and need not be waited for.
static void destroy(daemon *d) {
    bool any = false;
    for (uint32_t w = 0; w < d->node.worker_count; w++)
        any = any || d->node.workers[w].started;
    if (any && !node_stopped(&d->node)) {
        node_stop(&d->node, true);
        for (uint32_t w = 0; w < d->node.worker_count; w++)
            if (!d->node.workers[w].started) d->node.workers_stopped++;
        serve(d);
    }
    handover_end(d);
    node_join(&d->node);
    reload_end(&d->reload);
    if (d->http) control_http_free(d->http); // before the loop turns again in node_destroy
    node_destroy(&d->node);
    control_api_destroy(&d->api);
    sockets_close(&d->listening);
    master_link_close(d);
    heed_no_signals();
    loop_free(d->loop);
    reload_destroy(&d->reload);
    config_free(d->settings);
    delete d->settings;
}

static bool open_logs(const core_options *core, error *e) {
    return log_open(core->log.c_str(), static_cast<log_level>(core->log_level), core->log_format == 1, e) &&
           access_log_open(core->access_log.c_str(), core->log_format == 1, e);
}

int daemon_run(const birth *born, const char *file, config *settings) {
    error e;
    if (!open_logs(&settings->core, &e)) {
        if (born->first)
            fprintf(stderr, "belfry: %s\n", e.text);
        else
            log_error("%s", e.text);
        config_free(settings);
        delete settings;
        return 1;
    }
    log_info("belfry %s starting, %u workers", PACKAGE_VERSION, settings->worker_count);
    for (const config_error &w : settings->warnings)
        log_warn("%s", config_error_line(&w).c_str());
    hash_init(0);
    node_id_init(born->node);
    daemon d = {};
    d.born = born;
    d.settings = settings;
    d.limits = limits_apply(settings);
    limits_tell(&d.limits, settings);
    d.loop = loop_new();
    (void)loop_library(d.loop); // names are looked up when descriptors may have run out
    loop_tick(d.loop, wheel_tick_ms);
    wheel_init(&d.timers, d.loop->clock.monotonic_ms, control_http_fire, nullptr);
    node_init(&d.node, d.loop, &settings->relay, &settings->link, settings->worker_count);
    control_api_init(&d.api, &d.node, settings, &d.listeners, &d.reload, d.loop);
    d.api.limits = &d.limits;
    d.api.born = born;
    reload_init(&d.reload, &d, file);
    stopping_init(&d.stopping, &d);
    d.api.stopping = &d.stopping;
    master_link_open(&d);
    catch_signals(d.loop);
    bool started = start(&d, &e);
    if (started)
        serve(&d);
    else
        log_error("can't start: %s", e.text);
    if (!started && !born->first) leave_addresses(&d);
    destroy(&d);
    if (started) log_info("stopped");
    return started ? 0 : 1;
}

} // namespace belfry
