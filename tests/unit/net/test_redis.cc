// The Redis link against a real redis-server on a free port (and against a scripted one, for what a real one won't do).
//
// Every wait has a deadline; servers are killed by their pid, also when the test program dies.
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
#include "throwaway_certificate.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

using namespace belfry;

namespace {

constexpr int patience_ms = 10000;

std::string directory;
loop *on;

// ---- the server ----

struct {
    pid_t pid;
    uint16_t port;
} server;

uint16_t free_port() {
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
void start_server(uint16_t port, const std::string &more) {
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

void stop_server() {
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
probe probes[2];

std::string text_of(const redis_value *v) {
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

void maybe_free(probe *p, const char *where) {
    if (p->free_at == nullptr || strcmp(p->free_at, where) != 0) return;
    redis_free(p->r);
    assert_false(redis_ready(p->r)); // still there while its callback runs
    p->r = nullptr;
}

bool send(probe *p, std::vector<view> words, redis_reply reply, uint64_t tag) {
    return redis_command(p->r, static_cast<int>(words.size()), words.data(), reply, p, tag);
}

void on_ready(redis *, void *context) {
    probe *p = static_cast<probe *>(context);
    p->readies++;
    if (p->subscribes != nullptr) assert_true(send(p, {"SUBSCRIBE", p->subscribes}, nullptr, 0));
    maybe_free(p, "ready");
}

void on_down(redis *, const char *why, void *context) {
    probe *p = static_cast<probe *>(context);
    p->downs++;
    p->why = why;
    for (const std::string &s : p->replies)
        p->nulls_before_down += s.find(" null") != std::string::npos;
    p->command_refused_down = !send(p, {"PING"}, nullptr, 0);
    maybe_free(p, "down");
}

void on_push(redis *, const redis_value *frame, void *context) {
    probe *p = static_cast<probe *>(context);
    p->pushes.push_back(text_of(frame));
    if (p->pause_at != 0 && p->pushes.size() == p->pause_at) redis_pause(p->r, true);
    maybe_free(p, "push");
}

void on_reply(redis *, const redis_value *reply, void *context, uint64_t tag) {
    probe *p = static_cast<probe *>(context);
    p->replies.push_back(std::to_string(tag) + " " + text_of(reply));
    maybe_free(p, reply != nullptr ? "reply" : "null");
}

redis_settings fast_settings() {
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

probe *start(int which, const redis_settings &s, bool subscriber) {
    const redis_events events = {on_ready, on_down, subscriber ? on_push : nullptr};
    probes[which] = {};
    probe *p = &probes[which];
    p->r = redis_new(on, &s, subscriber ? "subscriber" : "publisher", &events, p);
    assert_non_null(p->r);
    assert_int_equal(p->readies, 0); // never from within redis_new
    return p;
}

// The listening socket of a server that answers by script; -1 where there is none.
int scripted = -1, accepted = -1;
const char *script; // what it answers whatever comes, or null: nothing
int accepts;

void scripted_turn() {
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

void turn_for(int ms) {
    (void)turn_until([] { return false; }, ms);
}

probe *start_ready(int which, const redis_settings &s, bool subscriber) {
    probe *p = start(which, s, subscriber);
    assert_true(turn_until([p] { return p->readies == 1; }));
    return p;
}

std::string log_text() {
    std::string text;
    FILE *in = fopen((directory + "/log").c_str(), "r");
    char piece[4096];
    while (size_t n = fread(piece, 1, sizeof piece, in))
        text.append(piece, n);
    fclose(in);
    return text;
}

bool contains(const std::string &text, const std::string &part) {
    if (text.find(part) != std::string::npos) return true;
    print_message("no \"%s\" in: %s\n", part.c_str(), text.c_str());
    return false;
}

// Waits for it: the link tells at most five failures a second.
bool logged(const std::string &part) {
    if (turn_until([&part] { return log_text().find(part) != std::string::npos; }, 3000)) return true;
    return contains(log_text(), part);
}

void test_ready_and_command(void **) {
    start_server(free_port(), "");
    probe *p = start_ready(0, fast_settings(), false);
    assert_true(redis_ready(p->r));
    assert_true(send(p, {"SET", "key", view("a\0\r\n", 4)}, on_reply, 1));
    assert_true(send(p, {"GET", "key"}, on_reply, 2));
    assert_true(send(p, {"GET", "none"}, on_reply, 3));
    assert_true(send(p, {"NOSUCH"}, on_reply, 4));
    assert_true(send(p, {"PING"}, nullptr, 0)); // an answer that nobody wants
    assert_true(send(p, {"LRANGE", "none", "0", "-1"}, on_reply, 5));
    assert_true(send(p, {"INCR", "n"}, on_reply, 6));
    assert_true(turn_until([p] { return p->replies.size() == 6; }));
    assert_string_equal(p->replies[0].c_str(), "1 OK");
    assert_true(p->replies[1] == std::string("2 a\0\r\n", 6));
    assert_string_equal(p->replies[2].c_str(), "3 nil");
    assert_true(contains(p->replies[3], "4 -ERR unknown command"));
    assert_string_equal(p->replies[4].c_str(), "5 ");
    assert_string_equal(p->replies[5].c_str(), "6 1");
    const redis_counters c = redis_count(p->r);
    assert_int_equal(c.connects, 1);
    assert_int_equal(c.failures, 0);
    assert_int_equal(c.commands, 7);
    assert_int_equal(c.replies, 7);
    assert_true(c.bytes_in > 60 && c.bytes_out > 150);
}

void test_pipelining(void **) {
    start_server(free_port(), "");
    probe *p = start_ready(0, fast_settings(), false);
    const uint64_t writes = on->writes;
    for (uint64_t i = 0; i < 5000; i++)
        assert_true(send(p, {"INCR", "n"}, on_reply, i));
    assert_true(turn_until([p] { return p->replies.size() == 5000; }));
    for (size_t i = 0; i < 5000; i++)
        assert_string_equal(p->replies[i].c_str(), (std::to_string(i) + " " + std::to_string(i + 1)).c_str());
    assert_true(on->writes - writes <= 5); // one, but for a full socket or a PING
}

void test_subscribe(void **) {
    start_server(free_port(), "");
    probe *s = start_ready(0, fast_settings(), true), *p = start_ready(1, fast_settings(), false);
    assert_true(send(s, {"SUBSCRIBE", "a", "b"}, nullptr, 0));
    assert_true(send(s, {"PSUBSCRIBE", "p*"}, nullptr, 0));
    assert_true(send(s, {"ssubscribe", "shard"}, nullptr, 0));
    assert_true(turn_until([s] { return s->pushes.size() == 4; }));
    assert_string_equal(s->pushes[0].c_str(), "subscribe a 1");
    assert_string_equal(s->pushes[1].c_str(), "subscribe b 2");
    assert_string_equal(s->pushes[2].c_str(), "psubscribe p* 3");
    assert_string_equal(s->pushes[3].c_str(), "ssubscribe shard 1");
    for (uint64_t i = 0; i < 100; i++) {
        const std::string text = "message " + std::to_string(i);
        assert_true(send(p, {"PUBLISH", i % 2 == 0 ? "a" : "b", text}, on_reply, i));
    }
    assert_true(send(p, {"PUBLISH", "pat", "x"}, nullptr, 0));
    assert_true(send(p, {"SPUBLISH", "shard", "y"}, nullptr, 0));
    assert_true(turn_until([s] { return s->pushes.size() == 106; }));
    for (size_t i = 0; i < 100; i++)
        assert_string_equal(
            s->pushes[4 + i].c_str(),
            ("message " + std::string(i % 2 == 0 ? "a" : "b") + " message " + std::to_string(i)).c_str());
    assert_string_equal(s->pushes[104].c_str(), "pmessage p* pat x");
    assert_string_equal(s->pushes[105].c_str(), "smessage shard y");
    assert_int_equal(redis_count(s->r).pushes, 106);

    // PING in subscriber state: answered by an array, and no push.
    turn_for(900);
    assert_int_equal(s->downs, 0);
    assert_int_equal(s->pushes.size(), 106);
    assert_true(redis_count(s->r).bytes_out > 3 * strlen("*1\r\n$4\r\nPING\r\n"));

    // Bare ones, whose frames are as many as there are channels; then commands of the ordinary kind again.
    assert_true(send(s, {"UNSUBSCRIBE"}, nullptr, 0));
    assert_true(send(s, {"PUNSUBSCRIBE"}, nullptr, 0));
    assert_true(send(s, {"SUNSUBSCRIBE", "shard"}, nullptr, 0));
    assert_true(send(s, {"ECHO", "hello"}, on_reply, 9));
    assert_true(send(s, {"UNSUBSCRIBE"}, nullptr, 0)); // nil, since there is none
    assert_true(send(s, {"ECHO", "again"}, on_reply, 10));
    assert_true(turn_until([s] { return s->replies.size() == 2; }));
    assert_int_equal(s->pushes.size(), 111);
    assert_string_equal(s->pushes[110].c_str(), "unsubscribe nil 0");
    assert_string_equal(s->replies[0].c_str(), "9 hello");
    assert_string_equal(s->replies[1].c_str(), "10 again");
    turn_for(900);
    assert_int_equal(s->downs + p->downs, 0);
}

void test_down_and_up_again(void **) {
    const uint16_t port = free_port();
    start_server(port, "");
    probe *s = start(0, fast_settings(), true);
    s->subscribes = "room";
    assert_true(turn_until([s] { return s->pushes.size() == 1; }));
    probe *p = start_ready(1, fast_settings(), false);
    assert_true(send(p, {"BLPOP", "none", "0"}, on_reply, 1)); // unanswered for ever
    assert_true(send(p, {"GET", "x"}, on_reply, 2));
    turn_for(20);
    stop_server();
    assert_true(turn_until([s, p] { return s->downs == 1 && p->downs == 1; }));
    assert_int_equal(p->nulls_before_down, 2);
    assert_string_equal(p->replies[0].c_str(), "1 null");
    assert_string_equal(p->replies[1].c_str(), "2 null");
    assert_true(p->command_refused_down);
    assert_false(redis_ready(p->r));
    assert_false(send(p, {"PING"}, on_reply, 3));
    turn_for(500);
    const uint64_t failures = redis_count(p->r).failures;
    assert_in_range(failures, 4, 40); // backs off: 10, 20, 40, 80, 80, ... at most, half of it on average
    assert_true(contains(log_text(), "; trying again"));

    start_server(port, "");
    assert_true(turn_until([s, p] { return p->readies == 2 && s->pushes.size() == 2; }));
    assert_true(send(p, {"PUBLISH", "room", "back"}, on_reply, 4));
    assert_true(turn_until([s] { return s->pushes.size() == 3; }));
    assert_string_equal(s->pushes[2].c_str(), "message room back");
    assert_int_equal(p->downs, 1);
    assert_int_equal(redis_count(p->r).connects, 2);
}

void test_wrong_password(void **) {
    start_server(free_port(), "requirepass right-secret");
    redis_settings s = fast_settings();
    s.password = "wrong-secret";
    probe *p = start(0, s, false);
    assert_true(turn_until([p] { return redis_count(p->r).failures >= 5; }));
    assert_int_equal(p->readies + p->downs, 0);
    const std::string log = log_text();
    assert_true(contains(log, "warn redis publisher: 127.0.0.1:"));
    assert_true(contains(log, "AUTH was refused: WRONGPASS"));
    assert_null(strstr(log.c_str(), "wrong-secret"));
    // The same failure again and again is one line.
    assert_true(log.find("AUTH was refused") == log.rfind("AUTH was refused"));

    s.password = "";
    probe *none = start(1, s, false);
    assert_true(turn_until([none] { return redis_count(none->r).failures >= 2; }));
    assert_true(logged("the server is not ready: NOAUTH"));
    redis_free(none->r);
    s.password = "right-secret";
    start_ready(1, s, false);
}

void test_acl_user(void **) {
    start_server(free_port(), "user default off\nuser alice on >ecila ~* resetchannels &room:* +@all -select\n"
                              "user bob on >bob ~* +@all -ping\n");
    redis_settings settings = fast_settings();
    settings.user = "alice";
    settings.password = "ecila";
    probe *s = start_ready(0, settings, true);
    assert_true(send(s, {"SUBSCRIBE", "room:1"}, nullptr, 0));
    assert_true(send(s, {"SUBSCRIBE", "secret"}, nullptr, 0)); // refused as a whole
    assert_true(send(s, {"SUBSCRIBE", "room:2"}, nullptr, 0));
    assert_true(turn_until([s] { return s->pushes.size() == 3; }));
    assert_string_equal(s->pushes[0].c_str(), "subscribe room:1 1");
    assert_true(contains(s->pushes[1], "-NOPERM"));
    assert_string_equal(s->pushes[2].c_str(), "subscribe room:2 2");
    turn_for(500); // PINGs are still matched
    assert_int_equal(s->downs, 0);
    redis_free(s->r);
    s->r = nullptr;

    settings.database = 1;
    probe *p = start(0, settings, false);
    assert_true(turn_until([p] { return redis_count(p->r).failures >= 2; }));
    assert_true(logged("SELECT was refused: NOPERM"));
    // A user who may not PING: the answer NOPERM is a sign of life too.
    settings.user = settings.password = "bob";
    probe *bob = start_ready(1, settings, false);
    turn_for(700);
    assert_int_equal(bob->downs, 0);
}

void test_unix_socket_and_database(void **) {
    start_server(free_port(), "");
    redis_settings s;
    error e;
    const std::string url = "unix://" + directory + "/redis.sock?db=3";
    assert_true(redis_parse_url(url, &s, &e));
    probe *p = start_ready(0, s, false), *other = start_ready(1, fast_settings(), false);
    assert_true(send(p, {"SET", "k", "v"}, on_reply, 1));
    assert_true(turn_until([p] { return p->replies.size() == 1; }));
    assert_true(send(other, {"DBSIZE"}, on_reply, 1));
    assert_true(send(p, {"DBSIZE"}, on_reply, 2));
    assert_true(turn_until([p, other] { return p->replies.size() == 2 && other->replies.size() == 1; }));
    assert_string_equal(p->replies[1].c_str(), "2 1");
    assert_string_equal(other->replies[0].c_str(), "1 0");
}

void test_tls(void **) {
    const std::string chain = directory + "/tls.pem", key = directory + "/tls.key", other = directory + "/other.pem";
    throwaway::make({.key = "RSA", .dns = {"localhost"}}, chain, key);
    throwaway::make({.dns = {"localhost"}}, other, directory + "/other.key");
    const uint16_t port = free_port();
    start_server(port, "tls-port " + std::to_string(port) + "\ntls-auth-clients no\ntls-cert-file " + chain +
                           "\ntls-key-file " + key + "\ntls-ca-cert-file " + chain);
    redis_settings s = fast_settings();
    s.host = "localhost"; // by the hosts file
    s.tls = true;
    s.tls_ca = chain;
    probe *p = start_ready(0, s, false);
    const std::string large(500000, 'L'); // many records both ways
    for (uint64_t i = 0; i < 20; i++)
        assert_true(send(p, {"ECHO", large}, on_reply, i));
    assert_true(turn_until([p] { return p->replies.size() == 20; }));
    for (const std::string &reply : p->replies)
        assert_true(reply.substr(reply.find(' ') + 1) == large);
    turn_for(500);
    assert_int_equal(p->downs, 0);
    redis_free(p->r);

    s.tls_ca = other;
    p = start(0, s, false);
    assert_true(turn_until([p] { return redis_count(p->r).failures >= 2; }));
    assert_true(logged("certificate refused: self-signed certificate"));
    redis_free(p->r);
    s.tls_ca = chain;
    s.host = "127.0.0.1"; // not in the certificate
    p = start(0, s, false);
    assert_true(turn_until([p] { return redis_count(p->r).failures >= 2; }));
    assert_true(logged("certificate refused: IP address mismatch"));
    s.tls_verify = false;
    start_ready(1, s, false);

    s.tls_ca = directory + "/absent.pem";
    s.tls_verify = true;
    const redis_events events = {nullptr, nullptr, nullptr};
    assert_null(redis_new(on, &s, "publisher", &events, nullptr));
}

void test_silence(void **) {
    start_server(free_port(), "");
    probe *s = start_ready(0, fast_settings(), true), *p = start_ready(1, fast_settings(), false);
    assert_true(send(s, {"SUBSCRIBE", "room"}, nullptr, 0));
    turn_for(100);
    kill(server.pid, SIGSTOP);
    const uint64_t begin = clock_monotonic_ns();
    assert_true(turn_until([s, p] { return s->downs == 1 && p->downs == 1; }, 3000));
    const uint64_t took = (clock_monotonic_ns() - begin) / 1000000;
    assert_in_range(took, 300, 1500); // 200 of silence and 400 for the answer
    assert_string_equal(p->why.c_str(), "no answer to PING");
    kill(server.pid, SIGCONT);
    assert_true(turn_until([s, p] { return s->readies == 2 && p->readies == 2; }));

    // A link that does not read hears nothing; that is no reason to give it up.
    redis_pause(p->r, true);
    kill(server.pid, SIGSTOP);
    turn_for(1000);
    assert_int_equal(p->downs, 1);
    assert_int_equal(s->downs, 2);
    redis_pause(p->r, false);
    assert_true(turn_until([p] { return p->downs == 2; }, 3000));
    kill(server.pid, SIGCONT);
}

void test_reply_max(void **) {
    start_server(free_port(), "");
    redis_settings s = fast_settings();
    s.reply_max = 100000;
    probe *p = start_ready(0, s, false);
    const std::string fits(99000, 'x'), larger(101000, 'y');
    assert_true(send(p, {"ECHO", fits}, on_reply, 1));
    assert_true(send(p, {"ECHO", fits}, on_reply, 2));
    assert_true(send(p, {"ECHO", larger}, on_reply, 3));
    assert_true(turn_until([p] { return p->downs == 1; }));
    assert_string_equal(p->why.c_str(), "a reply of more than 100000 bytes");
    assert_int_equal(p->replies.size(), 3);
    assert_true(p->replies[1] == "2 " + fits);
    assert_string_equal(p->replies[2].c_str(), "3 null");
    assert_true(turn_until([p] { return p->readies == 2; }));
}

void test_pause(void **) {
    start_server(free_port(), "");
    probe *s = start_ready(0, fast_settings(), true), *p = start_ready(1, fast_settings(), false);
    assert_true(send(s, {"SUBSCRIBE", "room"}, nullptr, 0));
    assert_true(turn_until([s] { return s->pushes.size() == 1; }));
    s->pause_at = 4; // in the middle of what one read brought
    for (uint64_t i = 0; i < 1000; i++)
        assert_true(send(p, {"PUBLISH", "room", std::to_string(i)}, on_reply, i));
    assert_true(turn_until([p] { return p->replies.size() == 1000; }));
    turn_for(300);
    assert_int_equal(s->pushes.size(), 4);
    redis_pause(s->r, false);
    assert_true(turn_until([s] { return s->pushes.size() == 1001; }));
    for (size_t i = 0; i < 1000; i++)
        assert_string_equal(s->pushes[1 + i].c_str(), ("message room " + std::to_string(i)).c_str());
    assert_int_equal(s->downs, 0);
}

void test_free_in_callbacks(void **) {
    start_server(free_port(), "");
    for (const char *where : {"ready", "push", "reply"}) {
        probe *p = start(0, fast_settings(), true);
        p->free_at = where;
        p->subscribes = "room";
        if (strcmp(where, "reply") == 0) {
            p->subscribes = nullptr;
            assert_true(turn_until([p] { return p->readies == 1; }));
            assert_true(send(p, {"PING"}, on_reply, 1));
            assert_true(send(p, {"PING"}, on_reply, 2)); // not told any more
        }
        assert_true(turn_until([p] { return p->r == nullptr; }));
        turn_for(50);
        assert_true(p->replies.size() <= 1 && p->pushes.size() <= 1 && p->downs == 0);
        *p = {};
    }
    for (const char *where : {"null", "down"}) {
        if (server.pid == 0) start_server(server.port, "");
        probe *p = start_ready(0, fast_settings(), false);
        p->free_at = where;
        assert_true(send(p, {"BLPOP", "none", "0"}, on_reply, 1));
        assert_true(send(p, {"BLPOP", "none", "0"}, on_reply, 2));
        turn_for(50);
        stop_server();
        assert_true(turn_until([p] { return p->r == nullptr; }));
        turn_for(50);
        assert_int_equal(p->replies.size(), strcmp(where, "null") == 0 ? 1 : 2);
        assert_int_equal(p->downs, strcmp(where, "null") == 0 ? 0 : 1);
        *p = {};
    }
}

void test_queue_is_bounded(void **) {
    start_server(free_port(), "");
    probe *p = start_ready(0, fast_settings(), false);
    const std::string megabyte(1 << 20, 'm');
    int taken = 0;
    while (taken < 100 && send(p, {"PUBLISH", "room", megabyte}, on_reply, 0))
        taken++;
    assert_int_equal(taken, 63); // 64 MiB less what RESP adds
    assert_true(turn_until([p] { return p->replies.size() == 63; }));
    assert_true(send(p, {"PUBLISH", "room", megabyte}, on_reply, 0));
    int small = 0;
    while (small < 2000000 && send(p, {"PING"}, nullptr, 0))
        small++;
    assert_in_range(small, 1000000, 1100000);
}

// ---- what a real server will not do ----

void listen_scripted(const char *answers) {
    scripted = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    server.port = free_port();
    struct sockaddr_in a = {};
    a.sin_family = AF_INET;
    a.sin_port = htons(server.port);
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(bind(scripted, reinterpret_cast<struct sockaddr *>(&a), sizeof a), 0);
    assert_int_equal(listen(scripted, 5), 0);
    script = answers;
    accepts = 0;
}

void test_bad_servers(void **) {
    struct {
        const char *script, *logged;
    } cases[] = {
        {"-LOADING Redis is loading the dataset in memory\r\n", "the server is not ready: LOADING Redis is loading"},
        {"-ERR max number of clients reached\r\n", "AUTH was refused: ERR max number of clients"},
        {"HTTP/1.1 400 Bad Request\r\n\r\n", "Protocol error, got \"H\""},
        {"*99999999\r\n", "a reply of more than"},
        {"-ERR bad password: a-secret\r\n", "AUTH was refused: (its text is withheld)"},
        {nullptr, "connected, but not served in time"},
    };
    for (const auto &c : cases) {
        listen_scripted(c.script);
        redis_settings s = fast_settings();
        s.connect_timeout_ms = 300;
        if (strstr(c.logged, "AUTH") != nullptr) s.password = "a-secret";
        probe *p = start(0, s, false);
        assert_true(turn_until([p] { return redis_count(p->r).failures >= 3; }));
        assert_int_equal(p->readies, 0);
        assert_true(logged(c.logged));
        redis_free(p->r);
        p->r = nullptr;
        close(scripted);
        scripted = -1;
    }
    assert_null(strstr(log_text().c_str(), "a-secret"));
}

// Ready, then dropped at once: that is no reason to come back ten times a second.
void test_flapping_server(void **) {
    listen_scripted("+PONG\r\n+unasked\r\n");
    redis_settings s = fast_settings();
    s.backoff_min_ms = 1;
    s.backoff_max_ms = 400;
    probe *p = start(0, s, false);
    turn_for(3000);
    assert_in_range(p->downs, 8, 60); // 200 ms on average once it is at the maximum
    assert_int_equal(p->readies, p->downs);
    assert_string_equal(p->why.c_str(), "a reply that no command asked for");
}

void test_unreachable(void **) {
    redis_settings s = fast_settings();
    s.port = free_port(); // nobody there
    probe *refused = start(0, s, false);
    assert_true(turn_until([refused] { return redis_count(refused->r).failures >= 5; }));
    assert_true(logged("Connection refused"));

    s.host = "no-such-host.invalid"; // RFC 6761: never resolves, and perhaps there is no resolver at all
    s.connect_timeout_ms = 300;
    probe *unknown = start(1, s, false);
    assert_true(turn_until([unknown] { return redis_count(unknown->r).failures >= 2; }));
    assert_int_equal(unknown->readies, 0);
    // Freed in the middle of a question.
    redis_free(unknown->r);
    unknown->r = nullptr;
    probe *third = start(1, s, false);
    turn_for(5);
    redis_free(third->r);
    third->r = nullptr;
    turn_for(400);

    redis_settings local;
    local.unix_path = directory + "/absent.sock";
    probe *absent = start(1, local, false);
    assert_true(turn_until([absent] { return redis_count(absent->r).failures >= 1; }));
}

int set_up(void **) {
    char made[] = "/tmp/belfry-redis-XXXXXX";
    if (mkdtemp(made) == nullptr) return -1;
    directory = made;
    return 0;
}

int before_each(void **) {
    error e;
    unlink((directory + "/log").c_str());
    if (!log_open((directory + "/log").c_str(), log_level::debug, false, &e)) return -1;
    on = loop_new();
    return 0;
}

int after_each(void **) {
    for (probe &p : probes) {
        redis_free(p.r);
        p = {};
    }
    close(accepted);
    close(scripted);
    accepted = scripted = -1;
    if (server.pid > 0) kill(server.pid, SIGCONT);
    stop_server();
    turn_for(150); // what evdns still holds
    loop_free(on);
    // An error line is a bug, but for the one that a test asks for.
    const std::string log = log_text();
    const size_t at = log.find(" error ");
    return at != std::string::npos && log.find("absent.pem", at) == std::string::npos ? -1 : 0;
}

int tear_down(void **) {
    const std::string remove = "rm -rf " + directory;
    return system(remove.c_str());
}

} // namespace

int main() {
#define TEST(f) cmocka_unit_test_setup_teardown(f, before_each, after_each)
    const struct CMUnitTest tests[] = {
        TEST(test_ready_and_command),
        TEST(test_pipelining),
        TEST(test_subscribe),
        TEST(test_down_and_up_again),
        TEST(test_wrong_password),
        TEST(test_acl_user),
        TEST(test_unix_socket_and_database),
        TEST(test_tls),
        TEST(test_silence),
        TEST(test_reply_max),
        TEST(test_pause),
        TEST(test_free_in_callbacks),
        TEST(test_queue_is_bounded),
        TEST(test_bad_servers),
        TEST(test_flapping_server),
        TEST(test_unreachable),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
