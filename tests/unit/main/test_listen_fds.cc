// Socket activation: the variables, and sockets that are none.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
extern "C" {
#include <cmocka.h>
}

#include "main/listen_fds.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

using namespace belfry;

namespace {

constexpr int64_t me = 4711;

void names_are(const char *count, const char *names, std::vector<std::string> expected) {
    std::vector<std::string> out;
    error e;
    assert_true(listen_fds_parse("4711", count, names, me, &out, &e));
    assert_int_equal(out.size(), expected.size());
    for (size_t i = 0; i < out.size(); i++)
        assert_string_equal(out[i].c_str(), expected[i].c_str());
}

void names(void **) {
    names_are("2", "public:secure", {"public", "secure"});
    names_are("1", nullptr, {"unknown"});
    names_are("3", "public", {"public", "unknown", "unknown"});
    names_are("3", "a::c", {"a", "unknown", "c"});
    names_are("1", "a:b:c", {"a"});
    names_are("0", "a", {});
    names_are("2", "", {"unknown", "unknown"});
}

void meant_for_others(void **) {
    std::vector<std::string> out = {"left over"};
    error e;
    assert_true(listen_fds_parse(nullptr, "1", nullptr, me, &out, &e));
    assert_int_equal(out.size(), 0);
    assert_true(listen_fds_parse("4711", nullptr, nullptr, me, &out, &e));
    assert_int_equal(out.size(), 0);
    assert_true(listen_fds_parse("4712", "1", "public", me, &out, &e));
    assert_int_equal(out.size(), 0);
}

void no_numbers(void **) {
    std::vector<std::string> out;
    for (const char *count : {"", "-1", "1x", "257", "99999999999999999999999", " 1"}) {
        error e;
        assert_false(listen_fds_parse("4711", count, nullptr, me, &out, &e));
        assert_non_null(strstr(e.text, "LISTEN_FDS"));
        assert_int_equal(out.size(), 0);
    }
    error e;
    assert_false(listen_fds_parse("me", "1", nullptr, me, &out, &e));
    assert_non_null(strstr(e.text, "LISTEN_PID"));
}

// In a child, since descriptors 3 and up are this program's own: what happens with `fd` as descriptor 3. 0: taken and
// all in order; 1: refused; 2: something was not in order.
int taken(int fd) {
    pid_t child = fork();
    if (child == 0) {
        if (fd != listen_fds_first) dup2(fd, listen_fds_first);
        fcntl(listen_fds_first, F_SETFD, 0);
        setenv("LISTEN_PID", std::to_string(getpid()).c_str(), 1);
        setenv("LISTEN_FDS", "1", 1);
        setenv("LISTEN_FDNAMES", "public", 1);
        std::vector<kept_address> out;
        error e;
        bool fine = listen_fds_take(&out, &e);
        bool gone = !getenv("LISTEN_PID") && !getenv("LISTEN_FDS") && !getenv("LISTEN_FDNAMES");
        if (!fine) _exit(gone && strstr(e.text, "descriptor 3 (public)") ? 1 : 2);
        bool right = gone && out.size() == 1 && !out[0].control && out[0].listener == "public" &&
                     out[0].written.empty() && out[0].fds == std::vector<int>{3} && fcntl(3, F_GETFD) == FD_CLOEXEC &&
                     (fcntl(3, F_GETFL) & O_NONBLOCK);
        _exit(right ? 0 : 2);
    }
    int status = 0;
    waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 3;
}

void only_listening_stream_sockets(void **) {
    int listening = socket(AF_INET, SOCK_STREAM, 0), idle = socket(AF_INET, SOCK_STREAM, 0);
    int datagram = socket(AF_INET, SOCK_DGRAM, 0), file = open("/dev/null", O_RDONLY);
    assert_int_equal(listen(listening, 1), 0);
    int found[] = {taken(listening), taken(idle), taken(datagram), taken(file)};
    for (int fd : {listening, idle, datagram, file})
        close(fd);
    assert_int_equal(found[0], 0);
    assert_int_equal(found[1], 1);
    assert_int_equal(found[2], 1);
    assert_int_equal(found[3], 1);
}

} // namespace

int main() {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names),
        cmocka_unit_test(meant_for_others),
        cmocka_unit_test(no_numbers),
        cmocka_unit_test(only_listening_stream_sockets),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
