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
    int fd;               // owned, until sockets_give has handed it to a worker
};

// What the control API tells of an address.
struct bound_listener {
    std::string name, address;
    bool tls;
};

struct sockets {
    std::vector<listening_socket> open;
    std::vector<std::string> unix_paths; // to unlink at the end
};

// Opens what the listener names, for so many workers. False with a reason; what was opened before it stays open.
[[nodiscard]] bool sockets_open(sockets *s, const listener_settings *l, uint32_t workers, error *e);
// One for each listener and address, in the order that they were opened.
std::vector<bound_listener> sockets_bound(const sockets *s, const relay_settings *settings);
// Closes what no worker has got, unlinks unix paths.
void sockets_close(sockets *s);

} // namespace belfry
