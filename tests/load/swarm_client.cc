// One client of the swarm: socket, TLS, handshake, frames. See swarm.h.
#include "swarm.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

namespace swarm {

static constexpr uint32_t clients_an_address = 5000; // of 28,000 local ports an address has; some are in TIME_WAIT
// RFC 6455 section 1.3's example: the answer is known, so no SHA-1 is needed.
static constexpr char key[] = "dGhlIHNhbXBsZSBub25jZQ==";
static constexpr char accept[] = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

static char received[262144];

void give_up(const client *c, std::string_view why) {
    printf("failed client %u: %.*s\n", c->index, static_cast<int>(why.size()), why.data());
    fflush(stdout);
    _exit(1);
}

// ---------------------------------------------------------------- the end of a connection

static void drop(client *c) {
    if (c->ssl) SSL_free(c->ssl);
    c->ssl = nullptr;
    if (c->fd >= 0) close(c->fd);
    c->fd = -1;
    c->in.clear();
    c->out.clear();
    c->writing = c->joined = false;
}

// The server, or the network, has ended it.
static void lost(world *w, client *c, std::string_view why) {
    if (!w->ready) give_up(c, why);
    if (w->options.returning && c->asked_back && c->close_code == 1012) {
        drop(c);
        c->phase = phase::idle;
        return;
    }
    w->closed[c->close_code ? c->close_code : 1006]++;
    if (!c->churner) w->alive--;
    drop(c);
    c->phase = phase::closed;
}

void client_disconnect(world *w, client *c, bool polite) {
    if (polite) client_send(w, c, 8, std::string_view("\x03\xe8", 2));
    drop(c);
    c->phase = phase::idle;
}

// ---------------------------------------------------------------- sending

static void watch(world *w, client *c, int operation, uint32_t events) {
    struct epoll_event e = {};
    e.events = events;
    e.data.ptr = c;
    if (epoll_ctl(w->epoll, operation, c->fd, &e) != 0) give_up(c, strerror(errno));
}

static void watch_writing(world *w, client *c, bool writing) {
    if (c->writing == writing) return;
    c->writing = writing;
    watch(w, c, EPOLL_CTL_MOD, writing ? EPOLLIN | EPOLLOUT : EPOLLIN);
}

static ssize_t write_some(client *c) {
    if (!c->ssl) return send(c->fd, c->out.data(), c->out.size(), MSG_NOSIGNAL);
    ERR_clear_error();
    int n = SSL_write(c->ssl, c->out.data(), static_cast<int>(c->out.size()));
    if (n > 0) return n;
    errno = SSL_get_error(c->ssl, n) == SSL_ERROR_WANT_WRITE ? EAGAIN : EPIPE;
    return -1;
}

static void flush(world *w, client *c) {
    while (!c->out.empty()) {
        ssize_t n = write_some(c);
        if (n < 0) break; // a broken connection shows itself at the next read
        c->out.erase(0, static_cast<size_t>(n));
    }
    watch_writing(w, c, !c->out.empty() && errno == EAGAIN);
}

// Frames of clients are masked; the key is zero, which masks nothing and is as legal as any other.
void client_send(world *w, client *c, uint8_t opcode, std::string_view payload) {
    if (c->fd < 0) return;
    char head[8] = {static_cast<char>(0x80 | opcode)};
    size_t size = 2;
    if (payload.size() < 126) {
        head[1] = static_cast<char>(0x80 | payload.size());
    } else {
        head[1] = static_cast<char>(0x80 | 126);
        head[2] = static_cast<char>(payload.size() >> 8);
        head[3] = static_cast<char>(payload.size() & 255);
        size = 4;
    }
    c->out.append(head, size).append(4, '\0').append(payload);
    flush(w, c);
}

void client_join(world *w, client *c) {
    if (c->churner) c->highest = 0;
    c->phase = phase::joining;
    std::string since = w->options.returning && !c->since.empty() ? ",\"since\":{" + c->since + "}" : "";
    client_send(w, c, 1, R"({"type":"join","id":1,"room":")" + fill_in(w->options.room, c) + "\"" + since + "}");
}

void client_return(world *w, client *c) {
    c->due = 0;
    c->asked_back = false;
    uint32_t highest = c->highest; // what it has seen counts
    client_connect(w, c);
    c->highest = highest;
}

void client_leave(world *w, client *c) {
    c->phase = phase::leaving;
    client_send(w, c, 1, R"({"type":"leave","id":2,"room":")" + fill_in(w->options.room, c) + "\"}");
}

// ---------------------------------------------------------------- the way in

static void ask(world *w, client *c) {
    c->phase = phase::asking;
    c->out = "GET " + fill_in(w->options.path, c) + " HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n" +
             "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + key +
             (w->options.deflate ? "\r\nSec-WebSocket-Extensions: permessage-deflate; client_max_window_bits" : "") +
             "\r\n\r\n";
    flush(w, c);
}

static void secure(world *w, client *c) {
    if (!c->ssl) {
        c->ssl = SSL_new(w->context);
        SSL_set_fd(c->ssl, c->fd);
        SSL_set_tlsext_host_name(c->ssl, "localhost");
        if (w->session) { // a copy: a session that one connection breaks off is marked as not to be resumed
            SSL_SESSION *copy = SSL_SESSION_dup(w->session);
            SSL_set_session(c->ssl, copy);
            SSL_SESSION_free(copy);
        }
        c->phase = phase::securing;
    }
    ERR_clear_error();
    int n = SSL_connect(c->ssl);
    if (n == 1) return ask(w, c);
    int why = SSL_get_error(c->ssl, n);
    if (why == SSL_ERROR_WANT_READ) return watch_writing(w, c, false);
    if (why == SSL_ERROR_WANT_WRITE) return watch_writing(w, c, true);
    lost(w, c, "TLS handshake refused");
}

static void connected(world *w, client *c) {
    int failure = 0;
    socklen_t size = sizeof failure;
    getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &failure, &size);
    if (failure) return lost(w, c, strerror(failure));
    watch_writing(w, c, false);
    if (w->context)
        secure(w, c);
    else
        ask(w, c);
}

// A source address of its own for every 5,000 clients and for each process, so that no run meets another's TIME_WAIT.
static void bind_source(const client *c) {
    struct sockaddr_in from = {};
    from.sin_family = AF_INET;
    uint32_t process = static_cast<uint32_t>(getpid());
    from.sin_addr.s_addr = htonl(0x7f010001u + (process % 199 << 16) + (c->index / clients_an_address << 8));
    int yes = 1;
    setsockopt(c->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &yes, sizeof yes);
    if (bind(c->fd, reinterpret_cast<struct sockaddr *>(&from), sizeof from) != 0) give_up(c, strerror(errno));
}

void client_connect(world *w, client *c) {
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c->fd < 0) give_up(c, strerror(errno));
    struct sockaddr_in to = {};
    to.sin_family = AF_INET;
    to.sin_port = htons(w->options.port);
    if (inet_pton(AF_INET, w->options.host.c_str(), &to.sin_addr) != 1) give_up(c, "--host wants an IPv4 address");
    if (ntohl(to.sin_addr.s_addr) >> 24 == 127) bind_source(c);
    int yes = 1;
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    const int buffer = w->options.receive_buffer; // before connect, so that the window is small from the start
    if (buffer) setsockopt(c->fd, SOL_SOCKET, SO_RCVBUF, &buffer, sizeof buffer);
    if (connect(c->fd, reinterpret_cast<struct sockaddr *>(&to), sizeof to) != 0 && errno != EINPROGRESS)
        give_up(c, strerror(errno));
    c->phase = phase::connecting;
    c->close_code = 0;
    c->writing = true;
    watch(w, c, EPOLL_CTL_ADD, EPOLLOUT);
}

// Returns the bytes of the answer's head, 0 where it is not whole.
static size_t read_answer(world *w, client *c, std::string_view in) {
    size_t end = in.find("\r\n\r\n");
    if (end == std::string_view::npos) return 0;
    std::string_view head = in.substr(0, end);
    if (!head.starts_with("HTTP/1.1 101 ") || head.find(accept) == std::string_view::npos)
        give_up(c, head.substr(0, head.find("\r\n")));
    if ((head.find("permessage-deflate; server_no_context_takeover") != std::string_view::npos) != w->options.deflate)
        give_up(c, "not what was offered as extensions");
    if (w->options.json && !c->churner) {
        client_join(w, c);
    } else {
        c->phase = phase::open;
        client_opened(w, c);
    }
    return end + 4;
}

// ---------------------------------------------------------------- frames

// A message for ten thousand is the same bytes ten thousand times, and inflated once.
static bool inflate_payload(world *w, std::string_view payload) {
    if (payload == w->packed) return true;
    z_stream *z = &w->inflater;
    int result = z->state ? inflateReset(z) : inflateInit2(z, -15);
    if (result != Z_OK) return false;
    w->packed = payload;
    w->unpacked.clear();
    std::string in = w->packed + std::string("\0\0\xff\xff", 4);
    z->next_in = reinterpret_cast<unsigned char *>(in.data());
    z->avail_in = static_cast<uInt>(in.size());
    while (result == Z_OK) {
        unsigned char piece[16384];
        z->next_out = piece;
        z->avail_out = sizeof piece;
        result = inflate(z, Z_SYNC_FLUSH);
        w->unpacked.append(reinterpret_cast<char *>(piece), sizeof piece - z->avail_out);
    }
    if (result == Z_BUF_ERROR && !z->avail_in) return true;
    w->packed.clear();
    return false;
}

static void on_frame(world *w, client *c, uint8_t first, std::string_view payload) {
    switch (first) {
    case 0xc1:
    case 0xc2:
        if (!w->options.deflate || !inflate_payload(w, payload)) {
            w->totals.bad_frames++;
            return;
        }
        w->totals.compressed++;
        return check_text(w, c, w->unpacked);
    case 0x81:
    case 0x82:
        return check_text(w, c, payload);
    case 0x89:
        return client_send(w, c, 10, payload);
    case 0x8a:
        return;
    case 0x88:
        c->close_code =
            payload.size() < 2
                ? 1005
                : static_cast<uint16_t>(static_cast<uint8_t>(payload[0]) << 8 | static_cast<uint8_t>(payload[1]));
        return client_send(w, c, 8, payload.substr(0, 2));
    default:
        w->totals.bad_frames++; // fragments, reserved bits: Belfry sends none
    }
}

// Returns the bytes of one whole frame, 0 where there is none.
static size_t read_frame(world *w, client *c, std::string_view in) {
    if (in.size() < 2) return 0;
    auto byte = [&](size_t at) { return static_cast<uint64_t>(static_cast<uint8_t>(in[at])); };
    uint64_t size = byte(1);
    size_t head = size == 126 ? 4 : size == 127 ? 10 : 2;
    if (in.size() < head) return 0;
    if (head > 2) {
        size = 0;
        for (size_t i = 2; i < head; i++)
            size = size << 8 | byte(i);
    }
    if (in.size() - head < size) return 0;
    on_frame(w, c, static_cast<uint8_t>(byte(0)), in.substr(head, size));
    return head + size;
}

static void take(world *w, client *c, std::string_view in) {
    w->totals.bytes += in.size();
    bool kept = !c->in.empty();
    if (kept) {
        c->in.append(in);
        in = c->in;
    }
    size_t used = 0;
    while (c->fd >= 0) {
        std::string_view rest = in.substr(used);
        size_t n = c->phase == phase::asking ? read_answer(w, c, rest) : read_frame(w, c, rest);
        if (n == 0) break;
        used += n;
    }
    if (kept)
        c->in.erase(0, used);
    else
        c->in.assign(in.substr(used));
}

// Bytes read; 0: not now; -1: the end.
static ssize_t read_some(client *c) {
    if (!c->ssl) {
        ssize_t n = recv(c->fd, received, sizeof received, 0);
        return n > 0 ? n : n < 0 && errno == EAGAIN ? 0 : -1;
    }
    ERR_clear_error();
    int n = SSL_read(c->ssl, received, sizeof received);
    if (n > 0) return n;
    int why = SSL_get_error(c->ssl, n);
    return why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE ? 0 : -1;
}

static void read_all(world *w, client *c) {
    while (c->fd >= 0) {
        ssize_t n = read_some(c);
        if (n < 0) return lost(w, c, "the server ended the connection");
        if (n == 0) return;
        take(w, c, std::string_view(received, static_cast<size_t>(n)));
        if (!c->ssl) return; // level-triggered: what is left comes again
    }
}

void client_event(world *w, client *c, uint32_t events) {
    if (c->fd < 0) return;
    if (c->phase == phase::connecting) return connected(w, c);
    if (c->phase == phase::securing) return secure(w, c);
    if (events & EPOLLOUT) flush(w, c);
    if (c->fd >= 0 && events & ~static_cast<uint32_t>(EPOLLOUT)) read_all(w, c);
}

} // namespace swarm
