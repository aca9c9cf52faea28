// The listening sockets of the process: of each TCP address one a worker (SO_REUSEPORT: the kernel spreads connections
// over them), of a unix path one for all, duplicated. Main thread.
#pragma once

#include "base/error.h"
#include "relay/settings.h"

#include <string>
#include <vector>

namespace belfry {

struct listening_socket {
    std::string listener; // its name in the config
    std::string written;  // the address as it stands there: 127.0.0.1:0
    std::string bound;    // as it is: 127.0.0.1:43210
    uint32_t worker;      // whose it is
    int fd;               // owned, until it is given; then the worker's, who knows the socket by this number
    bool given;           // to its worker
    bool lent = false;    // by systemd: a unix socket's path is not ours to remove
};

// What the control API tells of an address.
struct bound_listener {
    std::string name, address;
    bool tls;
};

struct sockets {
    std::vector<listening_socket> open;
};

// Which address could not be opened.
struct sockets_fault {
    std::string listener;
    size_t which; // of its `listen`
};

struct kept_address; // birth.h

// What the process was born with (kept_sockets_true), as `now` for sockets_open: one that is shared by all becomes one
// a worker. Those that can't be looked at are closed. Takes the descriptors; those of the control API are left alone.
sockets sockets_inherit(const std::vector<kept_address> *kept, uint32_t workers);

// Opens what the listeners name (retired ones name nothing), for so many workers, into `next`; what `now` has already
// is taken over, known by its address: a listener may get another name, or TLS, and nobody who waits in the backlog is
// lost. False with a reason; `next` is empty then, and nothing has changed. Else the caller goes on to one of the next
// two.
[[nodiscard]] bool sockets_open(const sockets *now, const relay_settings *settings, uint32_t workers, sockets *next,
                                sockets_fault *fault, error *e);
// `next` is what there is from now on. The paths of unix sockets that are not in it go; descriptors that were given are
// the workers' to close.
void sockets_replace(sockets *now, sockets *next);
// Closes what only `next` has and no worker has got.
void sockets_discard(const sockets *now, sockets *next);

// One for each listener and address, in the order of the config.
std::vector<bound_listener> sockets_bound(const sockets *s, const relay_settings *settings);
// The address in the form in which equal ones are equal: *:80 is 0.0.0.0:80. As it is where it is no address.
std::string address_canonical(const std::string &written);
// Closes what no worker has got, unlinks unix paths.
void sockets_close(sockets *s);

} // namespace belfry
