// A worker's shard without its thread (shard_bench.h) with an upstream of one server: a listening socket of the test,
// which reads what the shard asks and answers by hand.
#pragma once

#include "relay/expiry.h"
#include "relay/hook.h"
#include "relay/notify.h"
#include "shard_bench.h"

#include <arpa/inet.h>
#include <fcntl.h>

namespace belfry {

struct hook_bench {
    loop *shared_loop; // owned
    wheel shared_deadlines;
    upstream_settings settings;
    upstream_shared *shared;  // owned
    std::vector<int> peers;   // the backend's ends
    int listening, answering; // answering: the peer that asked last
    std::string head, body;   // of that request
};

inline hook_bench *backend;

inline void backend_listen() {
    struct sockaddr_in a = {};
    socklen_t size = sizeof a;
    a.sin_family = AF_INET;
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    backend->listening = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (bind(backend->listening, reinterpret_cast<struct sockaddr *>(&a), sizeof a) != 0 ||
        listen(backend->listening, 16) != 0 ||
        getsockname(backend->listening, reinterpret_cast<struct sockaddr *>(&a), &size) != 0)
        fatal("no listening socket");
    server_settings s = {};
    s.text = "127.0.0.1:" + std::to_string(ntohs(a.sin_port));
    s.host = "127.0.0.1";
    s.port = ntohs(a.sin_port);
    s.weight = 1;
    s.fail_timeout = 10000;
    backend->settings.servers.push_back(s);
}

// As bench_begin; `bench->way` is the only route, with a hook.
inline int hook_bench_begin(void **state) {
    bench_begin(state);
    backend = new hook_bench{};
    backend->shared_loop = loop_new();
    wheel_init(&backend->shared_deadlines, 0, deadline_fire, nullptr);
    upstream_settings *u = &backend->settings;
    u->name = "app";
    u->keepalive = 4;
    u->keepalive_timeout = u->read_timeout = u->queue_timeout = 600000;
    u->connect_timeout = 10000;
    u->max_inflight = 100;
    u->queue = 100;
    backend_listen();
    backend->shared = upstream_shared_new(backend->shared_loop, &backend->shared_deadlines, u);
    bench->way.hook = "/belfry";
    bench->way.hook_secret = "whsec_MDEyMzQ1Njc4OWFiY2RlZg==";
    bench->way.hook_timeout = 5000;
    bench->way.upstream_index = 0;
    bench->settings.upstreams.push_back(*u);
    shard *s = the_shard();
    delete[] s->upstreams;
    s->upstreams = new upstream *[1] { upstream_new(s, u, backend->shared) };
    return 0;
}

// The route is to notify of these types.
inline void want(uint32_t bits) {
    bench->way.notify_bits = bits;
    bench->settings.routes.push_back(bench->way);
    notifier_free(the_shard()->notifier);
    the_shard()->notifier = notifier_new(the_shard());
}

inline int hook_bench_end(void **state) {
    int failed = bench_end(state);
    upstream_shared_free(backend->shared);
    for (int fd : backend->peers)
        close(fd);
    if (backend->listening >= 0) close(backend->listening);
    loop_free(backend->shared_loop);
    delete backend;
    return failed;
}

inline void pass(uint64_t ms) {
    for (uint64_t step = 100; ms; ms -= step < ms ? step : ms) {
        advance(step < ms ? step : ms);
        wheel_advance(&the_shard()->deadlines, bench->now_ms);
        turn();
    }
}

inline bool read_request(int fd) {
    char some[65536];
    std::string all;
    for (int i = 0; i < 200; i++) {
        ssize_t n = recv(fd, some, sizeof some, MSG_DONTWAIT);
        if (n > 0) all.append(some, static_cast<size_t>(n));
        if (all.empty() && n <= 0) return false;
        size_t end = all.find("\r\n\r\n"), length = all.find("Content-Length: ");
        if (end != std::string::npos && length != std::string::npos &&
            all.size() >= end + 4 + strtoul(all.c_str() + length + 16, nullptr, 10)) {
            backend->head = all.substr(0, end + 4);
            backend->body = all.substr(end + 4);
            backend->answering = fd;
            return true;
        }
        turn();
    }
    fatal("half a request");
}

// The next request's body; empty where none comes.
inline std::string asked() {
    for (int i = 0; i < 20; i++) {
        turn();
        int fd = accept4(backend->listening, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd >= 0) backend->peers.push_back(fd);
        for (int peer : backend->peers)
            if (read_request(peer)) return backend->body;
    }
    return "";
}

inline void answer_by(int fd, const std::string &status, const std::string &body) {
    std::string all = "HTTP/1.1 " + status + "\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body;
    if (status.starts_with("204")) all = "HTTP/1.1 204 No Content\r\n\r\n";
    if (send(fd, all.data(), all.size(), MSG_NOSIGNAL) != static_cast<ssize_t>(all.size())) fatal("a full socket");
    for (int i = 0; i < 5; i++)
        turn();
}

inline void answer(const std::string &status, const std::string &body) {
    answer_by(backend->answering, status, body);
}

inline std::string field(const std::string &name) {
    size_t at = backend->head.find("\r\n" + name + ": ");
    if (at == std::string::npos) return "";
    at += name.size() + 4;
    return backend->head.substr(at, backend->head.find("\r\n", at) - at);
}

inline std::string id_of(const conn *c) {
    return std::string(view(conn_id_format(conn_id_of(c))));
}

} // namespace belfry
