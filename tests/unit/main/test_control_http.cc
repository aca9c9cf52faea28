// The control API's HTTP server over real sockets: requests as they come, answers byte by byte.
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>
extern "C" {
#include <cmocka.h>
}

#include "main/control_http.h"
#include "temporary_files.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

using namespace belfry;

namespace {

constexpr size_t body_max = 100000;
constexpr size_t clients_max = 8;

struct bench {
    loop *on;
    struct wheel wheel;
    uint64_t started_ms;
    control_http *http;
    int clients[clients_max];
    size_t client_count;
    control_conn *later; // counted: the request that waits for its answer
    int requests;
    std::string seen; // of the last request
};

bench *b;

// "/later" is answered by the test; all others at once, with what was asked.
void handle(control_conn *c, const control_request *q, void *context) {
    auto *to = static_cast<bench *>(context);
    to->requests++;
    to->seen = std::string(q->method) + " " + std::string(q->path) + "?" + std::string(q->query) + " " +
               std::string(q->body.substr(0, 1000));
    if (q->path == "/later")
        to->later = control_ref(c);
    else if (q->path == "/error")
        control_reply_error(c, 503, "not \"now\"", "Retry-After: 1\r\n");
    else
        control_reply(c, 200, "text/plain", q->path, view());
}

int setup(void **) {
    alarm(120);
    directory_begin();
    b = new bench{};
    b->on = loop_new();
    b->started_ms = b->on->clock.monotonic_ms;
    wheel_init(&b->wheel, b->started_ms, control_http_fire, nullptr);
    error e;
    b->http = control_http_new(b->on, &b->wheel, {"unix:" + *directory + "/control", "127.0.0.1:0"}, "secret", body_max,
                               handle, b, &e);
    if (!b->http) fatal("%s", e.text);
    return 0;
}

int teardown(void **) {
    if (b->http) control_http_free(b->http);
    if (b->later) control_unref(b->later);
    for (size_t i = 0; i < b->client_count; i++)
        close(b->clients[i]);
    bool left = b->wheel.armed != 0;
    loop_free(b->on);
    delete b;
    directory_end();
    alarm(0);
    return left;
}

int client_of(size_t listener) {
    address a;
    error e;
    if (!address_parse(control_http_addresses(b->http)[listener], &a, &e)) fatal("%s", e.text);
    int fd = address_connect(&a, &e);
    if (fd < 0) fatal("%s", e.text);
    b->clients[b->client_count++] = fd;
    return fd;
}
int unix_client() {
    return client_of(0);
}
void turns(int n) {
    while (n--)
        loop_turn(b->on, false);
}

void say(int fd, std::string_view text) {
    while (!text.empty()) {
        ssize_t n = send(fd, text.data(), text.size(), MSG_NOSIGNAL);
        if (n > 0) text.remove_prefix(static_cast<size_t>(n));
        if (n < 0 && errno != EAGAIN) fatal("send: errno %d", errno);
        turns(1);
    }
    turns(5);
}

// All that comes within some turns; *ended where the server's side ended.
std::string hear(int fd, bool *ended) {
    std::string all;
    char some[65536];
    for (int idle = 0; idle < 20;) {
        ssize_t n = recv(fd, some, sizeof some, MSG_DONTWAIT);
        if (n > 0) all.append(some, static_cast<size_t>(n));
        *ended = n == 0;
        if (n == 0) break;
        idle = n > 0 ? 0 : idle + 1;
        turns(1);
        if (n < 0) usleep(100);
    }
    return all;
}

std::string answer(const char *body, const char *connection) {
    return "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: " + std::to_string(strlen(body)) +
           "\r\nConnection: " + connection + "\r\n\r\n" + body;
}

std::string refusal(const char *status, const char *connection, const char *extra, const std::string &message) {
    std::string body = "{\"error\":{\"code\":" + std::string(status, 3) + ",\"message\":\"" + message + "\"}}";
    return "HTTP/1.1 " + std::string(status) + "\r\nConnection: " + connection +
           "\r\nContent-Type: application/json\r\nContent-Length: " + std::to_string(body.size()) + "\r\n" + extra +
           "\r\n" + body;
}

void hears(int fd, const std::string &want, bool want_end) {
    bool ended = false;
    std::string got = hear(fd, &ended);
    assert_string_equal(got.c_str(), want.c_str());
    assert_int_equal(got.size(), want.size());
    assert_int_equal(ended, want_end);
}

#define GET(path) "GET " path " HTTP/1.1\r\nHost: x\r\n\r\n"

// ---------------------------------------------------------------- keep-alive, pipelining

void a_connection_serves_one_request_after_the_other(void **) {
    int fd = unix_client();
    for (int i = 0; i < 3; i++) {
        say(fd, GET("/a?x=1"));
        hears(fd, answer("/a", "keep-alive"), false);
    }
    assert_int_equal(b->requests, 3);
    assert_string_equal(b->seen.c_str(), "GET /a?x=1 ");
}

void it_ends_where_the_client_says_so(void **) {
    int fd = unix_client();
    say(fd, "GET /a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" GET("/b"));
    hears(fd, answer("/a", "close"), true);
    int old = unix_client();
    say(old, "GET /a HTTP/1.0\r\n\r\n");
    hears(old, answer("/a", "close"), true);
    assert_int_equal(b->requests, 2); // what came behind was not served
}

void bodies_come_whole(void **) {
    int fd = unix_client();
    say(fd, "POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n01234");
    assert_int_equal(b->requests, 0);
    say(fd, "56789" GET("/b"));
    hears(fd, answer("/a", "keep-alive") + answer("/b", "keep-alive"), false);
    say(fd, "POST /c HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody");
    hears(fd, answer("/c", "keep-alive"), false);
    assert_string_equal(b->seen.c_str(), "POST /c? body");
}

void a_request_may_come_byte_by_byte(void **) {
    int fd = unix_client();
    const std::string request = "POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc";
    for (char c : request) {
        assert_int_equal(b->requests, 0);
        say(fd, std::string_view(&c, 1));
    }
    hears(fd, answer("/a", "keep-alive"), false);
    assert_string_equal(b->seen.c_str(), "POST /a? abc");
}

void two_thousand_requests_in_one_segment_are_served_in_order(void **) {
    int fd = unix_client();
    std::string all, want;
    for (int i = 0; i < 2000; i++) {
        std::string path = "/" + std::to_string(i);
        all += "GET " + path + " HTTP/1.1\r\nHost:x\r\n\r\n";
        want += answer(path.c_str(), "keep-alive");
    }
    assert_true(all.size() < loop_receive_size);
    say(fd, all);
    hears(fd, want, false);
    assert_int_equal(b->requests, 2000);
}

void what_is_pipelined_waits_for_the_answer_before(void **) {
    int fd = unix_client();
    say(fd, GET("/later") GET("/b") GET("/c"));
    hears(fd, "", false);
    assert_int_equal(b->requests, 1);
    control_reply(b->later, 200, "text/plain", "late", view());
    hears(fd, answer("late", "keep-alive") + answer("/b", "keep-alive") + answer("/c", "keep-alive"), false);
}

void errors_are_json_and_keep_the_connection(void **) {
    int fd = unix_client();
    say(fd, GET("/error") GET("/a"));
    hears(fd,
          refusal("503 Service Unavailable", "keep-alive", "Retry-After: 1\r\n", "not \\\"now\\\"") +
              answer("/a", "keep-alive"),
          false);
}

// ---------------------------------------------------------------- refusals

void over_tcp_the_token_is_needed(void **) {
    const char *const wrong[] = {"",
                                 "Authorization: Bearer wrong\r\n",
                                 "Authorization: Bearer secre\r\n",
                                 "Authorization: Bearer secrets\r\n",
                                 "Authorization: Bearer\r\n",
                                 "Authorization: Basic secret\r\n",
                                 "Authorization: Bearer secret\r\nAuthorization: Bearer secret\r\n"};
    for (const char *fields : wrong) {
        int fd = client_of(1);
        say(fd, "GET /a HTTP/1.1\r\nHost: x\r\n" + std::string(fields) + "\r\n");
        hears(fd,
              refusal("401 Unauthorized", "close", "WWW-Authenticate: Bearer\r\n",
                      "a valid Authorization: Bearer TOKEN is needed"),
              true);
    }
    assert_int_equal(b->requests, 0); // none of them came through
    int fd = client_of(1);
    for (const char *scheme : {"Bearer ", "bearer  "}) {
        say(fd, "GET /a HTTP/1.1\r\nHost: x\r\nAuthorization: " + std::string(scheme) + "secret\r\n\r\n");
        hears(fd, answer("/a", "keep-alive"), false);
    }
}

void a_body_may_be_as_large_as_the_bound(void **) {
    int fd = unix_client();
    std::string head = "POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: ";
    say(fd, head + std::to_string(body_max) + "\r\n\r\n" + std::string(body_max, 'x'));
    hears(fd, answer("/a", "keep-alive"), false);
    say(fd, head + std::to_string(body_max + 1) + "\r\n\r\n");
    hears(fd, refusal("413 Content Too Large", "close", "", "the body is too large"), true);
    assert_int_equal(b->requests, 1);
}

// The refusal must not be eaten by a reset, although the client goes on sending.
void a_refusal_reaches_a_client_that_still_sends(void **) {
    int fd = client_of(1);
    say(fd, "POST /a HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer secret\r\nContent-Length: 99999999\r\n\r\n" +
                std::string(200000, 'x'));
    hears(fd, refusal("413 Content Too Large", "close", "", "the body is too large"), true);
}

void chunks_are_refused(void **) {
    int fd = unix_client();
    say(fd, "POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" GET("/b"));
    hears(fd, refusal("411 Length Required", "close", "", "send Content-Length, not chunks"), true);
    assert_int_equal(b->requests, 0);
}

void what_is_no_http_is_refused(void **) {
    for (const char *text : {"\x16\x03\x01\x02\x01", "GET /a HTTP/1.1\n\n", "GET /a HTTP/1.1\r\n\r\n"}) {
        int fd = unix_client();
        say(fd, text);
        bool ended = false;
        std::string got = hear(fd, &ended);
        assert_int_equal(got.compare(0, 26, "HTTP/1.1 400 Bad Request\r\n"), 0);
        assert_true(ended);
    }
    assert_int_equal(b->requests, 0);
}

void expect_is_answered_once(void **) {
    int fd = unix_client();
    say(fd, "POST /a HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n");
    hears(fd, "HTTP/1.1 100 Continue\r\n\r\n", false);
    say(fd, "bo");
    hears(fd, "", false);
    say(fd, "dy");
    hears(fd, answer("/a", "keep-alive"), false);
    // A body that is there already needs no invitation; one that is refused gets none.
    say(fd, "POST /a HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\nx");
    hears(fd, answer("/a", "keep-alive"), false);
    say(fd, "POST /a HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 999999\r\n\r\n");
    hears(fd, refusal("413 Content Too Large", "close", "", "the body is too large"), true);
}

void half_a_request_is_closed_by_its_deadline(void **) {
    int fd = unix_client();
    say(fd, "GET /a HTTP/1.1\r\n");
    wheel_advance(&b->wheel, b->started_ms + 9000);
    hears(fd, "", false);
    wheel_advance(&b->wheel, b->started_ms + 13000);
    hears(fd, "", true);
    assert_int_equal(b->requests, 0);
}

void half_a_request_and_an_end_are_nothing(void **) {
    int fd = unix_client();
    say(fd, "POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbo");
    shutdown(fd, SHUT_WR);
    turns(5);
    hears(fd, "", true);
    assert_int_equal(b->requests, 0);
}

void who_ended_its_side_still_gets_its_answer(void **) {
    int fd = unix_client();
    say(fd, GET("/a") GET("/later"));
    shutdown(fd, SHUT_WR);
    turns(5);
    control_reply(b->later, 200, "text/plain", "late", view());
    hears(fd, answer("/a", "keep-alive") + answer("late", "keep-alive"), true);
}

void a_client_may_leave_before_its_answer(void **) {
    int fd = unix_client();
    say(fd, GET("/later"));
    close(fd);
    b->clients[--b->client_count] = -1;
    turns(5);
    control_reply(b->later, 200, "text/plain", std::string(300000, 'x'), view());
    assert_int_equal(b->wheel.armed, 0);
}

void an_answer_after_the_deadline_goes_nowhere(void **) {
    int fd = unix_client();
    say(fd, GET("/later"));
    wheel_advance(&b->wheel, b->started_ms + 13000);
    hears(fd, "", true);
    control_reply_error(b->later, 503, "late", view());
}

void an_answer_after_the_servers_end_goes_nowhere(void **) {
    int fd = unix_client();
    say(fd, GET("/later") GET("/b"));
    control_http_free(b->http);
    b->http = nullptr;
    control_reply(b->later, 200, "text/plain", "late", view());
    hears(fd, "", true);
    assert_int_equal(access((*directory + "/control").c_str(), F_OK), -1); // the socket's file is removed
}

void a_port_of_zero_is_resolved(void **) {
    const std::vector<std::string> &addresses = control_http_addresses(b->http);
    assert_int_equal(addresses.size(), 2);
    assert_string_equal(addresses[0].c_str(), ("unix:" + *directory + "/control").c_str());
    assert_int_equal(addresses[1].compare(0, 10, "127.0.0.1:"), 0);
    assert_string_not_equal(addresses[1].c_str(), "127.0.0.1:0");
}

void an_address_that_is_taken_is_told(void **) {
    error e;
    assert_null(control_http_new(b->on, &b->wheel, {"unix:" + *directory + "/control"}, "", 1, handle, b, &e));
    assert_non_null(strstr(e.text, (*directory + "/control").c_str()));
}

// ---------------------------------------------------------------- reload

std::string with_token(const char *token) {
    return "GET /a HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + std::string(token) + "\r\n\r\n";
}

// One address stays, one goes, one comes; the token is another; who is connected goes on.
void addresses_and_token_may_change(void **) {
    std::string kept = "unix:" + *directory + "/control", added = "unix:" + *directory + "/more";
    std::string port = control_http_addresses(b->http)[1];
    int tcp = client_of(1);
    say(tcp, with_token("secret"));
    hears(tcp, answer("/a", "keep-alive"), false);
    error e;
    size_t which;
    control_change *change = control_http_change(b->http, {added, kept}, &which, &e);
    assert_non_null(change);
    assert_string_equal(control_http_addresses(b->http)[0].c_str(), kept.c_str()); // not yet
    control_http_commit(change, "other");
    assert_int_equal(control_http_addresses(b->http).size(), 2);
    assert_string_equal(control_http_addresses(b->http)[0].c_str(), added.c_str());
    for (size_t i = 0; i < 2; i++) {
        int fd = client_of(i);
        say(fd, GET("/a"));
        hears(fd, answer("/a", "keep-alive"), false);
    }
    say(tcp, with_token("other"));
    hears(tcp, answer("/a", "keep-alive"), false);
    say(tcp, with_token("secret"));
    hears(tcp,
          refusal("401 Unauthorized", "close", "WWW-Authenticate: Bearer\r\n",
                  "a valid Authorization: Bearer TOKEN is needed"),
          true);
    address a;
    assert_true(address_parse(port, &a, &e));
    int refused = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int result = connect(refused, reinterpret_cast<struct sockaddr *>(&a.storage), a.size);
    close(refused);
    assert_int_equal(result, -1);
}

// An empty token is none, not one that an empty field would match.
void without_a_token_nobody_comes_over_tcp(void **) {
    int tcp = client_of(1);
    turns(5); // accepted
    error e;
    size_t which;
    control_http_commit(control_http_change(b->http, {"unix:" + *directory + "/control"}, &which, &e), "");
    say(tcp, with_token(""));
    hears(tcp,
          refusal("401 Unauthorized", "close", "WWW-Authenticate: Bearer\r\n",
                  "a valid Authorization: Bearer TOKEN is needed"),
          true);
    assert_int_equal(b->requests, 0);
}

void a_change_that_fails_changes_nothing(void **) {
    std::string kept = "unix:" + *directory + "/control", added = "unix:" + *directory + "/more";
    write_file("file", "no socket");
    error e;
    size_t which = 0;
    assert_null(control_http_change(b->http, {added, kept, "unix:" + *directory + "/file"}, &which, &e));
    assert_int_equal(which, 2);
    assert_non_null(strstr(e.text, "not a socket"));
    assert_int_equal(access((*directory + "/more").c_str(), F_OK), -1);
    control_change *change = control_http_change(b->http, {added}, &which, &e);
    assert_non_null(change);
    control_http_discard(change);
    assert_int_equal(access((*directory + "/more").c_str(), F_OK), -1);
    int fd = unix_client();
    say(fd, GET("/a"));
    hears(fd, answer("/a", "keep-alive"), false);
    assert_int_equal(control_http_addresses(b->http).size(), 2);
}

} // namespace

#define with_bench(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main() {
    const CMUnitTest tests[] = {
        with_bench(a_connection_serves_one_request_after_the_other),
        with_bench(it_ends_where_the_client_says_so),
        with_bench(bodies_come_whole),
        with_bench(a_request_may_come_byte_by_byte),
        with_bench(two_thousand_requests_in_one_segment_are_served_in_order),
        with_bench(what_is_pipelined_waits_for_the_answer_before),
        with_bench(errors_are_json_and_keep_the_connection),
        with_bench(over_tcp_the_token_is_needed),
        with_bench(a_body_may_be_as_large_as_the_bound),
        with_bench(a_refusal_reaches_a_client_that_still_sends),
        with_bench(chunks_are_refused),
        with_bench(what_is_no_http_is_refused),
        with_bench(expect_is_answered_once),
        with_bench(half_a_request_is_closed_by_its_deadline),
        with_bench(half_a_request_and_an_end_are_nothing),
        with_bench(who_ended_its_side_still_gets_its_answer),
        with_bench(a_client_may_leave_before_its_answer),
        with_bench(an_answer_after_the_deadline_goes_nowhere),
        with_bench(an_answer_after_the_servers_end_goes_nowhere),
        with_bench(a_port_of_zero_is_resolved),
        with_bench(an_address_that_is_taken_is_told),
        with_bench(addresses_and_token_may_change),
        with_bench(without_a_token_nobody_comes_over_tcp),
        with_bench(a_change_that_fails_changes_nothing),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
