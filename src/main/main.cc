// belfry(8): the command line, signals, and the main thread's loop.
#ifdef HAVE_CONFIG_H
#include <config.h>
#else
#define PACKAGE_VERSION "unknown"
#endif
#ifndef BELFRY_SYSCONFDIR
#define BELFRY_SYSCONFDIR "/etc"
#endif

#include "base/log.h"
#include "main/config.h"
#include "main/control_api.h"
#include "main/control_http.h"
#include "main/versions.h"
#include "relay/chain.h"
#include "relay/node.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

namespace belfry {

// What the process consists of, apart from the config.
struct daemon {
    struct config *settings;
    struct loop *loop;
    struct wheel timers; // the control API's
    struct node node;
    control_api api;
    control_http *http;
    std::vector<bound_listener> listeners;
    bool wrote_pid;
    std::vector<std::vector<worker_socket>> per_worker;
    std::vector<std::string> unix_paths;
    int stops; // TERM, INT, QUIT so far
    uint64_t stop_deadline_ms;
};

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

// ---------------------------------------------------------------- sockets

static void raise_descriptor_limit(int64_t wanted) {
    struct rlimit r;
    if (getrlimit(RLIMIT_NOFILE, &r) != 0) return;
    r.rlim_cur = r.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &r) != 0) log_warn("can't raise the limit of open files: %s", strerror(errno));
    if (static_cast<int64_t>(r.rlim_cur) < wanted + 64)
        log_info("max_connections is %lld, but at most %lld files may be open: accepting pauses there",
                 static_cast<long long>(wanted), static_cast<long long>(r.rlim_cur));
}

// One socket a worker (the kernel spreads connections over them); of a unix path, one for all, duplicated.
static bool open_for_workers(daemon *d, const listener_settings *l, address *a, bool shared, error *e) {
    int fd = -1;
    for (uint32_t w = 0; w < d->node.worker_count; w++) {
        fd = shared && fd >= 0 ? fcntl(fd, F_DUPFD_CLOEXEC, 0) : address_listen(a, !shared, e);
        if (fd < 0) return false;
        d->per_worker[w].push_back({fd, l});
        if (!address_of_socket(fd, a)) return error_set(e, "getsockname: %s", strerror(errno)), false;
    }
    return true;
}

// SO_REUSEPORT would let a second daemon of the same user take half of the connections: asked without it first.
static bool reserve(address *a, error *e) {
    int fd = address_listen(a, false, e);
    bool fine = fd >= 0 && address_of_socket(fd, a);
    if (fd >= 0) close(fd);
    return fine;
}

static bool open_address(daemon *d, const listener_settings *l, const std::string &text, error *e) {
    address a;
    if (!address_parse(text, &a, e)) return false;
    bool shared = a.storage.ss_family == AF_UNIX;
    if (!shared && !reserve(&a, e)) return false;
    if (!open_for_workers(d, l, &a, shared, e)) return false;
    if (shared) d->unix_paths.push_back(text.substr(5));
    address_text bound = address_format(reinterpret_cast<struct sockaddr *>(&a.storage), a.size);
    d->listeners.push_back({l->name, bound.text, l->tls});
    return true;
}

static bool open_all(daemon *d, error *e) {
    d->per_worker.resize(d->node.worker_count);
    for (const listener_settings &l : d->settings->relay.listeners)
        for (const std::string &text : l.listen)
            if (!open_address(d, &l, text, e)) return false;
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
        if (worker_start(&d->node.workers[w], d->per_worker[w].data(), d->per_worker[w].size())) continue;
        error_set(e, "can't start worker thread %u", w);
        return false;
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
    for (size_t w = 0; w < d->per_worker.size(); w++) // those of workers that did start are theirs
        for (const worker_socket &socket : d->per_worker[w])
            if (!d->node.workers[w].started) close(socket.fd);
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
    for (const std::string &path : d->unix_paths)
        unlink(path.c_str());
    if (d->wrote_pid && !d->settings->core.pid_file.empty()) unlink(d->settings->core.pid_file.c_str());
    loop_free(d->loop);
}

// FILE:LINE: text, or FILE: text where it is about all of it.
static std::string line_of(const config_error *e) {
    return e->file + (e->line ? ":" + std::to_string(e->line) : "") + ": " + e->text;
}

static int run(config *settings) {
    error e;
    const core_options *core = &settings->core;
    if (!log_open(core->log.c_str(), static_cast<log_level>(core->log_level), core->log_format == 1, &e)) {
        fprintf(stderr, "belfry: %s\n", e.text);
        return 1;
    }
    log_info("belfry %s starting, %u workers", PACKAGE_VERSION, settings->worker_count);
    for (const config_error &w : settings->warnings)
        log_warn("%s", line_of(&w).c_str());
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

static int usage(FILE *out, int code) {
    fputs("usage: belfry [-c FILE] [-t] [-T] [-v] [-V] [-h] [--help-config ini|mdoc]\n"
          "  -c FILE  config file (default " BELFRY_SYSCONFDIR "/belfry/belfry.ini)\n"
          "  -t       test the config; exit 0, or print FILE:LINE: MESSAGE for every error and exit 1\n"
          "  -T       test, then print the effective config, every option with its value\n"
          "  -v       version            -V  version and libraries            -h  this\n"
          "  --help-config ini|mdoc      every option with its default and what it is for\n",
          out);
    return code;
}

static int print(const buffer *b) {
    fwrite(b->data, 1, b->size, stdout);
    return fflush(stdout) == 0 ? 0 : 1;
}

static int help_config(const char *form) {
    buffer out = {};
    if (strcmp(form, "ini") == 0)
        config_print_help_ini(&out);
    else if (strcmp(form, "mdoc") == 0)
        config_print_help_mdoc(&out);
    else
        return usage(stderr, 2);
    int code = print(&out);
    buffer_free(&out);
    return code;
}

static int with_config(const char *file, bool test, bool show) {
    config settings = {};
    int code = 0;
    chain_set_version(PACKAGE_VERSION);
    if (!config_load(file, &settings)) {
        for (const config_error &e : settings.errors)
            fprintf(stderr, "%s\n", line_of(&e).c_str());
        code = 1;
    } else if (show) {
        buffer out = {};
        config_print(&settings, &out);
        code = print(&out);
        buffer_free(&out);
    } else if (test) {
        for (const config_error &w : settings.warnings)
            fprintf(stderr, "%s\n", line_of(&w).c_str());
        printf("%s: ok\n", file);
    } else {
        code = run(&settings);
    }
    config_free(&settings);
    return code;
}

} // namespace belfry

int main(int argc, char **argv) {
    using namespace belfry;
    const char *file = BELFRY_SYSCONFDIR "/belfry/belfry.ini";
    bool test = false, show = false;
    if (argc == 3 && strcmp(argv[1], "--help-config") == 0) return help_config(argv[2]);
    for (int ch; (ch = getopt(argc, argv, "c:tTvVh")) != -1;) {
        switch (ch) {
        case 'c':
            file = optarg;
            break;
        case 't':
            test = true;
            break;
        case 'T':
            show = true;
            break;
        case 'v':
            return printf("belfry %s\n", PACKAGE_VERSION) < 0;
        case 'V':
            return versions_print();
        case 'h':
            return usage(stdout, 0);
        default:
            return usage(stderr, 2);
        }
    }
    if (optind != argc) return usage(stderr, 2);
    return with_config(file, test, show);
}
