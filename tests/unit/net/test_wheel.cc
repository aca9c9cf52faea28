// The timer wheel: when deadlines fire, and what a callback may do to other timers. Time is made up here.
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>
extern "C" {
#include <cmocka.h>
}

#include "net/wheel.h"

#include <stdlib.h>

using namespace belfry;

namespace {

constexpr int many = 500;

struct probe {
    struct timer timer;
    uint64_t deadline; // set_at + after
    uint64_t fired_at;
    int fired;
};

struct bench {
    struct wheel wheel;
    uint64_t now;
    int fired;
    probe *last;
    // What the callback does, besides counting.
    void (*act)(bench *b, probe *p);
    probe probes[many];
};

void on_fire(timer *t, void *context) {
    bench *b = static_cast<bench *>(context);
    probe *p = BELFRY_CONTAINER_OF(t, probe, timer);
    assert_false(timer_armed(t));
    p->fired++;
    p->fired_at = b->now;
    b->fired++;
    b->last = p;
    if (b->act != nullptr) b->act(b, p);
}

int setup(void **state) {
    bench *b = static_cast<bench *>(calloc(1, sizeof(bench)));
    b->now = 1000000;
    wheel_init(&b->wheel, b->now, on_fire, b);
    for (probe &p : b->probes)
        timer_init(&p.timer);
    *state = b;
    return 0;
}

int teardown(void **state) {
    free(*state);
    return 0;
}

void set(bench *b, probe *p, uint64_t after) {
    p->deadline = b->now + after;
    wheel_set(&b->wheel, &p->timer, b->now, after);
}

void advance(bench *b, uint64_t to) {
    b->now = to;
    wheel_advance(&b->wheel, to);
}

void fires_at_the_first_tick_after_the_deadline(void **state) {
    bench *b = static_cast<bench *>(*state);
    b->now = 1000050; // in the middle of a tick
    set(b, &b->probes[0], 100);
    assert_true(timer_armed(&b->probes[0].timer));
    assert_int_equal(b->wheel.armed, 1);
    advance(b, 1000149);
    assert_int_equal(b->fired, 0);
    advance(b, 1000199); // the deadline 1000150 passed, its tick (rounded up) did not
    assert_int_equal(b->fired, 0);
    advance(b, 1000200);
    assert_int_equal(b->fired, 1);
    assert_false(timer_armed(&b->probes[0].timer));
    assert_int_equal(b->wheel.armed, 0);
    advance(b, 1000200 + 2 * wheel_slots * wheel_tick_ms);
    assert_int_equal(b->fired, 1);
}

void a_deadline_of_nothing_fires_at_the_next_tick(void **state) {
    bench *b = static_cast<bench *>(*state);
    set(b, &b->probes[0], 0);
    advance(b, 1000000);
    assert_int_equal(b->fired, 0);
    advance(b, 1000100);
    assert_int_equal(b->fired, 1);
}

void a_stale_clock_does_not_lose_a_deadline(void **state) {
    bench *b = static_cast<bench *>(*state);
    advance(b, 1005000);
    wheel_set(&b->wheel, &b->probes[0].timer, 1000000, 100); // due long ago
    advance(b, 1005100);
    assert_int_equal(b->fired, 1);
}

void far_deadlines_wait_their_rounds(void **state) {
    bench *b = static_cast<bench *>(*state);
    uint64_t start = b->now;
    set(b, &b->probes[0], wheel_ms_max);
    set(b, &b->probes[1], wheel_ms_max * 5); // capped
    for (uint64_t t = start; t < start + wheel_ms_max; t += wheel_tick_ms)
        advance(b, t);
    assert_int_equal(b->fired, 0);
    advance(b, start + wheel_ms_max);
    assert_int_equal(b->probes[0].fired, 1);
    assert_int_equal(b->probes[1].fired, 1);
}

void arming_again_moves_and_cancelling_ends(void **state) {
    bench *b = static_cast<bench *>(*state);
    set(b, &b->probes[0], 200);
    set(b, &b->probes[0], 500);
    assert_int_equal(b->wheel.armed, 1);
    set(b, &b->probes[1], 300);
    wheel_cancel(&b->wheel, &b->probes[1].timer);
    wheel_cancel(&b->wheel, &b->probes[1].timer);
    assert_int_equal(b->wheel.armed, 1);
    advance(b, b->now + 400);
    assert_int_equal(b->fired, 0);
    advance(b, b->now + 100);
    assert_int_equal(b->probes[0].fired, 1);
    assert_int_equal(b->probes[1].fired, 0);
    assert_int_equal(b->wheel.armed, 0);
}

void cancel_all_others(bench *b, probe *p) {
    for (probe &other : b->probes)
        if (&other != p) wheel_cancel(&b->wheel, &other.timer);
}

void a_callback_may_cancel_timers_that_are_due_with_it(void **state) {
    bench *b = static_cast<bench *>(*state);
    b->act = cancel_all_others;
    for (int i = 0; i < 20; i++)
        set(b, &b->probes[i], static_cast<uint64_t>(100 * (i + 1)));
    advance(b, b->now + 5000);
    assert_int_equal(b->fired, 1);
    assert_ptr_equal(b->last, &b->probes[0]); // in the order of their deadlines
    assert_int_equal(b->wheel.armed, 0);
    advance(b, b->now + 500000);
    assert_int_equal(b->fired, 1);
}

void arm_again_at_once(bench *b, probe *p) {
    set(b, p, 0);
    if (p == &b->probes[0]) set(b, &b->probes[1], 0);
}

void a_timer_armed_in_a_callback_waits_for_the_next_tick(void **state) {
    bench *b = static_cast<bench *>(*state);
    b->act = arm_again_at_once;
    set(b, &b->probes[0], 100);
    set(b, &b->probes[1], 200); // due in the same advance, moved by the first one's callback
    advance(b, b->now + 3600000);
    assert_int_equal(b->probes[0].fired, 1);
    assert_int_equal(b->probes[1].fired, 0);
    assert_int_equal(b->wheel.armed, 2);
    advance(b, b->now + 100);
    assert_int_equal(b->probes[0].fired, 2);
    assert_int_equal(b->probes[1].fired, 0);
}

struct owned {
    struct timer timer;
};
struct owner {
    struct wheel wheel;
    owned *objects[8];
    int fired;
};

void free_all(timer *t, void *context) {
    owner *o = static_cast<owner *>(context);
    (void)t;
    o->fired++;
    for (owned *&object : o->objects) {
        wheel_cancel(&o->wheel, &object->timer);
        free(object);
        object = nullptr;
    }
}

void a_callback_may_free_all_timers(void **state) {
    (void)state;
    static owner o; // static: an assertion that fails must not leave the wheel on a dead stack
    wheel_init(&o.wheel, 0, free_all, &o);
    for (owned *&object : o.objects) {
        object = static_cast<owned *>(malloc(sizeof(owned)));
        timer_init(&object->timer);
        wheel_set(&o.wheel, &object->timer, 0, 100);
    }
    wheel_advance(&o.wheel, 200);
    assert_int_equal(o.fired, 1);
    assert_int_equal(o.wheel.armed, 0);
    wheel_advance(&o.wheel, 1000000);
}

uint32_t random_state = 12345;
uint32_t pick(uint32_t below) {
    random_state = random_state * 1664525u + 1013904223u;
    return static_cast<uint32_t>((static_cast<uint64_t>(random_state) * below) >> 32);
}

uint64_t due_tick(const probe *p) {
    return (p->deadline + wheel_tick_ms - 1) / wheel_tick_ms;
}

// Against a model: every timer fires once, never early, and in the first advance whose tick reached its own; over the
// 16-bit turn of `due` and over pauses of all lengths.
void agrees_with_a_model(void **state) {
    bench *b = static_cast<bench *>(*state);
    b->now = (65536 - 300) * wheel_tick_ms + 37;
    wheel_init(&b->wheel, b->now, on_fire, b);
    for (int round = 0; round < 4000; round++) {
        for (int i = 0; i < 5; i++) {
            probe *p = &b->probes[pick(many)];
            if (timer_armed(&p->timer) && pick(4) == 0) {
                wheel_cancel(&b->wheel, &p->timer);
                continue;
            }
            uint32_t most = pick(3) == 0 ? static_cast<uint32_t>(wheel_ms_max) : 20000;
            p->fired = 0;
            set(b, p, pick(most + 1));
            uint64_t reached = b->now / wheel_tick_ms;
            if (due_tick(p) <= reached) p->deadline = (reached + 1) * wheel_tick_ms;
        }
        uint64_t pause = pick(50) == 0 ? pick(9000000) : pick(400);
        advance(b, b->now + pause);
        size_t armed = 0;
        for (probe &p : b->probes) {
            if (p.deadline == 0) continue;
            bool is_armed = timer_armed(&p.timer);
            armed += is_armed;
            if (is_armed) assert_true(due_tick(&p) > b->now / wheel_tick_ms);
            if (p.fired != 0) {
                assert_int_equal(p.fired, 1);
                assert_true(p.fired_at >= p.deadline);
            }
        }
        assert_int_equal(b->wheel.armed, armed);
    }
    assert_true(b->fired > 5000);
}

} // namespace

int main() {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(fires_at_the_first_tick_after_the_deadline, setup, teardown),
        cmocka_unit_test_setup_teardown(a_deadline_of_nothing_fires_at_the_next_tick, setup, teardown),
        cmocka_unit_test_setup_teardown(a_stale_clock_does_not_lose_a_deadline, setup, teardown),
        cmocka_unit_test_setup_teardown(far_deadlines_wait_their_rounds, setup, teardown),
        cmocka_unit_test_setup_teardown(arming_again_moves_and_cancelling_ends, setup, teardown),
        cmocka_unit_test_setup_teardown(a_callback_may_cancel_timers_that_are_due_with_it, setup, teardown),
        cmocka_unit_test_setup_teardown(a_timer_armed_in_a_callback_waits_for_the_next_tick, setup, teardown),
        cmocka_unit_test(a_callback_may_free_all_timers),
        cmocka_unit_test_setup_teardown(agrees_with_a_model, setup, teardown),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
