// Streams: the re-aimed watch, plain reads and writes on real sockets, closing.
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>
extern "C" {
#include <cmocka.h>
}

#include "net/stream.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

using namespace belfry;

// The poller's calls pass through here: a re-aim that changes nothing must not reach the kernel.
static int epoll_calls;

extern "C" int epoll_ctl(int epoll, int what, int fd, struct epoll_event *event) noexcept {
    epoll_calls++;
    return static_cast<int>(syscall(SYS_epoll_ctl, epoll, what, fd, event));
}

namespace {

struct bench {
    struct stream stream; // first: forget_tls finds the bench by it
    loop *on;
    int peer;
    int called;
    unsigned ready;
    bool close_in_callback;
    int tls_closed;
};

void on_ready(watch *w, unsigned ready) {
    bench *b = BELFRY_CONTAINER_OF(w, bench, stream.watch);
    b->called++;
    b->ready = ready;
    if (b->close_in_callback) stream_close(&b->stream);
}

int setup(void **state) {
    alarm(30);
    bench *b = static_cast<bench *>(calloc(1, sizeof(bench)));
    b->on = loop_new();
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) != 0) return -1;
    b->peer = pair[1];
    stream_open_plain(&b->stream, b->on, pair[0], on_ready);
    *state = b;
    return 0;
}

// The same over TCP on loopback, for what a unix socket does not do (resets).
int setup_tcp(void **state) {
    if (setup(state) != 0) return -1;
    bench *b = static_cast<bench *>(*state);
    stream_close(&b->stream);
    close(b->peer);
    struct sockaddr_in at = {};
    at.sin_family = AF_INET;
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof at;
    int listening = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    b->peer = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (bind(listening, reinterpret_cast<struct sockaddr *>(&at), size) != 0 || listen(listening, 1) != 0 ||
        getsockname(listening, reinterpret_cast<struct sockaddr *>(&at), &size) != 0 ||
        connect(b->peer, reinterpret_cast<struct sockaddr *>(&at), size) != 0)
        return -1;
    int fd = accept4(listening, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
    close(listening);
    stream_open_plain(&b->stream, b->on, fd, on_ready);
    return 0;
}

int teardown(void **state) {
    bench *b = static_cast<bench *>(*state);
    stream_close(&b->stream);
    if (b->peer >= 0) close(b->peer);
    loop_free(b->on);
    free(b);
    alarm(0);
    return 0;
}

void say(bench *b, const char *text) {
    assert_int_equal(send(b->peer, text, strlen(text), MSG_NOSIGNAL), strlen(text));
}

void turn(bench *b) {
    b->called = 0;
    b->ready = 0;
    loop_turn(b->on, false);
}

void nothing_is_watched_at_first(void **state) {
    bench *b = static_cast<bench *>(*state);
    say(b, "x");
    turn(b);
    assert_int_equal(b->called, 0);
    assert_int_equal(stream_handshake(&b->stream), stream_result::ok);
    assert_false(stream_pending(&b->stream));
    assert_null(b->stream.tls);
}

void the_event_is_level_triggered_and_stays(void **state) {
    bench *b = static_cast<bench *>(*state);
    stream_watch(&b->stream, stream_readable);
    turn(b);
    assert_int_equal(b->called, 0);
    say(b, "x");
    for (int i = 0; i < 3; i++) { // nobody reads: it is told every turn
        turn(b);
        assert_int_equal(b->called, 1);
        assert_int_equal(b->ready, stream_readable);
    }
}

void the_event_is_aimed_anew(void **state) {
    bench *b = static_cast<bench *>(*state);
    say(b, "x");
    stream_watch(&b->stream, stream_writable);
    turn(b);
    assert_int_equal(b->ready, stream_writable);
    stream_watch(&b->stream, stream_readable | stream_writable);
    turn(b);
    assert_int_equal(b->called, 1);
    assert_int_equal(b->ready, stream_readable | stream_writable);
    stream_watch(&b->stream, stream_readable);
    turn(b);
    assert_int_equal(b->ready, stream_readable);
    stream_watch(&b->stream, 0);
    close(b->peer);
    b->peer = -1;
    turn(b);
    assert_int_equal(b->called, 0); // a hang-up does not spin a loop that does not watch
    stream_watch(&b->stream, stream_readable);
    turn(b);
    assert_int_equal(b->ready, stream_readable);
}

void an_unchanged_watch_costs_nothing(void **state) {
    bench *b = static_cast<bench *>(*state);
    epoll_calls = 0;
    stream_watch(&b->stream, 0);
    assert_int_equal(epoll_calls, 0);
    stream_watch(&b->stream, stream_readable);
    assert_int_equal(epoll_calls, 1);
    for (int i = 0; i < 100; i++)
        stream_watch(&b->stream, stream_readable);
    assert_int_equal(epoll_calls, 1);
    stream_watch(&b->stream, stream_readable | stream_writable);
    int changed = epoll_calls;
    assert_true(changed > 1);
    for (int i = 0; i < 100; i++)
        stream_watch(&b->stream, stream_readable | stream_writable);
    assert_int_equal(epoll_calls, changed);
}

void reading_tells_bytes_emptiness_and_the_end(void **state) {
    bench *b = static_cast<bench *>(*state);
    char into[16] = "";
    size_t got = 99;
    assert_int_equal(stream_read(&b->stream, into, sizeof into, &got), stream_result::again);
    assert_int_equal(got, 0);
    assert_int_equal(b->stream.wants, stream_readable);
    say(b, "0123456789abcdefXYZ");
    assert_int_equal(stream_read(&b->stream, into, sizeof into, &got), stream_result::ok);
    assert_int_equal(got, 16);
    assert_memory_equal(into, "0123456789abcdef", 16);
    shutdown(b->peer, SHUT_WR);
    assert_int_equal(stream_read(&b->stream, into, sizeof into, &got), stream_result::ok);
    assert_int_equal(got, 3);
    assert_memory_equal(into, "XYZ", 3);
    assert_int_equal(stream_read(&b->stream, into, sizeof into, &got), stream_result::eof);
    assert_int_equal(got, 0);
}

void a_reset_is_a_failure_with_a_reason(void **state) {
    bench *b = static_cast<bench *>(*state);
    struct linger hard = {.l_onoff = 1, .l_linger = 0};
    assert_int_equal(setsockopt(b->peer, SOL_SOCKET, SO_LINGER, &hard, sizeof hard), 0);
    close(b->peer);
    b->peer = -1;
    char into[16];
    size_t got = 99;
    assert_int_equal(stream_read(&b->stream, into, sizeof into, &got), stream_result::failed);
    assert_int_equal(got, 0);
    assert_non_null(strstr(stream_why(), "recv"));
    assert_non_null(strstr(stream_why(), strerror(ECONNRESET)));
}

// ---- edges

// As an owner reads: once for the event, then again while stream_pending says so.
void an_edge_comes_once(void **state) {
    bench *b = static_cast<bench *>(*state);
    say(b, "x");
    stream_watch(&b->stream, stream_readable);
    stream_watch_edges(&b->stream); // what is there already counts
    turn(b);
    assert_int_equal(b->called, 1);
    assert_int_equal(b->ready, stream_readable);
    turn(b);
    assert_int_equal(b->called, 0); // though nobody has read
    say(b, "y");
    turn(b);
    assert_int_equal(b->called, 1);
    char into[16];
    size_t got = 0;
    assert_int_equal(stream_read(&b->stream, into, sizeof into, &got), stream_result::ok);
    assert_int_equal(got, 2);
    assert_false(stream_pending(&b->stream)); // a short read has emptied the socket
}

void a_full_read_is_followed_by_another(void **state) {
    bench *b = static_cast<bench *>(*state);
    stream_watch(&b->stream, stream_readable);
    stream_watch_edges(&b->stream);
    say(b, "0123456789abcdefXYZ");
    turn(b);
    assert_int_equal(b->called, 1);
    char into[16];
    size_t got = 0;
    assert_int_equal(stream_read(&b->stream, into, sizeof into, &got), stream_result::ok);
    assert_int_equal(got, 16);
    assert_true(stream_pending(&b->stream)); // no edge will tell of the rest
    turn(b);
    assert_int_equal(b->called, 0);
    assert_int_equal(stream_read(&b->stream, into, sizeof into, &got), stream_result::ok);
    assert_int_equal(got, 3);
    assert_false(stream_pending(&b->stream));

    say(b, "0123456789abcdef"); // just full: the next read finds nothing, and that ends it
    assert_int_equal(stream_read(&b->stream, into, sizeof into, &got), stream_result::ok);
    assert_true(stream_pending(&b->stream));
    assert_int_equal(stream_read(&b->stream, into, sizeof into, &got), stream_result::again);
    assert_false(stream_pending(&b->stream));
}

void a_level_watch_is_never_pending(void **state) {
    bench *b = static_cast<bench *>(*state);
    stream_watch(&b->stream, stream_readable);
    say(b, "0123456789abcdefXYZ");
    turn(b);
    char into[16];
    size_t got = 0;
    assert_int_equal(stream_read(&b->stream, into, sizeof into, &got), stream_result::ok);
    assert_false(stream_pending(&b->stream)); // the loop says it again
    turn(b);
    assert_int_equal(b->called, 1);
}

void data_and_end_in_one_edge_are_read_to_the_end(void **state) {
    bench *b = static_cast<bench *>(*state);
    stream_watch(&b->stream, stream_readable);
    stream_watch_edges(&b->stream);
    say(b, "last");
    shutdown(b->peer, SHUT_WR);
    turn(b);
    assert_int_equal(b->called, 1);
    assert_true(b->stream.watch.ended);
    char into[16];
    size_t got = 0;
    assert_int_equal(stream_read(&b->stream, into, sizeof into, &got), stream_result::ok);
    assert_int_equal(got, 4);
    assert_true(stream_pending(&b->stream)); // a short read, but the end is behind it
    assert_int_equal(stream_read(&b->stream, into, sizeof into, &got), stream_result::eof);
    assert_false(stream_pending(&b->stream));
    assert_false(stream_broken(&b->stream));
}

void an_end_alone_is_an_edge(void **state) {
    bench *b = static_cast<bench *>(*state);
    stream_watch(&b->stream, stream_readable | stream_writable);
    stream_watch_edges(&b->stream);
    turn(b);
    assert_int_equal(b->ready, stream_writable);
    shutdown(b->peer, SHUT_WR);
    turn(b);
    assert_true(b->ready & stream_readable);
    char into[16];
    size_t got = 0;
    assert_int_equal(stream_read(&b->stream, into, sizeof into, &got), stream_result::eof);
}

// The reset comes with the last bytes: a short read, no end, no further edge.
void reset(bench *b) {
    struct linger hard = {.l_onoff = 1, .l_linger = 0};
    assert_int_equal(setsockopt(b->peer, SOL_SOCKET, SO_LINGER, &hard, sizeof hard), 0);
    close(b->peer);
    b->peer = -1;
}

void a_reset_while_nothing_is_read_is_found_by_asking(void **state) {
    bench *b = static_cast<bench *>(*state);
    stream_watch(&b->stream, stream_readable);
    stream_watch_edges(&b->stream);
    stream_watch(&b->stream, 0);
    assert_false(stream_broken(&b->stream));
    reset(b);
    turn(b);
    assert_int_equal(b->called, 0);
    assert_true(stream_broken(&b->stream));
    stream_close(&b->stream);
    assert_false(stream_broken(&b->stream)); // there is no socket to ask
}

void a_reset_behind_data_is_the_next_read(void **state) {
    bench *b = static_cast<bench *>(*state);
    stream_watch(&b->stream, stream_readable);
    stream_watch_edges(&b->stream);
    say(b, "last");
    reset(b);
    turn(b);
    assert_true(b->ready & stream_readable);
    char into[16];
    size_t got = 0;
    assert_int_equal(stream_read(&b->stream, into, sizeof into, &got), stream_result::ok);
    assert_int_equal(got, 4);
    assert_memory_equal(into, "last", 4);
    assert_true(stream_pending(&b->stream)); // no edge will come
    assert_int_equal(stream_read(&b->stream, into, sizeof into, &got), stream_result::failed);
    assert_string_equal(stream_why(), "recv: Connection reset by peer");
}

void tls_streams_stay_level_triggered(void **state) {
    bench *b = static_cast<bench *>(*state);
    int something;
    b->stream.tls = &something;
    stream_watch(&b->stream, stream_readable);
    stream_watch_edges(&b->stream);
    assert_false(b->stream.edges);
    say(b, "x");
    for (int i = 0; i < 2; i++) {
        turn(b);
        assert_int_equal(b->called, 1);
    }
    b->stream.tls = nullptr;
}

void writing_to_one_who_left_is_a_failure_and_no_signal(void **state) {
    bench *b = static_cast<bench *>(*state);
    close(b->peer);
    b->peer = -1;
    char text[] = "hello";
    struct iovec pieces[2] = {{text, 5}, {text, 5}};
    size_t written = 99;
    // SIGPIPE would end this program.
    assert_int_equal(stream_write(&b->stream, pieces, 1, &written), stream_result::failed);
    assert_int_equal(written, 0);
    assert_non_null(strstr(stream_why(), strerror(EPIPE)));
    assert_int_equal(stream_write(&b->stream, pieces, 2, &written), stream_result::failed);
    assert_int_equal(b->on->writes, 2);
}

void writing_gathers_and_says_when_it_is_full(void **state) {
    bench *b = static_cast<bench *>(*state);
    char first[] = "one,", second[] = "", third[] = "three";
    struct iovec pieces[3] = {{first, 4}, {second, 0}, {third, 5}};
    size_t written;
    assert_int_equal(stream_write(&b->stream, pieces, 3, &written), stream_result::ok);
    assert_int_equal(written, 9);
    char got[16];
    assert_int_equal(recv(b->peer, got, sizeof got, 0), 9);
    assert_memory_equal(got, "one,three", 9);

    static char block[65536];
    struct iovec large[2] = {{block, sizeof block}, {block, sizeof block}};
    stream_result result;
    size_t total = 0;
    while ((result = stream_write(&b->stream, large, 2, &written)) == stream_result::ok)
        total += written;
    assert_int_equal(result, stream_result::again);
    assert_int_equal(written, 0);
    assert_int_equal(b->stream.wants, stream_writable);
    stream_watch(&b->stream, stream_writable);
    turn(b);
    assert_int_equal(b->called, 0); // full: not writable
    while (total != 0) {
        ssize_t n = recv(b->peer, block, sizeof block, 0);
        assert_true(n > 0);
        total -= static_cast<size_t>(n);
    }
    turn(b);
    assert_int_equal(b->ready, stream_writable);
}

void shutting_down_ends_our_side_alone(void **state) {
    bench *b = static_cast<bench *>(*state);
    stream_shutdown(&b->stream);
    char got[8];
    assert_int_equal(recv(b->peer, got, sizeof got, 0), 0);
    say(b, "still");
    size_t n;
    assert_int_equal(stream_read(&b->stream, got, sizeof got, &n), stream_result::ok);
    assert_int_equal(n, 5);
    stream_shutdown(&b->stream); // again is harmless
    stream_close(&b->stream);
    stream_shutdown(&b->stream); // and so it is after closing
}

void closing_frees_the_descriptor_once(void **state) {
    bench *b = static_cast<bench *>(*state);
    int fd = b->stream.fd;
    stream_watch(&b->stream, stream_readable);
    stream_close(&b->stream);
    assert_int_equal(b->stream.fd, -1);
    assert_int_equal(stream_watched(&b->stream), 0);
    assert_int_equal(fcntl(fd, F_GETFD), -1);
    assert_int_equal(errno, EBADF);
    char got[8];
    assert_int_equal(recv(b->peer, got, sizeof got, 0), 0);
    int other = open("/dev/null", O_RDONLY | O_CLOEXEC); // takes the number over
    assert_int_equal(other, fd);
    stream_close(&b->stream);
    stream_watch(&b->stream, stream_readable);
    assert_true(fcntl(other, F_GETFD) >= 0);
    close(other);
    turn(b);
    assert_int_equal(b->called, 0);
}

void a_stream_may_be_closed_by_its_callback(void **state) {
    bench *b = static_cast<bench *>(*state);
    b->close_in_callback = true;
    say(b, "x");
    stream_watch(&b->stream, stream_readable | stream_writable);
    turn(b);
    assert_int_equal(b->called, 1);
    turn(b);
    assert_int_equal(b->called, 0);
}

void forget_tls(stream *s) {
    bench *b = reinterpret_cast<bench *>(s);
    b->tls_closed++;
    assert_true(fcntl(s->fd, F_GETFD) >= 0); // the ops end before the descriptor does
    assert_int_equal(stream_watched(s), 0);
}

void closing_lets_the_ops_free_what_is_theirs(void **state) {
    bench *b = static_cast<bench *>(*state);
    stream_ops ops = *b->stream.ops;
    ops.close = forget_tls;
    int something;
    b->stream.ops = &ops;
    b->stream.tls = &something;
    stream_watch(&b->stream, stream_readable);
    stream_close(&b->stream);
    stream_close(&b->stream);
    assert_int_equal(b->tls_closed, 1);
    assert_null(b->stream.tls);
    assert_int_equal(b->stream.fd, -1);
}

void a_long_reason_is_cut(void **state) {
    (void)state;
    char text[2000];
    memset(text, 'w', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    stream_set_why("%s", text);
    assert_true(strlen(stream_why()) >= 100);
    assert_memory_equal(stream_why(), text, strlen(stream_why()));
    stream_set_why("%d", 7);
    assert_string_equal(stream_why(), "7");
}

} // namespace

int main() {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(nothing_is_watched_at_first, setup, teardown),
        cmocka_unit_test_setup_teardown(the_event_is_level_triggered_and_stays, setup, teardown),
        cmocka_unit_test_setup_teardown(the_event_is_aimed_anew, setup, teardown),
        cmocka_unit_test_setup_teardown(an_unchanged_watch_costs_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(reading_tells_bytes_emptiness_and_the_end, setup, teardown),
        cmocka_unit_test_setup_teardown(reading_tells_bytes_emptiness_and_the_end, setup_tcp, teardown),
        cmocka_unit_test_setup_teardown(a_reset_is_a_failure_with_a_reason, setup_tcp, teardown),
        cmocka_unit_test_setup_teardown(an_edge_comes_once, setup, teardown),
        cmocka_unit_test_setup_teardown(an_edge_comes_once, setup_tcp, teardown),
        cmocka_unit_test_setup_teardown(a_full_read_is_followed_by_another, setup, teardown),
        cmocka_unit_test_setup_teardown(a_full_read_is_followed_by_another, setup_tcp, teardown),
        cmocka_unit_test_setup_teardown(a_level_watch_is_never_pending, setup, teardown),
        cmocka_unit_test_setup_teardown(data_and_end_in_one_edge_are_read_to_the_end, setup, teardown),
        cmocka_unit_test_setup_teardown(data_and_end_in_one_edge_are_read_to_the_end, setup_tcp, teardown),
        cmocka_unit_test_setup_teardown(an_end_alone_is_an_edge, setup, teardown),
        cmocka_unit_test_setup_teardown(an_end_alone_is_an_edge, setup_tcp, teardown),
        cmocka_unit_test_setup_teardown(a_reset_while_nothing_is_read_is_found_by_asking, setup_tcp, teardown),
        cmocka_unit_test_setup_teardown(a_reset_behind_data_is_the_next_read, setup_tcp, teardown),
        cmocka_unit_test_setup_teardown(tls_streams_stay_level_triggered, setup, teardown),
        cmocka_unit_test_setup_teardown(writing_to_one_who_left_is_a_failure_and_no_signal, setup, teardown),
        cmocka_unit_test_setup_teardown(writing_gathers_and_says_when_it_is_full, setup, teardown),
        cmocka_unit_test_setup_teardown(shutting_down_ends_our_side_alone, setup, teardown),
        cmocka_unit_test_setup_teardown(closing_frees_the_descriptor_once, setup, teardown),
        cmocka_unit_test_setup_teardown(a_stream_may_be_closed_by_its_callback, setup, teardown),
        cmocka_unit_test_setup_teardown(closing_lets_the_ops_free_what_is_theirs, setup, teardown),
        cmocka_unit_test(a_long_reason_is_cut),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
