// Addresses as the ini file writes them, sockets made from them, and peers as the log shows them. Any thread.
#pragma once

#include "base/bytes.h"
#include "base/error.h"
#include "base/ip.h"

#include <stdint.h>
#include <sys/socket.h>
#include <sys/un.h>

namespace belfry {

struct address {
    struct sockaddr_storage storage;
    socklen_t size;
};

// "127.0.0.1:8443", "[::1]:443", "*:80" (0.0.0.0), ":80" is refused, "unix:/run/belfry/edge.sock". Numeric hosts only.
// Port 0 is allowed.
[[nodiscard]] bool address_parse(view text, address *out, error *e);
// "127.0.0.1:8443", "[::1]:443", "unix:/path" (a peer without a name: "unix:"). NUL-terminated.
struct address_text {
    char text[128];
};
address_text address_format(const struct sockaddr *a, socklen_t size);
// Host only: "127.0.0.1", "::1", "unix:".
address_text address_format_host(const struct sockaddr *a, socklen_t size);
// The address alone, without port and zone id. IPv4 is the same value from an IPv4 and from an IPv6 socket
// (base/ip.h). None for unix sockets, and for what is too short or of another family.
ip address_ip(const struct sockaddr *a, socklen_t size);

// A bound, listening, non-blocking, close-on-exec socket: SO_REUSEADDR, IPV6_V6ONLY, TCP_NODELAY (inherited by what is
// accepted); SO_REUSEPORT where `reuse_port`. A unix socket left over by a dead process is replaced; a live one is an
// error; mode 0660. -1 with a reason that names the address.
[[nodiscard]] int address_listen(const address *a, bool reuse_port, error *e);
// The address a socket is bound to (port 0 resolved).
[[nodiscard]] bool address_of_socket(int fd, address *out);
// A non-blocking connect: the descriptor (connected or in progress), or -1 with a reason.
[[nodiscard]] int address_connect(const address *a, error *e);

} // namespace belfry
