// Looking at inherited sockets. Main thread.
#include "main/kept_sockets.h"

#include "base/log.h"
#include "net/address.h"

#include <algorithm>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace belfry {

// SIOCUNIXFILE (Linux 4.13): the file that a unix socket is bound to, opened with O_PATH. <linux/un.h>, which names it,
// can't stand beside <sys/un.h>.
static constexpr unsigned long unix_file_request = SIOCPROTOPRIVATE;

// 0 where the kernel tells no such thing.
static uint64_t cookie_of(int fd, int name) {
    uint64_t cookie = 0;
    socklen_t size = sizeof cookie;
    return getsockopt(fd, SOL_SOCKET, name, &cookie, &size) == 0 ? cookie : 0;
}

static bool has_option(int fd, int level, int name, int value) {
    int found = -1;
    socklen_t size = sizeof found;
    return getsockopt(fd, level, name, &found, &size) == 0 && found == value;
}

static const struct sockaddr_un *unix_of(const address *a) {
    return reinterpret_cast<const struct sockaddr_un *>(&a->storage);
}

// ---------------------------------------------------------------- one socket

// By its bytes, since a text says less: unix:@name is a path, and an abstract name.
static bool same_place(const address *bound, const address *written) {
    if (bound->storage.ss_family != written->storage.ss_family) return false;
    if (bound->storage.ss_family == AF_UNIX)
        return strncmp(unix_of(bound)->sun_path, unix_of(written)->sun_path, sizeof unix_of(bound)->sun_path) == 0;
    if (bound->storage.ss_family == AF_INET) {
        auto *is = reinterpret_cast<const struct sockaddr_in *>(&bound->storage);
        auto *said = reinterpret_cast<const struct sockaddr_in *>(&written->storage);
        return is->sin_addr.s_addr == said->sin_addr.s_addr && (!said->sin_port || is->sin_port == said->sin_port);
    }
    auto *is = reinterpret_cast<const struct sockaddr_in6 *>(&bound->storage);
    auto *said = reinterpret_cast<const struct sockaddr_in6 *>(&written->storage);
    return memcmp(&is->sin6_addr, &said->sin6_addr, sizeof is->sin6_addr) == 0 &&
           (!said->sin6_port || is->sin6_port == said->sin6_port);
}

// As address_listen makes them: neither MPTCP nor SCTP, and IPv6 alone, for [::]:443 is not 0.0.0.0:443 as well.
static bool is_ours(int fd, const address *bound) {
    if (bound->storage.ss_family == AF_UNIX) return true;
    if (!has_option(fd, SOL_SOCKET, SO_PROTOCOL, IPPROTO_TCP)) return false;
    return bound->storage.ss_family == AF_INET || has_option(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1);
}

// In a network namespace of one's own, which any user can make, every port is free.
static bool is_of_this_network(int fd) {
    int own = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (own < 0) return true;
    uint64_t here = cookie_of(own, SO_NETNS_COOKIE);
    close(own);
    return here == cookie_of(fd, SO_NETNS_COOKIE);
}

// Somebody has tidied up, or the process before has just come to its end: nobody can come to the socket any more.
static bool has_lost_path(const address *bound) {
    struct stat there;
    return bound->storage.ss_family == AF_UNIX && lstat(unix_of(bound)->sun_path, &there) != 0 && errno == ENOENT;
}

// That the socket was once bound to a file of this path does not say that it is this file: it may have been another
// directory's, of another mount namespace, say.
static bool is_at_its_path(int fd, const address *bound) {
    if (bound->storage.ss_family != AF_UNIX) return true;
    int file = ioctl(fd, unix_file_request, 0);
    if (file < 0) return true;
    struct stat is, there;
    bool same = fstat(file, &is) == 0 && lstat(unix_of(bound)->sun_path, &there) == 0 && is.st_dev == there.st_dev &&
                is.st_ino == there.st_ino;
    close(file);
    return same;
}

// Else `lost`, or `why`.
static bool is_true(int fd, const std::string &written, bool *lost, error *why) {
    address said, bound;
    if (!address_parse(written, &said, why)) return false;
    if (!has_option(fd, SOL_SOCKET, SO_TYPE, SOCK_STREAM) || !has_option(fd, SOL_SOCKET, SO_ACCEPTCONN, 1) ||
        !address_of_socket(fd, &bound))
        return error_set(why, "it is no listening stream socket"), false;
    if (!same_place(&bound, &said)) {
        address_text text = address_format(reinterpret_cast<struct sockaddr *>(&bound.storage), bound.size);
        return error_set(why, "it is bound to %s", text.text), false;
    }
    if (!is_ours(fd, &bound)) return error_set(why, "it takes other protocols than it should"), false;
    if (!is_of_this_network(fd)) return error_set(why, "it is of another network namespace"), false;
    *lost = has_lost_path(&bound);
    if (*lost) return false;
    if (!is_at_its_path(fd, &bound)) return error_set(why, "the path does not lead to it"), false;
    int flags = fcntl(fd, F_GETFL); // an accept that blocks would stop a worker
    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0) return error_set(why, "%s", strerror(errno)), false;
    return true;
}

// ---------------------------------------------------------------- all of them

static bool is_lent(const kept_address *k) {
    return !k->control && k->written.empty();
}

static std::vector<uint64_t> lent_cookies(const std::vector<kept_address> *kept) {
    std::vector<uint64_t> all;
    for (const kept_address &k : *kept)
        for (int fd : k.fds)
            if (uint64_t cookie = is_lent(&k) ? cookie_of(fd, SO_COOKIE) : 0) all.push_back(cookie);
    return all;
}

std::vector<kept_address> kept_sockets_true(const std::vector<kept_address> *kept, uint64_t *refused) {
    std::vector<uint64_t> lent = lent_cookies(kept);
    std::vector<kept_address> all;
    error first;
    size_t pathless = 0;
    *refused = 0;
    for (const kept_address &k : *kept) {
        all.push_back({k.control, k.listener, k.written, {}});
        for (int fd : k.fds) {
            error why;
            bool known = is_lent(&k) || std::find(lent.begin(), lent.end(), cookie_of(fd, SO_COOKIE)) != lent.end();
            bool lost = false;
            if (known || is_true(fd, k.written, &lost, &why)) {
                all.back().fds.push_back(fd);
                continue;
            }
            if (!lost && !*refused) error_set(&first, "%.200s: %s", k.written.c_str(), why.text);
            pathless += lost;
            *refused += !lost;
            close(fd);
        }
        if (all.back().fds.empty()) all.pop_back();
    }
    if (pathless) log_warn("%zu unix sockets have lost their paths: opened anew", pathless);
    if (*refused)
        log_error("%llu of the listening sockets that the worker process before has left are not what it said of them "
                  "(%s); they are closed, and opened anew where the configuration has their address. That process may "
                  "have been taken over: end all that its user has left running, then restart the service",
                  static_cast<unsigned long long>(*refused), first.text);
    return all;
}

} // namespace belfry
