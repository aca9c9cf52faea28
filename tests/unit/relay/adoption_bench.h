// A node with a worker's thread, its listening socket, clients and a backend over real sockets: for the tests of
// reloads. The test's thread is the main thread, and the backend: it answers by hand. Each reload makes new settings
// and frees the old ones as soon as nobody may use them any more, so that the sanitizer tells who still does. One bench
// at a time, in `bench`.
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
extern "C" {
#include <cmocka.h>
}

#include "base/error.h"
#include "base/log.h"
#include "relay/adoption.h"
#include "relay/node.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <poll.h>
#include <string>
#include <sys/socket.h>
#include <unistd.h>
#include <vector>

namespace belfry {

struct adoption_bench {
    loop *on;
    struct node node;
    relay_settings *settings; // owned
    broker_settings broker;
    std::vector<int> listening;                     // the worker's
    std::vector<int> fds;                           // clients', and those that the backend accepted
    std::vector<int> backends;                      // listening
    std::vector<std::pair<int, std::string>> peers; // the backend's ends, what came and was not taken yet
    bool done;
};
inline adoption_bench *bench;

// ---- settings ----

// A scope, as a module has it: on the heap, so that a use of a freed one is seen.
struct test_scope {
    std::string word;
};

inline route make_route(const char *path) {
    route r = {};
    r.path = path;
    r.mode = mode_rooms;
    r.hook_timeout = 20000;
    r.keepalive_timeout = r.body_timeout = r.poll_wait = r.poll_timeout = 60000;
    r.max_message = 65536;
    r.max_rooms = 64;
    r.pong_timeout = 60000;
    r.send_queue = 1 << 20;
    return r;
}

inline server_settings make_server(int listening) {
    struct sockaddr_in a = {};
    socklen_t size = sizeof a;
    if (getsockname(listening, reinterpret_cast<struct sockaddr *>(&a), &size) != 0) fatal("no name");
    server_settings s = {};
    s.host = "127.0.0.1";
    s.port = ntohs(a.sin_port);
    s.text = s.host + ":" + std::to_string(s.port);
    s.weight = 1;
    s.fail_timeout = 10000;
    return s;
}

inline void add_server(upstream_settings *u, size_t backend) {
    u->servers.push_back(make_server(bench->backends[backend]));
    u->server.push_back(u->servers.back().text);
}

inline upstream_settings make_upstream(const char *name) {
    upstream_settings u = {};
    u.name = name;
    u.keepalive = 4;
    u.keepalive_timeout = u.read_timeout = u.queue_timeout = 600000;
    u.connect_timeout = 10000;
    return u;
}

// /hook asks a backend about everybody who comes; /raw, /sse and /poll ask nobody, /app is proxied.
inline relay_settings *make_settings() {
    auto *s = new relay_settings{};
    s->max_connections = 1000;
    s->compression_min = 64;
    s->max_message = 65536;
    s->upstreams.push_back(make_upstream("app"));
    add_server(&s->upstreams[0], 0);
    for (const char *path : {"/hook", "/json", "/raw", "/sse", "/poll", "/app"})
        s->routes.push_back(make_route(path));
    s->routes[0].hook = "/asked";
    s->routes[0].upstream_index = 0;
    s->routes[0].connect_hook = asks_always;
    s->routes[2].protocol = route_raw;
    s->routes[2].join_on_connect = {"chat:raw"};
    s->routes[2].echo = true;
    s->routes[3].sse = s->routes[4].poll = true;
    s->routes[3].join_on_connect = s->routes[4].join_on_connect = {"chat:plain"};
    s->routes[5].mode = mode_proxy;
    s->routes[5].upstream_index = 0;
    s->rooms.push_back({"chat:*", right_anyone, right_anyone, 0});
    s->listeners.push_back({});
    s->listeners[0].name = "main";
    s->listeners[0].handshake_timeout = 60000;
    return s;
}

inline route *way(relay_settings *s, view path) {
    for (route &r : s->routes)
        if (r.path == path) return &r;
    fatal("no route");
}

inline void free_settings(relay_settings *s) {
    for (route &r : s->routes)
        for (void *scope : r.scopes)
            delete static_cast<test_scope *>(scope);
    delete s;
}

// ---- the turn, and the backend ----

inline int open_listening() {
    struct sockaddr_in a = {};
    a.sin_family = AF_INET;
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (bind(fd, reinterpret_cast<struct sockaddr *>(&a), sizeof a) != 0 || listen(fd, 64) != 0) fatal("no listener");
    return fd;
}

inline void backend_turn() {
    char some[65536];
    for (int listening : bench->backends)
        for (int fd; (fd = accept4(listening, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0;) {
            bench->peers.push_back({fd, ""});
            bench->fds.push_back(fd);
        }
    for (auto &[fd, text] : bench->peers)
        for (ssize_t n; (n = recv(fd, some, sizeof some, MSG_DONTWAIT)) > 0;)
            text.append(some, static_cast<size_t>(n));
}

inline void turn() {
    loop_turn(bench->on, false);
    node_turn(&bench->node);
    backend_turn();
    usleep(500);
}

// Turns until it is so; false: it did not become so in twenty seconds.
template <typename F> bool until(F so) {
    for (const uint64_t end = clock_monotonic_ns() + 20000000000; clock_monotonic_ns() < end;) {
        if (so()) return true;
        turn();
    }
    return so();
}

// The backend has got this text, on some connection: which; what came up to it is taken. -1: it has not.
inline int asked(const std::string &what) {
    int found = -1;
    until([&] {
        for (auto &[fd, text] : bench->peers) {
            const size_t at = text.find(what);
            if (at == std::string::npos) continue;
            text.erase(0, at + what.size());
            found = fd;
            return true;
        }
        return false;
    });
    return found;
}

inline void send_all(int fd, const std::string &text) {
    if (send(fd, text.data(), text.size(), MSG_NOSIGNAL) != static_cast<ssize_t>(text.size())) fatal("a full socket");
}

inline void answer(int fd, const std::string &body) {
    send_all(fd, "HTTP/1.1 200 OK\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body);
}

// ---- clients ----

struct test_client {
    int fd;
    std::string got;
    bool ended;
};

inline test_client connect_to(int listening) {
    struct sockaddr_in a = {};
    socklen_t size = sizeof a;
    getsockname(listening, reinterpret_cast<struct sockaddr *>(&a), &size);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connect(fd, reinterpret_cast<struct sockaddr *>(&a), sizeof a) != 0) return {-1, "", true};
    fcntl(fd, F_SETFL, O_NONBLOCK);
    bench->fds.push_back(fd);
    return {fd, "", false};
}

inline test_client client(const std::string &request) {
    test_client c = connect_to(bench->listening[0]);
    send_all(c.fd, request);
    return c;
}

inline void read_client(test_client *c) {
    char some[65536];
    ssize_t n;
    while ((n = recv(c->fd, some, sizeof some, MSG_DONTWAIT)) > 0)
        c->got.append(some, static_cast<size_t>(n));
    if (n == 0 || (n < 0 && errno == ECONNRESET)) c->ended = true;
}

// What it got up to this text, which is taken; empty where it does not come.
inline std::string hears(test_client *c, const std::string &what) {
    std::string all;
    until([&] {
        read_client(c);
        const size_t at = c->got.find(what);
        if (at == std::string::npos) return c->ended;
        all = c->got.substr(0, at + what.size());
        c->got.erase(0, at + what.size());
        return true;
    });
    if (all.empty()) print_message("no \"%s\" in \"%s\"\n", what.c_str(), c->got.c_str());
    return all;
}
inline bool ends(test_client *c) {
    return until([c] {
        read_client(c);
        return c->ended;
    });
}

inline std::string upgrade(const std::string &path, const std::string &fields = "") {
    return "GET " + path +
           " HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
           "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n" +
           fields + "\r\n";
}

// A client's frame (masked with zeros), up to 65,535 bytes.
inline std::string frame_of(unsigned char opcode, const std::string &payload) {
    std::string f(1, static_cast<char>(0x80 | opcode));
    const bool large = payload.size() > 125;
    f += static_cast<char>(0x80 | (large ? 126 : payload.size()));
    if (large) f += static_cast<char>(payload.size() >> 8);
    if (large) f += static_cast<char>(payload.size());
    return f + std::string(4, '\0') + payload;
}
inline void say(const test_client &c, const std::string &text) {
    send_all(c.fd, frame_of(1, text));
}

// ---- life ----

inline void start_node() {
    bench->listening = {open_listening()};
    node_init(&bench->node, bench->on, bench->settings, &bench->broker, 1);
    const worker_socket socket = {bench->listening[0], &bench->settings->listeners[0]};
    if (!worker_start(&bench->node.workers[0], &socket, 1)) fatal("no thread");
}

inline int bench_begin(void **) {
    alarm(120);
    node_id_init();
    hash_init(1);
    bench = new adoption_bench{};
    bench->on = loop_new();
    loop_tick(bench->on, wheel_tick_ms);
    bench->broker.history_memory = 1 << 20;
    for (int i = 0; i < 2; i++)
        bench->backends.push_back(open_listening());
    bench->settings = make_settings();
    return 0;
}

inline int bench_end(void **) {
    node_stop(&bench->node, true);
    while (!node_stopped(&bench->node))
        turn();
    node_join(&bench->node);
    const bool left = bench->node.process_live.load() != 0;
    node_destroy(&bench->node);
    free_settings(bench->settings);
    for (int fd : bench->fds)
        close(fd);
    for (int fd : bench->backends)
        close(fd);
    loop_free(bench->on);
    delete bench;
    alarm(0);
    return left;
}

// A reload to these settings; the old ones are gone when it returns.
inline void adopt(relay_settings *now) {
    std::vector<worker_socket> sockets;
    for (int fd : bench->listening)
        sockets.push_back({fd, &now->listeners[0]});
    bench->done = false;
    node_adopt(
        &bench->node, now, {sockets}, [](void *done) { *static_cast<bool *>(done) = true; }, &bench->done);
    if (!until([] { return bench->done; })) fatal("no worker has adopted");
    free_settings(bench->settings);
    bench->settings = now;
}

} // namespace belfry
