// The daemon's life: start, the main thread's loop with its signals, the end.
#ifdef HAVE_CONFIG_H
#include <config.h>
#else
#define PACKAGE_VERSION "unknown"
#endif

#include "main/daemon.h"

#include "base/log.h"
#include "main/control_http.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

namespace belfry {

// ---------------------------------------------------------------- signals

static volatile sig_atomic_t pending_stop, pending_kill, pending_reopen, pending_reload;
static loop *signal_loop;

static void on_signal(int number) {
    int saved = errno;
    if (number == SIGTERM || number == SIGQUIT)
        pending_stop = pending_stop + 1;
    else if (number == SIGINT)
        pending_kill = 1;
    else if (number == SIGUSR1)
        pending_reopen = 1;
    else
        pending_reload = 1;
    loop_wake(signal_loop);
    errno = saved;
}

static void catch_signals(loop *l) {
    signal_loop = l;
    struct sigaction act = {};
    act.sa_handler = on_signal;
    act.sa_flags = SA_RESTART;
    for (int number : {SIGTERM, SIGQUIT, SIGINT, SIGUSR1, SIGHUP})
        sigaction(number, &act, nullptr);
    act.sa_handler = SIG_IGN;
    sigaction(SIGPIPE, &act, nullptr);
}

static void stop(daemon *d, bool now) {
    if (!d->node.stopping || now) {
        log_info("%s: %s", now ? "ending at once" : "stopping",
                 now ? "a second signal, INT, or drain_timeout" : "saying goodbye to clients");
        node_stop(&d->node, now);
    }
    d->stop_deadline_ms = d->loop->clock.monotonic_ms + static_cast<uint64_t>(d->settings->core.drain_timeout);
}

static void heed_signals(daemon *d) {
    if (pending_reopen) {
        pending_reopen = 0;
        log_reopen();
    }
    if (pending_reload) {
        pending_reload = 0;
        log_warn("HUP: this version can't reload; restart it to read the config again");
    }
    int stops = pending_stop + 2 * pending_kill;
    if (stops > d->stops) {
        bool now = stops > 1;
        if (d->stops < 2) stop(d, now);
        d->stops = stops;
    }
    if (d->stops == 1 && d->loop->clock.monotonic_ms > d->stop_deadline_ms) {
        d->stops = 2;
        stop(d, true);
    }
}

// ---------------------------------------------------------------- start

static void raise_descriptor_limit(int64_t wanted) {
    struct rlimit r;
    if (getrlimit(RLIMIT_NOFILE, &r) != 0) return;
    r.rlim_cur = r.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &r) != 0) log_warn("can't raise the limit of open files: %s", strerror(errno));
    if (static_cast<int64_t>(r.rlim_cur) < wanted + 64)
        log_info("max_connections is %lld, but at most %lld files may be open: accepting pauses there",
                 static_cast<long long>(wanted), static_cast<long long>(r.rlim_cur));
}

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
        if (s.worker == worker) s.fd = -1;
}

static bool open_all(daemon *d, error *e) {
    for (const listener_settings &l : d->settings->relay.listeners)
        if (!sockets_open(&d->listening, &l, d->node.worker_count, e)) return false;
    d->listeners = sockets_bound(&d->listening, &d->settings->relay);
    d->http = control_http_new(d->loop, &d->timers, d->settings->control.listen, d->settings->control.token,
                               static_cast<size_t>(d->settings->broker.max_message) * 2 + 65536, control_api_handle,
                               &d->api, e);
    d->api.http = d->http;
    return d->http != nullptr;
}

static bool write_pid(const std::string &path, error *e) {
    if (path.empty()) return true;
    FILE *f = fopen(path.c_str(), "we");
    bool fine = f && fprintf(f, "%d\n", getpid()) > 0;
    if (f && fclose(f) != 0) fine = false;
    if (!fine) error_set(e, "pid_file %s: %s", path.c_str(), strerror(errno));
    return fine;
}

// ---------------------------------------------------------------- life

static bool start(daemon *d, error *e) {
    if (!open_all(d, e)) return false;
    d->wrote_pid = write_pid(d->settings->core.pid_file, e);
    if (!d->wrote_pid) return false;
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
    return true;
}

static void serve(daemon *d) {
    while (!node_stopped(&d->node)) {
        loop_turn(d->loop, !node_busy(&d->node));
        heed_signals(d);
        wheel_advance(&d->timers, d->loop->clock.monotonic_ms);
        node_turn(&d->node);
    }
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
    node_join(&d->node);
    if (d->http) control_http_free(d->http); // before the loop turns again in node_destroy
    node_destroy(&d->node);
    control_api_destroy(&d->api);
    sockets_close(&d->listening);
    if (d->wrote_pid && !d->settings->core.pid_file.empty()) unlink(d->settings->core.pid_file.c_str());
    loop_free(d->loop);
}

std::string config_error_line(const config_error *e) {
    return e->file + (e->line ? ":" + std::to_string(e->line) : "") + ": " + e->text;
}

int daemon_run(config *settings) {
    error e;
    const core_options *core = &settings->core;
    if (!log_open(core->log.c_str(), static_cast<log_level>(core->log_level), core->log_format == 1, &e)) {
        fprintf(stderr, "belfry: %s\n", e.text);
        return 1;
    }
    log_info("belfry %s starting, %u workers", PACKAGE_VERSION, settings->worker_count);
    for (const config_error &w : settings->warnings)
        log_warn("%s", config_error_line(&w).c_str());
    raise_descriptor_limit(core->max_connections);
    hash_init(0);
    node_id_init();
    daemon d = {};
    d.settings = settings;
    d.loop = loop_new();
    loop_tick(d.loop, wheel_tick_ms);
    wheel_init(&d.timers, d.loop->clock.monotonic_ms, control_http_fire, nullptr);
    node_init(&d.node, d.loop, &settings->relay, &settings->link, settings->worker_count);
    control_api_init(&d.api, &d.node, settings, &d.listeners, d.loop);
    catch_signals(d.loop);
    bool started = start(&d, &e);
    if (started)
        serve(&d);
    else
        log_error("can't start: %s", e.text);
    destroy(&d);
    if (started) log_info("stopped");
    return started ? 0 : 1;
}

} // namespace belfry
