// Opening, keeping and naming the listening sockets. Main thread.
#include "main/sockets.h"

#include "main/birth.h"
#include "net/address.h"

#include <algorithm>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <set>
#include <string.h>
#include <unistd.h>

namespace belfry {

static constexpr char unix_prefix[] = "unix:";
static constexpr size_t unix_prefix_size = sizeof unix_prefix - 1;

static std::string text_of(const address *a) {
    return address_format(reinterpret_cast<const struct sockaddr *>(&a->storage), a->size).text;
}

std::string address_canonical(const std::string &written) {
    address a;
    error e;
    return !written.starts_with(unix_prefix) && address_parse(written, &a, &e) ? text_of(&a) : written;
}

// ---------------------------------------------------------------- opening

// An address that a listener names, with its sockets: one a worker, and more where an upgrade left more behind.
struct wanted_address {
    const listener_settings *listener; // borrowed
    size_t which;                      // of its `listen`
    std::string canonical;
    std::vector<listening_socket> sockets; // by worker; fd -1: none yet
    std::vector<listening_socket> more;
};

struct sockets_opening {
    const sockets *now;      // borrowed
    std::vector<bool> taken; // of now->open
    std::vector<wanted_address> wanted;
};

static uint16_t port_of(const address *a) {
    if (a->storage.ss_family == AF_INET) return reinterpret_cast<const struct sockaddr_in *>(&a->storage)->sin_port;
    if (a->storage.ss_family == AF_INET6) return reinterpret_cast<const struct sockaddr_in6 *>(&a->storage)->sin6_port;
    return 0;
}

// Another address of this port is this process's already, 0.0.0.0:443 beside 127.0.0.1:443, say.
static bool own_port(const sockets *now, const address *a) {
    return std::any_of(now->open.begin(), now->open.end(), [a](const listening_socket &one) {
        address other;
        error e;
        return port_of(a) && address_parse(one.bound, &other, &e) && port_of(&other) == port_of(a) &&
               text_of(&other) != text_of(a);
    });
}

// SO_REUSEPORT would let a second daemon of the same user take half of the connections: asked without it first.
static bool reserve(const sockets_opening *o, address *a, error *e) {
    if (own_port(o->now, a)) return true;
    int fd = address_listen(a, false, e);
    bool fine = fd >= 0 && address_of_socket(fd, a);
    if (fd >= 0) close(fd);
    return fine;
}

// A unix socket is one for all. So is one beside which no other can be opened: SO_REUSEPORT asks for the same user, and
// those from a reload are `user`'s, while the next process is root's yet.
static int open_one(const wanted_address *want, const address *a, error *e) {
    int other = -1;
    for (const listening_socket &one : want->sockets)
        if (one.fd >= 0) other = one.fd;
    bool shared = a->storage.ss_family == AF_UNIX;
    int fd = shared && other >= 0 ? -1 : address_listen(a, !shared, e);
    if (fd >= 0 || other < 0) return fd;
    fd = fcntl(other, F_DUPFD_CLOEXEC, 0);
    if (fd < 0) error_set(e, "listening socket: %s", strerror(errno));
    return fd;
}

// What is still missing of it. Port 0 is the same port for all workers.
static bool open_missing(const sockets_opening *o, wanted_address *want, error *e) {
    const std::string &written = want->listener->listen[want->which];
    address a;
    bool fresh = true;
    for (const listening_socket &one : want->sockets) {
        if (one.fd < 0) continue;
        fresh = false;
        if (!address_parse(one.bound, &a, e)) return false;
    }
    if (fresh && !address_parse(written, &a, e)) return false;
    if (fresh && a.storage.ss_family != AF_UNIX && !reserve(o, &a, e)) return false;
    for (listening_socket &one : want->sockets) {
        if (one.fd >= 0) continue;
        one.fd = open_one(want, &a, e);
        if (one.fd < 0) return false;
        address bound;
        if (!address_of_socket(one.fd, &bound)) return error_set(e, "getsockname: %s", strerror(errno)), false;
        one.bound = text_of(&bound);
    }
    return true;
}

// ---------------------------------------------------------------- keeping

static void take(sockets_opening *o, size_t at, wanted_address *want, listening_socket *out) {
    o->taken[at] = true;
    uint32_t worker = out->worker;
    *out = o->now->open[at];
    out->worker = worker;
    out->listener = want->listener->name;
    out->written = want->listener->listen[want->which];
}

// Sockets of this address that nobody has taken yet: those of the listener of that name, or (`any`) of all.
static void keep(sockets_opening *o, wanted_address *want, bool any) {
    for (size_t i = 0; i < o->now->open.size(); i++) {
        const listening_socket &one = o->now->open[i];
        if (o->taken[i] || one.worker >= want->sockets.size() || want->sockets[one.worker].fd >= 0) continue;
        if (!any && one.listener != want->listener->name) continue;
        if (address_canonical(one.written) == want->canonical || one.bound == want->canonical)
            take(o, i, want, &want->sockets[one.worker]);
    }
}

// There were more workers before an upgrade: who waits in their sockets' backlogs is accepted by those that are left.
static void keep_more(sockets_opening *o, wanted_address *want) {
    for (size_t i = 0; i < o->now->open.size(); i++) {
        const listening_socket &one = o->now->open[i];
        if (o->taken[i] || want->sockets[0].bound != one.bound) continue;
        want->more.push_back({"", "", "", one.worker % static_cast<uint32_t>(want->sockets.size()), -1, false});
        take(o, i, want, &want->more.back());
    }
}

static void want_all(sockets_opening *o, const relay_settings *settings, uint32_t workers) {
    for (const listener_settings &l : settings->listeners)
        for (size_t i = 0; i < l.listen.size() && !l.retired; i++) {
            o->wanted.push_back({&l, i, address_canonical(l.listen[i]), {}, {}});
            for (uint32_t w = 0; w < workers; w++)
                o->wanted.back().sockets.push_back({l.name, l.listen[i], "", w, -1, false});
        }
}

bool sockets_open(const sockets *now, const relay_settings *settings, uint32_t workers, sockets *next,
                  sockets_fault *fault, error *e) {
    sockets_opening o = {now, std::vector<bool>(now->open.size()), {}};
    want_all(&o, settings, workers);
    for (bool any : {false, true})
        for (wanted_address &want : o.wanted)
            keep(&o, &want, any);
    bool fine = true;
    for (wanted_address &want : o.wanted) {
        if (fine && !open_missing(&o, &want, e)) {
            *fault = {want.listener->name, want.which};
            fine = false;
        }
        if (fine) keep_more(&o, &want);
        for (const listening_socket &one : want.sockets)
            if (one.fd >= 0) next->open.push_back(one);
        next->open.insert(next->open.end(), want.more.begin(), want.more.end());
    }
    if (!fine) sockets_discard(now, next);
    return fine;
}

// ---------------------------------------------------------------- inheriting

static bool is_shared(int fd) {
    int reuse_port = 0;
    socklen_t size = sizeof reuse_port;
    return getsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &reuse_port, &size) != 0 || !reuse_port;
}

static bool has_lent(const sockets *s, const std::string &bound) {
    return std::any_of(s->open.begin(), s->open.end(),
                       [&](const listening_socket &one) { return one.lent && one.bound == bound; });
}

sockets sockets_inherit(const std::vector<kept_address> *kept, uint32_t workers) {
    sockets all = {};
    for (const kept_address &k : *kept) {
        uint32_t worker = 0;
        for (int fd : k.fds) {
            if (k.control) continue;
            address a;
            std::string bound = address_of_socket(fd, &a) ? text_of(&a) : "";
            bool lent = k.written.empty();
            if (bound.empty() || (!lent && has_lent(&all, bound))) { // what is lent comes a second time as kept
                close(fd);
                continue;
            }
            std::string written = lent ? bound : k.written;
            all.open.push_back({k.listener, written, bound, worker++, fd, false, lent});
            while (k.fds.size() == 1 && worker < workers && (lent || is_shared(fd))) {
                int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
                if (copy < 0) break;
                all.open.push_back({k.listener, written, bound, worker++, copy, false, lent});
            }
        }
    }
    return all;
}

// ---------------------------------------------------------------- going over, ending

static bool has_descriptor(const sockets *s, int fd) {
    return std::any_of(s->open.begin(), s->open.end(), [fd](const listening_socket &one) { return one.fd == fd; });
}

static bool has_path(const sockets *s, const std::string &written) {
    return std::any_of(s->open.begin(), s->open.end(),
                       [&](const listening_socket &one) { return one.written == written; });
}

static void unlink_path(const listening_socket *one) {
    if (!one->lent && one->written.starts_with(unix_prefix)) unlink(one->written.c_str() + unix_prefix_size);
}

void sockets_replace(sockets *now, sockets *next) {
    for (const listening_socket &one : now->open) {
        if (has_descriptor(next, one.fd)) continue;
        if (!one.given) close(one.fd);
        if (!has_path(next, one.written)) unlink_path(&one);
    }
    *now = std::move(*next);
    *next = {};
}

void sockets_discard(const sockets *now, sockets *next) {
    for (const listening_socket &one : next->open) {
        if (has_descriptor(now, one.fd)) continue;
        if (!one.given) close(one.fd);
        if (!has_path(now, one.written)) unlink_path(&one);
    }
    next->open.clear();
}

void sockets_close(sockets *s) {
    for (const listening_socket &one : s->open) {
        if (!one.given) close(one.fd);
        unlink_path(&one);
    }
    s->open.clear();
}

// ---------------------------------------------------------------- naming

static bool has_tls(const relay_settings *settings, const std::string &name) {
    for (const listener_settings &l : settings->listeners)
        if (l.name == name) return l.tls;
    return false;
}

std::vector<bound_listener> sockets_bound(const sockets *s, const relay_settings *settings) {
    std::vector<bound_listener> all;
    std::set<std::string> seen; // a worker may have two of one address
    for (const listening_socket &one : s->open)
        if (one.worker == 0 && seen.insert(one.listener + " " + one.bound).second)
            all.push_back({one.listener, one.bound, has_tls(settings, one.listener)});
    return all;
}

} // namespace belfry
