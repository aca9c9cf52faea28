// Listeners: bounded turns, pausing, errors of accept(2), and running out of descriptors for real in a child process.
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>
extern "C" {
#include <cmocka.h>
}

#include "net/listener.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

using namespace belfry;

// What the next calls of accept4 shall fail with; the program's own accept4 stands before libc's. 0 ends the list.
static int injected[32];
static int injected_at;
static int accept_calls;

extern "C" int accept4(int fd, struct sockaddr *__restrict peer, socklen_t *__restrict size, int flags) {
    accept_calls++;
    if (injected[injected_at] != 0) {
        errno = injected[injected_at++];
        return -1;
    }
    return static_cast<int>(syscall(SYS_accept4, fd, peer, size, flags));
}

// So many of the next watches are refused.
static int watches_refused;

extern "C" int epoll_ctl(int epoll, int what, int fd, struct epoll_event *event) noexcept {
    if (what == EPOLL_CTL_ADD && watches_refused > 0) {
        watches_refused--;
        errno = ENOSPC;
        return -1;
    }
    return static_cast<int>(syscall(SYS_epoll_ctl, epoll, what, fd, event));
}

namespace {

constexpr int sockets_max = 256;

struct bench {
    loop *on;
    address bound;
    int listening;
    struct listener listener;
    int clients[sockets_max], servers[sockets_max];
    int client_count, server_count;
    int pause_at, stop_at; // after so many accepted
    address_text peer;
    bool flags_right;
    char directory[64];
};

void on_accept(int fd, const struct sockaddr *peer, socklen_t peer_size, void *context) {
    bench *b = static_cast<bench *>(context);
    b->servers[b->server_count++] = fd;
    b->peer = address_format(peer, peer_size);
    b->flags_right = (fcntl(fd, F_GETFL) & O_NONBLOCK) && (fcntl(fd, F_GETFD) & FD_CLOEXEC);
    if (b->server_count == b->pause_at) listener_pause(&b->listener);
    if (b->server_count == b->stop_at) listener_stop(&b->listener);
}

void open_at(bench *b, const char *text) {
    address a;
    error e;
    if (!address_parse(text, &a, &e)) fail_msg("%s", e.text);
    b->listening = address_listen(&a, false, &e);
    if (b->listening < 0) fail_msg("%s", e.text);
    assert_true(address_of_socket(b->listening, &b->bound));
}

void listen_at(bench *b, const char *text) {
    open_at(b, text);
    listener_start(&b->listener, b->on, b->listening, on_accept, b);
}

int setup(void **state) {
    alarm(30);
    memset(injected, 0, sizeof injected);
    injected_at = accept_calls = 0;
    bench *b = static_cast<bench *>(calloc(1, sizeof(bench)));
    b->listening = -1;
    b->on = loop_new();
    *state = b;
    return 0;
}

int teardown(void **state) {
    bench *b = static_cast<bench *>(*state);
    listener_stop(&b->listener);
    listener_stop(&b->listener); // twice is harmless, also where it never started
    for (int i = 0; i < b->client_count; i++)
        close(b->clients[i]);
    for (int i = 0; i < b->server_count; i++)
        close(b->servers[i]);
    if (b->listening >= 0) close(b->listening);
    if (b->directory[0] != '\0') {
        unlink(reinterpret_cast<struct sockaddr_un *>(&b->bound.storage)->sun_path);
        rmdir(b->directory);
    }
    loop_free(b->on);
    free(b);
    alarm(0);
    return 0;
}

void connect_clients(bench *b, int n) {
    for (int i = 0; i < n; i++) {
        error e;
        int fd = address_connect(&b->bound, &e);
        if (fd < 0) fail_msg("%s", e.text);
        b->clients[b->client_count++] = fd;
    }
}

void a_burst_is_taken_in_slices(void **state) {
    bench *b = static_cast<bench *>(*state);
    listen_at(b, "127.0.0.1:0");
    connect_clients(b, 150);
    loop_turn(b->on, true);
    assert_int_equal(b->server_count, 64);
    loop_turn(b->on, true);
    assert_int_equal(b->server_count, 128);
    loop_turn(b->on, true);
    assert_int_equal(b->server_count, 150);
    assert_int_equal(b->listener.accepted, 150);
    assert_true(b->flags_right);
    loop_turn(b->on, false);
    assert_int_equal(b->server_count, 150);
}

void the_peer_is_named(void **state) {
    bench *b = static_cast<bench *>(*state);
    listen_at(b, "127.0.0.1:0");
    connect_clients(b, 1);
    loop_turn(b->on, true);
    address client;
    assert_true(address_of_socket(b->clients[0], &client));
    assert_string_equal(b->peer.text,
                        address_format(reinterpret_cast<struct sockaddr *>(&client.storage), client.size).text);
}

void unix_peers_have_no_name(void **state) {
    bench *b = static_cast<bench *>(*state);
    snprintf(b->directory, sizeof b->directory, "/tmp/belfry-listener-XXXXXX");
    assert_non_null(mkdtemp(b->directory));
    char text[96];
    snprintf(text, sizeof text, "unix:%s/socket", b->directory);
    listen_at(b, text);
    connect_clients(b, 3);
    loop_turn(b->on, true);
    assert_int_equal(b->server_count, 3);
    assert_string_equal(b->peer.text, "unix:");
    assert_true(b->flags_right);
}

void a_paused_listener_leaves_connections_in_the_backlog(void **state) {
    bench *b = static_cast<bench *>(*state);
    b->pause_at = 5; // from inside the callback: not one more is taken
    listen_at(b, "127.0.0.1:0");
    connect_clients(b, 20);
    for (int i = 0; i < 10; i++)
        loop_turn(b->on, false);
    assert_int_equal(b->server_count, 5);
    assert_true(b->listener.paused);
    assert_true(b->listener.held);
    listener_pause(&b->listener);
    listener_resume(&b->listener);
    listener_resume(&b->listener);
    assert_false(b->listener.paused);
    loop_turn(b->on, true);
    assert_int_equal(b->server_count, 20);
    assert_int_equal(b->listener.exhausted, 0);
}

void a_listener_may_be_stopped_by_its_callback(void **state) {
    bench *b = static_cast<bench *>(*state);
    b->stop_at = 2;
    listen_at(b, "127.0.0.1:0");
    connect_clients(b, 6);
    for (int i = 0; i < 10; i++)
        loop_turn(b->on, false);
    assert_int_equal(b->server_count, 2);
    listener_resume(&b->listener); // stays stopped
    listener_pause(&b->listener);
    listener_resume(&b->listener);
    loop_turn(b->on, false);
    assert_int_equal(b->server_count, 2);
    assert_true(fcntl(b->listening, F_GETFD) >= 0); // the caller's to close
}

void errors_of_one_connection_are_passed_over(void **state) {
    bench *b = static_cast<bench *>(*state);
    const int errors[] = {ECONNABORTED, EPROTO, EINTR, EPERM, ENETDOWN, EHOSTUNREACH};
    memcpy(injected, errors, sizeof errors);
    listen_at(b, "127.0.0.1:0");
    connect_clients(b, 3);
    loop_turn(b->on, true);
    assert_int_equal(injected_at, 6);
    assert_int_equal(b->server_count, 3); // in the same turn
    assert_int_equal(b->listener.exhausted, 0);
    assert_false(b->listener.paused);
}

void each_shortage_backs_off_and_success_forgets_it(void **state) {
    bench *b = static_cast<bench *>(*state);
    const int errors[] = {EMFILE, ENFILE};
    memcpy(injected, errors, sizeof errors);
    listen_at(b, "127.0.0.1:0");
    connect_clients(b, 1);
    uint64_t begin = clock_monotonic_ns();
    loop_turn(b->on, true);
    assert_true(b->listener.paused);
    assert_false(b->listener.held);
    assert_int_equal(b->listener.backoff_ms, 200);
    listener_resume(&b->listener); // nobody held it: the back-off runs its time
    assert_true(b->listener.paused);
    while (b->server_count == 0)
        loop_turn(b->on, true);
    uint64_t took = (clock_monotonic_ns() - begin) / 1000000;
    assert_true(took >= 300 && took < 5000); // 100 + 200
    assert_int_equal(b->listener.exhausted, 2);
    assert_int_equal(accept_calls, 4); // two failures, the connection, EAGAIN
    assert_int_equal(b->listener.backoff_ms, 100);
    assert_false(b->listener.paused);
}

void no_watch_left_backs_off_like_any_shortage(void **state) {
    bench *b = static_cast<bench *>(*state);
    watches_refused = 2;
    listen_at(b, "127.0.0.1:0");
    assert_true(b->listener.paused);
    assert_int_equal(b->listener.exhausted, 1);
    assert_int_equal(b->listener.backoff_ms, 200);
    connect_clients(b, 1);
    while (b->server_count == 0)
        loop_turn(b->on, true);
    assert_int_equal(b->listener.exhausted, 2);
    assert_int_equal(b->listener.backoff_ms, 100);
    assert_false(b->listener.paused);
}

void backing_off_ends_at_a_second(void **state) {
    bench *b = static_cast<bench *>(*state);
    const int errors[] = {ENOBUFS, ENOMEM, EMFILE, EMFILE, EMFILE, EMFILE};
    const uint32_t next[] = {200, 400, 800, 1000, 1000, 1000};
    memcpy(injected, errors, sizeof errors);
    listen_at(b, "127.0.0.1:0");
    connect_clients(b, 1);
    for (uint32_t wait : next) { // held and resumed in between, so that the test need not wait
        loop_turn(b->on, true);
        assert_true(b->listener.paused);
        assert_int_equal(b->listener.backoff_ms, wait);
        listener_pause(&b->listener);
        listener_resume(&b->listener);
    }
    loop_turn(b->on, true);
    assert_int_equal(b->server_count, 1);
}

void holding_outlasts_a_back_off(void **state) {
    bench *b = static_cast<bench *>(*state);
    injected[0] = EMFILE;
    listen_at(b, "127.0.0.1:0");
    connect_clients(b, 1);
    loop_turn(b->on, true);
    listener_pause(&b->listener);
    usleep(150000); // the back-off would be over
    for (int i = 0; i < 5; i++)
        loop_turn(b->on, false);
    assert_int_equal(b->server_count, 0);
    listener_resume(&b->listener);
    loop_turn(b->on, true);
    assert_int_equal(b->server_count, 1);
}

struct timeout {
    struct later later;
    bool over;
};

void note_timeout(later *l) {
    BELFRY_CONTAINER_OF(l, timeout, later)->over = true;
}

#define CHILD_CHECK(condition)                                                                                         \
    do                                                                                                                 \
        if (!(condition)) {                                                                                            \
            fprintf(stderr, "child: line %d: %s\n", __LINE__, #condition);                                             \
            return 1;                                                                                                  \
        }                                                                                                              \
    while (false)

// In a child, whose descriptors may run out. No assertion of cmocka here: it would jump back into the parent's tests.
int run_out_of_descriptors(bench *b) {
    int spare = dup(0); // the lowest free number: so many are in use
    CHILD_CHECK(spare >= 0);
    struct rlimit limit;
    CHILD_CHECK(getrlimit(RLIMIT_NOFILE, &limit) == 0);
    limit.rlim_cur = static_cast<rlim_t>(spare) + 1; // `spare` is the last one
    CHILD_CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);

    // Half a second out of descriptors: tried at 0, 100, 300 ms, and the loop sleeps in between.
    timeout end = {};
    later_init(&end.later, &b->on->laters, note_timeout);
    later_post_in(&end.later, 500);
    int turns = 0;
    // A late turn may carry out both this time-out and the end of a back-off: then one more turn tries, and pauses.
    while (!end.over || !b->listener.paused) {
        loop_turn(b->on, true);
        turns++;
    }
    CHILD_CHECK(b->server_count == 0);
    CHILD_CHECK(b->listener.exhausted >= 2 && b->listener.exhausted <= 4);
    CHILD_CHECK(accept_calls == static_cast<int>(b->listener.exhausted));
    CHILD_CHECK(turns <= 10);

    // One descriptor is free again: one connection gets in, the others wait on.
    close(spare);
    while (b->server_count == 0)
        loop_turn(b->on, true);
    CHILD_CHECK(b->server_count == 1);
    // And with plenty all do.
    limit.rlim_cur = static_cast<rlim_t>(spare) + 100;
    CHILD_CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    while (b->server_count < 3)
        loop_turn(b->on, true);
    CHILD_CHECK(!b->listener.paused);
    CHILD_CHECK(b->listener.backoff_ms == 100);
    return 0;
}

void descriptors_run_out_without_a_spin(void **state) {
    bench *b = static_cast<bench *>(*state);
    open_at(b, "127.0.0.1:0");
    connect_clients(b, 3);
    pid_t child = fork();
    if (child == 0) {
        b->on = loop_new(); // the parent's epoll is shared over fork
        listener_start(&b->listener, b->on, b->listening, on_accept, b);
        alarm(20);
        _exit(run_out_of_descriptors(b));
    }
    int status = -1;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

} // namespace

int main() {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_burst_is_taken_in_slices, setup, teardown),
        cmocka_unit_test_setup_teardown(the_peer_is_named, setup, teardown),
        cmocka_unit_test_setup_teardown(unix_peers_have_no_name, setup, teardown),
        cmocka_unit_test_setup_teardown(a_paused_listener_leaves_connections_in_the_backlog, setup, teardown),
        cmocka_unit_test_setup_teardown(a_listener_may_be_stopped_by_its_callback, setup, teardown),
        cmocka_unit_test_setup_teardown(errors_of_one_connection_are_passed_over, setup, teardown),
        cmocka_unit_test_setup_teardown(each_shortage_backs_off_and_success_forgets_it, setup, teardown),
        cmocka_unit_test_setup_teardown(no_watch_left_backs_off_like_any_shortage, setup, teardown),
        cmocka_unit_test_setup_teardown(backing_off_ends_at_a_second, setup, teardown),
        cmocka_unit_test_setup_teardown(holding_outlasts_a_back_off, setup, teardown),
        cmocka_unit_test_setup_teardown(descriptors_run_out_without_a_spin, setup, teardown),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
