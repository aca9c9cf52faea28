// Packets between processes: whole, with descriptors, refused, ended.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
extern "C" {
#include <cmocka.h>
}

#include "net/packets.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <string>
#include <sys/socket.h>
#include <unistd.h>

using namespace belfry;

namespace {

struct bench {
    int ends[2];
    char *room;
    packet got;
};

int begin(void **state) {
    alarm(20);
    auto *b = new bench{};
    error e;
    b->room = static_cast<char *>(memory_get(packet_size_max));
    *state = b;
    return packet_pair(b->ends, &e) ? 0 : -1;
}

int end(void **state) {
    auto *b = static_cast<bench *>(*state);
    packet_close_descriptors(&b->got);
    for (int fd : b->ends)
        if (fd >= 0) close(fd);
    free(b->room);
    delete b;
    alarm(0);
    return 0;
}

void send_text(bench *b, view text) {
    assert_int_equal(static_cast<int>(packet_send(b->ends[0], text)), static_cast<int>(packet_sent::whole));
}

packet_got receive(bench *b) {
    packet_close_descriptors(&b->got);
    return packet_receive(b->ends[1], b->room, &b->got);
}

#define assert_got(b, what) assert_int_equal(static_cast<int>(receive(b)), static_cast<int>(packet_got::what))

void messages_stay_apart(void **state) {
    auto *b = static_cast<bench *>(*state);
    assert_got(b, nothing);
    send_text(b, "one");
    std::string large(packet_size_max, 'x');
    send_text(b, large);
    assert_got(b, whole);
    assert_int_equal(b->got.size, 3);
    assert_memory_equal(b->room, "one", 3);
    assert_got(b, whole);
    assert_int_equal(b->got.size, packet_size_max);
    assert_memory_equal(b->room, large.data(), large.size());
    assert_got(b, nothing);
}

void descriptors_come_along(void **state) {
    auto *b = static_cast<bench *>(*state);
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    int many[packet_descriptors_max];
    for (int &fd : many)
        fd = ends[1];
    bool sent = packet_send(b->ends[0], "x", many, packet_descriptors_max) == packet_sent::whole;
    close(ends[1]);
    assert_true(sent);
    assert_got(b, whole);
    assert_int_equal(b->got.count, packet_descriptors_max);
    assert_int_equal(fcntl(b->got.descriptors[63], F_GETFD), FD_CLOEXEC);
    assert_int_equal(write(b->got.descriptors[63], "y", 1), 1);
    char byte;
    assert_int_equal(read(ends[0], &byte, 1), 1);
    packet_close_descriptors(&b->got);
    assert_int_equal(b->got.count, 0);
    assert_int_equal(read(ends[0], &byte, 1), 0); // none is left open
    close(ends[0]);
}

void what_is_too_long_is_refused(void **state) {
    auto *b = static_cast<bench *>(*state);
    int size = 1 << 20;
    setsockopt(b->ends[0], SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
    std::string large(packet_size_max + 1, 'x');
    assert_int_equal(send(b->ends[0], large.data(), large.size(), 0), large.size());
    assert_got(b, broken);
    assert_got(b, nothing);
}

// More descriptors than are ever sent: the kernel cuts them off, and none of the rest is kept.
void too_many_descriptors_are_refused(void **state) {
    auto *b = static_cast<bench *>(*state);
    constexpr size_t count = packet_descriptors_max + 30;
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    char byte = 'x';
    struct iovec iov = {&byte, 1};
    alignas(struct cmsghdr) char room[CMSG_SPACE(sizeof(int) * count)] = {};
    struct msghdr m = {};
    m.msg_iov = &iov;
    m.msg_iovlen = 1;
    m.msg_control = room;
    m.msg_controllen = sizeof room;
    struct cmsghdr *c = CMSG_FIRSTHDR(&m);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof(int) * count);
    for (size_t i = 0; i < count; i++)
        memcpy(CMSG_DATA(c) + i * sizeof(int), &ends[1], sizeof(int));
    bool sent = sendmsg(b->ends[0], &m, 0) == 1;
    close(ends[1]);
    assert_true(sent);
    assert_got(b, broken);
    assert_int_equal(b->got.count, 0);
    assert_int_equal(read(ends[0], &byte, 1), 0); // the other end of the pipe is open nowhere
    close(ends[0]);
}

void full_and_gone(void **state) {
    auto *b = static_cast<bench *>(*state);
    std::string large(packet_size_max, 'x');
    packet_sent last = packet_sent::whole;
    int sent = 0;
    for (; last == packet_sent::whole && sent < 1000; sent++)
        last = packet_send(b->ends[0], large);
    assert_int_equal(static_cast<int>(last), static_cast<int>(packet_sent::full));
    last = packet_send_within(b->ends[0], large, nullptr, 0, 30);
    assert_int_equal(static_cast<int>(last), static_cast<int>(packet_sent::full));
    for (; sent > 1; sent--)
        assert_got(b, whole);
    assert_got(b, nothing);
    last = packet_send_within(b->ends[0], large, nullptr, 0, 30);
    assert_int_equal(static_cast<int>(last), static_cast<int>(packet_sent::whole));
    close(b->ends[1]);
    b->ends[1] = -1;
    last = packet_send(b->ends[0], "x");
    assert_int_equal(static_cast<int>(last), static_cast<int>(packet_sent::gone));
}

void the_end(void **state) {
    auto *b = static_cast<bench *>(*state);
    send_text(b, "last words");
    close(b->ends[0]);
    b->ends[0] = -1;
    assert_got(b, whole);
    assert_got(b, ended);
    assert_got(b, ended);
}

int calls;

void watching(void **state) {
    auto *b = static_cast<bench *>(*state);
    loop *l = loop_new();
    packet_watch w = {};
    packet_watch_stop(&w); // harmless
    calls = 0;
    packet_watch_start(
        &w, l, b->ends[1], [](void *) { calls++; }, nullptr);
    loop_turn(l, false);
    int before = calls;
    bool sent = packet_send(b->ends[0], "x") == packet_sent::whole;
    loop_turn(l, true);
    int after = calls;
    packet_watch_stop(&w);
    loop_turn(l, false);
    int stopped = calls;
    loop_free(l);
    assert_true(sent);
    assert_int_equal(before, 0);
    assert_int_equal(after, 1);
    assert_int_equal(stopped, 1);
}

size_t fill(int fd) {
    std::string large(packet_size_max, 'x');
    size_t sent = 0;
    while (packet_send(fd, large) == packet_sent::whole)
        sent++;
    return sent;
}

// Who was told `full` hears when there is room again, each time, and of what comes in meanwhile by the same watch.
void watching_for_room(void **state) {
    auto *b = static_cast<bench *>(*state);
    loop *l = loop_new();
    packet_watch w = {};
    packet_watch_writable(&w, true); // nothing is watched: nothing happens
    packet_watch_start(
        &w, l, b->ends[0], [](void *) { calls++; }, nullptr);
    int silent = 0, heard = 0;
    size_t sent[2];
    for (int round = 0; round < 2; round++) {
        sent[round] = fill(b->ends[0]);
        packet_watch_writable(&w, true);
        packet_watch_writable(&w, true);
        calls = 0;
        loop_turn(l, false);
        silent += calls;
        for (size_t i = 0; i < sent[round]; i++)
            (void)receive(b);
        loop_turn(l, true); // alarm() of `begin` ends one that sleeps
        heard += calls;
        packet_watch_writable(&w, false);
        calls = 0;
        loop_turn(l, false);
        silent += calls;
    }
    bool answered = packet_send(b->ends[1], "x") == packet_sent::whole;
    loop_turn(l, true);
    heard += calls;
    packet_watch_stop(&w);
    loop_free(l);
    assert_true(answered && sent[0] > 0 && sent[1] > 0);
    assert_int_equal(silent, 0);
    assert_int_equal(heard, 3);
}

} // namespace

int main() {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(messages_stay_apart, begin, end),
        cmocka_unit_test_setup_teardown(descriptors_come_along, begin, end),
        cmocka_unit_test_setup_teardown(what_is_too_long_is_refused, begin, end),
        cmocka_unit_test_setup_teardown(too_many_descriptors_are_refused, begin, end),
        cmocka_unit_test_setup_teardown(full_and_gone, begin, end),
        cmocka_unit_test_setup_teardown(the_end, begin, end),
        cmocka_unit_test_setup_teardown(watching, begin, end),
        cmocka_unit_test_setup_teardown(watching_for_room, begin, end),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
