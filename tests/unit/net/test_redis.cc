// The life of the Redis link: ready, down, back-off, silence, AUTH and ACL, SELECT, unix socket, TLS, bad servers.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
extern "C" {
#include <cmocka.h>
}

#include "net/redis.h"
#include "redis_fixture.h"
#include "throwaway_certificate.h"

using namespace belfry;
using namespace redis_fixture;

namespace {

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

// ---- a link whose server changes ----

struct place {
    uint16_t port; // 0: nobody knows
    int asked;
};

bool where(void *context, std::string *host, uint16_t *port) {
    place *p = static_cast<place *>(context);
    p->asked++;
    *host = "127.0.0.1";
    *port = p->port;
    return p->port != 0;
}

void test_located(void **) {
    start_server(free_port(), "");
    const uint16_t right = server.port;
    place at = {0, 0};
    redis_settings s = fast_settings();
    s.host = "unused.invalid";
    probe *p = start(0, s, false);
    redis_locate(p->r, where, &at);
    assert_true(turn_until([&at] { return at.asked == 1; }));
    turn_for(100);
    assert_int_equal(at.asked, 1); // in a second, not at once
    assert_int_equal(redis_count(p->r).failures, 0);
    at.port = right;
    redis_reconnect(p->r, "it is known now");
    assert_true(turn_until([p] { return p->readies == 1; }, 900));
    assert_int_equal(redis_at(p->r)->port, right);

    // Told to go elsewhere while well: what is unanswered is lost, and it is there again without a back-off.
    assert_true(send(p, {"BLPOP", "none", "0"}, on_reply, 1));
    turn_for(20);
    redis_reconnect(p->r, "the primary is another server");
    assert_int_equal(p->downs, 0); // not from within
    assert_true(turn_until([p] { return p->readies == 2; }));
    assert_int_equal(p->downs, 1);
    assert_string_equal(p->why.c_str(), "the primary is another server");
    assert_string_equal(p->replies[0].c_str(), "1 null");
    assert_int_equal(at.asked, 3);
}

void test_primary_only(void **) {
    start_server(free_port(), "");
    redis_settings s = fast_settings();
    probe *other = start_ready(1, s, false);
    s.primary_only = true;
    probe *p = start_ready(0, s, false);
    // It becomes a replica: the answer to a write ends the link, ROLE refuses the next one.
    assert_true(send(other, {"REPLICAOF", "127.0.0.1", "1"}, on_reply, 1));
    assert_true(turn_until([other] { return other->replies.size() == 1; }));
    assert_true(send(p, {"SET", "k", "v"}, on_reply, 1));
    assert_true(turn_until([p] { return p->downs == 1; }));
    assert_true(contains(p->replies[0], "1 -READONLY"));
    assert_true(logged("the server is no primary"));
    assert_int_equal(p->readies, 1);
    // To a link that did not ask for a primary it is an error like others.
    assert_true(send(other, {"SET", "k", "v"}, on_reply, 2));
    assert_true(turn_until([other] { return other->replies.size() == 2; }));
    assert_int_equal(other->downs, 0);
    assert_true(send(other, {"REPLICAOF", "NO", "ONE"}, on_reply, 3));
    assert_true(turn_until([p] { return p->readies == 2; }));
}

} // namespace

int main() {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_down_and_up_again, before_each, after_each),
        cmocka_unit_test_setup_teardown(test_wrong_password, before_each, after_each),
        cmocka_unit_test_setup_teardown(test_acl_user, before_each, after_each),
        cmocka_unit_test_setup_teardown(test_unix_socket_and_database, before_each, after_each),
        cmocka_unit_test_setup_teardown(test_tls, before_each, after_each),
        cmocka_unit_test_setup_teardown(test_silence, before_each, after_each),
        cmocka_unit_test_setup_teardown(test_bad_servers, before_each, after_each),
        cmocka_unit_test_setup_teardown(test_flapping_server, before_each, after_each),
        cmocka_unit_test_setup_teardown(test_unreachable, before_each, after_each),
        cmocka_unit_test_setup_teardown(test_located, before_each, after_each),
        cmocka_unit_test_setup_teardown(test_primary_only, before_each, after_each),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
