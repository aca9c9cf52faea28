// Socket activation. The master's only thread.
#include "main/listen_fds.h"

#include "base/bytes.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

namespace belfry {

bool listen_fds_parse(const char *pid_text, const char *count, const char *names, int64_t pid,
                      std::vector<std::string> *out, error *e) {
    out->clear();
    if (!pid_text || !count) return true;
    uint64_t whose = 0, n = 0;
    if (!bytes_parse_uint(pid_text, &whose)) return error_set(e, "LISTEN_PID is not a number"), false;
    if (whose != static_cast<uint64_t>(pid)) return true;
    if (!bytes_parse_uint(count, &n) || n > listen_fds_max)
        return error_set(e, "LISTEN_FDS is not a number of at most %llu",
                         static_cast<unsigned long long>(listen_fds_max)),
               false;
    view rest = names ? names : "";
    for (uint64_t i = 0; i < n; i++) {
        size_t end = rest.find(':');
        view name = rest.substr(0, end);
        out->emplace_back(name.empty() ? view("unknown") : name);
        rest.remove_prefix(end == view::npos ? rest.size() : end + 1);
    }
    return true;
}

// What is passed on as a listening socket must be one: the first accept would be late to find out.
static bool prepare(int fd, const char *name, error *e) {
    int type = 0, listening = 0;
    socklen_t size = sizeof type, size2 = sizeof listening;
    if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) != 0 ||
        getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &size2) != 0)
        return error_set(e, "LISTEN_FDS: descriptor %d (%s): %s", fd, name, strerror(errno)), false;
    if (type != SOCK_STREAM || !listening)
        return error_set(e, "LISTEN_FDS: descriptor %d (%s) is not a listening stream socket", fd, name), false;
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0 || fcntl(fd, F_SETFD, FD_CLOEXEC) != 0)
        return error_set(e, "LISTEN_FDS: descriptor %d (%s): %s", fd, name, strerror(errno)), false;
    return true;
}

bool listen_fds_take(std::vector<kept_address> *out, error *e) {
    std::vector<std::string> names;
    bool fine =
        listen_fds_parse(getenv("LISTEN_PID"), getenv("LISTEN_FDS"), getenv("LISTEN_FDNAMES"), getpid(), &names, e);
    for (const char *variable : {"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"})
        unsetenv(variable);
    if (!fine) return false;
    int fd = listen_fds_first;
    for (const std::string &name : names) {
        if (!prepare(fd, name.c_str(), e)) return false;
        out->push_back({false, name, "", {fd++}});
    }
    return true;
}

} // namespace belfry
