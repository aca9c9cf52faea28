// The live view of the control API. Main thread.
#ifdef HAVE_CONFIG_H
#include <config.h>
#else
#define PACKAGE_VERSION "unknown"
#endif

#include "main/control_live.h"

#include "base/access_log.h"
#include "base/log.h"
#include "main/control_sum.h"
#include "main/control_top.h"
#include "main/process_stats.h"
#include "main/reload.h"
#include "net/deadline.h"
#include "proto/handshake.h"
#include "proto/wsframe.h"

#include <algorithm>
#include <unistd.h>

namespace belfry {

// ---------------------------------------------------------------- the object

static unsigned long long big(uint64_t n) {
    return n;
}

static void write_process(const control_api *a, buffer *out) {
    const process_stats p = process_stats_read();
    struct clock now;
    clock_refresh(&now);
    buffer_printf(out,
                  "{\"time\":%llu,\"version\":\"%s\",\"node\":\"%.*s\",\"pid\":%d,\"uptime\":%llu,\"workers\":%u,"
                  "\"ready\":%s,\"stopping\":%s,\"generation\":%llu,\"limit\":%lld",
                  big(now.wall_ms), PACKAGE_VERSION, static_cast<int>(node_id().size()), node_id().data(), getpid(),
                  big((now.wall_ms - a->started_ms) / 1000), a->node->worker_count,
                  node_ready(a->node) ? "true" : "false", a->node->unready ? "true" : "false",
                  big(a->reload->generation), static_cast<long long>(a->limits->max_connections));
    buffer_printf(out, ",\"cpu_ms\":%llu,\"resident\":%llu,\"files\":%llu", big(p.cpu_ns / 1000000),
                  big(p.resident_bytes), big(p.open_fds));
    buffer_printf(out, ",\"log\":{\"error\":%llu,\"warn\":%llu,\"dropped\":%llu}", big(log_count(log_level::error)),
                  big(log_count(log_level::warn)), big(log_dropped() + access_log_dropped()));
}

static void write_sums(const control_sum *sum, buffer *out) {
    const shard_status *s = &sum->all;
    const counters *n = &s->count;
    uint64_t lag = 0;
    for (const loop_lag &l : sum->lags)
        lag = std::max(lag, l.peak_ns);
    std::map<std::string, uint64_t> kinds;
    for (const auto &[key, count] : sum->census)
        kinds[key.second] += count;
    buffer_printf(out,
                  ",\"connections\":%llu,\"tls\":%llu,\"memberships\":%llu,\"blocked\":%llu,\"queue_bytes\":%llu,"
                  "\"lag_us\":%llu",
                  big(s->connections), big(s->tls), big(s->memberships), big(s->blocked), big(s->queue_bytes),
                  big(lag / 1000));
    buffer_append(out, ",\"kinds\":{");
    bool first = true;
    for (const auto &[kind, count] : kinds) {
        buffer_printf(out, "%s\"%s\":%llu", first ? "" : ",", kind.c_str(), big(count));
        first = false;
    }
    buffer_printf(out,
                  "},\"accepted\":%llu,\"handshakes\":%llu,\"messages_in\":%llu,\"deliveries\":%llu,\"bytes_in\":%llu,"
                  "\"bytes_out\":%llu",
                  big(n->accepted), big(n->handshakes), big(n->messages_in), big(n->deliveries), big(n->bytes_in),
                  big(n->bytes_out));
    buffer_printf(out,
                  ",\"hooks\":{\"calls\":%llu,\"failures\":%llu},\"proxy\":{\"requests\":%llu,\"failures\":%llu},"
                  "\"notify\":{\"spooled\":%llu,\"dropped\":%llu}",
                  big(n->edge.hook_calls), big(n->edge.hook_failures), big(n->edge.requests),
                  big(n->edge.answers[5] + n->edge.answers[0]), big(s->notify.spooled), big(s->notify.dropped));
}

// Those that have happened at all: most never do.
static void write_reasons(const counters *n, buffer *out) {
    auto one = [out](bool *first, const char *name, uint64_t count) {
        if (!count) return;
        buffer_printf(out, "%s\"%s\":%llu", *first ? "" : ",", name, big(count));
        *first = false;
    };
    bool first = true;
    buffer_append(out, ",\"refused\":{");
    for (int i = 0; i < refuse_reason_count; i++)
        one(&first, refuse_reason_name(static_cast<refuse_reason>(i)), n->refused[i]);
    first = true;
    buffer_append(out, "},\"dropped\":{");
    for (int i = 0; i < drop_reason_count; i++)
        one(&first, drop_reason_name(static_cast<drop_reason>(i)), n->dropped[i]);
    first = true;
    buffer_append(out, "},\"closed\":{");
    for (const close_count &e : n->closed)
        one(&first, std::to_string(e.code).c_str(), e.count);
    buffer_append_char(out, '}');
}

static void write_node(const control_api *a, buffer *out) {
    const broker *b = a->node->broker;
    buffer_printf(out,
                  ",\"rooms\":%zu,\"broker\":{\"type\":\"%s\",\"ready\":%s,\"received\":%llu,\"published\":%llu,"
                  "\"reconnects\":%llu,\"subscriptions\":%llu,\"lost\":%llu},\"upstreams\":[",
                  a->node->rooms.count, a->settings->broker.type == 1 ? "redis" : "memory",
                  b->ops->ready(b) ? "true" : "false", big(b->count.received), big(b->count.published),
                  big(b->count.reconnects), big(b->count.subscriptions), big(a->node->publishes_dropped));
    for (size_t i = 0; i < a->node->upstreams.size(); i++) {
        if (i) buffer_append_char(out, ',');
        upstream_status_write(a->node->upstreams[i], nullptr, out);
    }
    buffer_append_char(out, ']');
}

// ---------------------------------------------------------------- a question

// Two questions to the workers at once.
struct live_question {
    control_api *api; // borrowed
    std::string top;
    control_sum sum;
    int missing;
    void (*done)(control_api *a, view json, void *context);
    void *context; // borrowed
};

static void compose(live_question *l) {
    if (--l->missing) return;
    buffer out = {};
    write_process(l->api, &out);
    write_sums(&l->sum, &out);
    write_reasons(&l->sum.all.count, &out);
    write_node(l->api, &out);
    buffer_append(&out, ",\"top\":");
    buffer_append(&out, l->top);
    buffer_append_char(&out, '}');
    l->done(l->api, buffer_view(&out), l->context);
    buffer_free(&out);
    delete l;
}

static void sum_known(query *q, void *context, uint64_t) {
    auto *l = static_cast<live_question *>(context);
    l->sum = control_sum_of(q);
    compose(l);
}

static void top_known(control_api *, view json, void *context) {
    auto *l = static_cast<live_question *>(context);
    l->top = json;
    compose(l);
}

static void ask(control_api *a, void (*done)(control_api *a, view json, void *context), void *context) {
    auto *l = new live_question{a, {}, {}, 2, done, context};
    control_top_ask(a, top_known, l);
    node_query(a->node, query_type::status, view(), view(), 1, sum_known, l, 0);
}

static void reply(control_api *, view json, void *context) {
    auto *c = static_cast<control_conn *>(context);
    control_reply(c, 200, "application/json", json, view());
    control_unref(c);
}

// ---------------------------------------------------------------- watchers

struct watcher {
    control_conn *to; // counted
    control_live *of; // borrowed
    ws_parser parser;
    uint64_t received; // ws_parse's counter
};

struct control_live {
    control_api *api;                // borrowed
    std::vector<watcher *> watchers; // owned
    struct deadline tick;            // in the node's wheel; armed while somebody watches
    bool asking;                     // a question is under way
};

static void send_frame(watcher *w, uint8_t opcode, view payload) {
    char header[10];
    std::string frame(header, ws_write_header(opcode, payload.size(), header));
    frame += payload;
    control_send(w->to, frame);
}

static bool watches(const control_live *l, const watcher *w) {
    return std::find(l->watchers.begin(), l->watchers.end(), w) != l->watchers.end();
}

// Who has not taken the last one yet gets this one not: what is shown is always of now.
static void push(control_api *a, view json, void *) {
    control_live *l = a->live;
    l->asking = false;
    const std::vector<watcher *> now = l->watchers; // one that fails goes from the list
    for (watcher *w : now)
        if (watches(l, w) && !control_queued(w->to)) send_frame(w, ws_text, json);
}

static void look(control_live *l) {
    if (l->asking) return;
    l->asking = true;
    ask(l->api, push, nullptr);
}

static void ticked(deadline *d) {
    control_live *l = BELFRY_CONTAINER_OF(d, control_live, tick);
    if (l->watchers.empty()) return;
    wheel_set(&l->api->node->deadlines, &l->tick.timer, l->api->on->clock.monotonic_ms, control_live_ms);
    look(l);
}

// A watcher has nothing to say but that it is there, or goes.
static void on_bytes(control_conn *c, buffer *in, void *context) {
    auto *w = static_cast<watcher *>(context);
    const control_live *l = w->of;
    static constexpr ws_limits limits = {4096, 65536};
    ws_bytes data = {in->data, in->data + in->size};
    for (;;) {
        ws_event e = ws_parse(&w->parser, &limits, &w->received, &data);
        if (e.type == ws_event_type::more) break;
        if (e.type == ws_event_type::failed || (e.type == ws_event_type::control && e.opcode == ws_close)) {
            uint16_t code = e.close_code == 1005 ? 1000 : e.close_code;
            const char number[2] = {static_cast<char>(code >> 8), static_cast<char>(code)};
            send_frame(w, ws_close, view(number, sizeof number));
            return control_end(c);
        }
        if (e.type == ws_event_type::control && e.opcode == ws_ping && control_queued(c) < 4096)
            send_frame(w, ws_pong, e.payload);
        if (!watches(l, w)) return; // what was sent has shown that it is gone
    }
    buffer_consume(in, static_cast<size_t>(data.begin - in->data));
}

static void on_gone(control_conn *c, void *context) {
    auto *w = static_cast<watcher *>(context);
    std::erase(w->of->watchers, w);
    delete w;
    control_unref(c);
}

static const control_upgraded events = {on_bytes, on_gone};

static void upgrade(control_live *l, control_conn *c, const control_request *q) {
    handshake hello;
    handshake_verdict verdict = handshake_check(q->head, &hello);
    if (verdict.status != 101) return control_reply_error(c, verdict.status, verdict.why, verdict.field);
    if (l->watchers.size() >= control_watchers_max)
        return control_reply_error(c, 503, "as many watch as may", "Retry-After: 10\r\n");
    auto *w = new watcher{control_ref(c), l, {}, 0};
    l->watchers.push_back(w);
    buffer answer = {};
    handshake_write_101(hello.key, handshake_offers(&hello, "belfry.live") >= 0 ? "belfry.live" : view(), view(),
                        &answer);
    control_upgrade(c, buffer_view(&answer), &events, w);
    buffer_free(&answer);
    look(l);
    if (!timer_armed(&l->tick.timer))
        wheel_set(&l->api->node->deadlines, &l->tick.timer, l->api->on->clock.monotonic_ms, control_live_ms);
}

void control_live_handle(control_api *a, control_conn *c, const control_request *q) {
    if (handshake_wanted(q->head)) return upgrade(a->live, c, q);
    ask(a, reply, control_ref(c));
}

// ---------------------------------------------------------------- life

control_live *control_live_new(control_api *a) {
    auto *l = new control_live{a, {}, {}, false};
    deadline_init(&l->tick, ticked);
    return l;
}

void control_live_free(control_live *l) {
    delete l;
}

} // namespace belfry
