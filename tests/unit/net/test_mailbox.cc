// Mailboxes: order through the overflow, the bell, and two real threads.
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>
extern "C" {
#include <cmocka.h>
}

#include "net/mailbox.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <unistd.h>

using namespace belfry;

namespace {

struct bench {
    loop *consumer;
    struct mailbox mailbox;
};

int setup(void **state) {
    alarm(60); // a lost wake-up fails instead of hanging
    bench *b = static_cast<bench *>(aligned_alloc(alignof(bench), sizeof(bench)));
    b->consumer = loop_new();
    mailbox_init(&b->mailbox, 4, b->consumer);
    *state = b;
    return 0;
}

int teardown(void **state) {
    bench *b = static_cast<bench *>(*state);
    mailbox_destroy(&b->mailbox);
    loop_free(b->consumer);
    free(b);
    alarm(0);
    return 0;
}

void *entry(uintptr_t n) {
    return reinterpret_cast<void *>(n + 1);
}

uintptr_t receive(mailbox *m) {
    void *got = mailbox_receive(m);
    return got == nullptr ? UINTPTR_MAX : reinterpret_cast<uintptr_t>(got) - 1;
}

// How often the bell was rung since the last call.
uint64_t rings(const bench *b) {
    uint64_t n = 0;
    ssize_t got = read(b->consumer->wake_fd, &n, sizeof n);
    return got == sizeof n ? n : 0;
}

void the_bell_rings_only_when_the_ring_was_empty(void **state) {
    bench *b = static_cast<bench *>(*state);
    mailbox_send(&b->mailbox, entry(0));
    assert_int_equal(rings(b), 1);
    mailbox_send(&b->mailbox, entry(1));
    mailbox_send(&b->mailbox, entry(2));
    assert_int_equal(rings(b), 0);
    for (uintptr_t n = 0; n < 3; n++)
        assert_int_equal(receive(&b->mailbox), n);
    assert_null(mailbox_receive(&b->mailbox));
    mailbox_send(&b->mailbox, entry(3));
    assert_int_equal(rings(b), 1);
    assert_int_equal(receive(&b->mailbox), 3);
}

void what_does_not_fit_waits_in_order(void **state) {
    bench *b = static_cast<bench *>(*state);
    mailbox *m = &b->mailbox;
    uintptr_t sent = 0, got = 0;
    while (sent < 1000)
        mailbox_send(m, entry(sent++));
    assert_true(mailbox_backlogged(m));
    assert_false(mailbox_flush(m)); // the ring is full
    assert_int_equal(m->overflow_count, 1000 - ring_size(&m->ring));

    assert_int_equal(receive(m), got++); // room in the ring again: what is sent now must not overtake
    mailbox_send(m, entry(sent++));
    rings(b);
    int flushes = 0;
    for (bool flushed = false; !flushed; flushes++) {
        flushed = mailbox_flush(m);
        for (uintptr_t n = receive(m); n != UINTPTR_MAX; n = receive(m))
            assert_int_equal(n, got++);
    }
    assert_int_equal(got, 1001);
    assert_true(flushes >= 1000 / 4);
    // The first flush found entries in the ring, so it did not ring; every other one came to an empty ring.
    assert_int_equal(rings(b), static_cast<uint64_t>(flushes - 1));
    assert_false(mailbox_backlogged(m));
    assert_true(mailbox_flush(m));
}

void a_large_overflow_is_given_back(void **state) {
    bench *b = static_cast<bench *>(*state);
    mailbox *m = &b->mailbox;
    for (uintptr_t n = 0; n < 20000; n++)
        mailbox_send(m, entry(n));
    assert_true(m->overflow_capacity >= 19000);
    uintptr_t got = 0;
    do
        while (mailbox_receive(m) != nullptr)
            got++;
    while (!mailbox_flush(m));
    while (mailbox_receive(m) != nullptr)
        got++;
    assert_int_equal(got, 20000);
    assert_int_equal(m->overflow_capacity, 0);
    assert_null(m->overflow);
    mailbox_send(m, entry(0));
    assert_int_equal(receive(m), 0);
}

void a_long_lived_overflow_does_not_grow(void **state) {
    bench *b = static_cast<bench *>(*state);
    mailbox *m = &b->mailbox;
    uintptr_t sent = 0, got = 0;
    while (sent < 50)
        mailbox_send(m, entry(sent++));
    for (int i = 0; i < 100000; i++) { // never empty, one in, one out
        assert_int_equal(receive(m), got++);
        assert_false(mailbox_flush(m));
        mailbox_send(m, entry(sent++));
    }
    assert_true(m->overflow_capacity <= 128);
    do
        for (uintptr_t n = receive(m); n != UINTPTR_MAX; n = receive(m))
            assert_int_equal(n, got++);
    while (!mailbox_flush(m) || ring_size(&m->ring) != 0);
    assert_int_equal(got, sent);
}

constexpr uintptr_t total = 300000;

void *produce(void *context) {
    mailbox *m = static_cast<mailbox *>(context);
    for (uintptr_t n = 0; n < total; n++) {
        mailbox_send(m, entry(n));
        if (n % 7 == 0) mailbox_flush(m);
        if (m->overflow_count > 100) sched_yield();
    }
    while (!mailbox_flush(m))
        sched_yield();
    return nullptr;
}

// The consumer sleeps in its loop whenever it found the ring empty; a lost bell would leave it there.
void two_threads_lose_nothing(void **state) {
    bench *b = static_cast<bench *>(*state);
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, nullptr, produce, &b->mailbox), 0);
    uintptr_t got = 0;
    while (got < total) {
        loop_turn(b->consumer, true);
        for (uintptr_t n = receive(&b->mailbox); n != UINTPTR_MAX; n = receive(&b->mailbox))
            if (n != got++) got = total + 1;
    }
    pthread_join(thread, nullptr);
    assert_int_equal(got, total);
}

} // namespace

int main() {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_bell_rings_only_when_the_ring_was_empty, setup, teardown),
        cmocka_unit_test_setup_teardown(what_does_not_fit_waits_in_order, setup, teardown),
        cmocka_unit_test_setup_teardown(a_large_overflow_is_given_back, setup, teardown),
        cmocka_unit_test_setup_teardown(a_long_lived_overflow_does_not_grow, setup, teardown),
        cmocka_unit_test_setup_teardown(two_threads_lose_nothing, setup, teardown),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
