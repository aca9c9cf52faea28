// sd_notify: what arrives, and that nothing happens where nobody listens.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
extern "C" {
#include <cmocka.h>
}

#include "main/notify_socket.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

using namespace belfry;

namespace {

struct listener {
    int fd;
    std::string path;
};

// `name` begins with '/' or, for an abstract one, '@'.
int listen_at(void **state, const std::string &name) {
    auto *l = new listener{socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0), name};
    struct sockaddr_un at = {};
    at.sun_family = AF_UNIX;
    memcpy(at.sun_path, name.data(), name.size());
    if (name[0] == '@') at.sun_path[0] = '\0';
    auto size = static_cast<socklen_t>(offsetof(struct sockaddr_un, sun_path) + name.size());
    *state = l;
    return bind(l->fd, reinterpret_cast<struct sockaddr *>(&at), size);
}

int listen_file(void **state) {
    return listen_at(state, "/tmp/belfry-notify-" + std::to_string(getpid()));
}

int listen_abstract(void **state) {
    return listen_at(state, "@belfry-notify-" + std::to_string(getpid()));
}

int end(void **state) {
    auto *l = static_cast<listener *>(*state);
    close(l->fd);
    if (l->path[0] == '/') unlink(l->path.c_str());
    delete l;
    unsetenv("NOTIFY_SOCKET");
    return 0;
}

void arrives(void **state) {
    auto *l = static_cast<listener *>(*state);
    setenv("NOTIFY_SOCKET", l->path.c_str(), 1);
    notify_send("READY=1\nSTATUS=serving");
    char text[256] = {};
    assert_int_equal(recv(l->fd, text, sizeof text, 0), 22);
    assert_string_equal(text, "READY=1\nSTATUS=serving");
    assert_int_equal(recv(l->fd, text, sizeof text, 0), -1);
}

void nobody_asked(void **) {
    notify_send("READY=1");
    for (const char *name : {"", "/", "relative", "vsock:2:1234", "/nowhere/at/all"}) {
        setenv("NOTIFY_SOCKET", name, 1);
        notify_send("READY=1");
    }
    setenv("NOTIFY_SOCKET", ("/" + std::string(200, 'x')).c_str(), 1);
    notify_send("READY=1");
    unsetenv("NOTIFY_SOCKET");
}

void reloading(void **) {
    assert_string_equal(notify_reloading(1234567890123).c_str(), "RELOADING=1\nMONOTONIC_USEC=1234567890");
}

void watchdog(void **) {
    assert_int_equal(notify_watchdog_ms("30000000", nullptr, 7), 30000);
    assert_int_equal(notify_watchdog_ms("30000000", "7", 7), 30000);
    assert_int_equal(notify_watchdog_ms("30000000", "8", 7), 0);
    assert_int_equal(notify_watchdog_ms("30000000", "", 7), 0);
    assert_int_equal(notify_watchdog_ms("soon", "7", 7), 0);
    assert_int_equal(notify_watchdog_ms(nullptr, nullptr, 7), 0);
}

} // namespace

int main() {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(arrives, listen_file, end),
        cmocka_unit_test_setup_teardown(arrives, listen_abstract, end),
        cmocka_unit_test(nobody_asked),
        cmocka_unit_test(reloading),
        cmocka_unit_test(watchdog),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
