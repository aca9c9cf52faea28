// The load of the proxy bench: N connections, on each one exchange at a time, until so many are done. Every answer is
// compared with what its own connection asked, byte by byte.
//
//   http_load PORT get|tunnel|call CONNECTIONS EXCHANGES SIZE
//
//   get     GET with a target of its own on a keep-alive connection; the answer's body is that target
//   tunnel  a WebSocket at /tunnel; a text frame of SIZE bytes comes back as it was
//   call    a WebSocket of Belfry's JSON protocol at /call; a call is answered ok with the hook's data
//
// Prints "ready" when every connection has made one exchange, begins at a line on its input, prints what it took. One
// process, one thread.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { INPUT = 16384, SIZE_MAX_FRAME = 4096 };
enum mode { GET, TUNNEL, CALL };

struct peer {
    int fd;
    int open; // the WebSocket is
    int busy;
    unsigned serial; // of the exchange under way
    size_t have;
    char in[INPUT + 1];
};

static int epoll;
static enum mode mode;
static size_t frame_size;
static long left, done, ready; // exchanges to begin, finished; connections that have made their first
static unsigned serials;
static struct peer *peers;
static long count;

static void die(const char *what) {
    perror(what);
    exit(1);
}

static void wrong(const struct peer *p, const char *what) {
    fprintf(stderr, "%s: exchange %u got: %.300s\n", what, p->serial, p->in);
    exit(1);
}

static void put(struct peer *p, const char *bytes, size_t size) {
    if (send(p->fd, bytes, size, MSG_NOSIGNAL) != (ssize_t)size) die("send");
}

// The payload of exchange `serial`, `frame_size` bytes.
static void fill(char *out, unsigned serial) {
    char number[16];
    int n = snprintf(number, sizeof number, "%08u", serial);
    for (size_t i = 0; i < frame_size; i++)
        out[i] = i < (size_t)n ? number[i] : (char)('a' + i % 26);
}

static void put_frame(struct peer *p, const char *payload, size_t size) {
    unsigned char out[SIZE_MAX_FRAME + 8] = {0x81};
    size_t head = 2;
    out[1] = (unsigned char)(0x80 | (size < 126 ? size : 126));
    if (size >= 126) {
        out[2] = (unsigned char)(size >> 8);
        out[3] = (unsigned char)(size & 255);
        head = 4;
    }
    unsigned char key[4] = {(unsigned char)p->serial, 0xfa, (unsigned char)(p->serial >> 8), 0x3d};
    memcpy(out + head, key, 4);
    for (size_t i = 0; i < size; i++)
        out[head + 4 + i] = (unsigned char)payload[i] ^ key[i & 3];
    put(p, (char *)out, head + 4 + size);
}

static void begin(struct peer *p) {
    char text[SIZE_MAX_FRAME];
    p->serial = ++serials;
    p->busy = 1;
    if (mode == GET) {
        int n =
            snprintf(text, sizeof text,
                     "GET /small/%08u HTTP/1.1\r\nHost: bench.example\r\nUser-Agent: http_load\r\nAccept: */*\r\n\r\n",
                     p->serial);
        put(p, text, (size_t)n);
    } else if (mode == TUNNEL) {
        fill(text, p->serial);
        put_frame(p, text, frame_size);
    } else {
        int n = snprintf(text, sizeof text, "{\"type\":\"call\",\"id\":%u,\"method\":\"bench\",\"data\":{\"n\":%u}}",
                         p->serial, p->serial);
        put_frame(p, text, (size_t)n);
    }
}

static void finished(struct peer *p) {
    p->busy = 0;
    if (ready < count) {
        ready++;
        return;
    }
    done++;
    if (left > 0) {
        left--;
        begin(p);
    }
}

// One HTTP answer; the bytes that it has, 0 where it is not whole.
static size_t take_answer(struct peer *p) {
    char *end = strstr(p->in, "\r\n\r\n");
    if (!end) return 0;
    if (strncmp(p->in, "HTTP/1.1 200 ", 13) != 0) wrong(p, "no 200");
    const char *length = strcasestr(p->in, "\r\nContent-Length:");
    if (!length || length > end) wrong(p, "no Content-Length");
    size_t head = (size_t)(end + 4 - p->in), body = strtoul(length + 17, NULL, 10);
    if (p->have < head + body) return 0;
    char expected[32];
    int n = snprintf(expected, sizeof expected, "/small/%08u", p->serial);
    if (body != (size_t)n || memcmp(p->in + head, expected, body) != 0) wrong(p, "another body");
    finished(p);
    return head + body;
}

static void compare(struct peer *p, const char *payload, size_t size) {
    char expected[SIZE_MAX_FRAME];
    if (mode == TUNNEL) {
        fill(expected, p->serial);
        if (size != frame_size || memcmp(payload, expected, size) != 0) wrong(p, "another frame");
    } else {
        int n = snprintf(expected, sizeof expected, "{\"type\":\"ok\",\"id\":%u,\"data\":\"yes\"}", p->serial);
        if (size != (size_t)n || memcmp(payload, expected, size) != 0) wrong(p, "another answer");
    }
    finished(p);
}

// One frame, or the handshake's answer, with the welcome behind it where there is one.
static size_t take_websocket(struct peer *p) {
    if (!p->open) {
        char *end = strstr(p->in, "\r\n\r\n");
        if (!end) return 0;
        if (strncmp(p->in, "HTTP/1.1 101 ", 13) != 0) wrong(p, "no 101");
        p->open = 1;
        if (mode == TUNNEL) begin(p);
        return (size_t)(end + 4 - p->in);
    }
    const unsigned char *at = (unsigned char *)p->in;
    if (p->have < 4) return 0;
    size_t size = at[1], head = 2;
    if (at[0] != 0x81 || size > 126) wrong(p, "no text frame");
    if (size == 126) {
        size = (size_t)at[2] << 8 | at[3];
        head = 4;
    }
    if (p->have < head + size) return 0;
    if (p->busy)
        compare(p, p->in + head, size);
    else
        begin(p); // that was the welcome
    return head + size;
}

static void read_peer(struct peer *p) {
    ssize_t n = recv(p->fd, p->in + p->have, INPUT - p->have, 0);
    if (n < 0 && errno == EAGAIN) return;
    if (n <= 0) wrong(p, "the connection has ended");
    p->have += (size_t)n;
    size_t taken;
    do {
        p->in[p->have] = 0;
        taken = mode == GET ? take_answer(p) : take_websocket(p);
        p->have -= taken;
        memmove(p->in, p->in + taken, p->have);
    } while (taken && p->have);
}

static void connect_all(uint16_t port) {
    struct sockaddr_in there = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    static const char hello[] =
        "GET /%s HTTP/1.1\r\nHost: bench.example\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n%s\r\n";
    char text[512];
    int yes = 1;
    for (long i = 0; i < count; i++) {
        struct peer *p = &peers[i];
        p->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (p->fd < 0 || connect(p->fd, (struct sockaddr *)&there, sizeof there) != 0) die("connect");
        setsockopt(p->fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
        struct epoll_event e = {.events = EPOLLIN, .data.ptr = p};
        if (epoll_ctl(epoll, EPOLL_CTL_ADD, p->fd, &e) != 0) die("epoll_ctl");
        if (mode == GET) {
            begin(p);
        } else {
            int n = snprintf(text, sizeof text, hello, mode == CALL ? "call" : "tunnel",
                             mode == CALL ? "Sec-WebSocket-Protocol: belfry.v1.json\r\n" : "");
            put(p, text, (size_t)n);
        }
    }
}

static void turn(void) {
    struct epoll_event events[256];
    int n = epoll_wait(epoll, events, 256, 30000);
    if (n == 0) {
        fputs("nothing arrived for 30 s\n", stderr);
        exit(1);
    }
    for (int i = 0; i < n; i++)
        read_peer(events[i].data.ptr);
}

static void measure(long exchanges) {
    struct timespec from, to;
    clock_gettime(CLOCK_MONOTONIC, &from);
    done = 0;
    left = exchanges - count;
    for (long i = 0; i < count; i++)
        begin(&peers[i]);
    while (done < exchanges)
        turn();
    clock_gettime(CLOCK_MONOTONIC, &to);
    printf("%ld %.6f\n", done, (double)(to.tv_sec - from.tv_sec) + (double)(to.tv_nsec - from.tv_nsec) / 1e9);
    fflush(stdout);
}

int main(int argc, char **argv) {
    if (argc != 6) {
        fputs("usage: http_load PORT get|tunnel|call CONNECTIONS EXCHANGES SIZE\n", stderr);
        return 2;
    }
    mode = strcmp(argv[2], "get") == 0 ? GET : strcmp(argv[2], "tunnel") == 0 ? TUNNEL : CALL;
    count = atol(argv[3]);
    long exchanges = atol(argv[4]);
    frame_size = strtoul(argv[5], NULL, 10);
    if (count < 1 || exchanges < count || frame_size < 1 || frame_size > SIZE_MAX_FRAME) return 2;
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    peers = calloc((size_t)count, sizeof *peers);
    epoll = epoll_create1(EPOLL_CLOEXEC);
    if (!peers || epoll < 0) die("start");
    connect_all((uint16_t)atoi(argv[1]));
    while (ready < count)
        turn();
    puts("ready");
    fflush(stdout);
    char line[16];
    while (fgets(line, sizeof line, stdin)) // the connections stay until the bench has looked
        measure(exchanges);
    return 0;
}
