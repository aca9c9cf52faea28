// Unit tests of base/ring: order, bounds, the bell, and two threads that must not lose a wake-up.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
extern "C" {
#include <cmocka.h>
}

#include "base/ring.h"
#include "expect_fatal.h"

#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <time.h>

namespace belfry {
namespace {

void *entry(uintptr_t n) {
    return reinterpret_cast<void *>(n);
}

void gives_back_in_order_and_no_more(void **) {
    ring r;
    ring_init(&r, 4);
    bool was_empty = false;
    assert_null(ring_pop(&r));
    for (uintptr_t i = 1; i <= 4; i++)
        assert_true(ring_push(&r, entry(i), &was_empty));
    assert_int_equal(ring_size(&r), 4);
    assert_false(ring_push(&r, entry(5), &was_empty));
    assert_int_equal(ring_size(&r), 4);
    for (uintptr_t i = 1; i <= 4; i++)
        assert_ptr_equal(ring_pop(&r), entry(i));
    assert_null(ring_pop(&r));
    assert_int_equal(ring_size(&r), 0);
    ring_destroy(&r);
}

void asks_for_the_bell_when_it_was_empty(void **) {
    ring r;
    ring_init(&r, 2);
    bool was_empty = false;
    assert_true(ring_push(&r, entry(1), &was_empty));
    assert_true(was_empty);
    assert_true(ring_push(&r, entry(2), &was_empty));
    assert_false(was_empty);
    assert_ptr_equal(ring_pop(&r), entry(1));
    assert_true(ring_push(&r, entry(3), &was_empty));
    assert_false(was_empty); // 2 is inside: the consumer is awake
    assert_ptr_equal(ring_pop(&r), entry(2));
    assert_ptr_equal(ring_pop(&r), entry(3));
    assert_true(ring_push(&r, entry(4), &was_empty));
    assert_true(was_empty);
    assert_ptr_equal(ring_pop(&r), entry(4));
    ring_destroy(&r);
}

void counters_wrap(void **) {
    ring r;
    ring_init(&r, 4);
    r.head.store(UINT32_MAX - 1);
    r.tail.store(UINT32_MAX - 1);
    bool was_empty = false;
    for (uintptr_t round = 0; round < 3; round++) {
        for (uintptr_t i = 1; i <= 4; i++) {
            assert_true(ring_push(&r, entry(i), &was_empty));
            assert_int_equal(was_empty, i == 1);
        }
        assert_false(ring_push(&r, entry(5), &was_empty));
        assert_int_equal(ring_size(&r), 4);
        for (uintptr_t i = 1; i <= 4; i++)
            assert_ptr_equal(ring_pop(&r), entry(i));
        assert_null(ring_pop(&r));
    }
    ring_destroy(&r);
}

void refuses_odd_capacities(void **) {
    assert_true(expect_fatal(
        [] {
            ring r;
            ring_init(&r, 0);
        },
        "capacity 0"));
    assert_true(expect_fatal(
        [] {
            ring r;
            ring_init(&r, 1);
        },
        "capacity 1"));
    assert_true(expect_fatal(
        [] {
            ring r;
            ring_init(&r, 12);
        },
        "capacity 12"));
    assert_true(expect_fatal(
        [] {
            ring r;
            ring_init(&r, 1u << 21);
        },
        "capacity 2097152"));
}

struct stress {
    ring r;
    int bell;        // owned: eventfd
    uintptr_t count; // entries 1 to count
    unsigned burst;  // the producer waits for the consumer after as many entries, so that it falls asleep often
    std::atomic<uintptr_t> taken{0}; // by the consumer
    std::atomic<bool> stop{false};
    const char *failure = nullptr; // of the consumer; read after the join
    uint64_t sleeps = 0;
};

// As a worker does it: pop until null, then sleep on the eventfd. A bell that was never rung shows as a sleep
// that does not end although an entry is inside.
void *consume(void *argument) {
    stress *s = static_cast<stress *>(argument);
    uintptr_t next = 1;
    while (next <= s->count && !s->failure) {
        while (void *got = ring_pop(&s->r)) {
            if (got != entry(next++)) s->failure = "an entry was lost, doubled or out of order";
            s->taken.store(next - 1, std::memory_order_relaxed);
        }
        if (next > s->count) break;
        pollfd wait = {s->bell, POLLIN, 0};
        s->sleeps++;
        if (poll(&wait, 1, 3000) == 0) {
            s->failure = ring_size(&s->r) ? "a wake-up was lost" : "the producer is stuck";
            break;
        }
        uint64_t rung;
        if (read(s->bell, &rung, sizeof rung) != sizeof rung) s->failure = "the eventfd can't be read";
    }
    s->stop.store(true);
    return nullptr;
}

void produce(stress *s) {
    uint32_t random = 1;
    for (uintptr_t i = 1; i <= s->count && !s->stop.load(std::memory_order_relaxed);) {
        bool was_empty = false;
        if (!ring_push(&s->r, entry(i), &was_empty)) {
            sched_yield();
            continue;
        }
        if (was_empty) {
            uint64_t one = 1;
            assert_int_equal(write(s->bell, &one, sizeof one), sizeof one);
        }
        if (s->burst && i % s->burst == 0) {
            // Until all but the last are taken: the next push then falls into the moment when the consumer finds
            // the ring empty. A varying pause, so that every step of the one meets every step of the other.
            while (s->taken.load(std::memory_order_relaxed) + 1 < i && !s->stop.load(std::memory_order_relaxed)) {
            }
            random = random * 1664525 + 1013904223;
            for (uint32_t spin = random >> 25; spin > 0; spin--)
                __asm__ volatile("");
        }
        i++;
    }
}

void run_stress(uint32_t capacity, uintptr_t count, unsigned burst) {
    static stress *s; // not on the stack: the consumer may still be looking when an assertion jumps out
    s = new stress;
    ring_init(&s->r, capacity);
    s->bell = eventfd(0, EFD_CLOEXEC);
    assert_true(s->bell >= 0);
    s->count = count;
    s->burst = burst;
    pthread_t consumer;
    assert_int_equal(pthread_create(&consumer, nullptr, consume, s), 0);
    produce(s);
    pthread_join(consumer, nullptr);
    const char *failure = s->failure;
    uint64_t sleeps = s->sleeps;
    close(s->bell);
    ring_destroy(&s->r);
    delete s;
    if (failure) fail_msg("%s", failure);
    if (burst) assert_true(sleeps > 10); // else nothing was tried
}

void no_wake_up_is_lost_entry_by_entry(void **) {
    run_stress(1024, 300000, 1);
}

void no_wake_up_is_lost_in_bursts(void **) {
    run_stress(1024, 300000, 3);
}

void a_small_ring_that_is_often_full_loses_nothing(void **) {
    run_stress(2, 300000, 0);
}

} // namespace
} // namespace belfry

int main() {
    using namespace belfry;
    const CMUnitTest tests[] = {
        cmocka_unit_test(gives_back_in_order_and_no_more),
        cmocka_unit_test(asks_for_the_bell_when_it_was_empty),
        cmocka_unit_test(counters_wrap),
        cmocka_unit_test(refuses_odd_capacities),
        cmocka_unit_test(no_wake_up_is_lost_entry_by_entry),
        cmocka_unit_test(no_wake_up_is_lost_in_bursts),
        cmocka_unit_test(a_small_ring_that_is_often_full_loses_nothing),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
