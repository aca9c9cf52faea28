// The status object. Main thread.
#ifdef HAVE_CONFIG_H
#include <config.h>
#else
#define PACKAGE_VERSION "unknown"
#endif

#include "main/control_status.h"

#include "base/access_log.h"
#include "base/log.h"
#include "main/control_sum.h"
#include "main/reload.h"
#include "main/stopping.h"
#include "relay/broker_memory.h"
#include "relay/broker_redis.h"
#include "relay/handover_in.h"
#include "relay/handover_out.h"

#include <malloc.h>
#include <string.h>
#include <unistd.h>

namespace belfry {

static unsigned long long big(uint64_t n) {
    return n;
}

static void write_listeners(const control_api *a, buffer *out) {
    buffer_append(out, ",\"listeners\":[");
    for (size_t i = 0; i < a->listeners->size(); i++) {
        const bound_listener *l = &(*a->listeners)[i];
        buffer_append(out, i ? ",{\"name\":" : "{\"name\":");
        json_write_string(out, l->name);
        buffer_append(out, ",\"address\":");
        json_write_string(out, l->address);
        buffer_printf(out, ",\"tls\":%s}", l->tls ? "true" : "false");
    }
    buffer_append(out, "],\"control\":[");
    bool first = true;
    for (const std::string &address : control_http_addresses(a->http)) {
        if (!first) buffer_append_char(out, ',');
        first = false;
        json_write_string(out, address);
    }
    buffer_append(out, "]");
}

static void write_tickets(const control_api *a, buffer *out) {
    const ticket_counters n = ticket_keys_count(a->settings->tickets);
    buffer_printf(
        out, ",\"tls_tickets\":{\"rotations\":%llu,\"sealed\":%llu,\"newest\":%llu,\"older\":%llu,\"unknown\":%llu}",
        big(n.rotations), big(n.sealed), big(n.newest), big(n.older), big(n.unknown));
}

static void write_counters(const counters *n, buffer *out) {
    buffer_printf(out,
                  ",\"accepted\":%llu,\"handshakes\":%llu,\"messages_in\":%llu,\"bytes_in\":%llu,\"deliveries\":%llu,"
                  "\"bytes_out\":%llu,\"pings_in\":%llu,\"pings_out\":%llu,\"turns\":%llu,\"replayed\":%llu",
                  big(n->accepted), big(n->handshakes), big(n->messages_in), big(n->bytes_in), big(n->deliveries),
                  big(n->bytes_out), big(n->pings_in), big(n->pings_out), big(n->turns), big(n->replayed));
    buffer_append(out, ",\"refused\":{");
    for (int i = 0; i < refuse_reason_count; i++)
        buffer_printf(out, "%s\"%s\":%llu", i ? "," : "", refuse_reason_name(static_cast<refuse_reason>(i)),
                      big(n->refused[i]));
    buffer_append(out, "},\"dropped\":{");
    for (int i = 0; i < drop_reason_count; i++)
        buffer_printf(out, "%s\"%s\":%llu", i ? "," : "", drop_reason_name(static_cast<drop_reason>(i)),
                      big(n->dropped[i]));
    buffer_printf(out, "},\"slow\":{\"closed_hard\":%llu,\"closed_soft\":%llu,\"gaps\":%llu}", big(n->slow.closed_hard),
                  big(n->slow.closed_soft), big(n->slow.gaps));
    buffer_append(out, ",\"closed\":{");
    bool first = true;
    for (const close_count &e : n->closed) {
        if (!e.count) continue;
        buffer_printf(out, "%s\"%u\":%llu", first ? "" : ",", e.code, big(e.count));
        first = false;
    }
    buffer_append(out, "}");
}

static void write_hooks(const counters *all, const notify_counters *events, buffer *out) {
    const edge_counters *n = &all->edge;
    uint64_t took = 0;
    for (const histogram &h : all->hook_times)
        took += h.sum_ns;
    buffer_printf(out, ",\"hooks\":{\"calls\":%llu,\"failures\":%llu,\"refusals\":%llu,\"ms\":%llu}",
                  big(n->hook_calls), big(n->hook_failures), big(n->hook_refusals), big(took / 1000000));
    buffer_printf(out, ",\"notify\":{\"sent\":%llu,\"retried\":%llu,\"dropped\":%llu,\"spooled\":%llu}",
                  big(events->sent), big(events->retried), big(events->dropped), big(events->spooled));
}

static void write_proxy(const edge_counters *n, buffer *out) {
    buffer_printf(out, ",\"proxy\":{\"requests\":%llu,\"answers\":{\"none\":%llu", big(n->requests),
                  big(n->answers[0]));
    for (int status_class = 1; status_class <= 5; status_class++)
        buffer_printf(out, ",\"%dxx\":%llu", status_class, big(n->answers[status_class]));
    buffer_printf(out,
                  "},\"request_bytes\":%llu,\"response_bytes\":%llu,\"tunnels\":%llu,\"published\":%llu,"
                  "\"publish_failures\":%llu}",
                  big(n->request_bytes), big(n->response_bytes), big(n->tunnels), big(n->published),
                  big(n->publish_failures));
}

static void write_plain(const plain_counters *n, buffer *out) {
    buffer_printf(out,
                  ",\"sse\":{\"opened\":%llu,\"held\":%llu},\"poll\":{\"opened\":%llu,\"polls\":%llu},\"posts\":%llu",
                  big(n->events), big(n->held), big(n->polled), big(n->polls), big(n->posts));
}

// What the memory broker keeps, what the caches over Redis hold, and what became of joins with `since`.
static void write_history(const control_api *a, buffer *out) {
    const feed_counters *n = &a->node->feeds.count;
    buffer_printf(out,
                  ",\"history\":{\"reads\":%llu,\"filled\":%llu,\"gaps\":%llu,\"duplicates\":%llu,\"recovered\":%llu,"
                  "\"not_recovered\":%llu,\"cache_bytes\":%llu",
                  big(n->reads), big(n->filled), big(n->gaps), big(n->duplicates), big(n->recovered),
                  big(n->not_recovered), big(a->node->feeds.cache_bytes));
    if (const history_counters *h = broker_memory_history(a->node->broker))
        buffer_printf(out,
                      ",\"rooms\":%llu,\"messages\":%llu,\"bytes\":%llu,\"places\":%llu,\"evicted\":%llu,"
                      "\"expired\":%llu",
                      big(h->rooms), big(h->messages), big(h->bytes), big(h->places), big(h->evicted), big(h->expired));
    buffer_append_char(out, '}');
}

// Redis in several places: what Sentinel or the cluster made necessary.
static void write_places(const control_api *a, buffer *out) {
    if (a->settings->broker.type != 1) return;
    redis_place_counters n;
    if (!broker_redis_counters(a->node->broker, &n)) return;
    buffer_printf(out, ",\"redis\":{\"switches\":%llu,\"redirects\":%llu,\"retries\":%llu,\"map_reads\":%llu}",
                  big(n.switches), big(n.cluster.redirects), big(n.cluster.retries), big(n.cluster.refreshes));
}

static void write_broker(const control_api *a, buffer *out) {
    const broker *b = a->node->broker;
    const broker_counters *n = &b->count;
    buffer_printf(out,
                  ",\"broker\":{\"type\":\"%s\",\"ready\":%s,\"received\":%llu,\"published\":%llu,\"oversized\":%llu,"
                  "\"malformed\":%llu,"
                  "\"reconnects\":%llu,\"subscriptions\":%llu,\"duplicates\":%llu,\"history_reads\":%llu}",
                  a->settings->broker.type == 1 ? "redis" : "memory", b->ops->ready(b) ? "true" : "false",
                  big(n->received), big(n->published), big(n->oversized), big(n->malformed), big(n->reconnects),
                  big(n->subscriptions), big(n->duplicates), big(n->history_reads));
    write_places(a, out);
    write_history(a, out);
    buffer_printf(out, ",\"commands\":%llu,\"command_errors\":%llu,\"publishes_dropped\":%llu,\"stalls\":%llu",
                  big(a->node->commands), big(a->node->command_errors), big(a->node->publishes_dropped),
                  big(a->node->stalls));
    if (!a->node->stream) return;
    const command_stream_counters *s = command_stream_count(a->node->stream);
    buffer_printf(out,
                  ",\"command_stream\":{\"done\":%llu,\"malformed\":%llu,\"again\":%llu,\"claimed\":%llu,"
                  "\"dropped\":%llu}",
                  big(s->done), big(s->malformed), big(s->again), big(s->claimed), big(s->dropped));
}

// Questions between the nodes; receipts_forgotten: of messages whose receivers another node may have asked for.
static void write_peers(const node *n, buffer *out) {
    peers_counters p = peers_count(n->peers);
    buffer_printf(out,
                  ",\"peers\":{\"under_way\":%zu,\"asked\":%llu,\"answered\":%llu,\"timed_out\":%llu,"
                  "\"refused\":%llu,\"heard\":%llu,\"malformed\":%llu,\"late\":%llu,\"receipts_forgotten\":%llu}",
                  peers_under_way(n->peers), big(p.asked), big(p.answered), big(p.timed_out), big(p.refused),
                  big(p.heard), big(p.malformed), big(p.late), big(n->receipts.forgotten));
}

static void write_presence(const control_api *a, buffer *out) {
    presence_counters n = presence_count(a->node->presence);
    buffer_printf(out,
                  ",\"presence\":{\"rooms\":%llu,\"members\":%llu,\"held\":%llu,\"bytes\":%llu,\"announced\":%llu,"
                  "\"announce_failures\":%llu,\"held_over\":%llu,\"asked\":%llu,\"asks_refused\":%llu,\"reads\":%llu,"
                  "\"writes\":%llu,\"write_failures\":%llu}",
                  big(n.rooms), big(n.members), big(n.held), big(n.bytes), big(n.announced), big(n.announce_failures),
                  big(n.held_over), big(n.asked), big(n.asks_refused), big(n.reads), big(n.writes),
                  big(n.write_failures));
    if (!a->node->others) return;
    nodes_counters o = nodes_count_of(a->node->others);
    buffer_printf(out, ",\"nodes\":{\"others\":%zu,\"looks\":%llu,\"lost\":%llu,\"tidied\":%llu,\"back\":%llu}",
                  nodes_count(a->node->others), big(o.looks), big(o.lost), big(o.tidied), big(o.back));
    write_peers(a->node, out);
}

static void write_memory(const shard_status *sum, buffer *out) {
    buffer_printf(
        out,
        ",\"memory\":{\"connections\":%llu,\"queues\":%llu,\"memberships\":%llu,\"tables\":%llu,\"in_flight\":%lld},"
        "\"writes\":%llu,\"encodes\":%llu,\"deflates\":%llu,\"inflates\":%llu,\"accept_exhausted\":%llu",
        big(sum->conn_bytes), big(sum->chunk_bytes), big(sum->membership_bytes), big(sum->table_bytes),
        static_cast<long long>(message_bytes_in_flight()), big(sum->writes), big(message_encodes()),
        big(message_deflates()), big(sum->count.inflates), big(sum->accept_exhausted));
}

// Which configuration is in force, and how the attempts to change it went. Times in seconds since 1970.
static void write_config(const control_api *a, buffer *out) {
    const reload *r = a->reload;
    buffer_printf(
        out, ",\"config\":{\"generation\":%llu,\"loaded\":%llu,\"reloads\":%llu,\"failed\":%llu,\"retired\":%zu",
        big(r->generation), big(r->loaded_ms / 1000), big(r->done), big(r->failed), a->settings->retired_ms.size());
    if (r->error_ms) {
        buffer_printf(out, ",\"last_error\":{\"time\":%llu,\"message\":", big(r->error_ms / 1000));
        json_write_string(out, r->error);
        buffer_append_char(out, '}');
    }
    buffer_append_char(out, '}');
}

// Microseconds; each time as the upper bound of its histogram's bucket.
static void write_histogram(const char *name, const histogram *h, buffer *out) {
    buffer_printf(out, "\"%s\":{\"count\":%llu,\"p50\":%llu,\"p99\":%llu", name, big(histogram_count(h)),
                  big(histogram_quantile_ns(h, 500) / 1000), big(histogram_quantile_ns(h, 990) / 1000));
}

// How long things take, and what waits.
static void write_times(const control_api *a, const control_sum *sum, buffer *out) {
    const broker_canary *canary = &a->node->broker->canary;
    histogram lag = a->on->lag;
    uint64_t peak = loop_lag_peak(a->on);
    for (const loop_lag &l : sum->lags) {
        histogram_merge(&lag, &l.times);
        if (l.peak_ns > peak) peak = l.peak_ns;
    }
    buffer_append(out, ",\"times\":{");
    write_histogram("fanout", &sum->all.count.fanout, out);
    buffer_append(out, "},");
    write_histogram("loop_lag", &lag, out);
    buffer_printf(out, ",\"peak\":%llu},", big(peak / 1000));
    write_histogram("canary", &canary->round_trips, out);
    buffer_printf(out, ",\"sent\":%llu,\"heard\":%llu,\"lost\":%llu,\"missing\":%s}}", big(canary->sent),
                  big(canary->heard), big(canary->lost), canary->missing ? "true" : "false");
    buffer_printf(out, ",\"queues\":{\"bytes\":%llu,\"frames\":%llu,\"blocked\":%llu}", big(sum->all.queue_bytes),
                  big(sum->all.queue_frames), big(sum->all.blocked));
}

// What the machine allows, and what came out as the most connections.
static void write_limits(const process_limits *l, const config *c, buffer *out) {
    buffer_printf(out,
                  ",\"limits\":{\"files\":%llu,\"files_reserved\":%llu,\"memory\":%llu,\"connection_bytes\":%llu,"
                  "\"wanted_connections\":%lld,\"max_connections\":%lld,\"bound\":\"%s\"}",
                  big(l->files), big(l->files_reserved), big(l->memory), big(l->per_connection),
                  static_cast<long long>(c->core.max_connections), static_cast<long long>(l->max_connections),
                  l->bound);
}

// Who was asked to leave, and how they went: at the end of the process, or after a reload.
// Of this process's two ends of upgrades: where it has come from, where it goes.
static void write_handover(const node *n, buffer *out) {
    handover_in_counters in = handover_in_count(n);
    handover_out_counters gone = handover_out_count(n);
    buffer_printf(out,
                  ",\"handover\":{\"come\":%llu,\"refused\":%llu,\"dropped\":%llu,\"gaps\":%llu,\"moved\":%llu,"
                  "\"not_taken\":%llu,\"given_up\":%llu,\"orders_dropped\":%llu,\"other_process\":%s}",
                  big(in.come), big(in.refused), big(in.dropped), big(in.gaps), big(gone.moved), big(gone.refused),
                  big(gone.given_up), big(in.orders_dropped + gone.orders_dropped),
                  handover_node_sibling(n) ? "true" : "false");
}

static void write_drain(const control_api *a, const drain_counters *n, buffer *out) {
    buffer_printf(
        out, ",\"drain\":{\"stage\":\"%s\",\"said\":%llu,\"closed\":%llu,\"timed_out\":%llu,\"dropped\":%llu}",
        stop_stage_name(a->stopping->stage), big(n->said), big(n->closed), big(n->timed_out), big(n->dropped));
}

void control_status_write(const control_api *a, const query *q, buffer *out) {
    const control_sum whole = control_sum_of(q);
    const shard_status &sum = whole.all;
    struct clock now;
    clock_refresh(&now);
    buffer_printf(
        out,
        "{\"version\":\"%s\",\"pid\":%d,\"node\":\"%.*s\",\"uptime\":%llu,\"workers\":%u,\"ready\":%s,\"stopping\":%s",
        PACKAGE_VERSION, getpid(), static_cast<int>(node_id().size()), node_id().data(),
        big((now.wall_ms - a->started_ms) / 1000), a->node->worker_count, node_ready(a->node) ? "true" : "false",
        a->node->unready ? "true" : "false");
    buffer_printf(out, ",\"master\":%d,\"processes\":%u,\"crashes\":%llu,\"sockets_refused\":%llu", a->born->master,
                  a->born->generation, big(a->born->crashes), big(a->sockets_refused));
    write_config(a, out);
    write_limits(a->limits, a->settings, out);
    write_listeners(a, out);
    buffer_printf(out, ",\"connections\":%llu,\"rooms\":%zu,\"memberships\":%llu,\"tls_handshakes\":%llu",
                  big(sum.connections), a->node->rooms.count, big(sum.memberships), big(sum.tls_handshakes));
    write_tickets(a, out);
    write_counters(&sum.count, out);
    write_drain(a, &sum.count.drain, out);
    write_handover(a->node, out);
    write_proxy(&sum.count.edge, out);
    write_plain(&sum.count.plain, out);
    buffer_printf(out, ",\"client_js\":%llu", big(sum.count.edge.client_js));
    write_hooks(&sum.count, &sum.notify, out);
    write_broker(a, out);
    write_presence(a, out);
    write_memory(&sum, out);
    write_times(a, &whole, out);
    buffer_printf(out, ",\"log\":{\"error\":%llu,\"warn\":%llu,\"dropped\":%llu}", big(log_count(log_level::error)),
                  big(log_count(log_level::warn)), big(log_dropped()));
    buffer_printf(out, ",\"access_log\":{\"lines\":%llu,\"dropped\":%llu}}\n", big(access_log_lines()),
                  big(access_log_dropped()));
}

} // namespace belfry
