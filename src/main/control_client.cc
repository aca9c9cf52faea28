// One request to the control API. Blocking.
#ifdef HAVE_CONFIG_H
#include <config.h>
#endif
#ifndef BELFRY_RUNSTATEDIR
#define BELFRY_RUNSTATEDIR "/run"
#endif

#include "main/control_client.h"

#include "base/bytes.h"

#include <errno.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

namespace belfry {

const char *const control_socket_default = BELFRY_RUNSTATEDIR "/belfry/control.sock";

static int connect_unix(const std::string &path) {
    struct sockaddr_un a = {};
    a.sun_family = AF_UNIX;
    if (path.size() >= sizeof a.sun_path) return errno = ENAMETOOLONG, -1;
    memcpy(a.sun_path, path.c_str(), path.size() + 1);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && connect(fd, reinterpret_cast<struct sockaddr *>(&a), sizeof a) == 0) return fd;
    int saved = errno;
    if (fd >= 0) close(fd);
    errno = saved;
    return -1;
}

static int connect_tcp(const std::string &url, std::string *host) {
    std::string rest = url.compare(0, 7, "http://") == 0 ? url.substr(7) : url;
    *host = rest = rest.substr(0, rest.find('/'));
    size_t colon = rest.rfind(':');
    if (colon == std::string::npos) return errno = EINVAL, -1;
    std::string name = rest.substr(0, colon), port = rest.substr(colon + 1);
    if (name.size() > 2 && name[0] == '[') name = name.substr(1, name.size() - 2);
    struct addrinfo hints = {}, *found = nullptr;
    hints.ai_socktype = SOCK_STREAM;
    if (getaddrinfo(name.c_str(), port.c_str(), &hints, &found) != 0) return errno = EADDRNOTAVAIL, -1;
    int fd = -1;
    for (struct addrinfo *a = found; a && fd < 0; a = a->ai_next) {
        fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd < 0 || connect(fd, a->ai_addr, a->ai_addrlen) == 0) continue;
        close(fd);
        fd = -1;
    }
    freeaddrinfo(found);
    return fd;
}

static bool send_all(int fd, view bytes) {
    while (!bytes.empty()) {
        ssize_t n = send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
        if (n <= 0) return false;
        bytes.remove_prefix(static_cast<size_t>(n));
    }
    return true;
}

static std::string receive_all(int fd) {
    std::string out;
    char piece[16384];
    for (ssize_t n; (n = recv(fd, piece, sizeof piece, 0)) > 0;)
        out.append(piece, static_cast<size_t>(n));
    return out;
}

bool control_ask(const control_target *t, const std::string &method, const std::string &path, const std::string &body,
                 control_answer *out) {
    std::string host = "localhost";
    int fd = t->url.empty() ? connect_unix(t->socket) : connect_tcp(t->url, &host);
    if (fd < 0) return false;
    struct timeval patience = {30, 0};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    std::string request = method + " " + path + " HTTP/1.1\r\nHost: " + host + "\r\nConnection: close\r\n";
    if (const char *token = getenv("BELFRY_TOKEN")) request += std::string("Authorization: Bearer ") + token + "\r\n";
    request += "Content-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body;
    std::string answer;
    if (send_all(fd, request)) answer = receive_all(fd);
    close(fd);
    size_t end = answer.find("\r\n\r\n");
    if (end == std::string::npos || answer.compare(0, 9, "HTTP/1.1 ") != 0) return errno = EPROTO, false;
    out->status = atoi(answer.c_str() + 9);
    out->body = answer.substr(end + 4);
    return true;
}

} // namespace belfry
