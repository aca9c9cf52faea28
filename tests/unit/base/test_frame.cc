// Unit tests of base/frame: content, padding, counting, dropping references on several threads.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
extern "C" {
#include <cmocka.h>
}

#include "base/frame.h"
#include "expect_fatal.h"

#include <pthread.h>
#include <stdlib.h>

namespace belfry {
namespace {

void assert_padded(const frame *f) {
    for (size_t i = 0; i < frame_padding; i++)
        assert_int_equal(f->data[f->size + i], 0);
}

void a_new_frame_has_one_reference_and_padding(void **) {
    for (size_t size : {size_t{0}, size_t{1}, size_t{100}, size_t{70000}}) {
        frame *f = frame_new(size);
        assert_int_equal(f->references.load(), 1);
        assert_int_equal(f->size, size);
        assert_false(frame_droppable(f)); // nothing is dropped that nobody has marked
        assert_true(f->room == 0 && f->key == 0);
        memset(f->data, 'x', size);
        assert_padded(f);
        assert_int_equal(frame_view(f).size(), size);
        frame_unref(f);
    }
}

void copies_and_joins(void **) {
    frame *f = frame_copy(view("a\0b", 3));
    assert_true(frame_view(f) == view("a\0b", 3));
    assert_padded(f);
    frame_unref(f);
    f = frame_join("head", "and body");
    assert_true(frame_view(f) == "headand body");
    assert_padded(f);
    frame_unref(f);
    f = frame_join(view(), "body");
    assert_true(frame_view(f) == "body");
    frame_unref(f);
    f = frame_copy(view());
    assert_int_equal(f->size, 0);
    assert_padded(f);
    frame_unref(f);
}

void lives_until_the_last_reference_goes(void **) {
    frame *f = frame_copy("shared");
    assert_ptr_equal(frame_ref(f), f);
    frame_ref_many(f, 10);
    assert_int_equal(f->references.load(), 12);
    for (int i = 0; i < 11; i++) {
        frame_unref(f);
        assert_true(frame_view(f) == "shared"); // under AddressSanitizer: it is still there
    }
    assert_int_equal(f->references.load(), 1);
    frame_unref(f); // and here LeakSanitizer would complain were it not freed
}

void more_than_a_frame_can_hold_is_fatal(void **) {
    assert_true(expect_fatal([] { frame_unref(frame_new(size_t{1} << 31)); }, "2147483648 bytes"));
    assert_true(expect_fatal(
        [] {
            // Sizes that make zero together; the bytes are not looked at.
            frame_unref(frame_join(view("", SIZE_MAX / 2 + 1), view("", SIZE_MAX / 2 + 1)));
        },
        "frame_join"));
}

struct handover {
    frame **frames;
    size_t count;
    size_t sum; // what the thread read
};

void *read_and_drop(void *argument) {
    handover *h = static_cast<handover *>(argument);
    for (size_t i = 0; i < h->count; i++) {
        for (char c : frame_view(h->frames[i]))
            h->sum += static_cast<unsigned char>(c);
        frame_unref(h->frames[i]);
    }
    return nullptr;
}

// Made here, read and dropped by two threads at once, so that either may be the one that frees. Under
// ThreadSanitizer a decrement without acquire and release shows as a race between a read and free.
void is_freed_by_whichever_thread_comes_last(void **) {
    constexpr size_t count = 20000;
    frame **frames = static_cast<frame **>(calloc(count, sizeof *frames));
    for (size_t i = 0; i < count; i++) {
        frames[i] = frame_copy("\x01\x02\x03");
        frame_ref_many(frames[i], 1);
    }
    handover handovers[2] = {{frames, count, 0}, {frames, count, 0}};
    pthread_t threads[2];
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&threads[i], nullptr, read_and_drop, &handovers[i]), 0);
    for (pthread_t thread : threads)
        pthread_join(thread, nullptr);
    assert_int_equal(handovers[0].sum, 6 * count);
    assert_int_equal(handovers[1].sum, 6 * count);
    free(frames);
}

} // namespace
} // namespace belfry

int main() {
    using namespace belfry;
    const CMUnitTest tests[] = {
        cmocka_unit_test(a_new_frame_has_one_reference_and_padding),
        cmocka_unit_test(copies_and_joins),
        cmocka_unit_test(lives_until_the_last_reference_goes),
        cmocka_unit_test(more_than_a_frame_can_hold_is_fatal),
        cmocka_unit_test(is_freed_by_whichever_thread_comes_last),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
