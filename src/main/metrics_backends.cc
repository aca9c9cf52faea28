// The metrics of what is behind Belfry: hooks, notifications, proxied requests, upstreams, the broker. Main thread.
#include "main/metrics.h"

#include "proto/hook_json.h"
#include "relay/broker_redis.h"

#include <string.h>
#include <string>

namespace belfry {

static void write_hooks(const counters *n, const notify_counters *events, metrics_text *t) {
    metric_begin(t, "belfry_hook_duration_seconds", metric_type::histogram,
                 "Hook calls from their start to their outcome, attempts on other servers included.");
    for (size_t i = 0; i < hook_kinds; i++)
        metric_histogram(t, {{"event", hook_event_name(static_cast<hook_event>(i))}}, &n->hook_times[i]);
    metric_counter(t, "belfry_hook_calls_total", "Hook calls that were begun.", n->edge.hook_calls);
    metric_counter(t, "belfry_hook_failures_total", "Hook calls that the backend did not answer as it should.",
                   n->edge.hook_failures);
    metric_counter(t, "belfry_hook_refusals_total", "Hook calls that the backend answered with a refusal.",
                   n->edge.hook_refusals);
    metric_begin(t, "belfry_notify_events_total", metric_type::counter, "Notifications by what became of them.");
    metric_value(t, {{"result", "sent"}}, events->sent);
    metric_value(t, {{"result", "dropped"}}, events->dropped);
    metric_counter(t, "belfry_notify_retries_total", "Batches of notifications that were not taken and sent again.",
                   events->retried);
    metric_gauge(t, "belfry_notify_spooled", "Notifications that wait.", events->spooled);
}

static void write_proxy(const edge_counters *n, metrics_text *t) {
    static const char *const classes[] = {"none", "1xx", "2xx", "3xx", "4xx", "5xx"};
    metric_counter(t, "belfry_proxy_requests_total", "Requests that were proxied.", n->requests);
    metric_begin(t, "belfry_proxy_answers_total", metric_type::counter, "Backends' answers by class of their status.");
    for (size_t i = 0; i < sizeof classes / sizeof *classes; i++)
        metric_value(t, {{"class", classes[i]}}, n->answers[i]);
    metric_counter(t, "belfry_proxy_request_bytes_total", "Bytes of proxied requests' bodies.", n->request_bytes);
    metric_counter(t, "belfry_proxy_response_bytes_total", "Bytes of their answers' bodies.", n->response_bytes);
    metric_counter(t, "belfry_tunnels_total", "WebSocket tunnels to backends that were opened.", n->tunnels);
    metric_begin(t, "belfry_answers_published_total", metric_type::counter,
                 "Backends' answers that were broadcast, or were to be and could not.");
    metric_value(t, {{"result", "published"}}, n->published);
    metric_value(t, {{"result", "failed"}}, n->publish_failures);
}

static constexpr const char *server_states[] = {"up", "starting", "draining", "down"};

// One number of each server.
static void each_server(const std::vector<upstream_status> *all, metrics_text *t,
                        uint64_t upstream_server_status::*which) {
    for (const upstream_status &u : *all)
        for (const upstream_server_status &s : u.servers)
            metric_value(t, {{"upstream", u.name}, {"server", s.server}}, s.*which);
}

static void each_upstream(const std::vector<upstream_status> *all, metrics_text *t, uint64_t upstream_status::*which) {
    for (const upstream_status &u : *all)
        metric_value(t, {{"upstream", u.name}}, u.*which);
}

static void write_servers(const std::vector<upstream_status> *all, metrics_text *t) {
    metric_begin(t, "belfry_upstream_server_state", metric_type::gauge, "1 for the state that a server is in.");
    for (const upstream_status &u : *all)
        for (const upstream_server_status &s : u.servers)
            for (const char *state : server_states)
                metric_value(t, {{"upstream", u.name}, {"server", s.server}, {"state", state}},
                             strcmp(s.state, state) == 0);
    metric_begin(t, "belfry_upstream_server_requests_total", metric_type::counter, "Calls that a server was given.");
    each_server(all, t, &upstream_server_status::requests);
    metric_begin(t, "belfry_upstream_server_failures_total", metric_type::counter, "Of these, those that failed.");
    each_server(all, t, &upstream_server_status::failures);
    metric_begin(t, "belfry_upstream_server_inflight", metric_type::gauge, "Calls that a server is about.");
    each_server(all, t, &upstream_server_status::inflight);
    metric_begin(t, "belfry_upstream_server_idle", metric_type::gauge, "Idle connections to a server.");
    each_server(all, t, &upstream_server_status::idle);
}

static void write_upstreams(const node *n, metrics_text *t) {
    std::vector<upstream_status> all;
    for (const upstream_shared *u : n->upstreams)
        all.push_back(upstream_status_of(u));
    write_servers(&all, t);
    metric_begin(t, "belfry_upstream_running", metric_type::gauge, "Calls under way.");
    each_upstream(&all, t, &upstream_status::running);
    metric_begin(t, "belfry_upstream_queued", metric_type::gauge, "Calls that wait for max_inflight.");
    each_upstream(&all, t, &upstream_status::queued);
    metric_begin(t, "belfry_upstream_queue_full_total", metric_type::counter, "Calls that found that queue full.");
    each_upstream(&all, t, &upstream_status::queue_full);
    metric_begin(t, "belfry_upstream_queue_timeouts_total", metric_type::counter, "Calls that waited in it too long.");
    each_upstream(&all, t, &upstream_status::queue_timeouts);
}

void metrics_backends(const control_api *a, const control_sum *sum, metrics_text *t) {
    write_hooks(&sum->all.count, &sum->all.notify, t);
    write_proxy(&sum->all.count.edge, t);
    metric_counter(t, "belfry_client_js_total", "Answers that were the browser client.", sum->all.count.edge.client_js);
    write_upstreams(a->node, t);
}

// ---------------------------------------------------------------- the broker

static void write_canary(const control_api *a, metrics_text *t) {
    const broker_canary *n = &a->node->broker->canary;
    struct clock now;
    clock_refresh(&now);
    metric_gauge(t, "belfry_broker_delivers", "0 while Redis's subscription does not bring back what is sent to it.",
                 !n->missing);
    metric_begin(t, "belfry_broker_lag_seconds", metric_type::histogram,
                 "How long canaries take through Redis and back: how late messages are.");
    metric_histogram(t, {}, &n->round_trips);
    metric_begin(t, "belfry_broker_canaries_total", metric_type::counter, "Canaries by what became of them.");
    metric_value(t, {{"result", "heard"}}, n->heard);
    metric_value(t, {{"result", "lost"}}, n->lost);
    metric_begin(t, "belfry_broker_last_canary_timestamp_seconds", metric_type::gauge,
                 "When the last canary came back, since 1970; 0: none has.");
    metric_seconds(t, {}, n->heard_ms ? (now.wall_ms - (now.monotonic_ms - n->heard_ms)) * 1000000 : 0);
}

static void write_places(const control_api *a, metrics_text *t) {
    redis_place_counters n = {};
    if (a->settings->broker.type == 1) (void)broker_redis_counters(a->node->broker, &n); // else all of it is 0
    metric_counter(t, "belfry_redis_switches_total", "Times that Sentinel named another primary.", n.switches);
    metric_counter(t, "belfry_redis_redirects_total", "Commands that a cluster's node sent elsewhere.",
                   n.cluster.redirects);
    metric_counter(t, "belfry_redis_map_reads_total", "Times that the cluster's map was read.", n.cluster.refreshes);
}

static void write_commands(const node *n, metrics_text *t) {
    metric_counter(t, "belfry_commands_total", "Commands of backends, from wherever.", n->commands);
    metric_counter(t, "belfry_command_errors_total", "Of these, those that were malformed or came to nothing.",
                   n->command_errors);
    metric_counter(t, "belfry_publishes_dropped_total", "Clients' messages that were lost, the broker out of reach.",
                   n->publishes_dropped);
    metric_counter(t, "belfry_stalls_total",
                   "Times that nothing was read from the broker, since too much was in flight.", n->stalls);
    static const command_stream_counters none = {};
    const command_stream_counters *s = n->stream ? command_stream_count(n->stream) : &none;
    metric_begin(t, "belfry_stream_commands_total", metric_type::counter, "Commands of the stream, by outcome.");
    metric_value(t, {{"result", "done"}}, s->done);
    metric_value(t, {{"result", "malformed"}}, s->malformed);
    metric_value(t, {{"result", "again"}}, s->again);
    metric_value(t, {{"result", "claimed"}}, s->claimed);
    metric_value(t, {{"result", "dropped"}}, s->dropped);
}

void metrics_broker(const control_api *a, metrics_text *t) {
    const broker *b = a->node->broker;
    const broker_counters *n = &b->count;
    metric_begin(t, "belfry_broker_up", metric_type::gauge, "1 while publishing works and all rooms are subscribed.");
    metric_value(t, {{"type", a->settings->broker.type == 1 ? "redis" : "memory"}}, b->ops->ready(b));
    metric_counter(t, "belfry_broker_received_total", "Messages from Redis.", n->received);
    metric_counter(t, "belfry_broker_published_total", "Messages that were published.", n->published);
    metric_counter(t, "belfry_broker_duplicates_total", "Publishes whose id was published before.", n->duplicates);
    metric_counter(t, "belfry_broker_oversized_total", "Messages larger than max_message, which were dropped.",
                   n->oversized);
    metric_counter(t, "belfry_broker_malformed_total", "Messages that were none, which were dropped.", n->malformed);
    metric_counter(t, "belfry_broker_reconnects_total", "Times that Redis was away and came back.", n->reconnects);
    metric_counter(t, "belfry_broker_subscriptions_total", "Subscriptions of rooms that Redis confirmed.",
                   n->subscriptions);
    write_canary(a, t);
    write_places(a, t);
    write_commands(a->node, t);
}

} // namespace belfry
