// The swarm's main program: opens the clients, says `ready`, then obeys commands on standard input, one a line:
//
//   expect FIRST LAST   the sequence numbers that every client that stays must have got; `missing` counts against it
//   report              one line of JSON
//   forget latencies    p50 and p99 are of what comes from here on
//   churn on|off        starts, stops the further clients' coming and going
//   quit                also the end of standard input
//
// Never outlives --max-seconds. See swarm.h.
#include "swarm.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

namespace swarm {

static constexpr int tick_ms = 10;

double seconds() {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) / 1e9;
}

std::string fill_in(const std::string &pattern, const client *c) {
    std::string out;
    for (size_t i = 0; i < pattern.size(); i++) {
        bool escaped = pattern[i] == '%' && i + 1 < pattern.size() && (pattern[i + 1] == 'i' || pattern[i + 1] == 'r');
        if (escaped)
            out += std::to_string(pattern[++i] == 'i' ? c->index : c->room);
        else
            out += pattern[i];
    }
    return out;
}

// ---------------------------------------------------------------- opening

static void open_more(world *w) {
    while (w->in_flight < w->options.in_flight && w->next < w->clients.size()) {
        w->in_flight++;
        client_connect(w, &w->clients[w->next++]);
    }
}

void client_opened(world *w, client *c) {
    if (w->ready) {
        if (c->churner) w->totals.churn_joins++; // a raw client that has come again
        return;
    }
    w->in_flight--;
    if (!c->churner) w->alive++;
    if (++w->opened < w->clients.size()) return;
    w->ready = true;
    puts("ready");
    fflush(stdout);
}

static int keep_session(SSL *ssl, SSL_SESSION *session) {
    auto *w = static_cast<world *>(SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl)));
    if (w->session) SSL_SESSION_free(w->session);
    w->session = session;
    return 1; // ours now
}

static void make_context(world *w) {
    if (!w->options.tls) return;
    w->context = SSL_CTX_new(TLS_client_method()); // does not verify: the certificate is a test's own
    SSL_CTX_set_mode(w->context,
                     SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_app_data(w->context, w);
    SSL_CTX_set_session_cache_mode(w->context, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    if (w->options.tickets) SSL_CTX_sess_set_new_cb(w->context, keep_session);
}

static void make_clients(world *w) {
    const options *o = &w->options;
    w->clients.resize(o->count + o->churn);
    for (uint32_t i = 0; i < w->clients.size(); i++) {
        client *c = &w->clients[i];
        c->index = i;
        c->churner = i >= o->count;
        c->room = i % o->rooms;
    }
}

// ---------------------------------------------------------------- churn

// One step of a churner; false where it still waits for an answer.
static bool churn_step(world *w, client *c) {
    switch (c->phase) {
    case phase::idle:
        c->room = static_cast<uint32_t>(random()) % w->options.rooms;
        c->highest = 0;
        client_connect(w, c);
        return true;
    case phase::open:
        if (!w->options.json) {
            w->totals.churn_leaves++;
            client_disconnect(w, c, random() & 1);
        } else if (c->joined) {
            client_leave(w, c);
        } else {
            c->room = static_cast<uint32_t>(random()) % w->options.rooms;
            client_join(w, c);
        }
        return true;
    default:
        return false;
    }
}

static void churn(world *w, double since) {
    static uint32_t at;
    double wanted = since * w->options.churn_rate;
    auto steps = static_cast<uint32_t>(fmin(ceil(wanted), w->options.churn));
    for (uint32_t tries = 0; steps && tries < w->options.churn; tries++)
        if (churn_step(w, &w->clients[w->options.count + at++ % w->options.churn])) steps--;
}

// ---------------------------------------------------------------- coming back

static void bring_back(world *w, double now) {
    for (client &c : w->clients)
        if (c.due != 0 && c.due <= now && c.fd < 0 && c.phase == phase::idle) client_return(w, &c);
}

// ---------------------------------------------------------------- commands

static bool obey(world *w, const char *line) {
    if (sscanf(line, "expect %u %u", &w->first, &w->last) == 2) return true;
    if (!strcmp(line, "report")) {
        report(w);
        return true;
    }
    if (!strcmp(line, "churn on") || !strcmp(line, "churn off")) {
        w->churning = w->options.churn && line[7] == 'n';
        return true;
    }
    if (!strcmp(line, "forget latencies")) {
        memset(w->totals.latency, 0, sizeof w->totals.latency);
        w->totals.latencies = 0;
        return true;
    }
    if (!strcmp(line, "quit")) return false;
    printf("failed: unknown command %s\n", line);
    fflush(stdout);
    return false;
}

// False: the end.
static bool read_commands(world *w) {
    static std::string input;
    char bytes[4096];
    ssize_t n = read(0, bytes, sizeof bytes);
    if (n == 0) return false;
    if (n < 0) return errno == EAGAIN || errno == EINTR;
    input.append(bytes, static_cast<size_t>(n));
    for (size_t end; (end = input.find('\n')) != std::string::npos;) {
        std::string line = input.substr(0, end);
        input.erase(0, end + 1);
        if (!obey(w, line.c_str())) return false;
    }
    return true;
}

static void run(world *w) {
    double deadline = seconds() + w->options.max_seconds, churned = seconds();
    struct epoll_event events[512];
    for (;;) {
        open_more(w);
        int n = epoll_wait(w->epoll, events, 512, w->churning || w->options.returning ? tick_ms : 500);
        for (int i = 0; i < n; i++) {
            if (!events[i].data.ptr) {
                if (!read_commands(w)) return;
            } else {
                client_event(w, static_cast<client *>(events[i].data.ptr), events[i].events);
            }
        }
        double now = seconds();
        if (now > deadline) {
            puts("failed: --max-seconds have passed");
            fflush(stdout);
            return;
        }
        if (now - churned < tick_ms / 1000.0) continue;
        if (w->churning) churn(w, now - churned);
        if (w->options.returning) bring_back(w, now);
        churned = now;
    }
}

// ---------------------------------------------------------------- arguments

static const struct option long_options[] = {
    {"host", 1, nullptr, 'h'},
    {"port", 1, nullptr, 'p'},
    {"path", 1, nullptr, 'P'},
    {"room", 1, nullptr, 'r'},
    {"tls", 0, nullptr, 't'},
    {"protocol", 1, nullptr, 'j'},
    {"resume-tickets", 0, nullptr, 'T'},
    {"rooms", 1, nullptr, 'R'},
    {"churn", 1, nullptr, 'c'},
    {"churn-rate", 1, nullptr, 'C'},
    {"in-flight", 1, nullptr, 'f'},
    {"max-seconds", 1, nullptr, 'm'},
    {"receive-buffer", 1, nullptr, 'b'},
    {"deflate", 0, nullptr, 'z'},
    {"returning", 0, nullptr, 'B'},
    {nullptr, 0, nullptr, 0},
};

static bool read_arguments(options *o, int argc, char **argv) {
    auto number = [] { return static_cast<uint32_t>(strtoul(optarg, nullptr, 10)); };
    for (int c; (c = getopt_long(argc, argv, "n:", long_options, nullptr)) != -1;) {
        switch (c) {
        case 'h':
            o->host = optarg;
            break;
        case 'p':
            o->port = static_cast<uint16_t>(number());
            break;
        case 'P':
            o->path = optarg;
            break;
        case 'r':
            o->room = optarg;
            break;
        case 't':
            o->tls = true;
            break;
        case 'j':
            o->json = !strcmp(optarg, "json");
            break;
        case 'T':
            o->tickets = true;
            break;
        case 'n':
            o->count = number();
            break;
        case 'R':
            o->rooms = number();
            break;
        case 'c':
            o->churn = number();
            break;
        case 'C':
            o->churn_rate = number();
            break;
        case 'f':
            o->in_flight = number();
            break;
        case 'b':
            o->receive_buffer = static_cast<int>(number());
            break;
        case 'z':
            o->deflate = true;
            break;
        case 'B':
            o->returning = true;
            break;
        case 'm':
            o->max_seconds = number();
            break;
        default:
            return false;
        }
    }
    return o->port && o->count && o->rooms && o->in_flight && optind == argc;
}

} // namespace swarm

int main(int argc, char **argv) {
    static swarm::world w;
    if (!swarm::read_arguments(&w.options, argc, argv)) {
        fputs("usage: swarm --port P [--host H] [--path /room?room=%r] [--room NAME%r] [--tls] [--resume-tickets] -n N "
              "--rooms R\n"
              "             [--protocol raw|json] [--churn M] [--churn-rate A_SECOND] [--in-flight K] [--max-seconds "
              "S]\n"
              "             [--receive-buffer BYTES] [--deflate] [--returning]\n",
              stderr);
        return 2;
    }
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    fcntl(0, F_SETFL, O_NONBLOCK);
    signal(SIGPIPE, SIG_IGN); // SSL_write knows no MSG_NOSIGNAL
    swarm::make_context(&w);
    swarm::make_clients(&w);
    w.epoll = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event commands = {};
    commands.events = EPOLLIN;
    if (w.epoll < 0 || epoll_ctl(w.epoll, EPOLL_CTL_ADD, 0, &commands) != 0) {
        printf("failed: %s\n", strerror(errno));
        return 1;
    }
    swarm::run(&w);
    fflush(stdout);
    _exit(0); // ten thousand destructors would say nothing
}
