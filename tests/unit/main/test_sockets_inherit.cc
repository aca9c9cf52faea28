// Listening sockets that a worker process is born with: whose they become, and what becomes of the rest.
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>
extern "C" {
#include <cmocka.h>
}

#include "main/birth.h"
#include "main/sockets.h"
#include "net/address.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

using namespace belfry;

namespace {

struct bench {
    std::vector<kept_address> kept;
    sockets found;
};

int begin(void **state) {
    *state = new bench{};
    return 0;
}

int end(void **state) {
    auto *b = static_cast<bench *>(*state);
    for (const listening_socket &s : b->found.open)
        close(s.fd);
    delete b;
    return 0;
}

int listen_on(const std::string &text, bool reuse_port, std::string *bound) {
    address a;
    error e;
    assert_true(address_parse(text, &a, &e));
    int fd = address_listen(&a, reuse_port, &e);
    assert_true(fd >= 0 && address_of_socket(fd, &a));
    *bound = address_format(reinterpret_cast<struct sockaddr *>(&a.storage), a.size).text;
    return fd;
}

bool same_socket(int a, int b) {
    struct stat one, other;
    return fstat(a, &one) == 0 && fstat(b, &other) == 0 && one.st_ino == other.st_ino;
}

bool is_open(int fd) {
    return fcntl(fd, F_GETFD) >= 0;
}

void one_for_each_worker(void **state) {
    auto *b = static_cast<bench *>(*state);
    std::string bound, again;
    int first = listen_on("127.0.0.1:0", true, &bound), second = listen_on(bound, true, &again);
    b->kept = {{false, "public", "127.0.0.1:0", {first, second}}};
    b->found = sockets_inherit(&b->kept, 2);
    assert_int_equal(b->found.open.size(), 2);
    for (uint32_t w = 0; w < 2; w++) {
        const listening_socket &s = b->found.open[w];
        assert_string_equal(s.listener.c_str(), "public");
        assert_string_equal(s.written.c_str(), "127.0.0.1:0");
        assert_string_equal(s.bound.c_str(), bound.c_str());
        assert_int_equal(s.worker, w);
        assert_int_equal(s.fd, w ? second : first);
        assert_false(s.given || s.lent);
    }
}

void a_single_one_with_reuse_port_stays_single(void **state) {
    auto *b = static_cast<bench *>(*state);
    std::string bound;
    b->kept = {{false, "public", "127.0.0.1:0", {listen_on("127.0.0.1:0", true, &bound)}}};
    b->found = sockets_inherit(&b->kept, 3); // the other workers' are opened beside it
    assert_int_equal(b->found.open.size(), 1);
}

void one_for_all_is_shared(void **state) {
    auto *b = static_cast<bench *>(*state);
    std::string bound;
    b->kept = {{false, "public", "127.0.0.1:0", {listen_on("127.0.0.1:0", false, &bound)}}};
    b->found = sockets_inherit(&b->kept, 3);
    assert_int_equal(b->found.open.size(), 3);
    for (uint32_t w = 0; w < 3; w++) {
        assert_int_equal(b->found.open[w].worker, w);
        assert_true(same_socket(b->found.open[w].fd, b->found.open[0].fd));
    }
    assert_true(b->found.open[1].fd != b->found.open[2].fd);
}

void what_systemd_lent(void **state) {
    auto *b = static_cast<bench *>(*state);
    std::string bound;
    // With SO_REUSEPORT it may be another user's: no second one can be opened beside it.
    int fd = listen_on("127.0.0.1:0", true, &bound);
    int again = dup(fd);
    b->kept = {{false, "web", "", {fd}}, {false, "public", bound, {again}}};
    b->found = sockets_inherit(&b->kept, 2);
    assert_int_equal(b->found.open.size(), 2);
    for (const listening_socket &s : b->found.open) {
        assert_true(s.lent);
        assert_string_equal(s.written.c_str(), bound.c_str());
        assert_true(same_socket(s.fd, fd));
    }
    assert_false(is_open(again)); // the same once more
}

void the_control_apis_are_left_alone(void **state) {
    auto *b = static_cast<bench *>(*state);
    std::string bound;
    int fd = listen_on("127.0.0.1:0", false, &bound);
    b->kept = {{true, "", "127.0.0.1:0", {fd}}};
    b->found = sockets_inherit(&b->kept, 2);
    bool open = is_open(fd);
    close(fd);
    assert_true(open);
    assert_int_equal(b->found.open.size(), 0);
}

void what_is_no_socket_is_closed(void **state) {
    auto *b = static_cast<bench *>(*state);
    int fd = open("/dev/null", O_RDONLY);
    b->kept = {{false, "public", "127.0.0.1:0", {fd}}};
    b->found = sockets_inherit(&b->kept, 2);
    assert_int_equal(b->found.open.size(), 0);
    assert_false(is_open(fd));
}

} // namespace

int main() {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(one_for_each_worker, begin, end),
        cmocka_unit_test_setup_teardown(a_single_one_with_reuse_port_stays_single, begin, end),
        cmocka_unit_test_setup_teardown(one_for_all_is_shared, begin, end),
        cmocka_unit_test_setup_teardown(what_systemd_lent, begin, end),
        cmocka_unit_test_setup_teardown(the_control_apis_are_left_alone, begin, end),
        cmocka_unit_test_setup_teardown(what_is_no_socket_is_closed, begin, end),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
