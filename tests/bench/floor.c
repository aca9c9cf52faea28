// The floor of the bench: the least that a fan-out server must do. One thread, epoll; each message from Redis becomes
// one frame, and each member of the room costs one send() or SSL_write() of it. What a real server must do besides is
// left out: a request is taken for granted, clients' frames are thrown away, a full socket loses the message.
//
//   floor PORT REDIS_PORT [CHAIN.pem KEY.pem]
//
// A client's room is the number that its request target ends in (/raw?room=load:17), a message's the one that its
// channel ends in (belfry:room:load:17). One process, one thread.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { ROOMS = 100000, REDIS_BUFFER = 1 << 20, FRAME_MAX = 65535 };

struct member {
    int fd;
    SSL *ssl;
    long room; // -1: before the handshake
    size_t at; // in its room
};

struct room {
    struct member **members;
    size_t count, capacity;
};

static struct room rooms[ROOMS];
static int epoll, listener, redis;
static SSL_CTX *context;

static void die(const char *what) {
    perror(what);
    exit(1);
}

static void watch(int fd, void *owner) {
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = owner};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &e) != 0) die("epoll_ctl");
}

// ---------------------------------------------------------------- members

static void enter(struct member *m, long number) {
    struct room *r = &rooms[number];
    if (r->count == r->capacity) {
        r->capacity = r->capacity ? r->capacity * 2 : 4;
        r->members = realloc(r->members, r->capacity * sizeof *r->members);
        if (!r->members) die("realloc");
    }
    m->room = number;
    m->at = r->count;
    r->members[r->count++] = m;
}

static void leave(struct member *m) {
    if (m->room >= 0) {
        struct room *r = &rooms[m->room];
        r->members[m->at] = r->members[--r->count];
        r->members[m->at]->at = m->at;
    }
    SSL_free(m->ssl);
    close(m->fd);
    free(m);
}

static ssize_t put(struct member *m, const char *data, size_t size) {
    if (!m->ssl) return send(m->fd, data, size, MSG_NOSIGNAL);
    return SSL_write(m->ssl, data, (int)size);
}

static void accept_all(void) {
    for (;;) {
        int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC), yes = 1;
        if (fd < 0) return;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
        struct member *m = calloc(1, sizeof *m);
        if (!m) die("calloc");
        m->fd = fd;
        m->room = -1;
        if (context) {
            m->ssl = SSL_new(context);
            SSL_set_fd(m->ssl, fd);
            SSL_set_accept_state(m->ssl);
        }
        watch(fd, m);
    }
}

// The swarm's key is RFC 6455's example, so the answer is too.
static void answer(struct member *m, char *request) {
    static const char text[] = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                               "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
    char *end = strstr(request, " HTTP/1.1");
    if (!end || put(m, text, sizeof text - 1) != (ssize_t)sizeof text - 1) return leave(m);
    *end = 0;
    long number = atol(strrchr(request, ':') ? strrchr(request, ':') + 1 : "0");
    enter(m, number >= 0 && number < ROOMS ? number : 0);
}

static void read_member(struct member *m) {
    static char bytes[16385];
    ssize_t n;
    if (m->ssl) {
        n = SSL_read(m->ssl, bytes, sizeof bytes - 1); // makes the TLS handshake too
        if (n <= 0 && SSL_get_error(m->ssl, (int)n) == SSL_ERROR_WANT_READ) return;
    } else {
        n = recv(m->fd, bytes, sizeof bytes - 1, 0);
        if (n < 0 && errno == EAGAIN) return;
    }
    if (n <= 0) return leave(m);
    bytes[n] = 0;
    if (m->room < 0) answer(m, bytes);
}

// ---------------------------------------------------------------- Redis

static void deliver(long number, const char *payload, size_t size) {
    static char frame[FRAME_MAX + 4];
    size_t head = size < 126 ? 2 : 4;
    if (number < 0 || number >= ROOMS || size > FRAME_MAX) return;
    frame[0] = (char)0x81;
    frame[1] = (char)(size < 126 ? size : 126);
    if (head == 4) {
        frame[2] = (char)(size >> 8);
        frame[3] = (char)(size & 255);
    }
    memcpy(frame + head, payload, size);
    struct room *r = &rooms[number];
    for (size_t i = 0; i < r->count; i++)
        if (put(r->members[i], frame, head + size) < 0)
            perror("a member's socket is full"); // the figures are void then
}

// The bulk string at *at; false where it is not whole.
static int bulk(const char **at, const char *end, const char **text, size_t *size) {
    const char *line = memmem(*at, (size_t)(end - *at), "\r\n", 2);
    if (!line || **at != '$') return 0;
    *size = strtoul(*at + 1, NULL, 10);
    *text = line + 2;
    *at = *text + *size + 2;
    return *at <= end;
}

// One pmessage (4 bulk strings). Returns the bytes it takes, 0 where it is not whole.
static size_t push(const char *begin, const char *end) {
    const char *at = memmem(begin, (size_t)(end - begin), "\r\n", 2), *text[4];
    size_t size[4];
    if (!at) return 0;
    at += 2;
    if (memcmp(begin, "*4", 2) != 0) { // the answer to PSUBSCRIBE: two bulk strings and an integer
        for (int i = 0; i < 2; i++)
            if (!bulk(&at, end, &text[i], &size[i])) return 0;
        const char *line = memmem(at, (size_t)(end - at), "\r\n", 2);
        return line ? (size_t)(line + 2 - begin) : 0;
    }
    for (int i = 0; i < 4; i++)
        if (!bulk(&at, end, &text[i], &size[i])) return 0;
    const char *colon = memrchr(text[2], ':', size[2]);
    deliver(colon ? atol(colon + 1) : 0, text[3], size[3]);
    return (size_t)(at - begin);
}

static void read_redis(void) {
    static char bytes[REDIS_BUFFER];
    static size_t have;
    ssize_t n = recv(redis, bytes + have, sizeof bytes - have, 0);
    if (n <= 0) exit(0); // Redis has ended: so does the bench
    have += (size_t)n;
    size_t used = 0, taken;
    while (used < have && (taken = push(bytes + used, bytes + have)) != 0)
        used += taken;
    memmove(bytes, bytes + used, have - used);
    have -= used;
}

// ---------------------------------------------------------------- life

static struct sockaddr_in loopback(const char *port) {
    return (struct sockaddr_in){
        .sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port)), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

static void open_sockets(char **argv) {
    struct sockaddr_in here = loopback(argv[1]), there = loopback(argv[2]);
    static const char subscribe[] = "*2\r\n$10\r\nPSUBSCRIBE\r\n$13\r\nbelfry:room:*\r\n";
    int yes = 1;
    listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (bind(listener, (struct sockaddr *)&here, sizeof here) != 0 || listen(listener, 4096) != 0) die("listen");
    redis = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connect(redis, (struct sockaddr *)&there, sizeof there) != 0) die("Redis");
    if (write(redis, subscribe, sizeof subscribe - 1) != (ssize_t)sizeof subscribe - 1) die("Redis");
    watch(listener, &listener);
    watch(redis, &redis);
}

static void open_tls(const char *chain, const char *key) {
    context = SSL_CTX_new(TLS_server_method());
    SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS);
    if (SSL_CTX_use_certificate_chain_file(context, chain) != 1 ||
        SSL_CTX_use_PrivateKey_file(context, key, SSL_FILETYPE_PEM) != 1)
        die("certificate");
}

int main(int argc, char **argv) {
    if (argc != 3 && argc != 5) {
        fputs("usage: floor PORT REDIS_PORT [CHAIN.pem KEY.pem]\n", stderr);
        return 2;
    }
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    epoll = epoll_create1(EPOLL_CLOEXEC);
    if (argc == 5) open_tls(argv[3], argv[4]);
    open_sockets(argv);
    for (;;) {
        struct epoll_event events[256];
        int n = epoll_wait(epoll, events, 256, -1);
        for (int i = 0; i < n; i++) {
            void *owner = events[i].data.ptr;
            if (owner == &listener)
                accept_all();
            else if (owner == &redis)
                read_redis();
            else
                read_member(owner);
        }
    }
}
