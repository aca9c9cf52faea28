// Sums over the workers. Main thread.
#include "main/control_sum.h"

#include <string.h>

namespace belfry {

static void add_status(control_sum *sum, const shard_status *part) {
    shard_status *all = &sum->all;
    counters_add(&all->count, &part->count);
    all->notify.sent += part->notify.sent;
    all->notify.retried += part->notify.retried;
    all->notify.dropped += part->notify.dropped;
    all->notify.spooled += part->notify.spooled;
    all->connections += part->connections;
    all->rooms += part->rooms;
    all->memberships += part->memberships;
    all->tls_handshakes += part->tls_handshakes;
    all->conn_bytes += part->conn_bytes;
    all->chunk_bytes += part->chunk_bytes;
    all->membership_bytes += part->membership_bytes;
    all->table_bytes += part->table_bytes;
    all->writes += part->writes;
    all->accept_exhausted += part->accept_exhausted;
    all->tls += part->tls;
    all->queue_bytes += part->queue_bytes;
    all->queue_frames += part->queue_frames;
    all->blocked += part->blocked;
    sum->lags.push_back({part->lag, part->lag_peak_ns});
}

// COUNT\tKIND\tROUTE
static void add_line(control_sum *sum, view line) {
    const size_t first = line.find('\t'), second = line.find('\t', first + 1);
    uint64_t count = 0;
    if (first == view::npos || second == view::npos || !bytes_parse_uint(line.substr(0, first), &count)) return;
    const std::string kind(line.substr(first + 1, second - first - 1)), route(line.substr(second + 1));
    sum->census[{route, kind}] += count;
}

control_sum control_sum_of(const query *q) {
    control_sum sum = {};
    for (uint32_t i = 0; i < q->part_count; i++) {
        view out = buffer_view(&q->parts[i].out);
        shard_status part;
        if (out.size() < sizeof part) continue;
        memcpy(&part, out.data(), sizeof part);
        add_status(&sum, &part);
        out.remove_prefix(sizeof part);
        for (size_t end; (end = out.find('\n')) != view::npos; out.remove_prefix(end + 1))
            add_line(&sum, out.substr(0, end));
    }
    return sum;
}

} // namespace belfry
