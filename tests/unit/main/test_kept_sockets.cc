// What a worker process is told of the sockets that it is born with, and what they are.
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>
extern "C" {
#include <cmocka.h>
}

#include "base/log.h"
#include "main/kept_sockets.h"
#include "net/address.h"
#include "temporary_files.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sched.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

using namespace belfry;

namespace {

struct bench {
    std::vector<kept_address> kept, found;
    uint64_t refused;
    uint64_t errors; // in the log, before
};

int begin(void **state) {
    directory_begin();
    *state = new bench{{}, {}, 0, log_count(log_level::error)};
    return 0;
}

int end(void **state) {
    auto *b = static_cast<bench *>(*state);
    for (const kept_address &k : b->found)
        for (int fd : k.fds)
            close(fd);
    delete b;
    directory_end();
    return 0;
}

int listen_on(const std::string &text, std::string *bound = nullptr, bool reuse_port = false) {
    address a;
    error e;
    assert_true(address_parse(text, &a, &e));
    int fd = address_listen(&a, reuse_port, &e);
    if (fd < 0) fail_msg("%s", e.text);
    assert_true(address_of_socket(fd, &a));
    if (bound) *bound = address_format(reinterpret_cast<struct sockaddr *>(&a.storage), a.size).text;
    return fd;
}

bool is_open(int fd) {
    return fcntl(fd, F_GETFD) >= 0;
}

// A socket of one's own making, bound to any port of the address, unless its family is AF_UNIX.
int bound_socket(int family, int type, int protocol, bool ipv6_only = true) {
    int fd = socket(family, type | SOCK_CLOEXEC, protocol);
    int only = ipv6_only;
    struct sockaddr_in6 six = {};
    six.sin6_family = AF_INET6;
    struct sockaddr_in four = {};
    four.sin_family = AF_INET;
    four.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (family == AF_INET6) {
        assert_int_equal(setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &only, sizeof only), 0);
        assert_int_equal(bind(fd, reinterpret_cast<struct sockaddr *>(&six), sizeof six), 0);
    } else if (family == AF_INET) {
        assert_int_equal(bind(fd, reinterpret_cast<struct sockaddr *>(&four), sizeof four), 0);
    }
    return fd;
}

void takes(bench *b, const std::string &written, int fd, bool control = false) {
    b->kept = {{control, control ? "" : "public", written, {fd}}};
    b->found = kept_sockets_true(&b->kept, &b->refused);
    assert_int_equal(b->refused, 0);
    assert_int_equal(b->found.size(), 1);
    assert_int_equal(b->found[0].control, control);
    assert_string_equal(b->found[0].written.c_str(), written.c_str());
    assert_int_equal(b->found[0].fds.size(), 1);
    assert_int_equal(b->found[0].fds[0], fd);
    assert_int_equal(log_count(log_level::error), b->errors);
    close(fd);
    b->found.clear();
}

void refuses(bench *b, const std::string &written, int fd, bool control = false) {
    b->kept = {{control, control ? "" : "public", written, {fd}}};
    b->found = kept_sockets_true(&b->kept, &b->refused);
    assert_int_equal(b->refused, 1);
    assert_int_equal(b->found.size(), 0);
    assert_false(is_open(fd));
    assert_int_equal(log_count(log_level::error), ++b->errors);
}

// ---------------------------------------------------------------- what is true

void as_they_are_written(void **state) {
    auto *b = static_cast<bench *>(*state);
    for (const char *written : {"127.0.0.1:0", "*:0", "0.0.0.0:0", "[::1]:0", "[::]:0", "[0:0::1]:0"}) {
        std::string bound;
        int fd = listen_on(written, &bound, true), again = dup(fd);
        takes(b, written, fd);
        takes(b, bound, again, true);
    }
    std::string path = "unix:" + *directory + "/s";
    takes(b, path, listen_on(path));
    takes(b, path, listen_on(path), true); // the one before is left over
    std::string longest = "unix:" + *directory + "/";
    longest.append(5 + 107 - longest.size(), 'x');
    takes(b, longest, listen_on(longest));
}

void they_do_not_block(void **state) {
    auto *b = static_cast<bench *>(*state);
    int fd = listen_on("127.0.0.1:0");
    assert_int_equal(fcntl(fd, F_SETFL, 0), 0);
    b->kept = {{false, "public", "127.0.0.1:0", {fd}}};
    b->found = kept_sockets_true(&b->kept, &b->refused);
    assert_int_equal(b->found.size(), 1);
    assert_true(fcntl(fd, F_GETFL) & O_NONBLOCK);
}

void what_systemd_lent(void **state) {
    auto *b = static_cast<bench *>(*state);
    int both = bound_socket(AF_INET6, SOCK_STREAM, 0, false); // by BindIPv6Only=default
    assert_int_equal(listen(both, 10), 0);
    address a;
    assert_true(address_of_socket(both, &a));
    std::string bound = address_format(reinterpret_cast<struct sockaddr *>(&a.storage), a.size).text;
    int again = dup(both);
    b->kept = {{false, "web", "", {both}}, {false, "public", bound, {again}}};
    b->found = kept_sockets_true(&b->kept, &b->refused);
    assert_int_equal(b->refused, 0);
    assert_int_equal(b->found.size(), 2);
    assert_int_equal(b->found[0].fds[0], both);
    assert_int_equal(b->found[1].fds[0], again);
}

// ---------------------------------------------------------------- what is not

void another_address(void **state) {
    auto *b = static_cast<bench *>(*state);
    std::string bound;
    refuses(b, "127.0.0.1:1", listen_on("127.0.0.1:0"));
    refuses(b, "127.0.0.2:0", listen_on("127.0.0.1:0"));
    refuses(b, "*:0", listen_on("127.0.0.1:0"));
    refuses(b, "127.0.0.1:0", listen_on("*:0"));
    refuses(b, "[::]:0", listen_on("[::1]:0"));
    refuses(b, "[::1]:1", listen_on("[::1]:0"));
    refuses(b, "[::1]:0", listen_on("127.0.0.1:0"));
    refuses(b, "[::ffff:127.0.0.1]:0", listen_on("127.0.0.1:0"));
    refuses(b, "unix:" + *directory + "/s", listen_on("127.0.0.1:0"), true); // which would ask for no token
    refuses(b, "127.0.0.1:0", listen_on("unix:" + *directory + "/s"));
    refuses(b, "unix:" + *directory + "/s", listen_on("unix:" + *directory + "/ss"));
    refuses(b, "unix:" + *directory + "/ss", listen_on("unix:" + *directory + "/s"));
    refuses(b, "", listen_on("127.0.0.1:0"), true);
    refuses(b, "nonsense", listen_on("127.0.0.1:0"));
}

// Both are written unix:@belfry-test.
void an_abstract_name_is_no_path(void **state) {
    auto *b = static_cast<bench *>(*state);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_un a = {};
    a.sun_family = AF_UNIX;
    memcpy(a.sun_path + 1, "belfry-test", 11);
    assert_int_equal(bind(fd, reinterpret_cast<struct sockaddr *>(&a), offsetof(struct sockaddr_un, sun_path) + 12), 0);
    assert_int_equal(listen(fd, 10), 0);
    refuses(b, "unix:@belfry-test", fd);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0); // listens, and has no name
    if (listen(fd, 10) == 0)
        refuses(b, "unix:" + *directory + "/s", fd);
    else
        close(fd);
}

void what_does_not_listen(void **state) {
    auto *b = static_cast<bench *>(*state);
    refuses(b, "127.0.0.1:0", open("/dev/null", O_RDONLY | O_CLOEXEC));
    refuses(b, "127.0.0.1:0", bound_socket(AF_INET, SOCK_STREAM, 0));
    refuses(b, "127.0.0.1:0", bound_socket(AF_INET, SOCK_DGRAM, 0));
    int packets = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    struct sockaddr_un a = {};
    a.sun_family = AF_UNIX;
    std::string path = *directory + "/s";
    memcpy(a.sun_path, path.data(), path.size());
    assert_int_equal(bind(packets, reinterpret_cast<struct sockaddr *>(&a), sizeof a), 0);
    assert_int_equal(listen(packets, 10), 0);
    refuses(b, "unix:" + path, packets);
}

void more_than_it_is_said_to_be(void **state) {
    auto *b = static_cast<bench *>(*state);
    int both = bound_socket(AF_INET6, SOCK_STREAM, 0, false); // and IPv4
    assert_int_equal(listen(both, 10), 0);
    refuses(b, "[::]:0", both);
    int multipath = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, IPPROTO_MPTCP);
    if (multipath < 0) return; // not in this kernel
    close(multipath);
    multipath = bound_socket(AF_INET, SOCK_STREAM, IPPROTO_MPTCP);
    assert_int_equal(listen(multipath, 10), 0);
    refuses(b, "127.0.0.1:0", multipath);
}

// A child's, passed over a pair of sockets: in its network every port is free.
int socket_of_another_network() {
    int ends[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
    pid_t pid = fork();
    if (pid == 0) {
        if (unshare(CLONE_NEWUSER | CLONE_NEWNET) != 0) _exit(1);
        int fd = socket(AF_INET, SOCK_STREAM, 0);
        struct sockaddr_in any = {};
        any.sin_family = AF_INET;
        if (bind(fd, reinterpret_cast<struct sockaddr *>(&any), sizeof any) != 0 || listen(fd, 10) != 0) _exit(1);
        char byte = 0, room[CMSG_SPACE(sizeof fd)] = {};
        struct iovec v = {&byte, 1};
        struct msghdr m = {};
        m.msg_iov = &v, m.msg_iovlen = 1, m.msg_control = room, m.msg_controllen = sizeof room;
        struct cmsghdr *c = CMSG_FIRSTHDR(&m);
        c->cmsg_level = SOL_SOCKET, c->cmsg_type = SCM_RIGHTS, c->cmsg_len = CMSG_LEN(sizeof fd);
        memcpy(CMSG_DATA(c), &fd, sizeof fd);
        _exit(sendmsg(ends[1], &m, 0) == 1 ? 0 : 1);
    }
    close(ends[1]);
    int status = 0, fd = -1;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    char byte, room[CMSG_SPACE(sizeof fd)] = {};
    struct iovec v = {&byte, 1};
    struct msghdr m = {};
    m.msg_iov = &v, m.msg_iovlen = 1, m.msg_control = room, m.msg_controllen = sizeof room;
    if (status == 0 && recvmsg(ends[0], &m, MSG_CMSG_CLOEXEC) == 1)
        memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof fd);
    close(ends[0]);
    return fd;
}

void another_network(void **state) {
    auto *b = static_cast<bench *>(*state);
    int fd = socket_of_another_network();
    if (fd < 0) skip(); // where users may have none of their own
    refuses(b, "*:0", fd);
}

void a_path_that_leads_elsewhere(void **state) {
    auto *b = static_cast<bench *>(*state);
    std::string path = *directory + "/s", text = "unix:" + path;
    int fd = listen_on(text), file = ioctl(fd, SIOCPROTOPRIVATE, 0);
    if (file < 0) { // the kernel does not tell everybody
        close(fd);
        skip();
    }
    close(file);
    assert_int_equal(rename(path.c_str(), (path + "-moved").c_str()), 0);
    assert_int_equal(symlink((path + "-moved").c_str(), path.c_str()), 0);
    refuses(b, text, fd);
    assert_int_equal(unlink(path.c_str()), 0);
    int first = listen_on(text);
    assert_int_equal(unlink(path.c_str()), 0);
    int second = listen_on(text);
    refuses(b, text, first);
    takes(b, text, second);
}

void a_path_that_is_gone(void **state) {
    auto *b = static_cast<bench *>(*state);
    std::string path = *directory + "/s", text = "unix:" + path;
    int fd = listen_on(text);
    assert_int_equal(unlink(path.c_str()), 0);
    b->kept = {{true, "", text, {fd}}};
    b->found = kept_sockets_true(&b->kept, &b->refused);
    assert_int_equal(b->found.size(), 0);
    assert_false(is_open(fd));
    assert_int_equal(b->refused, 0);
    assert_int_equal(log_count(log_level::error), b->errors);
}

void the_true_ones_among_others(void **state) {
    auto *b = static_cast<bench *>(*state);
    std::string bound, path = "unix:" + *directory + "/s";
    int first = listen_on("127.0.0.1:0", &bound, true), second = listen_on(bound, nullptr, true);
    int other = listen_on("127.0.0.1:0"), another = listen_on("127.0.0.1:0"), local = listen_on(path);
    b->kept = {
        {false, "public", bound, {first, other, second}}, {true, "", path, {another}}, {true, "", path, {local}}};
    b->found = kept_sockets_true(&b->kept, &b->refused);
    assert_int_equal(b->refused, 2);
    assert_int_equal(log_count(log_level::error), b->errors + 1);
    assert_int_equal(b->found.size(), 2);
    assert_true((b->found[0].fds == std::vector<int>{first, second}));
    assert_string_equal(b->found[0].listener.c_str(), "public");
    assert_true((b->found[1].fds == std::vector<int>{local}));
    assert_true(b->found[1].control);
    assert_false(is_open(other) || is_open(another));
}

} // namespace

#define with_bench(test) cmocka_unit_test_setup_teardown(test, begin, end)

int main() {
    const struct CMUnitTest tests[] = {
        with_bench(as_they_are_written),         with_bench(they_do_not_block),
        with_bench(what_systemd_lent),           with_bench(another_address),
        with_bench(an_abstract_name_is_no_path), with_bench(what_does_not_listen),
        with_bench(more_than_it_is_said_to_be),  with_bench(another_network),
        with_bench(a_path_that_leads_elsewhere), with_bench(a_path_that_is_gone),
        with_bench(the_true_ones_among_others),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
