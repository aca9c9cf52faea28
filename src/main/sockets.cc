// Opening, and naming, the listening sockets. Main thread.
#include "main/sockets.h"

#include "net/address.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

namespace belfry {

// SO_REUSEPORT would let a second daemon of the same user take half of the connections: asked without it first.
static bool reserve(address *a, error *e) {
    int fd = address_listen(a, false, e);
    bool fine = fd >= 0 && address_of_socket(fd, a);
    if (fd >= 0) close(fd);
    return fine;
}

static bool open_address(sockets *s, const listener_settings *l, const std::string &text, uint32_t workers, error *e) {
    address a;
    if (!address_parse(text, &a, e)) return false;
    bool shared = a.storage.ss_family == AF_UNIX;
    if (!shared && !reserve(&a, e)) return false;
    int fd = -1;
    for (uint32_t w = 0; w < workers; w++) {
        fd = shared && fd >= 0 ? fcntl(fd, F_DUPFD_CLOEXEC, 0) : address_listen(&a, !shared, e);
        if (fd < 0) return false;
        s->open.push_back({l->name, text, "", w, fd});
        if (!address_of_socket(fd, &a)) return error_set(e, "getsockname: %s", strerror(errno)), false;
        s->open.back().bound = address_format(reinterpret_cast<struct sockaddr *>(&a.storage), a.size).text;
    }
    if (shared) s->unix_paths.push_back(text.substr(5));
    return true;
}

bool sockets_open(sockets *s, const listener_settings *l, uint32_t workers, error *e) {
    for (const std::string &text : l->listen)
        if (!open_address(s, l, text, workers, e)) return false;
    return true;
}

static bool has_tls(const relay_settings *settings, const std::string &name) {
    for (const listener_settings &l : settings->listeners)
        if (l.name == name) return l.tls;
    return false;
}

std::vector<bound_listener> sockets_bound(const sockets *s, const relay_settings *settings) {
    std::vector<bound_listener> all;
    for (const listening_socket &one : s->open)
        if (one.worker == 0) all.push_back({one.listener, one.bound, has_tls(settings, one.listener)});
    return all;
}

void sockets_close(sockets *s) {
    for (const listening_socket &one : s->open)
        if (one.fd >= 0) close(one.fd);
    s->open.clear();
    for (const std::string &path : s->unix_paths)
        unlink(path.c_str());
}

} // namespace belfry
