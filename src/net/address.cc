// Addresses: parsed from the ini file's notation, printed for the log, turned into listening and connecting sockets.
// No state: any thread.
#include "net/address.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

namespace belfry {

namespace {

constexpr size_t path_offset = offsetof(struct sockaddr_un, sun_path);

const struct sockaddr *generic(const address *a) {
    return reinterpret_cast<const struct sockaddr *>(&a->storage);
}

bool refuse(error *e, view text, const char *why) {
    error_set(e, "\"%.*s\" is not an address: %s", static_cast<int>(text.size() < 200 ? text.size() : 200), text.data(),
              why);
    return false;
}

bool parse_unix(view text, view path, address *out, error *e) {
    struct sockaddr_un a = {};
    if (path.empty()) return refuse(e, text, "unix: needs a path, as unix:/run/belfry/edge.sock");
    if (path.size() >= sizeof a.sun_path) return refuse(e, text, "the path of a unix socket has 107 bytes at most");
    a.sun_family = AF_UNIX;
    memcpy(a.sun_path, path.data(), path.size());
    memcpy(&out->storage, &a, sizeof a);
    out->size = static_cast<socklen_t>(path_offset + path.size() + 1);
    return true;
}

bool parse_ipv6(view host, uint16_t port, address *out) {
    char text[INET6_ADDRSTRLEN];
    if (host.size() >= sizeof text) return false;
    memcpy(text, host.data(), host.size());
    text[host.size()] = '\0';
    struct sockaddr_in6 a = {};
    a.sin6_family = AF_INET6;
    a.sin6_port = htons(port);
    if (inet_pton(AF_INET6, text, &a.sin6_addr) != 1) return false;
    memcpy(&out->storage, &a, sizeof a);
    out->size = sizeof a;
    return true;
}

bool parse_ipv4(view host, uint16_t port, address *out) {
    char text[INET_ADDRSTRLEN];
    if (host == "*") host = "0.0.0.0";
    if (host.size() >= sizeof text) return false;
    memcpy(text, host.data(), host.size());
    text[host.size()] = '\0';
    struct sockaddr_in a = {};
    a.sin_family = AF_INET;
    a.sin_port = htons(port);
    if (inet_pton(AF_INET, text, &a.sin_addr) != 1) return false;
    memcpy(&out->storage, &a, sizeof a);
    out->size = sizeof a;
    return true;
}

// The path of a bound or unbound unix address, without the NUL; an abstract one begins with NUL.
view path_of(const struct sockaddr *a, socklen_t size) {
    if (size <= path_offset) return view();
    const char *path = reinterpret_cast<const char *>(a) + path_offset;
    size_t room = size - path_offset;
    return path[0] == '\0' ? view(path, room) : view(path, strnlen(path, room));
}

address_text format_unix(const struct sockaddr *a, socklen_t size) {
    address_text out;
    view path = path_of(a, size);
    const char *mark = "";
    if (!path.empty() && path[0] == '\0') { // Linux's abstract names are written with an @, as ss(8) does
        mark = "@";
        path.remove_prefix(1);
    }
    snprintf(out.text, sizeof out.text, "unix:%s%.*s", mark, static_cast<int>(path.size()), path.data());
    return out;
}

bool is_unix(const address *a) {
    return a->storage.ss_family == AF_UNIX;
}

bool set_option(int fd, int level, int name) {
    int on = 1;
    return setsockopt(fd, level, name, &on, sizeof on) == 0;
}

int fail(int fd, const address *a, const char *what, error *e) {
    int number = errno;
    if (fd >= 0) close(fd);
    error_set(e, "%s %s: %s", what, address_format(generic(a), a->size).text, strerror(number));
    return -1;
}

// Something is at the path. Removes it only where it is a socket that nobody answers on: connect(2) refuses on
// ordinary files too, so the type is looked at first.
bool remove_stale_socket(const address *a, error *e) {
    const char *path = reinterpret_cast<const struct sockaddr_un *>(&a->storage)->sun_path;
    struct stat at;
    if (lstat(path, &at) != 0) return errno == ENOENT; // gone meanwhile
    if (!S_ISSOCK(at.st_mode)) {
        error_set(e, "listen on unix:%s: there is a file of that name which is not a socket", path);
        return false;
    }
    int probe = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (probe < 0) {
        error_set(e, "listen on unix:%s: socket: %s", path, strerror(errno));
        return false;
    }
    // EAGAIN is a full backlog: somebody lives there, too.
    bool stale = connect(probe, generic(a), a->size) != 0 && errno == ECONNREFUSED;
    close(probe);
    if (!stale) {
        error_set(e, "listen on unix:%s: another process is listening there", path);
        return false;
    }
    if (unlink(path) == 0 || errno == ENOENT) return true;
    error_set(e, "listen on unix:%s: the left-over socket can't be removed: %s", path, strerror(errno));
    return false;
}

int listen_unix(int fd, const address *a, error *e) {
    const char *path = reinterpret_cast<const struct sockaddr_un *>(&a->storage)->sun_path;
    // Linux makes the file with the socket's own mode less the umask, so nobody else gets in between bind and chmod.
    if (fchmod(fd, 0660) != 0) return fail(fd, a, "listen on", e);
    if (bind(fd, generic(a), a->size) != 0) {
        if (errno != EADDRINUSE) return fail(fd, a, "listen on", e);
        if (!remove_stale_socket(a, e)) {
            close(fd);
            return -1;
        }
        if (bind(fd, generic(a), a->size) != 0) return fail(fd, a, "listen on", e);
    }
    // Never of what a link points to: this may be root, in a directory of somebody else. Where that can't be had (no
    // /proc before Linux 6.6), the umask's stricter mode stays.
    if (fchmodat(AT_FDCWD, path, 0660, AT_SYMLINK_NOFOLLOW) != 0 && errno != EOPNOTSUPP)
        return fail(fd, a, "set the mode of", e);
    return fd;
}

int listen_inet(int fd, const address *a, bool reuse_port, error *e) {
    bool ready = set_option(fd, SOL_SOCKET, SO_REUSEADDR) && set_option(fd, IPPROTO_TCP, TCP_NODELAY) &&
                 (!reuse_port || set_option(fd, SOL_SOCKET, SO_REUSEPORT)) &&
                 (a->storage.ss_family != AF_INET6 || set_option(fd, IPPROTO_IPV6, IPV6_V6ONLY));
    if (!ready) return fail(fd, a, "set options for", e);
    if (bind(fd, generic(a), a->size) != 0) return fail(fd, a, "listen on", e);
    return fd;
}

} // namespace

bool address_parse(view text, address *out, error *e) {
    *out = {};
    // The kernel and inet_pton would read up to it only.
    if (text.find('\0') != view::npos) return refuse(e, text, "it holds a NUL byte");
    if (text.substr(0, 5) == "unix:") return parse_unix(text, text.substr(5), out, e);

    size_t colon = text.rfind(':');
    if (colon == view::npos) return refuse(e, text, "it needs a port, as 127.0.0.1:8443");
    view host = text.substr(0, colon), digits = text.substr(colon + 1);
    if (host.empty()) return refuse(e, text, "it needs a host; *:PORT is every IPv4 address, [::]:PORT every IPv6 one");
    uint64_t port;
    if (digits.size() > 5 || !bytes_parse_uint(digits, &port) || port > UINT16_MAX)
        return refuse(e, text, "the port is a number from 0 to 65535");

    bool bracketed = host.front() == '[' && host.back() == ']';
    if (bracketed && parse_ipv6(host.substr(1, host.size() - 2), static_cast<uint16_t>(port), out)) return true;
    if (!bracketed && parse_ipv4(host, static_cast<uint16_t>(port), out)) return true;
    if (!bracketed && host.find(':') != view::npos)
        return refuse(e, text, "an IPv6 host stands in brackets, as [::1]:8443");
    return refuse(e, text, "write 127.0.0.1:8443, [::1]:8443, *:8443 or unix:/run/belfry/edge.sock (no host names)");
}

address_text address_format_host(const struct sockaddr *a, socklen_t size) {
    address_text out = {};
    if (a->sa_family == AF_UNIX) {
        memcpy(out.text, "unix:", 6);
    } else if (a->sa_family == AF_INET && size >= sizeof(struct sockaddr_in)) {
        inet_ntop(AF_INET, &reinterpret_cast<const struct sockaddr_in *>(a)->sin_addr, out.text, sizeof out.text);
    } else if (a->sa_family == AF_INET6 && size >= sizeof(struct sockaddr_in6)) {
        inet_ntop(AF_INET6, &reinterpret_cast<const struct sockaddr_in6 *>(a)->sin6_addr, out.text, sizeof out.text);
    } else {
        snprintf(out.text, sizeof out.text, "family-%u", static_cast<unsigned>(a->sa_family));
    }
    return out;
}

ip address_ip(const struct sockaddr *a, socklen_t size) {
    ip out = {};
    if (size < sizeof a->sa_family) return out;
    if (a->sa_family == AF_INET && size >= sizeof(struct sockaddr_in)) {
        uint8_t bytes[4];
        memcpy(bytes, &reinterpret_cast<const struct sockaddr_in *>(a)->sin_addr, sizeof bytes);
        out = ip_from_ipv4(bytes);
    } else if (a->sa_family == AF_INET6 && size >= sizeof(struct sockaddr_in6)) {
        out = ip_from_ipv6(reinterpret_cast<const struct sockaddr_in6 *>(a)->sin6_addr.s6_addr);
    }
    return out;
}

address_text address_format(const struct sockaddr *a, socklen_t size) {
    if (a->sa_family == AF_UNIX) return format_unix(a, size);
    address_text out = address_format_host(a, size);
    size_t used = strlen(out.text);
    if (a->sa_family == AF_INET && size >= sizeof(struct sockaddr_in)) {
        unsigned port = ntohs(reinterpret_cast<const struct sockaddr_in *>(a)->sin_port);
        snprintf(out.text + used, sizeof out.text - used, ":%u", port);
    } else if (a->sa_family == AF_INET6 && size >= sizeof(struct sockaddr_in6)) {
        unsigned port = ntohs(reinterpret_cast<const struct sockaddr_in6 *>(a)->sin6_port);
        memmove(out.text + 1, out.text, used);
        out.text[0] = '[';
        snprintf(out.text + used + 1, sizeof out.text - used - 1, "]:%u", port);
    }
    return out;
}

int address_listen(const address *a, bool reuse_port, error *e) {
    int fd = socket(a->storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) return fail(fd, a, "socket for", e);
    fd = is_unix(a) ? listen_unix(fd, a, e) : listen_inet(fd, a, reuse_port, e);
    if (fd < 0) return -1;
    // The kernel cuts it down to net.core.somaxconn: how long the queue may be is the administrator's choice.
    if (listen(fd, 65535) != 0) return fail(fd, a, "listen on", e);
    return fd;
}

bool address_of_socket(int fd, address *out) {
    *out = {};
    out->size = sizeof out->storage;
    return getsockname(fd, reinterpret_cast<struct sockaddr *>(&out->storage), &out->size) == 0;
}

int address_connect(const address *a, error *e) {
    int fd = socket(a->storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) return fail(fd, a, "socket for", e);
    if (!is_unix(a) && !set_option(fd, IPPROTO_TCP, TCP_NODELAY)) return fail(fd, a, "set options for", e);
    // An interrupted connect goes on by itself (POSIX), as one in progress does.
    if (connect(fd, generic(a), a->size) == 0 || errno == EINPROGRESS || errno == EINTR) return fd;
    return fail(fd, a, "connect to", e);
}

} // namespace belfry
