// Thinning an output queue: who goes, who stays, what stands where, and that no reference and no chunk is lost.
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>
extern "C" {
#include <cmocka.h>
}

#include "made_up_stream.h"
#include "net/outq_thin.h"

#include <stdlib.h>
#include <string.h>
#include <string>
#include <unistd.h>

using namespace belfry;

namespace {

constexpr uint64_t cost = 96;

struct bench {
    made_up_stream to;
    loop *on;
    struct slab chunks;
    struct outq queue;
    uint32_t gaps;   // that were asked for
    bool no_words;   // the client's protocol knows no gaps
    uint64_t rooms;  // of those gaps, as decimal digits, one a room
    frame *shared;   // counted: a reference of the test's own to a frame that is queued often
    uint32_t random; // state
};

int setup(void **state) {
    alarm(60);
    bench *b = static_cast<bench *>(calloc(1, sizeof(bench)));
    b->on = loop_new();
    slab_init(&b->chunks, sizeof(outq_chunk), 4096);
    outq_init(&b->queue);
    b->random = 4711;
    made_up_begin(&b->to, b->on, dup(0));
    b->to.stream.ops = &made_up_ops;
    *state = b;
    return 0;
}

int setup_tls(void **state) {
    if (setup(state) != 0) return -1;
    static_cast<bench *>(*state)->to.stream.tls = *state; // anything but null
    return 0;
}

// slab_destroy aborts where a chunk is missing; AddressSanitizer tells of frames.
int teardown(void **state) {
    bench *b = static_cast<bench *>(*state);
    outq_clear(&b->queue, &b->chunks);
    slab_destroy(&b->chunks);
    made_up_end(&b->to);
    loop_free(b->on);
    int lost = 0;
    if (b->shared) {
        lost = b->shared->references.load() != 1;
        frame_unref(b->shared);
    }
    free(b);
    alarm(0);
    return lost;
}

void push(bench *b, view text, uint64_t room, uint64_t key) {
    frame *f = frame_copy(text);
    f->room = room;
    f->key = key;
    outq_push(&b->queue, &b->chunks, f);
}

// A word a frame: "a1" is a message of room 'a' without a key, "a1=x" one with the key x, "a!" a gap of room a, "-" and
// what follows it an answer.
void push_words(bench *b, const std::string &words) {
    for (size_t at = 0; at < words.size();) {
        size_t end = words.find(' ', at);
        if (end == std::string::npos) end = words.size();
        const std::string word = words.substr(at, end - at);
        const size_t equals = word.find('=');
        const uint64_t room = word[0] == '-' ? 0 : static_cast<uint64_t>(word[0] - 'a' + 1);
        const uint64_t key = word.back() == '!'            ? frame_gap
                             : equals == std::string::npos ? 0
                                                           : static_cast<uint64_t>(word[equals + 1]);
        push(b, word + " ", room, key);
        at = end + 1;
    }
}

frame *gap(void *context, uint64_t room) {
    bench *b = static_cast<bench *>(context);
    b->gaps++;
    if (b->no_words) return nullptr;
    const char text[] = {static_cast<char>('a' + room - 1), '!', ' '};
    frame *f = frame_copy(view(text, sizeof text));
    f->room = room;
    f->key = frame_gap;
    return f;
}

uint64_t charge(const bench *b) {
    return b->queue.bytes + b->queue.count * cost;
}

outq_thinned thin(bench *b, bool by_key, uint64_t most) {
    const outq_thinning how = {most, cost, by_key, gap, b};
    return outq_thin(&b->queue, &b->chunks, &how);
}

// So many frames of four bytes ("a12 ").
uint64_t frames(uint64_t n) {
    return n * (cost + 4);
}

stream_result flush(bench *b, size_t take) {
    b->to.take = take;
    b->to.full = take == 0;
    return outq_flush(&b->queue, &b->chunks, &b->to.stream);
}

void assert_wire(bench *b, const std::string &words) {
    while (b->queue.count != 0)
        assert_int_equal(flush(b, SIZE_MAX), stream_result::ok);
    assert_string_equal(std::string(b->to.wire, b->to.wire_size).c_str(), words.c_str());
    assert_int_equal(b->queue.bytes, 0);
    assert_int_equal(b->chunks.live, 0);
}

void what_is_short_enough_stays(void **state) {
    bench *b = static_cast<bench *>(*state);
    assert_int_equal(thin(b, false, 0).dropped, 0);
    push_words(b, "a10 a11 a12");
    const outq_thinned done = thin(b, false, frames(3));
    assert_int_equal(done.dropped + done.replaced + done.gaps, 0);
    assert_int_equal(b->gaps, 0);
    assert_wire(b, "a10 a11 a12 ");
}

void the_oldest_go_and_a_gap_stands_where_they_were(void **state) {
    bench *b = static_cast<bench *>(*state);
    push_words(b, "a10 a11 a12 a13 a14 a15 a16 a17 a18 a19");
    const outq_thinned done = thin(b, false, frames(7));
    assert_int_equal(done.dropped, 4); // the gap takes the place of one
    assert_int_equal(done.gaps, 1);
    assert_true(charge(b) <= frames(7));
    assert_wire(b, "a! a14 a15 a16 a17 a18 a19 ");
}

void each_room_has_its_gap_and_answers_stay(void **state) {
    bench *b = static_cast<bench *>(*state);
    push_words(b, "-p1 a10 b10 -p2 a11 c10 b11 a12 d10");
    const outq_thinned done = thin(b, false, frames(3));
    assert_int_equal(done.dropped, 7);
    assert_int_equal(done.gaps, 4); // more than `most`, but nothing droppable is left
    assert_wire(b, "-p1 a! b! -p2 c! d! ");
}

void a_room_whose_gap_still_waits_gets_no_other(void **state) {
    bench *b = static_cast<bench *>(*state);
    push_words(b, "a10 b10 a11 a12 a13");
    assert_int_equal(thin(b, false, frames(4)).gaps, 2);
    push_words(b, "a14 b11 b12");
    assert_int_equal(thin(b, false, frames(4)).gaps, 0);
    assert_int_equal(b->gaps, 2);
    assert_wire(b, "a! b! b11 b12 ");
    b->to.wire_size = 0;
    push_words(b, "a20 a21 a22"); // the gap is out: a new one
    assert_int_equal(thin(b, false, frames(2)).gaps, 1);
    assert_wire(b, "a! a22 ");
}

// Somebody else's gap (the broker was away) stands behind what is dropped now: it says nothing new.
void a_later_gap_of_the_same_room_goes(void **state) {
    bench *b = static_cast<bench *>(*state);
    push_words(b, "a10 a11 a! a12 a13 a14");
    assert_int_equal(thin(b, false, frames(3)).gaps, 1);
    assert_wire(b, "a! a13 a14 ");
}

void who_knows_no_gaps_gets_none(void **state) {
    bench *b = static_cast<bench *>(*state);
    b->no_words = true;
    push_words(b, "a10 a11 a12 a13");
    const outq_thinned done = thin(b, false, frames(2));
    assert_int_equal(done.dropped, 2);
    assert_int_equal(done.gaps, 0);
    assert_int_equal(b->gaps, 1); // asked once
    assert_wire(b, "a12 a13 ");
}

void what_is_begun_or_sealed_stays(void **state) {
    bench *b = static_cast<bench *>(*state);
    push_words(b, "a10 a11 a12 a13 a14 a15");
    assert_int_equal(flush(b, 5), stream_result::ok); // a11 is begun
    assert_int_equal(b->queue.count, 5);
    assert_int_equal(thin(b, false, 0).dropped, 4);
    assert_int_equal(b->queue.offset, 1);
    assert_int_equal(b->queue.bytes, 3 + 3);
    assert_wire(b, "a10 a11 a! ");
}

void what_is_in_a_pending_record_stays(void **state) {
    bench *b = static_cast<bench *>(*state);
    push_words(b, "a10=x a11=x a!");
    assert_int_equal(flush(b, 0), stream_result::again);
    push_words(b, "a12=x a13 a14=x");
    const outq_thinned done = thin(b, true, 0);
    assert_int_equal(done.replaced, 1);
    assert_int_equal(done.dropped, 2);
    assert_int_equal(b->queue.pinned, 3);
    // The pinned gap does not count: what stands behind it could have been meant for messages before a14.
    assert_wire(b, "a10=x a11=x a! a! ");
}

void the_newer_takes_the_place_of_the_older(void **state) {
    bench *b = static_cast<bench *>(*state);
    push_words(b, "a1=x a2 b3=x a4=y a5=x -p a6=y b7=x a8 a9=x");
    const outq_thinned done = thin(b, true, UINT64_MAX);
    assert_int_equal(done.replaced, 4);
    assert_int_equal(done.dropped + done.gaps, 0);
    assert_wire(b, "a9=x a2 b7=x a6=y -p a8 ");
}

void gaps_and_other_rooms_are_not_replaced(void **state) {
    bench *b = static_cast<bench *>(*state);
    push_words(b, "a! b! a! -p");
    push(b, "1 ", 1, 99); // hashes that fall into one slot
    push(b, "2 ", 17, 99);
    push(b, "3 ", 16 + 99, 16);
    assert_int_equal(thin(b, true, UINT64_MAX).replaced, 0);
    assert_wire(b, "a! b! a! -p 1 2 3 ");
}

void without_by_key_nothing_is_replaced(void **state) {
    bench *b = static_cast<bench *>(*state);
    push_words(b, "a1=x a2=x");
    assert_int_equal(thin(b, false, UINT64_MAX).replaced, 0);
    assert_wire(b, "a1=x a2=x ");
}

void a_keys_last_value_goes_last(void **state) {
    bench *b = static_cast<bench *>(*state);
    push_words(b, "a1=x a10 a2=y a11 a3=x a12");
    const outq_thinned done = thin(b, true, 4 * (cost + 5));
    assert_int_equal(done.replaced, 1);
    assert_int_equal(done.dropped, 2); // a10 and a11
    assert_wire(b, "a3=x a! a2=y a12 ");
    b->to.wire_size = 0;
    push_words(b, "a1=x a2=y a10 a3=z");
    assert_int_equal(thin(b, true, 2 * (cost + 5)).dropped, 3);
    assert_wire(b, "a! a3=z "); // the gap that a10 had left is told at an older place now
}

void references_come_back(void **state) {
    bench *b = static_cast<bench *>(*state);
    b->shared = frame_copy("shared");
    b->shared->room = 7;
    b->shared->key = 99;
    frame_ref_many(b->shared, 1000);
    for (int i = 0; i < 1000; i++)
        outq_push(&b->queue, &b->chunks, b->shared);
    assert_int_equal(thin(b, true, UINT64_MAX).replaced, 999);
    assert_int_equal(b->shared->references.load(), 2);
    assert_int_equal(b->queue.count, 1);
    assert_int_equal(b->queue.bytes, 6);
    assert_int_equal(b->chunks.live, 0);
}

uint32_t pick(bench *b, uint32_t below) {
    b->random = b->random * 1664525u + 1013904223u;
    return static_cast<uint32_t>((static_cast<uint64_t>(b->random) * below) >> 32);
}

// Whatever is pushed, written and thinned: frames arrive whole, each room's keyless messages in order, answers all of
// them, a missing message only behind a gap of its room, and the queue is as long as it may be.
void any_mixture_is_whole(void **state) {
    bench *b = static_cast<bench *>(*state);
    uint32_t sequence = 0, answers = 0;
    for (int round = 0; round < 4000; round++) {
        for (uint32_t n = pick(b, 8); n != 0; n--) {
            const uint32_t kind = pick(b, 12);
            char text[32];
            if (kind == 0) {
                snprintf(text, sizeof text, "-%u ", answers++);
                push(b, text, 0, 0);
                continue;
            }
            const uint32_t room = pick(b, 3), key = kind < 6 ? 0 : 'p' + pick(b, 4);
            if (key != 0)
                snprintf(text, sizeof text, "%c%u=%c ", 'a' + room, sequence++, key);
            else
                snprintf(text, sizeof text, "%c%u ", 'a' + room, sequence++);
            push(b, text, room + 1, key);
        }
        if (pick(b, 3) == 0) (void)flush(b, pick(b, 4) == 0 ? 0 : pick(b, 60));
        const uint64_t most = 2000;
        if (charge(b) <= most) continue;
        // What can't go: begun or sealed, answers, gaps.
        (void)thin(b, pick(b, 2) == 0, most);
        assert_true(b->chunks.live <= b->queue.count / outq_chunk_slots + 2);
    }
    while (b->queue.count != 0)
        assert_int_equal(flush(b, SIZE_MAX), stream_result::ok);
    const std::string all(b->to.wire, b->to.wire_size);
    uint32_t next_answer = 0, words = 0, told = 0;
    long last[3] = {-1, -1, -1};
    for (size_t at = 0; at < all.size(); words++) {
        const size_t end = all.find(' ', at);
        assert_true(end != std::string::npos);
        const std::string word = all.substr(at, end - at);
        at = end + 1;
        char *rest = nullptr;
        const long number = strtol(word.c_str() + 1, &rest, 10);
        if (word[0] == '-') {
            assert_int_equal(number, next_answer++);
            assert_int_equal(*rest, 0);
            continue;
        }
        assert_in_range(word[0], 'a', 'c');
        if (word[1] == '!') {
            assert_int_equal(word.size(), 2);
            told++;
            continue;
        }
        assert_true(rest != word.c_str() + 1 && (*rest == 0 || (rest[0] == '=' && rest[2] == 0)));
        if (*rest != 0) continue; // a key's messages move
        assert_true(number > last[word[0] - 'a']);
        last[word[0] - 'a'] = number;
    }
    assert_int_equal(next_answer, answers);
    assert_int_equal(last[0] + 3 > static_cast<long>(sequence) || last[0] > 0, 1);
    assert_true(told > 0 && words > 1000);
}

void many_rooms_have_their_gaps(void **state) {
    bench *b = static_cast<bench *>(*state);
    b->no_words = true;
    for (int twice = 0; twice < 2; twice++)
        for (uint64_t room = 1; room <= 1000; room++)
            push(b, "x", room * 0x9e3779b97f4a7c15, 0);
    assert_int_equal(thin(b, false, 0).dropped, 2000);
    assert_int_equal(b->gaps, 1000); // each asked for once
    assert_int_equal(b->queue.count, 0);
}

} // namespace

int main() {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_is_short_enough_stays, setup, teardown),
        cmocka_unit_test_setup_teardown(the_oldest_go_and_a_gap_stands_where_they_were, setup, teardown),
        cmocka_unit_test_setup_teardown(each_room_has_its_gap_and_answers_stay, setup, teardown),
        cmocka_unit_test_setup_teardown(a_room_whose_gap_still_waits_gets_no_other, setup, teardown),
        cmocka_unit_test_setup_teardown(a_later_gap_of_the_same_room_goes, setup, teardown),
        cmocka_unit_test_setup_teardown(who_knows_no_gaps_gets_none, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_begun_or_sealed_stays, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_in_a_pending_record_stays, setup_tls, teardown),
        cmocka_unit_test_setup_teardown(the_newer_takes_the_place_of_the_older, setup, teardown),
        cmocka_unit_test_setup_teardown(gaps_and_other_rooms_are_not_replaced, setup, teardown),
        cmocka_unit_test_setup_teardown(without_by_key_nothing_is_replaced, setup, teardown),
        cmocka_unit_test_setup_teardown(a_keys_last_value_goes_last, setup, teardown),
        cmocka_unit_test_setup_teardown(references_come_back, setup, teardown),
        cmocka_unit_test_setup_teardown(many_rooms_have_their_gaps, setup, teardown),
        cmocka_unit_test_setup_teardown(any_mixture_is_whole, setup, teardown),
        cmocka_unit_test_setup_teardown(any_mixture_is_whole, setup_tls, teardown),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
