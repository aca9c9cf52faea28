// The metrics of the process: what it is, how it stands, memory, threads' loops. Main thread.
#ifdef HAVE_CONFIG_H
#include <config.h>
#else
#define PACKAGE_VERSION "unknown"
#endif

#include "main/metrics.h"

#include "base/access_log.h"
#include "base/log.h"
#include "main/process_stats.h"
#include "main/reload.h"
#include "relay/broker_memory.h"

#include <string>

namespace belfry {

static void write_state(const control_api *a, metrics_text *t) {
    const node *n = a->node;
    metric_begin(t, "belfry_build_info", metric_type::gauge, "Always 1; the label says which version runs.");
    metric_value(t, {{"version", PACKAGE_VERSION}}, 1);
    metric_gauge(t, "belfry_ready", "1 while /readyz says so: listeners and broker work, nothing is being shut down.",
                 node_ready(n));
    metric_gauge(t, "belfry_stopping", "1 from the moment at which the process was told to end.", n->unready);
    metric_gauge(t, "belfry_workers", "Worker threads.", n->worker_count);
    metric_gauge(t, "belfry_process_generation", "Worker processes of this master, this one included.",
                 a->born->generation);
    metric_counter(t, "belfry_process_crashes_total", "Of these, those that crashed.", a->born->crashes);
}

static void write_config(const reload *r, metrics_text *t) {
    metric_gauge(t, "belfry_config_generation", "The configuration in force: 1 from the start, one more a reload.",
                 r->generation);
    metric_begin(t, "belfry_config_loaded_timestamp_seconds", metric_type::gauge, "Since when it is, since 1970.");
    metric_seconds(t, {}, r->loaded_ms * 1000000);
    metric_begin(t, "belfry_config_reloads_total", metric_type::counter, "Reloads by whether they went well.");
    metric_value(t, {{"result", "done"}}, r->done);
    metric_value(t, {{"result", "failed"}}, r->failed);
    metric_gauge(t, "belfry_config_last_reload_successful", "0 where the last reload changed nothing for a mistake.",
                 r->error_ms <= r->loaded_ms);
}

static uint64_t history_bytes(const control_api *a) {
    const history_counters *kept = broker_memory_history(a->node->broker);
    return a->node->feeds.cache_bytes + (kept ? kept->bytes : 0);
}

static void write_memory(const control_api *a, const shard_status *all, metrics_text *t) {
    const int64_t flying = message_bytes_in_flight();
    metric_begin(t, "belfry_memory_bytes", metric_type::gauge, "Memory by what it is for.");
    metric_value(t, {{"budget", "connections"}}, all->conn_bytes);
    metric_value(t, {{"budget", "queues"}}, all->chunk_bytes);
    metric_value(t, {{"budget", "memberships"}}, all->membership_bytes);
    metric_value(t, {{"budget", "tables"}}, all->table_bytes);
    metric_value(t, {{"budget", "in_flight"}}, flying > 0 ? static_cast<uint64_t>(flying) : 0);
    metric_value(t, {{"budget", "history"}}, history_bytes(a));
    metric_value(t, {{"budget", "presence"}}, presence_count(a->node->presence).bytes);
}

// The main thread's loop first, then the workers'.
static void write_loops(const control_api *a, const control_sum *sum, metrics_text *t) {
    metric_begin(t, "belfry_loop_lag_seconds", metric_type::histogram,
                 "How late a thread's loop looked at its clock's tick, ten times a second.");
    metric_histogram(t, {{"loop", "main"}}, &a->on->lag);
    for (size_t i = 0; i < sum->lags.size(); i++)
        metric_histogram(t, {{"loop", std::to_string(i)}}, &sum->lags[i].times);
    metric_begin(t, "belfry_loop_lag_peak_seconds", metric_type::gauge,
                 "The longest of these lags in the last 30 to 60 seconds.");
    metric_seconds(t, {{"loop", "main"}}, loop_lag_peak(a->on));
    for (size_t i = 0; i < sum->lags.size(); i++)
        metric_seconds(t, {{"loop", std::to_string(i)}}, sum->lags[i].peak_ns);
    metric_counter(t, "belfry_loop_turns_total", "Turns of the workers' loops.", sum->all.count.turns);
}

static void write_log(metrics_text *t) {
    metric_begin(t, "belfry_log_lines_total", metric_type::counter, "Lines that were logged, by level.");
    metric_value(t, {{"level", "error"}}, log_count(log_level::error));
    metric_value(t, {{"level", "warn"}}, log_count(log_level::warn));
    metric_value(t, {{"level", "info"}}, log_count(log_level::info));
    metric_counter(t, "belfry_access_log_lines_total", "Lines of the access log.", access_log_lines());
    metric_begin(t, "belfry_log_dropped_total", metric_type::counter, "Lines that could not be written, by log.");
    metric_value(t, {{"log", "log"}}, log_dropped());
    metric_value(t, {{"log", "access_log"}}, access_log_dropped());
}

static void write_process(metrics_text *t) {
    const process_stats p = process_stats_read();
    metric_begin(t, "process_cpu_seconds_total", metric_type::counter, "CPU time of the process, user and system.");
    metric_seconds(t, {}, p.cpu_ns);
    metric_gauge(t, "process_resident_memory_bytes", "Memory of the process in RAM.", p.resident_bytes);
    metric_gauge(t, "process_virtual_memory_bytes", "Address space of the process.", p.virtual_bytes);
    metric_gauge(t, "process_open_fds", "Files and sockets that are open.", p.open_fds);
    metric_gauge(t, "process_max_fds", "Files and sockets that may be open.", p.max_fds);
    metric_gauge(t, "process_threads", "Threads of the process.", p.threads);
    metric_begin(t, "process_start_time_seconds", metric_type::gauge, "When the process started, since 1970.");
    metric_seconds(t, {}, p.started_ns);
}

void metrics_write(const control_api *a, const query *q, buffer *out) {
    const control_sum sum = control_sum_of(q);
    metrics_text t = {out, ""};
    write_state(a, &t);
    write_config(a->reload, &t);
    metrics_clients(a, &sum, &t);
    metrics_traffic(&sum, &t);
    metrics_fanout(&sum, &t);
    metrics_rooms(a, &sum, &t);
    metrics_backends(a, &sum, &t);
    metrics_broker(a, &t);
    write_memory(a, &sum.all, &t);
    write_loops(a, &sum, &t);
    write_log(&t);
    write_process(&t);
}

} // namespace belfry
