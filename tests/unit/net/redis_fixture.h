// What the Redis tests share: a redis-server on a free port (or a scripted one, for what a real one won't do), and
// links that note what they are told.
//
// Every wait has a deadline; servers are killed by their pid, also when the test program dies.
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
extern "C" {
#include <cmocka.h>
}

#include "base/clock.h"
#include "base/log.h"
#include "net/redis.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <string>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <vector>

namespace redis_fixture {

using namespace belfry;

inline constexpr int patience_ms = 10000;

inline std::string directory;
inline loop *on;

// ---- the server ----

struct server_process {
    pid_t pid;
    uint16_t port;
};
inline server_process server;

inline uint16_t free_port() {
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in a = {};
    a.sin_family = AF_INET;
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof a;
    assert_int_equal(bind(fd, reinterpret_cast<struct sockaddr *>(&a), size), 0);
    assert_int_equal(getsockname(fd, reinterpret_cast<struct sockaddr *>(&a), &size), 0);
    close(fd);
    return ntohs(a.sin_port);
}

// `more`: lines of redis.conf.
inline void start_server(uint16_t port, const std::string &more) {
    const std::string conf = directory + "/redis.conf";
    FILE *out = fopen(conf.c_str(), "w");
    fprintf(out,
            "port %u\nbind 127.0.0.1\ndir %s\nsave \"\"\nappendonly no\nlogfile %s/redis.log\n"
            "unixsocket %s/redis.sock\nenable-debug-command yes\n%s\n",
            more.find("tls-port") == std::string::npos ? port : 0, directory.c_str(), directory.c_str(),
            directory.c_str(), more.c_str());
    fclose(out);
    server.port = port;
    server.pid = fork();
    if (server.pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        execlp("redis-server", "redis-server", conf.c_str(), static_cast<char *>(nullptr));
        _exit(127);
    }
    // Up once it listens.
    struct sockaddr_in a = {};
    a.sin_family = AF_INET;
    a.sin_port = htons(port);
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    for (int i = 0; i < patience_ms / 10; i++) {
        int fd = socket(AF_INET, SOCK_STREAM, 0);
        const int result = connect(fd, reinterpret_cast<struct sockaddr *>(&a), sizeof a);
        close(fd);
        if (result == 0) return;
        usleep(10000);
    }
    fail_msg("redis-server does not start; see %s/redis.log", directory.c_str());
}

inline void stop_server() {
    if (server.pid <= 0) return;
    kill(server.pid, SIGKILL);
    waitpid(server.pid, nullptr, 0);
    server.pid = 0;
}

// ---- the links under test ----

struct probe {
    redis *r;
    int readies, downs;
    std::string why;
    std::vector<std::string> pushes, replies; // "TAG VALUE"
    int nulls_before_down;
    const char *subscribes;    // channel, at each ready
    const char *free_at;       // "ready", "down", "push", "reply", "null": calls redis_free there
    size_t pause_at;           // after so many pushes; 0: never
    bool command_refused_down; // what a command said in `down`
};
inline probe probes[2];

inline std::string text_of(const redis_value *v) {
    if (v == nullptr) return "null";
    std::string s;
    switch (v->type) {
    case redis_type::nil:
        return "nil";
    case redis_type::integer:
        return std::to_string(v->integer);
    case redis_type::error:
        return "-" + std::string(v->text);
    case redis_type::text:
    case redis_type::status:
        return std::string(v->text);
    case redis_type::array:
        for (size_t i = 0; i < v->count; i++)
            s += (i > 0 ? " " : "") + text_of(&v->elements[i]);
        return s;
    }
    return s;
}

inline void maybe_free(probe *p, const char *where) {
    if (p->free_at == nullptr || strcmp(p->free_at, where) != 0) return;
    redis_free(p->r);
    assert_false(redis_ready(p->r)); // still there while its callback runs
    p->r = nullptr;
}

inline bool send(probe *p, std::vector<view> words, redis_reply reply, uint64_t tag) {
    return redis_command(p->r, static_cast<int>(words.size()), words.data(), reply, p, tag);
}

inline void on_ready(redis *, void *context) {
    probe *p = static_cast<probe *>(context);
    p->readies++;
    if (p->subscribes != nullptr) assert_true(send(p, {"SUBSCRIBE", p->subscribes}, nullptr, 0));
    maybe_free(p, "ready");
}

inline void on_down(redis *, const char *why, void *context) {
    probe *p = static_cast<probe *>(context);
    p->downs++;
    p->why = why;
    for (const std::string &s : p->replies)
        p->nulls_before_down += s.find(" null") != std::string::npos;
    p->command_refused_down = !send(p, {"PING"}, nullptr, 0);
    maybe_free(p, "down");
}

inline void on_push(redis *, const redis_value *frame, void *context) {
    probe *p = static_cast<probe *>(context);
    p->pushes.push_back(text_of(frame));
    if (p->pause_at != 0 && p->pushes.size() == p->pause_at) redis_pause(p->r, true);
    maybe_free(p, "push");
}

inline void on_reply(redis *, const redis_value *reply, void *context, uint64_t tag) {
    probe *p = static_cast<probe *>(context);
    p->replies.push_back(std::to_string(tag) + " " + text_of(reply));
    maybe_free(p, reply != nullptr ? "reply" : "null");
}

inline redis_settings fast_settings() {
    redis_settings s;
    s.host = "127.0.0.1";
    s.port = server.port;
    s.connect_timeout_ms = 1500;
    s.ping_interval_ms = 200;
    s.ping_timeout_ms = 400;
    s.backoff_min_ms = 10;
    s.backoff_max_ms = 80;
    return s;
}

inline probe *start(int which, const redis_settings &s, bool subscriber) {
    const redis_events events = {on_ready, on_down, subscriber ? on_push : nullptr};
    probes[which] = {};
    probe *p = &probes[which];
    p->r = redis_new(on, &s, subscriber ? "subscriber" : "publisher", &events, p);
    assert_non_null(p->r);
    assert_int_equal(p->readies, 0); // never from within redis_new
    return p;
}

// The listening socket of a server that answers by script; -1 where there is none.
inline int scripted = -1, accepted = -1;
inline const char *script; // what it answers whatever comes, or null: nothing
inline int accepts;

inline void scripted_turn() {
    if (scripted < 0) return;
    int fd = accept4(scripted, nullptr, nullptr, SOCK_NONBLOCK);
    if (fd >= 0) {
        accepts++;
        close(accepted);
        accepted = fd;
    }
    char into[4096];
    if (accepted >= 0 && read(accepted, into, sizeof into) > 0 && script != nullptr)
        assert_int_equal(write(accepted, script, strlen(script)), strlen(script));
}

// Turns the loop until `done`, or for so long.
template <typename F> bool turn_until(F done, int ms = patience_ms) {
    const uint64_t end = clock_monotonic_ns() + static_cast<uint64_t>(ms) * 1000000;
    while (!done()) {
        if (clock_monotonic_ns() > end) return false;
        loop_turn(on, false);
        scripted_turn();
        usleep(300);
    }
    return true;
}

inline void turn_for(int ms) {
    (void)turn_until([] { return false; }, ms);
}

inline probe *start_ready(int which, const redis_settings &s, bool subscriber) {
    probe *p = start(which, s, subscriber);
    assert_true(turn_until([p] { return p->readies == 1; }));
    return p;
}

inline std::string log_text() {
    std::string text;
    FILE *in = fopen((directory + "/log").c_str(), "r");
    char piece[4096];
    while (size_t n = fread(piece, 1, sizeof piece, in))
        text.append(piece, n);
    fclose(in);
    return text;
}

inline bool contains(const std::string &text, const std::string &part) {
    if (text.find(part) != std::string::npos) return true;
    print_message("no \"%s\" in: %s\n", part.c_str(), text.c_str());
    return false;
}

// Waits for it: the link tells at most five failures a second.
inline bool logged(const std::string &part) {
    if (turn_until([&part] { return log_text().find(part) != std::string::npos; }, 3000)) return true;
    return contains(log_text(), part);
}

inline int set_up(void **) {
    char made[] = "/tmp/belfry-redis-XXXXXX";
    if (mkdtemp(made) == nullptr) return -1;
    directory = made;
    return 0;
}

inline int before_each(void **) {
    error e;
    unlink((directory + "/log").c_str());
    if (!log_open((directory + "/log").c_str(), log_level::debug, false, &e)) return -1;
    on = loop_new();
    return 0;
}

inline int after_each(void **) {
    for (probe &p : probes) {
        redis_free(p.r);
        p = {};
    }
    close(accepted);
    close(scripted);
    accepted = scripted = -1;
    if (server.pid > 0) kill(server.pid, SIGCONT);
    stop_server();
    turn_for(500); // what evdns still holds for 100 ms; a busy machine may take this process away for longer
    loop_free(on);
    // An error line is a bug, but for the one that a test asks for.
    const std::string log = log_text();
    const size_t at = log.find(" error ");
    return at != std::string::npos && log.find("absent.pem", at) == std::string::npos ? -1 : 0;
}

inline int tear_down(void **) {
    const std::string remove = "rm -rf " + directory;
    return system(remove.c_str());
}

} // namespace redis_fixture
