// A worker's shard without its thread, with connections over socket pairs: for the tests of what works on a shard. The
// test takes the turns itself. One bench at a time, in `bench`, so that a failed assertion leaks nothing.
#pragma once

#include "base/error.h"
#include "relay/conn.h"
#include "relay/fanout.h"
#include "relay/presence_worker.h"
#include "relay/room.h"
#include "relay/session.h"
#include "relay/websocket.h"
#include "relay/worker.h"

#include <errno.h>
#include <string>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include <vector>

namespace belfry {

// A letter to the node, as the test looks at it.
struct seen_letter {
    letter_type type;
    uint32_t serial;
    std::string room;
    bool operator==(const seen_letter &) const = default;
};

// A client's publish on its way to the node, ditto.
struct seen_publish {
    std::string room, payload, from;
    payload_kind kind;
    size_t except_count;
    bool wants_answer;
    int64_t request_id;
};

// A join that names `since`, ditto.
struct seen_ask {
    position since;
    uint64_t room_for;
};

struct shard_bench {
    loop *node_loop;
    worker *of;
    relay_settings settings;
    route way; // of all connections
    std::atomic<int64_t> live;
    std::atomic<bool> node_stalled;
    std::vector<int> sockets;        // the clients' ends
    std::vector<message *> messages; // counted
    std::vector<seen_letter> letters;
    std::vector<seen_publish> publishes; // of those letters
    seen_ask asked;                      // the last of those
    uint64_t now_ms;                     // the shard's clock stands still but for advance()
};

inline shard_bench *bench;

inline constexpr position nowhere = {}; // where a room without history is

inline shard *the_shard() {
    return &bench->of->shard;
}

inline int bench_begin(void **) {
    alarm(60);
    node_id_init();
    bench = new shard_bench{};
    bench->node_loop = loop_new();
    bench->settings.max_connections = 1000;
    bench->settings.listeners.resize(1);
    bench->settings.listeners[0].handshake_timeout = 10000;
    bench->way.path = "/";
    bench->way.max_message = 65536;
    bench->way.max_rooms = 64;
    bench->way.send_queue = 1 << 20;
    bench->of = new worker{};
    worker_init(bench->of, 3, &bench->settings, bench->node_loop, &bench->live, &bench->node_stalled);
    bench->now_ms = bench->of->shard.loop->clock.monotonic_ms;
    return 0;
}

// What the shard told the node since the last call.
inline const std::vector<seen_letter> &letters() {
    bench->letters.clear();
    bench->publishes.clear();
    mailbox_flush(&the_shard()->outbox);
    while (auto *l = static_cast<letter *>(mailbox_receive(&the_shard()->outbox))) {
        if (l->type == letter_type::want || l->type == letter_type::drop) {
            auto *r = reinterpret_cast<room_letter *>(l);
            bench->letters.push_back({l->type, r->serial, r->room});
            delete r;
        } else if (l->type == letter_type::publish) {
            auto *p = reinterpret_cast<publish_letter *>(l);
            message *m = p->what;
            bench->letters.push_back({l->type, 0, std::string(m->room)});
            bench->publishes.push_back({std::string(m->room), std::string(m->payload), std::string(m->from), m->kind,
                                        m->except_count, p->wants_answer, p->request_id});
            the_shard()->outbox_bytes -= static_cast<int64_t>(m->payload.size()) + letter_charge;
            message_unref(m);
            delete p;
        } else if (l->type == letter_type::join_ask) { // `serial` is its number
            auto *a = reinterpret_cast<join_ask_letter *>(l);
            bench->letters.push_back({l->type, a->number, a->room});
            bench->asked = {a->since, a->room_for};
            the_shard()->outbox_bytes -= letter_charge;
            delete a;
        } else if (l->type == letter_type::entered || l->type == letter_type::exited) { // ROOM USER INFO
            auto *m = reinterpret_cast<member_letter *>(l);
            bench->letters.push_back({l->type, m->who.slot, m->room + " " + m->user + " " + m->info});
            the_shard()->outbox_bytes -= presence_charge(m);
            delete m;
        } else if (l->type == letter_type::members) { // `serial` is the request's id
            auto *m = reinterpret_cast<members_letter *>(l);
            bench->letters.push_back({l->type, static_cast<uint32_t>(m->request_id), m->room});
            the_shard()->outbox_bytes -= presence_charge(m);
            members_letter_free(m);
        } else if (l->type == letter_type::fence) {
            bench->letters.push_back({l->type, 0, ""});
            delete reinterpret_cast<fence_letter *>(l);
        } else {
            fatal("a letter that these tests do not cause: %d", static_cast<int>(l->type));
        }
    }
    return bench->letters;
}

// As the worker's turn, but that it never waits and reads no mailbox.
inline void turn() {
    shard *s = the_shard();
    loop_turn(s->loop, false);
    s->loop->clock.monotonic_ms = bench->now_ms;
    conn_run_again(s);
    while (fanout_flush(s)) {
    }
    conn_bury(s);
}

// So much later: fires the deadlines that passed.
inline void advance(uint64_t ms) {
    shard *s = the_shard();
    s->loop->clock.monotonic_ms = bench->now_ms += ms;
    wheel_advance(&s->wheel, bench->now_ms);
    wheel_advance(&s->deadlines, bench->now_ms);
    turn();
}

inline int bench_end(void **) {
    shard *s = the_shard();
    for (uint32_t i = 0; i < s->slot_count; i++)
        if (s->conns[i]) conn_abort(s->conns[i]);
    turn();
    uint32_t live = s->live;
    size_t rooms = s->rooms.count, memberships = s->membership_count;
    letters();
    for (message *m : bench->messages)
        message_unref(m);
    for (int fd : bench->sockets)
        close(fd);
    worker_destroy(bench->of);
    loop_free(bench->node_loop);
    delete bench->of;
    delete bench;
    alarm(0);
    // Whatever a test did, nothing is left over.
    return live || rooms || memberships || message_bytes_in_flight() ? 1 : 0;
}

struct test_client {
    conn *at;
    int fd;
};

// Accepted, but nothing was asked yet.
inline test_client connect_client() {
    shard *s = the_shard();
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) != 0) fatal("no socket pair");
    struct sockaddr_un nobody = {};
    nobody.sun_family = AF_UNIX;
    uint32_t slot = s->free_count ? s->free_slots[s->free_count - 1] : s->slot_count;
    conn_accept(s, ends[0], reinterpret_cast<struct sockaddr *>(&nobody), sizeof nobody.sun_family,
                &bench->settings.listeners[0]);
    bench->sockets.push_back(ends[1]);
    return {s->conns[slot], ends[1]};
}

// In the WebSocket phase, in no room.
inline test_client open_client(wire_form form) {
    test_client c = connect_client();
    c.at->route = &bench->way;
    c.at->session = form_is_json(form) ? &session_json : &session_raw;
    c.at->form = form;
    websocket_open(c.at);
    return c;
}

// A member of the room, which the broker delivers from here on.
inline membership *enter(conn *c, view name) {
    membership *m = nullptr;
    switch (room_join(the_shard(), c, name, &m)) {
    case join_result::joined:
        room_admit(m);
        break;
    case join_result::waiting:
        room_active(the_shard(), name, m->in->serial, &nowhere, room_admit);
        break;
    default:
        fatal("already in, or full");
    }
    return m;
}

inline message *make_message(view room, view payload, payload_kind kind, const view *except = nullptr,
                             size_t except_count = 0) {
    frame *source = frame_copy(payload);
    const message_parts parts = {.room = room,
                                 .source = source,
                                 .payload = frame_view(source),
                                 .kind = kind,
                                 .time_ms = 1700000000123,
                                 .except = except,
                                 .except_count = except_count};
    message *m = message_new(&parts);
    frame_unref(source);
    bench->messages.push_back(m);
    return m;
}

// What is in the client's socket now.
inline std::string received(const test_client &c) {
    std::string all;
    char some[65536];
    ssize_t n;
    while ((n = recv(c.fd, some, sizeof some, MSG_DONTWAIT)) > 0)
        all.append(some, static_cast<size_t>(n));
    return all;
}

inline bool at_end(const test_client &c) {
    char one;
    return recv(c.fd, &one, 1, MSG_DONTWAIT) == 0;
}

// A server's frame, RFC 6455 section 5.2, spelled out here and not by the code under test.
inline std::string server_frame(unsigned char first, const std::string &payload) {
    std::string f(1, static_cast<char>(first));
    size_t n = payload.size();
    if (n < 126) {
        f += static_cast<char>(n);
    } else {
        int bytes = n < 65536 ? 2 : 8;
        f += static_cast<char>(bytes == 2 ? 126 : 127);
        while (bytes--)
            f += static_cast<char>(n >> (8 * bytes));
    }
    return f + payload;
}

// A client's frame: masked.
inline std::string client_frame(unsigned char first, const std::string &payload) {
    static const unsigned char mask[] = {0x11, 0x22, 0x33, 0x44};
    std::string f = server_frame(first, payload);
    f[1] = static_cast<char>(f[1] | 0x80);
    size_t header = f.size() - payload.size();
    for (size_t i = 0; i < payload.size(); i++)
        f[header + i] = static_cast<char>(f[header + i] ^ mask[i % 4]);
    return f.insert(header, reinterpret_cast<const char *>(mask), sizeof mask);
}

// The client sends this, the shard reads it and writes what it answers.
inline void send_bytes(const test_client &c, const std::string &all) {
    if (send(c.fd, all.data(), all.size(), MSG_NOSIGNAL) != static_cast<ssize_t>(all.size())) fatal("a full socket");
    turn();
}

inline void deliver(message *m) {
    fanout_deliver(the_shard(), m);
}

inline std::string json_message(const std::string &room, const std::string &data) {
    return server_frame(0x81, "{\"type\":\"message\",\"room\":\"" + room + "\",\"data\":" + data +
                                  ",\"time\":1700000000123}");
}

inline std::string conn_room(const conn *c) {
    conn_id_text id = conn_id_format(conn_id_of(c));
    return "@conn:" + std::string(view(id));
}

inline uint64_t closed_with(uint16_t code) {
    for (const close_count &e : the_shard()->count.closed)
        if (e.count && e.code == code) return e.count;
    return 0;
}

} // namespace belfry

// For the test's line in the report, so a macro.
#define assert_bytes(got, want)                                                                                        \
    do {                                                                                                               \
        const std::string got_bytes(got), want_bytes(want);                                                            \
        assert_int_equal(got_bytes.size(), want_bytes.size());                                                         \
        assert_memory_equal(got_bytes.data(), want_bytes.data(), want_bytes.size());                                   \
    } while (0)
