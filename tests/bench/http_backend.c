// The backend of the proxy bench: as little as a keep-alive HTTP/1.1 server and a WebSocket echo can be, so that what
// is measured is the proxy in front of it. It trusts what it reads; the proxy's tests are elsewhere.
//
//   http_backend PORT
//
// GET: the request's target, as text. POST: a hook call, answered {"data":"yes"}. Upgrade: every frame comes back, its
// masking undone. One process, one thread.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { INPUT = 16384, FRAME_MAX = 4096 };

struct peer {
    int fd;
    int websocket;
    size_t have;
    char in[INPUT + 1];
};

static int epoll, listener;

static void die(const char *what) {
    perror(what);
    exit(1);
}

static void watch(int fd, void *owner) {
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = owner};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &e) != 0) die("epoll_ctl");
}

static void put(struct peer *p, const char *bytes, size_t size) {
    if (send(p->fd, bytes, size, MSG_NOSIGNAL) != (ssize_t)size)
        perror("a peer's socket is full"); // the figures are void then
}

static void accept_all(void) {
    for (;;) {
        int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC), yes = 1;
        if (fd < 0) return;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
        struct peer *p = calloc(1, sizeof *p);
        if (!p) die("calloc");
        p->fd = fd;
        watch(fd, p);
    }
}

// The load's key is RFC 6455's example, so the answer is too.
static void upgrade(struct peer *p) {
    static const char text[] = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                               "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
    p->websocket = 1;
    put(p, text, sizeof text - 1);
}

static void answer(struct peer *p, const char *body, size_t size, const char *type) {
    char text[INPUT + 256];
    int n = snprintf(text, sizeof text, "HTTP/1.1 200 OK\r\nContent-Type: %s\r\nContent-Length: %zu\r\n\r\n%.*s", type,
                     size, (int)size, body);
    put(p, text, (size_t)n);
}

// Takes one request; the bytes that it had, 0 where it is not whole.
static size_t take_request(struct peer *p, char *at) {
    char *end = strstr(at, "\r\n\r\n");
    if (!end) return 0;
    end += 4;
    char after = *end;
    *end = 0;
    const char *length = strcasestr(at, "\r\nContent-Length:");
    size_t body = length ? strtoul(length + 17, NULL, 10) : 0;
    int is_upgrade = strcasestr(at, "\r\nUpgrade:") != NULL;
    *end = after;
    if ((size_t)(p->in + p->have - end) < body) return 0;
    if (is_upgrade) {
        upgrade(p);
    } else if (strncmp(at, "POST ", 5) == 0) {
        static const char yes[] = "{\"data\":\"yes\"}";
        answer(p, yes, sizeof yes - 1, "application/json");
    } else {
        const char *target = strchr(at, ' ');
        answer(p, target + 1, strcspn(target + 1, " "), "text/plain");
    }
    return (size_t)(end - at) + body;
}

// Takes one masked frame of up to FRAME_MAX bytes; the bytes that it had, 0 where it is not whole.
static size_t take_frame(struct peer *p, const unsigned char *at, size_t have) {
    unsigned char out[FRAME_MAX + 4];
    if (have < 6) return 0;
    size_t size = at[1] & 127, head = 2;
    if (size == 126) {
        size = (size_t)at[2] << 8 | at[3];
        head = 4;
    }
    if (size > FRAME_MAX) die("a frame that is too large");
    if (have < head + 4 + size) return 0;
    memcpy(out, at, head);
    out[1] &= 127;
    for (size_t i = 0; i < size; i++)
        out[head + i] = at[head + 4 + i] ^ at[head + (i & 3)];
    put(p, (char *)out, head + size);
    return head + 4 + size;
}

static void read_peer(struct peer *p) {
    ssize_t n = recv(p->fd, p->in + p->have, INPUT - p->have, 0);
    if (n < 0 && errno == EAGAIN) return;
    if (n <= 0) {
        close(p->fd);
        free(p);
        return;
    }
    p->have += (size_t)n;
    p->in[p->have] = 0;
    size_t used = 0, taken;
    do {
        taken =
            p->websocket ? take_frame(p, (unsigned char *)p->in + used, p->have - used) : take_request(p, p->in + used);
        used += taken;
    } while (taken && used < p->have);
    memmove(p->in, p->in + used, p->have - used);
    p->have -= used;
}

int main(int argc, char **argv) {
    if (argc != 2) {
        fputs("usage: http_backend PORT\n", stderr);
        return 2;
    }
    struct sockaddr_in here = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(argv[1])), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int yes = 1;
    epoll = epoll_create1(EPOLL_CLOEXEC);
    listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (bind(listener, (struct sockaddr *)&here, sizeof here) != 0 || listen(listener, 4096) != 0) die("listen");
    watch(listener, &listener);
    for (;;) {
        struct epoll_event events[256];
        int n = epoll_wait(epoll, events, 256, -1);
        for (int i = 0; i < n; i++) {
            if (events[i].data.ptr == &listener)
                accept_all();
            else
                read_peer(events[i].data.ptr);
        }
    }
}
