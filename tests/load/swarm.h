// A swarm of WebSocket clients for the load, budget and bench tests: what its files share. One process, one thread;
// nothing of Belfry is linked, so that a mistake in Belfry's own framing can't hide behind the same mistake here.
//
//   swarm.cc          arguments, commands on standard input, the loop, churn
//   swarm_client.cc   a client's socket, TLS, handshake and frames
//   swarm_check.cc    what the clients were sent: once, in order, to the right room; the report
#pragma once

#include <map>
#include <openssl/ssl.h>
#include <stdint.h>
#include <string>
#include <string_view>
#include <vector>
#include <zlib.h>

namespace swarm {

struct options {
    std::string host = "127.0.0.1";
    uint16_t port = 0;
    std::string path = "/";       // %i: the client's number, %r: its room's
    std::string room = "load:%r"; // the name that JSON clients join
    bool tls = false;
    bool json = false;
    bool tickets = false;   // resume TLS sessions
    bool deflate = false;   // offer permessage-deflate, and insist on it
    bool returning = false; // JSON: who is asked to come back does, when it is told to, and joins with `since`
    uint32_t count = 1;
    uint32_t rooms = 1;
    uint32_t churn = 0;        // further clients that come and go
    uint32_t churn_rate = 500; // their comings and goings a second, all together
    uint32_t in_flight = 200;  // handshakes at a time
    uint32_t max_seconds = 300;
    int receive_buffer = 0; // bytes, SO_RCVBUF; 0: as the kernel likes
};

enum class phase : uint8_t {
    idle,       // not connected
    connecting, // TCP
    securing,   // TLS
    asking,     // the request is out
    joining,    // JSON: the join is out
    open,
    leaving, // JSON churn: the leave is out
    closed,  // for good
};

struct client {
    int fd = -1;
    SSL *ssl = nullptr;
    uint32_t index = 0;
    uint32_t room = 0;
    enum phase phase = phase::idle;
    bool churner = false;
    bool joined = false;        // JSON churn: a member of `room`
    bool writing = false;       // waits for the socket to take `out`
    uint16_t close_code = 0;    // of the server's Close frame
    uint32_t highest = 0;       // sequence number so far; of a churner: in this membership
    uint32_t gaps = 0;          // "gap" objects
    bool asked_back = false;    // a `bye` has come
    double due = 0;             // seconds: when it comes back; 0: it does not
    std::string since;          // the place of its last message, as it stood there: "epoch":...,"offset":...
    std::string in;             // bytes of a frame that is not whole yet
    std::string out;            // bytes that the socket did not take
    std::vector<uint64_t> seen; // one bit a sequence number
};

// 8 buckets per power of two of nanoseconds: within 12 % of the truth.
inline constexpr uint32_t latency_buckets = 64 * 8;

struct totals {
    uint64_t messages, bytes, duplicates, reordered, misrouted, unnumbered, gaps, errors, bad_frames, compressed;
    uint64_t churn_messages, churn_broken, churn_stray, churn_joins, churn_leaves;
    uint64_t byes, returned, recovered; // of who comes back: asked to, in again, without a loss
    uint64_t latency[latency_buckets];
    uint64_t latencies;
};

struct world {
    struct options options;
    int epoll = -1;
    SSL_CTX *context = nullptr;
    SSL_SESSION *session = nullptr; // the newest ticket
    z_stream inflater = {};
    std::string packed, unpacked; // the last compressed payload, and what it stands for
    std::vector<client> clients;  // those who stay, then those who churn
    uint32_t next = 0;            // to be opened
    uint32_t in_flight = 0;
    uint32_t opened = 0; // of all, before `ready`
    uint32_t alive = 0;  // of those who stay
    bool ready = false;
    bool churning = false;
    uint32_t first = 1, last = 0; // `expect`: the sequence numbers that everybody must have
    struct totals totals = {};
    std::map<uint32_t, uint64_t> closed; // by close code; 1006: without one
};

double seconds(); // monotonic
// Replaces %i and %r.
std::string fill_in(const std::string &pattern, const client *c);

// swarm_client.cc
void client_connect(world *w, client *c);
void client_event(world *w, client *c, uint32_t events);
void client_send(world *w, client *c, uint8_t opcode, std::string_view payload);
void client_join(world *w, client *c);
void client_leave(world *w, client *c);
// Goes away without a word where `polite` is false.
void client_disconnect(world *w, client *c, bool polite);
[[noreturn]] void give_up(const client *c, std::string_view why);

void client_return(world *w, client *c);

// swarm_check.cc
void check_text(world *w, client *c, std::string_view text);
void report(const world *w);

// swarm.cc: a client has got through its handshake, and its first join where it makes one.
void client_opened(world *w, client *c);

} // namespace swarm
