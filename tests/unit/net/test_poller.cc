// The epoll set: what is told and what not, level and edge, watches that stop, start and free each other while a batch
// is told, those told of again without anything new, errors and ends.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
extern "C" {
#include <cmocka.h>
}

#include "base/list.h"
#include "net/poller.h"

#include <errno.h>
#include <initializer_list>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

using namespace belfry;

namespace {

constexpr int ends_max = 8;

struct end {
    struct watch watch;
    int fd, peer;
    int calls;
    unsigned ready; // of the last call
    void (*then)(end *e);
};

struct bench {
    struct poller poller;
    end *ends[ends_max]; // owned; null: freed
};

bench *b;

void on_ready(watch *w, unsigned ready) {
    end *e = BELFRY_CONTAINER_OF(w, end, watch);
    e->calls++;
    e->ready = ready;
    if (e->then) e->then(e);
}

end *add(int at) {
    auto *e = static_cast<end *>(calloc(1, sizeof(end)));
    int fds[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
    e->fd = fds[0];
    e->peer = fds[1];
    e->watch.ready = on_ready;
    return b->ends[at] = e;
}

void drop(int at) {
    end *e = b->ends[at];
    b->ends[at] = nullptr;
    watch_stop(&b->poller, &e->watch, e->fd);
    close(e->fd);
    if (e->peer >= 0) close(e->peer);
    memset(e, 0x5a, sizeof *e); // who still calls it does not get far
    free(e);
}

void start(end *e, unsigned what, bool edges) {
    assert_true(watch_start(&b->poller, &e->watch, e->fd, what, edges));
}

void say(end *e) {
    assert_int_equal(write(e->peer, "x", 1), 1);
}

void hear(end *e) {
    char byte;
    assert_int_equal(read(e->fd, &byte, 1), 1);
}

void turn() {
    poller_run(&b->poller, 0);
}

int set_up(void **) {
    alarm(20);
    b = static_cast<bench *>(calloc(1, sizeof(bench)));
    poller_init(&b->poller);
    return 0;
}

int tear_down(void **) {
    for (int i = 0; i < ends_max; i++)
        if (b->ends[i]) drop(i);
    poller_free(&b->poller);
    free(b);
    return 0;
}

void test_level(void **) {
    end *e = add(0);
    start(e, watch_readable, false);
    turn();
    assert_int_equal(e->calls, 0);
    say(e);
    poller_run(&b->poller, -1); // alarm() ends one that sleeps
    turn();
    assert_int_equal(e->calls, 2); // it is still there
    assert_int_equal(e->ready, watch_readable);
    hear(e);
    turn();
    assert_int_equal(e->calls, 2);
    start(e, watch_readable | watch_writable, false);
    turn();
    assert_int_equal(e->ready, watch_writable);
    say(e);
    turn();
    assert_int_equal(e->ready, watch_readable | watch_writable);
    start(e, watch_readable, false);
    turn();
    assert_int_equal(e->ready, watch_readable);
}

void test_edge(void **) {
    end *e = add(0);
    say(e);
    start(e, watch_readable, true);
    turn();
    turn();
    assert_int_equal(e->calls, 1); // what was there already, once
    say(e);
    turn();
    assert_int_equal(e->calls, 2);
    start(e, watch_readable | watch_writable, true); // asked anew: told anew
    turn();
    assert_int_equal(e->calls, 3);
    assert_int_equal(e->ready, watch_readable | watch_writable);
    start(e, watch_readable | watch_writable, true); // nothing new
    turn();
    assert_int_equal(e->calls, 3);
}

void test_end_is_told_apart_with_edges(void **) {
    end *edged = add(0), *level = add(1);
    start(edged, watch_readable, true);
    start(level, watch_readable, false);
    for (end *e : {edged, level})
        shutdown(e->peer, SHUT_WR);
    turn();
    assert_int_equal(edged->ready, watch_readable);
    assert_true(edged->watch.ended);
    assert_int_equal(level->ready, watch_readable);
    assert_false(level->watch.ended);
    end *writer = add(2); // who does not wait for bytes is not told of their end
    shutdown(writer->peer, SHUT_WR);
    start(writer, watch_writable, true);
    turn();
    assert_int_equal(writer->ready, watch_writable);
    assert_false(writer->watch.ended);
}

void test_an_error_makes_all_ready_that_was_asked_for(void **) {
    end *reader = add(0), *both = add(1), *writer = add(2);
    start(reader, watch_readable, false);
    start(both, watch_readable | watch_writable, false);
    start(writer, watch_writable, false);
    for (end *e : {reader, both, writer}) {
        close(e->peer);
        e->peer = -1;
    }
    turn();
    assert_int_equal(reader->ready, watch_readable);
    assert_int_equal(both->ready, watch_readable | watch_writable);
    assert_int_equal(writer->ready, watch_writable);
}

void test_stopped_is_silent(void **) {
    end *e = add(0);
    start(e, watch_readable, false);
    say(e);
    watch_stop(&b->poller, &e->watch, e->fd);
    watch_stop(&b->poller, &e->watch, e->fd);
    turn();
    assert_int_equal(e->calls, 0);
    start(e, watch_readable, false);
    turn();
    assert_int_equal(e->calls, 1);
}

// Whichever is told first frees all others, whom the same batch names too.
void free_the_others(end *e) {
    for (int i = 0; i < ends_max; i++)
        if (b->ends[i] && b->ends[i] != e) drop(i);
}

void test_freed_within_the_batch(void **) {
    for (int i = 0; i < ends_max; i++) {
        end *e = add(i);
        e->then = free_the_others;
        start(e, watch_readable, false);
        say(e);
        if (i % 2) watch_again(&b->poller, &e->watch);
    }
    turn();
    int left = 0;
    for (end *e : b->ends)
        if (e) left++;
    assert_int_equal(left, 1);
}

void free_itself(end *e) {
    for (int i = 0; i < ends_max; i++)
        if (b->ends[i] == e) return drop(i);
}

void test_frees_itself(void **) {
    for (int i = 0; i < 3; i++) {
        end *e = add(i);
        e->then = free_itself;
        start(e, watch_readable, false);
        if (i != 1) say(e);
        if (i != 0) watch_again(&b->poller, &e->watch);
    }
    turn();
    for (int i = 0; i < 3; i++)
        assert_null(b->ends[i]);
}

void turn_the_other(end *e) {
    e->then = nullptr;
    end *other = b->ends[e == b->ends[0] ? 1 : 0];
    other->then = nullptr;
    start(other, watch_writable, false);
}

void test_what_is_not_asked_for_any_more_is_not_told(void **) {
    end *first = add(0), *second = add(1);
    for (end *e : {first, second}) {
        e->then = turn_the_other;
        start(e, watch_readable, false);
        say(e);
    }
    turn();
    assert_int_equal(first->calls + second->calls, 1);
    turn();
    end *other = first->watch.what == watch_writable ? first : second;
    assert_int_equal(other->ready, watch_writable);
}

void test_again(void **) {
    end *e = add(0);
    watch_again(&b->poller, &e->watch); // not started: nothing
    assert_false(poller_busy(&b->poller));
    start(e, watch_readable, true);
    watch_again(&b->poller, &e->watch);
    watch_again(&b->poller, &e->watch);
    assert_true(poller_busy(&b->poller));
    poller_run(&b->poller, -1); // does not sleep
    assert_int_equal(e->calls, 1);
    assert_int_equal(e->ready, watch_readable);
    assert_false(poller_busy(&b->poller));
    watch_again(&b->poller, &e->watch);
    watch_again(&b->poller, &e->watch);
    assert_int_equal(b->poller.again_count, 1);
    watch_stop(&b->poller, &e->watch, e->fd);
    turn();
    assert_int_equal(e->calls, 1);
    assert_false(poller_busy(&b->poller));
}

void post_all(end *e) {
    for (int i = ends_max; i-- > 0;)
        if (b->ends[i] != e) watch_again(&b->poller, &b->ends[i]->watch);
}

// Those that were posted meanwhile change their places: who is stopped then is forgotten at the right one.
void test_again_moved_up_and_then_stopped(void **) {
    for (int i = 0; i < ends_max; i++)
        start(add(i), watch_readable, false);
    b->ends[0]->then = post_all;
    watch_again(&b->poller, &b->ends[0]->watch);
    turn();
    drop(3);
    drop(ends_max - 1);
    turn();
    for (int i = 0; i < ends_max; i++)
        if (b->ends[i]) assert_int_equal(b->ends[i]->calls, 1);
}

void test_again_of_very_many(void **) {
    constexpr int many = 100;
    end *e = add(0);
    struct watch watches[many] = {};
    int fds[many];
    for (int i = 0; i < many; i++) {
        watches[i].ready = [](watch *w, unsigned) { w->edges = true; };
        fds[i] = dup(e->fd);
        assert_true(watch_start(&b->poller, &watches[i], fds[i], watch_readable, false));
        watch_again(&b->poller, &watches[i]);
    }
    turn();
    for (int i = 0; i < many; i++) {
        assert_true(watches[i].edges); // was told
        watch_stop(&b->poller, &watches[i], fds[i]);
        close(fds[i]);
    }
}

void test_nothing_to_wait_for_is_a_stop(void **) {
    end *e = add(0);
    start(e, watch_readable, false);
    say(e);
    start(e, 0, false);
    turn();
    assert_int_equal(e->calls, 0);
    struct watch other = {};
    other.ready = on_ready;
    start(e, watch_readable, false);
    assert_false(watch_start(&b->poller, &other, e->fd, watch_writable, false)); // one a descriptor
    assert_int_equal(errno, EEXIST);
}

void ask_again(end *e) {
    watch_again(&b->poller, &e->watch);
}

void test_again_from_within_is_the_next_turns(void **) {
    end *keen = add(0), *calm = add(1);
    keen->then = ask_again;
    for (end *e : {keen, calm}) {
        start(e, watch_readable, false);
        watch_again(&b->poller, &e->watch);
    }
    for (int i = 1; i <= 5; i++) {
        turn();
        assert_int_equal(keen->calls, i);
        assert_true(poller_busy(&b->poller));
    }
    assert_int_equal(calm->calls, 1);
    keen->then = nullptr;
    turn();
    assert_false(poller_busy(&b->poller));
}

void test_a_descriptor_that_can_not_be_watched(void **) {
    char name[] = "/tmp/belfry-poller-XXXXXX";
    end *e = add(0);
    const int file = mkstemp(name); // epoll has no use for a regular file
    assert_true(file >= 0);
    unlink(name);
    assert_false(watch_start(&b->poller, &e->watch, file, watch_readable, false));
    assert_int_equal(errno, EPERM);
    assert_int_equal(e->watch.what, 0);
    close(file);
    turn();
    assert_int_equal(e->calls, 0);
}

} // namespace

int main() {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_level, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_edge, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_end_is_told_apart_with_edges, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_an_error_makes_all_ready_that_was_asked_for, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_stopped_is_silent, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_freed_within_the_batch, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_frees_itself, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_what_is_not_asked_for_any_more_is_not_told, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_again, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_again_from_within_is_the_next_turns, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_again_moved_up_and_then_stopped, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_again_of_very_many, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_nothing_to_wait_for_is_a_stop, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_descriptor_that_can_not_be_watched, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
