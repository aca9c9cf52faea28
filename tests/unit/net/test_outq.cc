// Output queues: order and bytes on a real socket and through made-up transports, what each flush costs in system
// calls, and that every reference and every chunk comes back.
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>
extern "C" {
#include <cmocka.h>
}

#include "made_up_stream.h"
#include "net/outq.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

using namespace belfry;

// The calls that a flush makes; the program's own functions stand before libc's.
static int sends, sendmsgs, last_flags;
static size_t last_pieces;

extern "C" long syscall(long number, ...) noexcept {
    static auto *real = reinterpret_cast<long (*)(long, ...)>(dlsym(RTLD_NEXT, "syscall"));
    long argument[6];
    va_list list;
    va_start(list, number);
    for (long &a : argument)
        a = va_arg(list, long);
    va_end(list);
    if (number == SYS_sendto) {
        sends++;
        last_flags = static_cast<int>(argument[3]);
    }
    return real(number, argument[0], argument[1], argument[2], argument[3], argument[4], argument[5]);
}
extern "C" ssize_t sendmsg(int fd, const struct msghdr *message, int flags) {
    sendmsgs++;
    last_flags = flags;
    last_pieces = message->msg_iovlen;
    return syscall(SYS_sendmsg, fd, message, flags);
}

namespace {

constexpr int frames_max = 4000;

struct bench {
    made_up_stream to;
    loop *on;
    struct slab chunks;
    struct outq queue;
    int peer;
    frame *frames[frames_max]; // one reference of the test's own
    int frame_count;
    char *expected; // what should have gone out
};

int setup(void **state) {
    alarm(60);
    bench *b = static_cast<bench *>(calloc(1, sizeof(bench)));
    b->on = loop_new();
    slab_init(&b->chunks, sizeof(outq_chunk), 4096);
    outq_init(&b->queue);
    b->expected = static_cast<char *>(malloc(made_up_wire_max));
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) != 0) return -1;
    b->peer = pair[1];
    made_up_begin(&b->to, b->on, pair[0]);
    sends = sendmsgs = 0;
    *state = b;
    return 0;
}

int setup_fake(void **state) {
    if (setup(state) != 0) return -1;
    static_cast<bench *>(*state)->to.stream.ops = &made_up_ops;
    return 0;
}

int setup_fake_tls(void **state) {
    if (setup_fake(state) != 0) return -1;
    static_cast<bench *>(*state)->to.stream.tls = *state; // anything but null
    return 0;
}

// Every chunk must have come back (slab_destroy aborts otherwise), every frame be the test's alone.
int teardown(void **state) {
    bench *b = static_cast<bench *>(*state);
    outq_clear(&b->queue, &b->chunks);
    int lost = 0;
    for (int i = 0; i < b->frame_count; i++) {
        lost += b->frames[i]->references.load() != 1;
        frame_unref(b->frames[i]);
    }
    slab_destroy(&b->chunks);
    made_up_end(&b->to);
    close(b->peer);
    loop_free(b->on);
    free(b->expected);
    free(b);
    alarm(0);
    return lost == 0 ? 0 : -1;
}

frame *make(bench *b, const char *text) {
    frame *f = frame_copy(text);
    b->frames[b->frame_count++] = f;
    return f;
}

void push(bench *b, frame *f) {
    outq_push(&b->queue, &b->chunks, frame_ref(f));
}

// Frames "0," "1," ... as many as wanted; their concatenation is what must arrive.
void push_numbers(bench *b, int from, int to) {
    for (int i = from; i < to; i++) {
        char text[16];
        snprintf(text, sizeof text, "%d,", i);
        push(b, make(b, text));
    }
}

size_t numbers(char *into, int from, int to) {
    size_t size = 0;
    for (int i = from; i < to; i++)
        size += static_cast<size_t>(sprintf(into + size, "%d,", i));
    return size;
}

uint32_t references(const bench *b, int i) {
    return b->frames[i]->references.load();
}

stream_result flush(bench *b) {
    return outq_flush(&b->queue, &b->chunks, &b->to.stream);
}

void assert_arrives(bench *b, const char *expected) {
    char got[256];
    ssize_t n = recv(b->peer, got, sizeof got - 1, 0);
    got[n < 0 ? 0 : n] = '\0';
    assert_string_equal(got, expected);
}

void assert_empty(const bench *b) {
    const struct outq *q = &b->queue;
    assert_int_equal(q->count + q->bytes + q->offset + q->pinned, 0);
    assert_int_equal(q->first_begin + q->first_end + q->chunk_begin + q->chunk_end, 0);
    assert_null(q->head);
    assert_null(q->tail);
    assert_int_equal(b->chunks.live, 0);
}

void one_frame_is_one_send(void **state) {
    bench *b = static_cast<bench *>(*state);
    push_numbers(b, 0, 1);
    assert_int_equal(b->queue.count, 1);
    assert_int_equal(b->queue.bytes, 2);
    assert_int_equal(flush(b), stream_result::ok);
    assert_int_equal(sends, 1);
    assert_int_equal(sendmsgs, 0);
    assert_int_equal(last_flags, MSG_NOSIGNAL);
    assert_int_equal(b->on->writes, 1);
    assert_int_equal(references(b, 0), 1);
    assert_empty(b);
    assert_arrives(b, "0,");
}

void nothing_is_no_call(void **state) {
    bench *b = static_cast<bench *>(*state);
    assert_int_equal(flush(b), stream_result::ok);
    assert_int_equal(sends + sendmsgs, 0);
    assert_int_equal(b->on->writes, 0);
}

void several_frames_are_one_sendmsg(void **state) {
    bench *b = static_cast<bench *>(*state);
    push_numbers(b, 0, 40);
    assert_int_equal(flush(b), stream_result::ok);
    assert_int_equal(sends, 0);
    assert_int_equal(sendmsgs, 1);
    assert_int_equal(last_pieces, 40);
    assert_int_equal(last_flags, MSG_NOSIGNAL);
    assert_empty(b);
    char expected[256];
    expected[numbers(expected, 0, 40)] = '\0';
    assert_arrives(b, expected);
}

void one_call_takes_the_kernels_limit_of_pieces(void **state) {
    bench *b = static_cast<bench *>(*state);
    frame *f = make(b, "x");
    for (int i = 0; i < 3000; i++)
        push(b, f);
    assert_int_equal(flush(b), stream_result::ok);
    assert_int_equal(last_pieces, loop_iov_max);
    assert_int_equal(b->queue.count, 3000 - loop_iov_max);
    assert_int_equal(f->references.load(), 1 + 3000 - loop_iov_max);
    assert_int_equal(flush(b), stream_result::ok);
    assert_int_equal(flush(b), stream_result::ok);
    assert_int_equal(last_pieces, 3000 - 2 * loop_iov_max);
    assert_empty(b);
    assert_int_equal(sendmsgs, 3);
}

void a_full_socket_keeps_all_and_order(void **state) {
    bench *b = static_cast<bench *>(*state);
    static char block[20001];
    memset(block, 'b', 20000);
    frame *f = make(b, block);
    stream_result result = stream_result::ok;
    size_t pushed = 0;
    while (result == stream_result::ok) {
        for (int i = 0; i < 30; i++, pushed += 20000)
            push(b, f);
        result = flush(b);
    }
    assert_int_equal(result, stream_result::again);
    assert_int_equal(b->to.stream.wants, stream_writable);
    assert_int_equal(b->queue.pinned, 0); // a plain socket takes no pledge
    size_t waiting = b->queue.bytes, arrived = 0;
    while (arrived != pushed) {
        ssize_t n = recv(b->peer, b->to.wire, made_up_wire_max, 0);
        if (n > 0) {
            arrived += static_cast<size_t>(n);
        } else {
            assert_int_equal(b->queue.bytes, pushed - arrived);
            assert_int_not_equal(flush(b), stream_result::failed);
        }
    }
    assert_true(waiting > 0);
    assert_empty(b);
    assert_int_equal(f->references.load(), 1);
}

void one_who_left_is_a_failure_and_clearing_drops_all(void **state) {
    bench *b = static_cast<bench *>(*state);
    push_numbers(b, 0, 50);
    shutdown(b->to.stream.fd, SHUT_RDWR);
    assert_int_equal(flush(b), stream_result::failed);
    assert_int_equal(b->queue.count, 50);
    assert_int_equal(outq_clear(&b->queue, &b->chunks), 50);
    assert_empty(b);
    for (int i = 0; i < 50; i++)
        assert_int_equal(references(b, i), 1);
    assert_int_equal(outq_clear(&b->queue, &b->chunks), 0);
}

void a_frame_is_let_go_when_its_last_byte_is_written(void **state) {
    bench *b = static_cast<bench *>(*state);
    push_numbers(b, 10, 40); // three bytes each
    b->to.take = 4;
    assert_int_equal(flush(b), stream_result::ok);
    assert_int_equal(references(b, 0), 1);
    assert_int_equal(references(b, 1), 2);
    assert_int_equal(b->queue.offset, 1);
    assert_int_equal(b->queue.bytes, 90 - 4);
    b->to.take = 2;
    assert_int_equal(flush(b), stream_result::ok);
    assert_int_equal(b->to.offered_bytes, 86);
    assert_int_equal(references(b, 1), 1);
    assert_int_equal(b->queue.offset, 0);
    assert_int_equal(references(b, 2), 2);
    b->to.full = true;
    assert_int_equal(flush(b), stream_result::again);
    assert_int_equal(b->queue.bytes, 84);
}

void chunks_go_back_and_inline_slots_serve_again(void **state) {
    bench *b = static_cast<bench *>(*state);
    push_numbers(b, 0, 2);
    assert_int_equal(b->chunks.live, 0);
    push_numbers(b, 2, 3);
    assert_int_equal(b->chunks.live, 1);
    push_numbers(b, 3, 17);
    assert_int_equal(b->chunks.live, 1); // 2 + 15
    push_numbers(b, 17, 48);
    assert_int_equal(b->chunks.live, 4);
    b->to.take = 2 * 5; // frames 0 to 4: inline slots are free again, chunks are not
    assert_int_equal(flush(b), stream_result::ok);
    push_numbers(b, 48, 49); // goes behind the others all the same
    b->to.take = SIZE_MAX;
    assert_int_equal(flush(b), stream_result::ok);
    assert_empty(b);
    push_numbers(b, 49, 51);
    assert_int_equal(b->chunks.live, 0);
    assert_int_equal(flush(b), stream_result::ok);
    char expected[256];
    size_t size = numbers(expected, 0, 51);
    assert_int_equal(b->to.wire_size, size);
    assert_memory_equal(b->to.wire, expected, size);
}

void a_queue_is_emptied_without_a_stream(void **state) {
    bench *b = static_cast<bench *>(*state);
    stream none = {};
    size_t written = 7;
    push_numbers(b, 0, 40); // inline slots and chunks
    stream_open_none(&none, b->on);
    assert_int_equal(outq_flush(&b->queue, &b->chunks, &none), stream_result::again);
    assert_int_equal(stream_read(&none, b->to.wire, 1, &written), stream_result::again);
    assert_int_equal(written, 0);
    stream_watch(&none, stream_readable); // nothing to watch
    assert_int_equal(stream_watched(&none), 0);
    assert_int_equal(b->queue.count, 40);
    for (int i = 0; i < 40; i++) {
        frame *f = outq_take(&b->queue, &b->chunks);
        assert_ptr_equal(f, b->frames[i]);
        frame_unref(f);
        assert_int_equal(b->queue.count, 39 - i);
    }
    assert_null(outq_take(&b->queue, &b->chunks));
    assert_empty(b);
    stream_close(&none);
}

void empty_frames_do_no_harm(void **state) {
    bench *b = static_cast<bench *>(*state);
    frame *nothing = make(b, ""), *text = make(b, "t");
    push(b, nothing);
    assert_int_equal(flush(b), stream_result::ok);
    assert_empty(b);
    for (int i = 0; i < 20; i++)
        push(b, i % 3 == 0 ? text : nothing);
    push(b, nothing);
    assert_int_equal(flush(b), stream_result::ok);
    assert_empty(b);
    assert_int_equal(b->to.wire_size, 7);
}

void a_tls_stream_is_offered_one_record(void **state) {
    bench *b = static_cast<bench *>(*state);
    static char text[1001];
    memset(text, 'r', 1000);
    frame *f = make(b, text);
    for (int i = 0; i < 100; i++)
        push(b, f);
    b->to.take = 500;
    assert_int_equal(flush(b), stream_result::ok);
    assert_int_equal(b->to.offered_pieces, 17); // 17,000 bytes: the first number that fills 16,384
    assert_int_equal(flush(b), stream_result::ok);
    assert_int_equal(b->to.offered_pieces, 17); // 16,500
    assert_int_equal(flush(b), stream_result::ok);
    b->to.take = loop_gather_size;
    while (b->queue.count != 0)
        assert_int_equal(flush(b), stream_result::ok);
    assert_int_equal(b->to.wire_size, 100000);
    assert_empty(b);
}

// What was written whole and is a message, and every byte; nothing that was dropped.
void messages_and_bytes_are_counted_as_they_are_written(void **state) {
    bench *b = static_cast<bench *>(*state);
    struct outq *q = &b->queue;
    push_numbers(b, 10, 14);
    push(b, frame_as_no_message(make(b, "ping")));
    frame *of_a_room = make(b, "room");
    of_a_room->room = 7;
    of_a_room->key = frame_no_message; // with a room, another mark: a gap, which is told to the client
    push(b, of_a_room);
    b->to.take = 7; // two whole frames, and a byte of the third
    assert_int_equal(flush(b), stream_result::ok);
    assert_int_equal(q->messages, 2);
    assert_int_equal(q->written, 7);
    assert_int_equal(outq_drop_unsent(q, &b->chunks, true), 3); // the counts stay
    assert_int_equal(q->messages, 2);
    b->to.take = SIZE_MAX;
    assert_int_equal(flush(b), stream_result::ok);
    assert_int_equal(q->messages, 3);
    assert_int_equal(q->written, 9);
    push(b, make(b, "ping"));
    push(b, frame_as_no_message(make(b, "pong")));
    push(b, of_a_room);
    assert_int_equal(flush(b), stream_result::ok);
    assert_int_equal(q->messages, 5);
    push(b, make(b, "taken"));
    frame_unref(outq_take(q, &b->chunks));
    assert_int_equal(q->messages, 6);
    assert_int_equal(q->written, 9 + 12 + 5);
}

void the_counts_say_before_they_run_over(void **state) {
    bench *b = static_cast<bench *>(*state);
    struct outq *q = &b->queue;
    q->messages = 0x7fff;
    q->written = 0x7fffffff;
    assert_false(outq_counts_full(q));
    q->messages = 0x8000;
    assert_true(outq_counts_full(q));
    q->messages = 0;
    q->written = 0x80000000;
    assert_true(outq_counts_full(q));
    q->written = 0;
}

void dropping_spares_what_is_on_the_wire(void **state) {
    bench *b = static_cast<bench *>(*state);
    push_numbers(b, 10, 60);
    assert_int_equal(outq_drop_unsent(&b->queue, &b->chunks, false), 50);
    assert_empty(b);

    push_numbers(b, 10, 60);
    b->to.take = 3 * 20 + 1; // frame 20 is begun, and it is in a chunk
    assert_int_equal(flush(b), stream_result::ok);
    assert_int_equal(outq_drop_unsent(&b->queue, &b->chunks, false), 29);
    assert_int_equal(b->queue.count, 1);
    assert_int_equal(b->queue.bytes, 2);
    assert_int_equal(b->chunks.live, 0);
    push(b, make(b, "close"));
    assert_int_equal(b->queue.bytes, 7);
    b->to.take = SIZE_MAX;
    assert_int_equal(flush(b), stream_result::ok);
    assert_empty(b);
    char expected[256];
    size_t size = numbers(expected, 10, 31);
    memcpy(expected + size, "close", 5);
    assert_int_equal(b->to.wire_size, size + 5);
    assert_memory_equal(b->to.wire, expected, size + 5);

    push_numbers(b, 10, 13);
    assert_int_equal(outq_drop_unsent(&b->queue, &b->chunks, true), 2);
    assert_int_equal(b->queue.bytes, 3);
    assert_int_equal(outq_drop_unsent(&b->queue, &b->chunks, true), 0);
    assert_int_equal(b->queue.count, 1);
}

// OpenSSL sealed a record of all the small frames; it must be offered the same bytes again, or the peer gets frames
// that the queue thinks it dropped, and the other way round.
void dropping_spares_a_pending_record(void **state) {
    bench *b = static_cast<bench *>(*state);
    push_numbers(b, 10, 30);
    b->to.full = true;
    assert_int_equal(flush(b), stream_result::again);
    assert_int_equal(b->to.offered_pieces, 20);
    push_numbers(b, 30, 60);
    assert_int_equal(outq_drop_unsent(&b->queue, &b->chunks, false), 30);
    assert_int_equal(b->queue.count, 20);
    assert_int_equal(b->queue.bytes, 60);
    push(b, make(b, "close"));
    b->to.full = false;
    assert_int_equal(flush(b), stream_result::ok);
    assert_empty(b); // pinned, too
    char expected[256];
    size_t size = numbers(expected, 10, 30);
    memcpy(expected + size, "close", 5);
    assert_int_equal(b->to.wire_size, size + 5);
    assert_memory_equal(b->to.wire, expected, size + 5);
    push_numbers(b, 10, 13);
    assert_int_equal(outq_drop_unsent(&b->queue, &b->chunks, false), 3);
}

uint32_t random_state = 4242;
uint32_t pick(uint32_t below) {
    random_state = random_state * 1664525u + 1013904223u;
    return static_cast<uint32_t>((static_cast<uint64_t>(random_state) * below) >> 32);
}

// Bursts of all sizes, writes of all sizes: the bytes, the counters and the chunks must agree with arithmetic.
void any_mixture_keeps_order(void **state) {
    bench *b = static_cast<bench *>(*state);
    char *expected = b->expected;
    size_t expected_size = 0;
    for (int round = 0; round < 3000 && b->frame_count < frames_max - 64; round++) {
        int begin = b->frame_count, end = begin + static_cast<int>(pick(pick(10) == 0 ? 60 : 4));
        push_numbers(b, begin, end);
        expected_size += numbers(expected + expected_size, begin, end);
        b->to.take = pick(5) == 0 ? SIZE_MAX : pick(40);
        b->to.full = pick(6) == 0;
        stream_result result = flush(b);
        if (b->queue.count != 0) assert_true(b->to.full == (result == stream_result::again));
        assert_int_equal(b->queue.bytes, expected_size - b->to.wire_size);
        assert_memory_equal(b->to.wire, expected, b->to.wire_size);
        assert_true(b->chunks.live <= b->queue.count / outq_chunk_slots + 2);
        if (b->queue.count == 0) assert_int_equal(b->chunks.live, 0);
    }
    b->to.take = SIZE_MAX;
    b->to.full = false;
    while (b->queue.count != 0)
        assert_int_equal(flush(b), stream_result::ok);
    assert_empty(b);
    assert_int_equal(b->to.wire_size, expected_size);
    assert_memory_equal(b->to.wire, expected, expected_size);
}

} // namespace

int main() {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(one_frame_is_one_send, setup, teardown),
        cmocka_unit_test_setup_teardown(nothing_is_no_call, setup, teardown),
        cmocka_unit_test_setup_teardown(several_frames_are_one_sendmsg, setup, teardown),
        cmocka_unit_test_setup_teardown(one_call_takes_the_kernels_limit_of_pieces, setup, teardown),
        cmocka_unit_test_setup_teardown(a_full_socket_keeps_all_and_order, setup, teardown),
        cmocka_unit_test_setup_teardown(one_who_left_is_a_failure_and_clearing_drops_all, setup, teardown),
        cmocka_unit_test_setup_teardown(a_frame_is_let_go_when_its_last_byte_is_written, setup_fake, teardown),
        cmocka_unit_test_setup_teardown(chunks_go_back_and_inline_slots_serve_again, setup_fake, teardown),
        cmocka_unit_test_setup_teardown(a_queue_is_emptied_without_a_stream, setup_fake, teardown),
        cmocka_unit_test_setup_teardown(empty_frames_do_no_harm, setup_fake, teardown),
        cmocka_unit_test_setup_teardown(a_tls_stream_is_offered_one_record, setup_fake_tls, teardown),
        cmocka_unit_test_setup_teardown(messages_and_bytes_are_counted_as_they_are_written, setup_fake, teardown),
        cmocka_unit_test_setup_teardown(the_counts_say_before_they_run_over, setup_fake, teardown),
        cmocka_unit_test_setup_teardown(dropping_spares_what_is_on_the_wire, setup_fake, teardown),
        cmocka_unit_test_setup_teardown(dropping_spares_a_pending_record, setup_fake_tls, teardown),
        cmocka_unit_test_setup_teardown(any_mixture_keeps_order, setup_fake, teardown),
        cmocka_unit_test_setup_teardown(any_mixture_keeps_order, setup_fake_tls, teardown),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
