// A shard with connections, without a worker's thread and without what works above the chain: for the tests of the
// modules' side of a connection. One bench at a time, in `bench`, so that a failed assertion leaks nothing.
#pragma once

#include "base/error.h"
#include "base/hash.h"
#include "net/deadline.h"
#include "relay/chain.h"
#include "relay/client.h"

#include <string>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include <vector>

namespace belfry {

struct chain_bench {
    shard *s;
    relay_settings settings;
    route way; // of all connections
    std::atomic<int64_t> live;
    std::vector<int> sockets;
    uint64_t now_ms;
    // What the chain's owner was told.
    int chained;
    chain_result result;
    int status;
    std::string reason, module;
    bool has_backend;
    int asked;
    std::string passed, denied; // messages; close codes and reasons
    uint8_t opcode;
};

inline chain_bench *bench;

inline char *take_nothing(conn *, char *begin, char *) {
    return begin;
}
inline void end_at_eof(conn *c, const char *) {
    conn_abort(c);
}
inline constexpr conn_phase idle_phase = {"idle", take_nothing, end_at_eof, conn_abort, nullptr, nullptr};

inline void bench_release(conn *c) {
    chain_close(c);
    if (c->exchange) exchange_free(c->exchange);
    client_free(c);
}

inline int bench_begin(void **) {
    alarm(60);
    hash_init(0x5eed);
    node_id_init();
    bench = new chain_bench{};
    bench->settings.max_connections = 1000;
    bench->settings.listeners.resize(1);
    bench->settings.listeners[0].handshake_timeout = 10000;
    bench->way.path = "/";
    shard *s = bench->s = new shard{};
    s->index = 3;
    s->settings = &bench->settings;
    s->loop = loop_new();
    s->process_live = &bench->live;
    s->first_phase = &idle_phase;
    s->release = bench_release;
    s->reader = json_reader_new();
    bench->now_ms = s->loop->clock.monotonic_ms;
    wheel_init(&s->wheel, bench->now_ms, conn_fire, s);
    wheel_init(&s->deadlines, bench->now_ms, deadline_fire, s);
    slab_init(&s->conn_slab, sizeof(conn), 65536);
    slab_init(&s->chunk_slab, sizeof(outq_chunk), 65536);
    slab_init(&s->exchange_slab, sizeof(exchange), 65536);
    for (link *l : {&s->graveyard, &s->tls_waiting, &s->again, &s->paused, &s->doomed})
        list_init(l);
    return 0;
}

// The modules under test, before any connection is made.
inline void use_modules(std::initializer_list<const struct belfry_module *> modules) {
    for (const struct belfry_module *m : modules)
        bench->settings.modules.push_back({m, 0});
    chain_lay_out(&bench->settings);
    chain_worker_start(bench->s);
}

inline int bench_end(void **) {
    shard *s = bench->s;
    for (uint32_t i = 0; i < s->slot_count; i++)
        if (s->conns[i]) conn_abort(s->conns[i]);
    conn_bury(s);
    bool left = s->live || s->exchange_slab.live || s->deadlines.armed;
    chain_worker_stop(s);
    for (int fd : bench->sockets)
        close(fd);
    for (slab *one : {&s->conn_slab, &s->chunk_slab, &s->exchange_slab})
        slab_destroy(one);
    json_reader_free(s->reader);
    free(s->conns);
    free(s->free_slots);
    loop_free(s->loop);
    delete s;
    delete bench;
    alarm(0);
    return left ? 1 : 0;
}

inline conn *connect_client() {
    shard *s = bench->s;
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) != 0) fatal("no socket pair");
    struct sockaddr_un nobody = {};
    nobody.sun_family = AF_UNIX;
    uint32_t slot = s->free_count ? s->free_slots[s->free_count - 1] : s->slot_count;
    conn_accept(s, ends[0], reinterpret_cast<struct sockaddr *>(&nobody), sizeof nobody.sun_family,
                &bench->settings.listeners[0]);
    bench->sockets.push_back(ends[1]);
    s->conns[slot]->route = &bench->way;
    return s->conns[slot];
}

inline void on_chained(exchange *x, chain_result result, const chain_verdict *v) {
    bench->chained++;
    bench->result = result;
    bench->status = v->status;
    bench->reason = v->reason;
    bench->module = v->module ? v->module : "";
    (void)x;
}
inline bool on_ask_backend(exchange *) {
    bench->asked++;
    return bench->has_backend;
}
inline constexpr exchange_events bench_events = {on_chained, on_ask_backend, nullptr, nullptr};

// A client's handshake up to the chain; the head needs no more fields than the test is about.
inline exchange *begin_exchange(conn *c, const std::string &fields, enum belfry_kind kind = BELFRY_WEBSOCKET) {
    std::string head = "GET /a%62c?token=a%2Bb+c&x=1&token=2 HTTP/1.1\r\nHost: app.example:8443\r\n" + fields + "\r\n";
    http1_request q;
    http1_scan scan = {};
    const char *why = "";
    if (http1_parse_request(head, &scan, &q, &why) != http1_result::complete) fatal("a bad head: %s", why);
    exchange *x = exchange_new(c, &bench_events, &q, head);
    buffer_append(&x->path, "/abc");
    x->kind = kind;
    x->secure = true;
    if (!ip_parse("192.0.2.7", &x->client)) fatal("no address");
    return x;
}

// So much later: deadlines that passed fire, resumes are carried out.
inline void advance(uint64_t ms) {
    shard *s = bench->s;
    s->loop->clock.monotonic_ms = bench->now_ms += ms;
    chain_run_resumes(s);
    wheel_advance(&s->deadlines, bench->now_ms);
}

inline void on_passed(conn *, uint8_t opcode, char *data, size_t size) {
    bench->passed += std::string(data, size) + ";";
    bench->opcode = opcode;
    for (size_t i = 0; i < frame_padding; i++)
        if (data[size + i] != 0) fatal("no padding");
}
inline void on_denied(conn *, const chain_verdict *v) {
    bench->denied += std::to_string(v->close_code) + " " + std::string(v->reason) + ";";
}
inline constexpr chain_waiter bench_waiter = {on_passed, on_denied};

inline struct belfry_text text(const char *t) {
    return {t, strlen(t)};
}
inline std::string str(struct belfry_text t) {
    return std::string(t.data, t.size);
}

} // namespace belfry
