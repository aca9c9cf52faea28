// An upstream, workers' halves of it and the servers that they reach, all on one loop: the servers are sockets that the
// test itself answers on. The clock stands still but for advance().
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
extern "C" {
#include <cmocka.h>
}

#include "base/clock.h"
#include "relay/shard.h"
#include "relay/upstream_pool.h"

#include <string>
#include <sys/socket.h>
#include <unistd.h>

namespace belfry {

enum class stub_does { answer, hang, hang_up };

// A server: answers `with` to every head that came, or does something worse.
struct stub_server {
    int listening = -1;
    address at;
    stub_does does = stub_does::answer;
    std::string with = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    std::vector<int> peers;
    std::vector<std::string> requests;
    std::string tunnelled; // bytes without a head's end
    int accepted = 0;
};

struct caller {
    upstream_call call; // first: callbacks find the caller by it
    std::string request = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    int readies = 0, ends = 0, failures = 0, drains = 0;
    std::vector<int> statuses;
    std::string body, trailers;
    upstream_failure why = {};
    bool answered = false, tunnels = false;
    enum { never, at_ready, at_head, at_body, at_end } cancels = never;
};

struct upstream_bench {
    loop *on;
    wheel main_deadlines;
    upstream_settings settings;
    upstream_shared *shared;
    shard *shards[2];
    upstream *halves[2];
    stub_server stubs[4];
    std::vector<caller *> callers; // freed in teardown, so that a failed assertion leaks nothing
    uint64_t now_ms;
};

inline upstream_bench *bench;

inline stub_server *stub(int i) {
    return &bench->stubs[i];
}

inline caller *of(upstream_call *c) {
    return reinterpret_cast<caller *>(c);
}
inline void cancel_at(caller *w, int where) {
    if (w->cancels == where) upstream_call_cancel(&w->call);
}

inline const upstream_call_ops caller_ops = {
    [](upstream_call *c) {
        caller *w = of(c);
        w->readies++;
        if (w->cancels == caller::at_ready) return upstream_call_cancel(c);
        http_link_begin(c->link, "GET");
        http_link_send(c->link, frame_copy(w->request));
        http_link_request_done(c->link);
    },
    [](upstream_call *c, const http1_response *r) {
        of(c)->statuses.push_back(r->status);
        if (r->status == 101 && of(c)->tunnels) upstream_call_tunnel(c);
        cancel_at(of(c), caller::at_head);
    },
    [](upstream_call *c, view data) {
        of(c)->body.append(data);
        cancel_at(of(c), caller::at_body);
    },
    [](upstream_call *c, view trailers) {
        of(c)->ends++;
        of(c)->trailers = trailers;
        cancel_at(of(c), caller::at_end);
    },
    [](upstream_call *c, upstream_failure why, bool answered) {
        of(c)->failures++;
        of(c)->why = why;
        of(c)->answered = answered;
    },
    [](upstream_call *c) { of(c)->drains++; },
};

inline void stub_listen(stub_server *s) {
    error e;
    if (s->at.size == 0 && !address_parse("127.0.0.1:0", &s->at, &e)) fatal("%s", e.text);
    s->listening = address_listen(&s->at, false, &e);
    if (s->listening < 0 || !address_of_socket(s->listening, &s->at)) fatal("%s", e.text);
}

// Nobody is there any more: what connects is refused, what is connected ends.
inline void stub_stop(stub_server *s) {
    for (const int fd : s->peers)
        close(fd);
    s->peers.clear();
    if (s->listening >= 0) close(s->listening);
    s->listening = -1;
}

// False: the connection is over.
inline bool stub_serve(stub_server *s, int fd) {
    char some[65536];
    const ssize_t n = recv(fd, some, sizeof some, MSG_DONTWAIT);
    if (n == 0) return false;
    if (n < 0) return true;
    const std::string got(some, static_cast<size_t>(n));
    if (got.find("\r\n\r\n") == std::string::npos) {
        s->tunnelled += got;
        return true;
    }
    s->requests.push_back(got);
    if (s->does == stub_does::hang_up) return false;
    if (s->does == stub_does::answer && send(fd, s->with.data(), s->with.size(), MSG_NOSIGNAL) < 0) return false;
    return true;
}

inline void stub_turn(stub_server *s) {
    if (s->listening < 0) return;
    for (int fd; (fd = accept4(s->listening, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK)) >= 0; s->accepted++)
        s->peers.push_back(fd);
    for (size_t i = 0; i < s->peers.size();) {
        if (stub_serve(s, s->peers[i])) {
            i++;
            continue;
        }
        close(s->peers[i]);
        s->peers.erase(s->peers.begin() + static_cast<ptrdiff_t>(i));
    }
}

inline void turn(int n = 12) {
    for (int i = 0; i < n; i++) {
        loop_turn(bench->on, false);
        bench->on->clock.monotonic_ms = bench->now_ms;
        wheel_advance(&bench->main_deadlines, bench->now_ms);
        for (shard *s : bench->shards)
            if (s) wheel_advance(&s->deadlines, bench->now_ms);
        for (stub_server &s : bench->stubs)
            stub_turn(&s);
    }
}

inline void advance(uint64_t ms) {
    for (; ms; ms -= ms < 100 ? ms : 100) {
        bench->now_ms += ms < 100 ? ms : 100;
        turn(2);
    }
    turn();
}

inline int bench_begin(void **) {
    alarm(60);
    bench = new upstream_bench{};
    bench->on = loop_new();
    hash_init(1);
    bench->now_ms = bench->on->clock.monotonic_ms;
    wheel_init(&bench->main_deadlines, bench->now_ms, deadline_fire, nullptr);
    upstream_settings *o = &bench->settings;
    o->name = "app";
    o->keepalive = 8;
    o->keepalive_timeout = 60000;
    o->connect_timeout = 2000;
    o->read_timeout = 10000;
    o->queue_timeout = 1000;
    o->health_interval = 1000;
    o->health_timeout = 500;
    for (stub_server &s : bench->stubs)
        stub_listen(&s);
    return 0;
}

inline server_settings *add_server(const address *at, uint32_t weight = 1) {
    server_settings s = {};
    s.text = address_format(reinterpret_cast<const struct sockaddr *>(&at->storage), at->size).text;
    s.host = s.text.substr(0, s.text.find(':'));
    s.port = static_cast<uint16_t>(std::stoi(s.text.substr(s.text.find(':') + 1)));
    s.weight = weight;
    s.max_fails = 1;
    s.fail_timeout = 10000;
    bench->settings.servers.push_back(s);
    return &bench->settings.servers.back();
}

// Servers for the first n stubs, unless the test has added its own.
inline void open_upstream(size_t n = 1, int halves = 1) {
    for (size_t i = bench->settings.servers.size(); i < n; i++)
        add_server(&bench->stubs[i].at);
    bench->shared = upstream_shared_new(bench->on, &bench->main_deadlines, &bench->settings);
    for (int i = 0; i < halves; i++) {
        bench->shards[i] = new shard{};
        bench->shards[i]->index = static_cast<uint8_t>(i);
        bench->shards[i]->loop = bench->on;
        wheel_init(&bench->shards[i]->deadlines, bench->now_ms, deadline_fire, nullptr);
        slab_init(&bench->shards[i]->chunk_slab, sizeof(outq_chunk), 65536);
        bench->halves[i] = upstream_new(bench->shards[i], &bench->settings, bench->shared);
    }
    bench->on->clock.monotonic_ms = bench->now_ms;
}

inline int bench_end(void **) {
    for (caller *c : bench->callers) {
        upstream_call_cancel(&c->call);
        delete c;
    }
    for (int i = 0; i < 2; i++) {
        if (!bench->halves[i]) continue;
        upstream_free(bench->halves[i]);
        slab_destroy(&bench->shards[i]->chunk_slab);
        delete bench->shards[i];
    }
    const bool resolves = bench->shared && upstream_shared_resolves(bench->shared);
    if (bench->shared) upstream_shared_free(bench->shared);
    for (const uint64_t end = clock_monotonic_ns() + 200000000; resolves && clock_monotonic_ns() < end;)
        loop_turn(bench->on, false);
    for (stub_server &s : bench->stubs)
        stub_stop(&s);
    tls_unref(bench->settings.tls);
    loop_free(bench->on);
    delete bench;
    return 0;
}

inline caller *new_caller() {
    bench->callers.push_back(new caller{});
    return bench->callers.back();
}

// Starts, does not turn.
inline caller *start(caller *c, bool safe = true, view key = view(), int half = 0) {
    upstream_call_start(&c->call, bench->halves[half], &caller_ops, key.empty() ? nullptr : &key, safe);
    return c;
}
inline caller *start(bool safe = true, view key = view(), int half = 0) {
    return start(new_caller(), safe, key, half);
}

inline caller *run(bool safe = true, view key = view(), int half = 0) {
    caller *c = start(safe, key, half);
    turn();
    return c;
}

inline uint64_t failures(int server) {
    return number_get(&bench->halves[0]->servers[server].failures);
}
inline uint64_t kept(int server) {
    return number_get(&bench->halves[0]->servers[server].kept);
}

inline std::string status(const view *key = nullptr) {
    buffer out = {};
    upstream_status_write(bench->shared, key, &out);
    std::string text(buffer_view(&out));
    buffer_free(&out);
    return text;
}
inline bool says(const std::string &part) {
    const std::string text = status();
    if (text.find(part) != std::string::npos) return true;
    print_message("no %s in %s\n", part.c_str(), text.c_str());
    return false;
}

inline void assert_ok(const caller *c) {
    assert_int_equal(c->ends, 1);
    assert_int_equal(c->failures, 0);
    assert_int_equal(c->statuses.back(), 200);
    assert_string_equal(c->body.c_str(), "ok");
}
inline void assert_failed(const caller *c, upstream_failure why) {
    assert_int_equal(c->failures, 1);
    assert_int_equal(c->ends, 0);
    assert_string_equal(upstream_failure_name(c->why), upstream_failure_name(why));
}

} // namespace belfry
