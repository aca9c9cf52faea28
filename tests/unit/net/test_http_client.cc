// Links to backends over real sockets: the test itself is the backend, byte by byte where it matters. What each side
// sees, what becomes of a link after an answer, and callbacks that close the link from inside.
#include "tls_fixture.h"

#include "base/clock.h"
#include "net/http_client.h"

#include <errno.h>
#include <unistd.h>

using namespace belfry;

namespace {

struct seen {
    int connected, ended, failures, drained, heads;
    std::vector<int> statuses;
    std::string body, why, trailers;
    http_failure failure;
    bool reusable; // at the end
};

struct {
    loop *on;
    slab chunks;
    address at;
    int listening, peer;
    http_link link;
    error e;
    seen saw;
    void (*in_head)(http_link *l, const http1_response *r);
    void (*in_body)(http_link *l);
    void (*in_end)(http_link *l);
} bench;

void on_connected(http_link *) {
    bench.saw.connected++;
}
void on_head(http_link *l, const http1_response *r) {
    bench.saw.heads++;
    bench.saw.statuses.push_back(r->status);
    if (bench.in_head) bench.in_head(l, r);
}
void on_body(http_link *l, view data) {
    bench.saw.body.append(data);
    if (bench.in_body) bench.in_body(l);
}
void on_end(http_link *l) {
    bench.saw.ended++;
    bench.saw.reusable = http_link_reusable(l);
    bench.saw.trailers = http1_body_trailers(&l->body);
    if (bench.in_end) bench.in_end(l);
}
void on_failed(http_link *, http_failure what, const char *why) {
    bench.saw.failures++;
    bench.saw.failure = what;
    bench.saw.why = why;
}
void on_drained(http_link *) {
    bench.saw.drained++;
}
const http_link_events events = {on_connected, on_head, on_body, on_end, on_failed, on_drained};

int set_up(void **) {
    alarm(60);
    bench = {};
    bench.on = loop_new();
    slab_init(&bench.chunks, sizeof(outq_chunk), 4096);
    bench.peer = -1;
    address any;
    error e;
    if (!address_parse("127.0.0.1:0", &any, &e)) return -1;
    bench.listening = address_listen(&any, false, &e);
    return bench.listening >= 0 && address_of_socket(bench.listening, &bench.at) ? 0 : -1;
}

int tear_down(void **) {
    http_link_close(&bench.link);
    if (bench.peer >= 0) close(bench.peer);
    if (bench.listening >= 0) close(bench.listening);
    slab_destroy(&bench.chunks);
    loop_free(bench.on);
    bench = {};
    return 0;
}

void turns(int n = 10) {
    for (int i = 0; i < n; i++)
        loop_turn(bench.on, false);
}

template <typename F> void turn_until(F condition) {
    const uint64_t end = clock_monotonic_ns() + 10000000000ull;
    while (!condition() && clock_monotonic_ns() < end) {
        loop_turn(bench.on, false);
        usleep(200);
    }
    assert_true(condition());
}

void connect_link(tls_context *tls = nullptr) {
    assert_true(http_link_open(&bench.link, bench.on, &bench.chunks, &bench.at, tls, "a.example.com", &events, &bench,
                               &bench.e));
    assert_int_equal(bench.saw.connected, 0);
    turn_until([] {
        if (bench.peer < 0) bench.peer = accept4(bench.listening, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
        return bench.peer >= 0;
    });
    if (!tls) turn_until([] { return bench.saw.connected == 1; });
}

void ask(view method = "GET", view bytes = "GET / HTTP/1.1\r\nHost: a\r\n\r\n") {
    http_link_begin(&bench.link, method);
    http_link_send(&bench.link, frame_copy(bytes));
    http_link_request_done(&bench.link);
}

std::string peer_got() {
    std::string all;
    char some[65536];
    ssize_t n;
    while ((n = recv(bench.peer, some, sizeof some, 0)) > 0)
        all.append(some, static_cast<size_t>(n));
    return all;
}

void peer_sends(view bytes) {
    assert_int_equal(send(bench.peer, bytes.data(), bytes.size(), MSG_NOSIGNAL), bytes.size());
    turns();
}

void peer_closes() {
    peer_got(); // what is left unread makes a reset of it
    close(bench.peer);
    bench.peer = -1;
    turns();
}

void peer_resets() {
    struct linger now = {1, 0};
    setsockopt(bench.peer, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    peer_closes();
}

void test_two_requests_on_one_link(void **) {
    connect_link();
    ask();
    assert_string_equal(peer_got().c_str(), "GET / HTTP/1.1\r\nHost: a\r\n\r\n"); // written within http_link_send
    peer_sends("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello");
    assert_int_equal(bench.saw.ended, 1);
    assert_string_equal(bench.saw.body.c_str(), "hello");
    assert_true(bench.saw.reusable);
    assert_null(bench.link.rest.data); // no memory while idle
    ask("GET", "GET /two HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_string_equal(peer_got().c_str(), "GET /two HTTP/1.1\r\nHost: a\r\n\r\n");
    peer_sends("HTTP/1.1 204 No Content\r\n\r\n");
    assert_int_equal(bench.saw.ended, 2);
    assert_int_equal(bench.link.requests, 2);
    assert_int_equal(bench.saw.failures, 0);
}

void test_a_byte_at_a_time(void **) {
    const std::string answer = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
                               "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
                               "3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nX-Sum: 7\r\n\r\n";
    connect_link();
    ask();
    for (const char c : answer)
        peer_sends(view(&c, 1));
    assert_int_equal(bench.saw.heads, 2);
    assert_int_equal(bench.saw.statuses[0], 103);
    assert_string_equal(bench.saw.body.c_str(), "abcde");
    assert_string_equal(bench.saw.trailers.c_str(), "X-Sum: 7\r\n");
    assert_int_equal(bench.saw.ended, 1);
    assert_true(bench.saw.reusable);
}

void test_until_close(void **) {
    connect_link();
    ask();
    peer_sends("HTTP/1.1 200 OK\r\n\r\npart one, ");
    peer_sends("part two");
    assert_int_equal(bench.saw.ended, 0);
    peer_closes();
    assert_int_equal(bench.saw.ended, 1);
    assert_false(bench.saw.reusable);
    assert_string_equal(bench.saw.body.c_str(), "part one, part two");
    assert_int_equal(bench.saw.failures, 0);
}

void test_a_reset_is_no_end(void **) {
    connect_link();
    ask();
    peer_sends("HTTP/1.1 200 OK\r\n\r\npart");
    peer_resets();
    assert_int_equal(bench.saw.ended, 0);
    assert_int_equal(bench.saw.failures, 1);
    assert_true(bench.saw.failure == http_failure::closed);
}

void test_head_has_no_body(void **) {
    connect_link();
    ask("HEAD");
    peer_sends("HTTP/1.1 200 OK\r\n\r\n");
    assert_int_equal(bench.saw.ended, 1);
    assert_true(bench.saw.reusable);
}

// A backend may send the body all the same, and the next one on this link would be given it.
void test_a_body_announced_in_vain_ends_the_link(void **) {
    connect_link();
    ask("HEAD");
    peer_sends("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n");
    assert_int_equal(bench.saw.ended, 1);
    assert_false(bench.saw.reusable);
}

void test_cut_short(void **) {
    connect_link();
    ask();
    peer_sends("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf");
    peer_closes();
    assert_int_equal(bench.saw.ended, 0);
    assert_int_equal(bench.saw.failures, 1);
    assert_true(bench.saw.failure == http_failure::closed);
}

void test_closed_before_an_answer(void **) {
    connect_link();
    ask();
    peer_got();
    peer_closes();
    assert_int_equal(bench.saw.failures, 1);
    assert_true(bench.saw.failure == http_failure::closed);
    assert_int_equal(bench.link.received, 0);
    turns(50);
    assert_int_equal(bench.saw.failures, 1); // told once
}

void refuses(const char *bytes) {
    connect_link();
    ask();
    peer_sends(bytes);
    assert_int_equal(bench.saw.failures, 1);
    assert_true(bench.saw.failure == http_failure::malformed);
    assert_int_equal(bench.saw.ended, 0);
}
void test_garbage(void **) {
    refuses("SSH-2.0-OpenSSH_9.2\r\n");
}
void test_http09(void **) {
    refuses("<html>");
}
void test_two_lengths(void **) {
    refuses("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n");
}
void test_bad_chunk(void **) {
    refuses("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0x5\r\n");
}
void test_switching_that_nobody_asked_for(void **) {
    refuses("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n");
}

void test_interims_are_counted(void **) {
    std::string many;
    for (int i = 0; i < http_link_interims_max; i++)
        many += "HTTP/1.1 102 Processing\r\n\r\n";
    connect_link();
    ask();
    peer_sends(many);
    assert_int_equal(bench.saw.failures, 0);
    assert_int_equal(bench.saw.heads, http_link_interims_max);
    peer_sends("HTTP/1.1 102 Processing\r\n\r\n");
    assert_int_equal(bench.saw.failures, 1);
    assert_int_equal(bench.saw.heads, http_link_interims_max);
}

// A second answer that was put behind the first must not become the answer to the next request.
void test_bytes_behind_an_answer(void **) {
    connect_link();
    ask();
    peer_sends("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil");
    assert_int_equal(bench.saw.ended, 1);
    assert_false(bench.saw.reusable);
    assert_string_equal(bench.saw.body.c_str(), "ok");
    turns();
    assert_int_equal(bench.saw.failures, 0); // it was told by `end`
}

void test_bytes_while_idle(void **) {
    connect_link();
    ask();
    peer_sends("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    assert_true(bench.saw.reusable);
    peer_sends("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    assert_int_equal(bench.saw.failures, 1);
    assert_true(bench.saw.failure == http_failure::malformed);
    assert_false(http_link_reusable(&bench.link));
}

void test_an_idle_link_that_ends(void **) {
    connect_link();
    ask();
    peer_sends("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    peer_closes();
    assert_int_equal(bench.saw.failures, 1);
    assert_true(bench.saw.failure == http_failure::closed);
}

void not_kept(const char *answer) {
    connect_link();
    ask();
    peer_sends(answer);
    assert_int_equal(bench.saw.ended, 1);
    assert_false(bench.saw.reusable);
}
void test_connection_close(void **) {
    not_kept("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
}
void test_http10(void **) {
    not_kept("HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n");
}

// The answer came before the whole request: the rest of that would be read as the next one.
void test_answered_early(void **) {
    connect_link();
    http_link_begin(&bench.link, "POST");
    http_link_send(&bench.link, frame_copy("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc"));
    peer_sends("HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n");
    assert_int_equal(bench.saw.ended, 1);
    assert_false(bench.saw.reusable);
}

// It says no and hangs up while the request still goes out: what it said is not lost.
void test_refused_while_sending(void **) {
    connect_link();
    http_link_begin(&bench.link, "POST");
    http_link_send(&bench.link, frame_copy("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99\r\n\r\n"));
    peer_got();
    const view no = "HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno";
    assert_int_equal(send(bench.peer, no.data(), no.size(), 0), no.size());
    shutdown(bench.peer, SHUT_RDWR);
    close(bench.peer);
    bench.peer = -1;
    usleep(1000);
    http_link_send(&bench.link, frame_copy("more"));
    http_link_send(&bench.link, frame_copy("and more"));
    turns();
    assert_int_equal(bench.saw.ended, 1);
    assert_int_equal(bench.saw.statuses[0], 413);
    assert_string_equal(bench.saw.body.c_str(), "no");
}

void test_back_pressure_to_the_backend(void **) {
    std::string piece(128 * 1024, 'x');
    size_t sent = 0, got = 0;
    connect_link();
    http_link_begin(&bench.link, "POST");
    while (http_link_queued(&bench.link) < http_link_high_water) {
        http_link_send(&bench.link, frame_copy(piece));
        sent += piece.size();
    }
    turns();
    assert_int_equal(bench.saw.drained, 0);
    assert_int_equal(stream_watched(&bench.link.stream), stream_readable | stream_writable);
    turn_until([&] {
        got += peer_got().size();
        return got == sent;
    });
    assert_int_equal(bench.saw.drained, 1);
    assert_int_equal(bench.link.sent, sent);
    assert_int_equal(http_link_queued(&bench.link), 0);
    assert_int_equal(stream_watched(&bench.link.stream), stream_readable);
}

void pause_it(http_link *l) {
    http_link_pause(l);
}

void test_paused_within_a_body(void **) {
    connect_link();
    ask();
    bench.in_body = pause_it;
    peer_sends("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n1\r\nb\r\n1\r\nc\r\n0\r\n\r\n");
    assert_string_equal(bench.saw.body.c_str(), "a"); // the rest waits, though it was read
    turns();
    assert_string_equal(bench.saw.body.c_str(), "a");
    http_link_resume(&bench.link);
    assert_string_equal(bench.saw.body.c_str(), "a"); // never from within
    turns();
    assert_string_equal(bench.saw.body.c_str(), "ab");
    bench.in_body = nullptr;
    http_link_resume(&bench.link);
    turns();
    assert_string_equal(bench.saw.body.c_str(), "abc");
    assert_int_equal(bench.saw.ended, 1);
    assert_true(bench.saw.reusable);
}

void test_paused_at_the_last_byte(void **) {
    connect_link();
    ask();
    bench.in_body = pause_it;
    peer_sends("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc");
    assert_int_equal(bench.saw.ended, 0);
    http_link_resume(&bench.link);
    turns();
    assert_int_equal(bench.saw.ended, 1); // no byte more was needed for it
    assert_true(bench.saw.reusable);
}

// What was put off is not forgotten when the socket fills up at that moment, and another set of events is watched.
void test_resumed_while_the_socket_fills(void **) {
    connect_link();
    http_link_begin(&bench.link, "POST");
    bench.in_body = pause_it;
    peer_sends("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n1\r\nb\r\n");
    bench.in_body = nullptr;
    http_link_resume(&bench.link);
    const std::string piece(128 * 1024, 'x');
    while (http_link_queued(&bench.link) < http_link_high_water)
        http_link_send(&bench.link, frame_copy(piece));
    turns();
    assert_string_equal(bench.saw.body.c_str(), "ab");
}

void test_end_seen_after_a_pause(void **) {
    connect_link();
    ask();
    bench.in_body = pause_it;
    peer_sends("HTTP/1.1 200 OK\r\n\r\nabc");
    peer_closes();
    assert_int_equal(bench.saw.ended, 0);
    http_link_resume(&bench.link);
    turns();
    assert_int_equal(bench.saw.ended, 1);
}

void test_a_paused_link_reads_nothing(void **) {
    std::string piece(65536, 'y');
    size_t sent = 0;
    connect_link();
    ask();
    bench.in_head = [](http_link *l, const http1_response *) { http_link_pause(l); };
    peer_sends("HTTP/1.1 200 OK\r\n\r\n");
    for (;;) {
        const ssize_t n = send(bench.peer, piece.data(), piece.size(), MSG_NOSIGNAL);
        if (n <= 0) break;
        sent += static_cast<size_t>(n);
        turns(1);
    }
    assert_int_equal(errno, EAGAIN); // the backend has to wait
    assert_true(bench.saw.body.empty());
    http_link_resume(&bench.link);
    turn_until([&] { return bench.saw.body.size() == sent; });
}

void close_it(http_link *l) {
    http_link_close(l);
}
void close_at_head(http_link *l, const http1_response *) {
    http_link_close(l);
}

void test_closed_from_inside(void **) {
    static const char answer[] = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc";
    for (int where = 0; where < 3; where++) {
        bench.saw = {};
        bench.in_head = where == 0 ? close_at_head : nullptr;
        bench.in_body = where == 1 ? close_it : nullptr;
        bench.in_end = where == 2 ? close_it : nullptr;
        connect_link();
        ask();
        peer_sends(answer);
        assert_int_equal(bench.saw.heads, 1);
        assert_int_equal(bench.saw.body.size(), where == 0 ? 0 : 3);
        assert_int_equal(bench.saw.ended, where == 2 ? 1 : 0);
        assert_int_equal(bench.saw.failures, 0);
        peer_closes();
        assert_int_equal(bench.saw.failures, 0);
        http_link_close(&bench.link); // twice is harmless
    }
}

void test_next_request_from_within_the_end(void **) {
    connect_link();
    ask();
    bench.in_end = [](http_link *) {
        bench.in_end = nullptr;
        ask("GET", "GET /next HTTP/1.1\r\nHost: a\r\n\r\n");
    };
    peer_got();
    peer_sends("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    assert_string_equal(peer_got().c_str(), "GET /next HTTP/1.1\r\nHost: a\r\n\r\n");
    peer_sends("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nz");
    assert_int_equal(bench.saw.ended, 2);
    assert_string_equal(bench.saw.body.c_str(), "z");
}

void test_tunnel(void **) {
    connect_link();
    ask();
    bench.in_head = [](http_link *l, const http1_response *r) {
        if (r->status == 101) http_link_tunnel(l);
    };
    peer_got();
    peer_sends("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n\x81\x02hi");
    assert_string_equal(bench.saw.body.c_str(), "\x81\x02hi"); // what came behind the head
    http_link_send(&bench.link, frame_copy("\x81\x02yo"));
    assert_string_equal(peer_got().c_str(), "\x81\x02yo");
    http_link_shutdown(&bench.link);
    char one;
    assert_int_equal(recv(bench.peer, &one, 1, 0), 0);
    peer_sends("bye"); // the other direction is still open
    assert_string_equal(bench.saw.body.c_str(), "\x81\x02hibye");
    peer_closes();
    assert_int_equal(bench.saw.ended, 1);
    assert_false(bench.saw.reusable);
    assert_int_equal(bench.saw.failures, 0);
}

void test_refused_connection(void **) {
    close(bench.listening);
    bench.listening = -1;
    if (!http_link_open(&bench.link, bench.on, &bench.chunks, &bench.at, nullptr, "", &events, &bench, &bench.e))
        return assert_non_null(strstr(bench.e.text, "refused"));
    turn_until([] { return bench.saw.failures == 1; });
    assert_true(bench.saw.failure == http_failure::connect);
    assert_int_equal(bench.saw.connected, 0);
}

// ---------------------------------------------------------------- TLS: the backend is a stream of our own

struct {
    stream s;
    std::string got;
    bool shaken;
} tls_peer;

void tls_peer_step() {
    char some[4096];
    size_t n = 0;
    if (!tls_peer.shaken) tls_peer.shaken = stream_handshake(&tls_peer.s) == stream_result::ok;
    if (tls_peer.shaken && stream_read(&tls_peer.s, some, sizeof some, &n) == stream_result::ok)
        tls_peer.got.append(some, n);
}

void never_ready(watch *, unsigned) {}

int tls_down(void **) {
    if (tls_peer.s.ops) stream_close(&tls_peer.s);
    tls_peer = {};
    return tear_down(nullptr);
}

void accept_tls(const char *certificate) {
    tls_fixture::serve({certificate});
    tls_fixture::trust(certificate, true);
    connect_link(tls_fixture::client_context);
    stream_open_tls(&tls_peer.s, bench.on, bench.peer, never_ready, tls_fixture::server_context);
    bench.peer = -1;
}

void test_tls(void **) {
    accept_tls("a");
    turn_until([] {
        tls_peer_step();
        return tls_peer.shaken && bench.saw.connected == 1;
    });
    ask();
    turn_until([] {
        tls_peer_step();
        return tls_peer.got == "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    });
    const char answer[] = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
    const struct iovec iov = {const_cast<char *>(answer), sizeof answer - 1};
    size_t written = 0;
    assert_true(stream_write(&tls_peer.s, &iov, 1, &written) == stream_result::ok);
    turn_until([] { return bench.saw.ended == 1; });
    assert_string_equal(bench.saw.body.c_str(), "hello");
    assert_true(bench.saw.reusable);
}

void test_tls_wrong_name(void **) {
    accept_tls("other");
    turn_until([] {
        tls_peer_step();
        return bench.saw.failures == 1;
    });
    assert_true(bench.saw.failure == http_failure::connect);
    assert_int_equal(bench.saw.connected, 0);
    assert_true(tls_fixture::contains(bench.saw.why, "certificate refused"));
}

// An answer in the clear, put in front of the backend's handshake, is no answer.
void test_plain_bytes_before_tls(void **) {
    tls_fixture::trust("a", true);
    connect_link(tls_fixture::client_context);
    const view injected = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil";
    assert_int_equal(send(bench.peer, injected.data(), injected.size(), 0), injected.size());
    turn_until([] { return bench.saw.failures == 1; });
    assert_true(bench.saw.failure == http_failure::connect);
    assert_int_equal(bench.saw.heads, 0);
    assert_int_equal(bench.saw.connected, 0);
}

} // namespace

int main() {
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
#define TLS_TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tls_down)
    const struct CMUnitTest tests[] = {
        TEST(test_two_requests_on_one_link),
        TEST(test_a_byte_at_a_time),
        TEST(test_until_close),
        TEST(test_a_reset_is_no_end),
        TEST(test_head_has_no_body),
        TEST(test_a_body_announced_in_vain_ends_the_link),
        TEST(test_cut_short),
        TEST(test_closed_before_an_answer),
        TEST(test_garbage),
        TEST(test_http09),
        TEST(test_two_lengths),
        TEST(test_bad_chunk),
        TEST(test_switching_that_nobody_asked_for),
        TEST(test_interims_are_counted),
        TEST(test_bytes_behind_an_answer),
        TEST(test_bytes_while_idle),
        TEST(test_an_idle_link_that_ends),
        TEST(test_connection_close),
        TEST(test_http10),
        TEST(test_answered_early),
        TEST(test_refused_while_sending),
        TEST(test_back_pressure_to_the_backend),
        TEST(test_paused_within_a_body),
        TEST(test_paused_at_the_last_byte),
        TEST(test_resumed_while_the_socket_fills),
        TEST(test_end_seen_after_a_pause),
        TEST(test_a_paused_link_reads_nothing),
        TEST(test_closed_from_inside),
        TEST(test_next_request_from_within_the_end),
        TEST(test_tunnel),
        TEST(test_refused_connection),
        TLS_TEST(test_tls),
        TLS_TEST(test_tls_wrong_name),
        TLS_TEST(test_plain_bytes_before_tls),
    };
    return cmocka_run_group_tests(tests, tls_fixture::set_up, tls_fixture::tear_down);
}
