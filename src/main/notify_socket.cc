// sd_notify(3) without its library. The master's only thread.
#include "main/notify_socket.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

namespace belfry {

void notify_send(view lines) {
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un to = {};
    size_t size = path ? strlen(path) : 0;
    if (size < 2 || size >= sizeof to.sun_path || (path[0] != '/' && path[0] != '@')) return;
    to.sun_family = AF_UNIX;
    memcpy(to.sun_path, path, size);
    if (path[0] == '@') to.sun_path[0] = '\0'; // an abstract name
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return;
    auto length = static_cast<socklen_t>(offsetof(struct sockaddr_un, sun_path) + size);
    // Unanswered, like all of it: a service must run as well where nobody listens.
    [[maybe_unused]] ssize_t sent = sendto(fd, lines.data(), lines.size(), MSG_NOSIGNAL | MSG_DONTWAIT,
                                           reinterpret_cast<struct sockaddr *>(&to), length);
    close(fd);
}

std::string notify_reloading(uint64_t monotonic_ns) {
    return "RELOADING=1\nMONOTONIC_USEC=" + std::to_string(monotonic_ns / 1000);
}

uint64_t notify_watchdog_ms(const char *usec, const char *watchdog_pid, int64_t pid) {
    uint64_t n = 0, whose = 0;
    if (!usec || !bytes_parse_uint(usec, &n)) return 0;
    if (watchdog_pid && (!bytes_parse_uint(watchdog_pid, &whose) || whose != static_cast<uint64_t>(pid))) return 0;
    return n / 1000;
}

} // namespace belfry
