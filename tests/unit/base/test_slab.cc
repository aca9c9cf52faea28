// Unit tests of base/slab: layout, reuse, pages given back, misuse.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
extern "C" {
#include <cmocka.h>
}

#include "base/slab.h"
#include "expect_fatal.h"

#include <initializer_list>
#include <stdlib.h>

#if defined(__SANITIZE_ADDRESS__)
#define BELFRY_ADDRESS_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define BELFRY_ADDRESS_SANITIZER 1
#endif
#endif
#ifdef BELFRY_ADDRESS_SANITIZER
#include <sanitizer/asan_interface.h>
#endif

namespace belfry {
namespace {

slab s;
constexpr size_t object_limit = 5000;
void *objects[object_limit];

int start(void **) {
    slab_init(&s, 100, 8192);
    return 0;
}

int stop(void **) {
    slab_destroy(&s);
    return 0;
}

// Takes n objects and fills each with a byte of its own.
void take(size_t n) {
    for (size_t i = 0; i < n; i++) {
        objects[i] = slab_get(&s);
        memset(objects[i], static_cast<int>(i % 251), s.object_size);
    }
}

void objects_are_aligned_and_do_not_overlap(void **) {
    assert_int_equal(s.object_size, 112);
    take(1000);
    assert_int_equal(s.live, 1000);
    for (size_t i = 0; i < 1000; i++) {
        assert_int_equal(reinterpret_cast<uintptr_t>(objects[i]) % 16, 0);
        const unsigned char *bytes = static_cast<unsigned char *>(objects[i]);
        for (size_t j = 0; j < s.object_size; j++)
            assert_int_equal(bytes[j], i % 251);
    }
    for (size_t i = 0; i < 1000; i++)
        slab_put(&s, objects[i]);
    assert_int_equal(s.live, 0);
}

// What is hot at the start of a connection shall not lie on one line more than it must.
void objects_of_whole_cache_lines_begin_on_one(void **) {
    slab lines;
    slab_init(&lines, 576, 65536);
    for (size_t i = 0; i < 300; i++) {
        objects[i] = slab_get(&lines);
        assert_int_equal(reinterpret_cast<uintptr_t>(objects[i]) % 64, 0);
    }
    for (size_t i = 0; i < 300; i++)
        slab_put(&lines, objects[i]);
    slab_destroy(&lines);
}

void pages_are_well_filled(void **) {
    for (size_t size : {size_t{16}, size_t{100}, size_t{1000}, size_t{16384}}) {
        slab one;
        slab_init(&one, size, 65536);
        size_t n = 0;
        while (one.pages < 2)
            objects[n++] = slab_get(&one);
        // The header is one cache line, and less than one object is left over at the end.
        assert_true((n - 1) * one.object_size + 64 + one.object_size > 65536);
        assert_int_equal(slab_bytes(&one), 2 * 65536);
        for (size_t i = 0; i < n; i++)
            slab_put(&one, objects[i]);
        slab_destroy(&one);
    }
}

void a_freed_object_is_used_again_before_a_page(void **) {
    take(500);
    size_t pages = s.pages;
    for (size_t i = 0; i < 500; i += 3)
        slab_put(&s, objects[i]);
    for (size_t i = 0; i < 500; i += 3)
        objects[i] = slab_get(&s);
    assert_int_equal(s.pages, pages);
    for (size_t i = 0; i < 500; i++)
        slab_put(&s, objects[i]);
}

void a_burst_goes_back_but_for_one_spare(void **) {
    take(2000);
    assert_true(s.pages > 20);
    assert_int_equal(slab_bytes(&s), s.pages * 8192);
    for (size_t i = 0; i < 2000; i++)
        slab_put(&s, objects[i]);
    assert_int_equal(s.pages, 1);
    assert_int_equal(slab_bytes(&s), 8192);
    void *object = slab_get(&s); // from the spare
    assert_int_equal(s.pages, 1);
    slab_put(&s, object);
    assert_int_equal(s.pages, 1);
}

void random_taking_and_giving_keeps_contents(void **) {
    size_t held = 0;
    uint32_t random = 12345;
    for (int step = 0; step < 200000; step++) {
        random = random * 1664525 + 1013904223;
        // A drift up, then down, so that pages become full, partial and empty in all orders.
        bool get = held == 0 || (held < object_limit && random >> 16 & (step % 40000 < 20000 ? 3 : 1));
        if (get) {
            size_t *object = static_cast<size_t *>(slab_get(&s));
            object[0] = reinterpret_cast<size_t>(object);
            object[s.object_size / sizeof(size_t) - 1] = ~object[0];
            objects[held++] = object;
        } else {
            size_t which = (random >> 8) % held;
            size_t *object = static_cast<size_t *>(objects[which]);
            assert_int_equal(object[0], reinterpret_cast<size_t>(object));
            assert_int_equal(object[s.object_size / sizeof(size_t) - 1], ~object[0]);
            slab_put(&s, object);
            objects[which] = objects[--held];
        }
        assert_int_equal(s.live, held);
    }
    while (held)
        slab_put(&s, objects[--held]);
    assert_int_equal(s.pages, 1);
}

void refuses_odd_sizes(void **) {
    assert_true(expect_fatal([] { slab_init(&s, 15, 4096); }, "objects of 15 bytes"));
    assert_true(expect_fatal([] { slab_init(&s, 1025, 4096); }, "objects of 1025 bytes"));
    assert_true(expect_fatal([] { slab_init(&s, 16, 2048); }, "page size 2048"));
    assert_true(expect_fatal([] { slab_init(&s, 16, 5000); }, "page size 5000"));
    assert_true(expect_fatal([] { slab_init(&s, 16, 1 << 21); }, "page size 2097152"));
}

void misuse_is_fatal(void **) {
    assert_true(expect_fatal(
        [] {
            objects[0] = slab_get(&s);
            slab_destroy(&s);
        },
        "1 objects of 112 bytes were not put back"));
    assert_true(expect_fatal(
        [] {
            objects[0] = slab_get(&s);
            slab_put(&s, objects[0]);
            slab_put(&s, objects[0]);
        },
        "is free already"));
    assert_true(expect_fatal([] { slab_put(&s, static_cast<char *>(slab_get(&s)) + 16); }, "not an object of this"));
    assert_true(expect_fatal(
        [] {
            slab other;
            slab_init(&other, 100, 8192);
            slab_put(&s, slab_get(&other));
        },
        "not an object of this"));
}

#ifdef BELFRY_ADDRESS_SANITIZER
void free_objects_are_poisoned(void **) {
    char *a = static_cast<char *>(slab_get(&s)), *b = static_cast<char *>(slab_get(&s));
    assert_null(__asan_region_is_poisoned(a, s.object_size));
    assert_true(__asan_address_is_poisoned(b + s.object_size)); // never used
    slab_put(&s, a);
    for (size_t i = 0; i < s.object_size; i++)
        assert_true(__asan_address_is_poisoned(a + i));
    assert_null(__asan_region_is_poisoned(b, s.object_size));
    a = static_cast<char *>(slab_get(&s));
    assert_null(__asan_region_is_poisoned(a, s.object_size));
    slab_put(&s, a);
    slab_put(&s, b);
    // The spare is as poisoned as any.
    assert_true(__asan_address_is_poisoned(a));
    assert_true(__asan_address_is_poisoned(b));
}

// LeakSanitizer must follow pointers out of our pages; were it not so, this program would end in its report.
void what_an_object_points_to_is_not_a_leak(void **) {
    static slab for_ever;
    slab_init(&for_ever, 16, 4096);
    *static_cast<void **>(slab_get(&for_ever)) = malloc(123);
}
#endif

} // namespace
} // namespace belfry

int main() {
    using namespace belfry;
    const CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(objects_are_aligned_and_do_not_overlap, start, stop),
        cmocka_unit_test(objects_of_whole_cache_lines_begin_on_one),
        cmocka_unit_test(pages_are_well_filled),
        cmocka_unit_test_setup_teardown(a_freed_object_is_used_again_before_a_page, start, stop),
        cmocka_unit_test_setup_teardown(a_burst_goes_back_but_for_one_spare, start, stop),
        cmocka_unit_test_setup_teardown(random_taking_and_giving_keeps_contents, start, stop),
        cmocka_unit_test(refuses_odd_sizes),
        cmocka_unit_test_setup_teardown(misuse_is_fatal, start, stop),
#ifdef BELFRY_ADDRESS_SANITIZER
        cmocka_unit_test_setup_teardown(free_objects_are_poisoned, start, stop),
        cmocka_unit_test(what_an_object_points_to_is_not_a_leak),
#endif
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
