// The metrics of clients and rooms: who is connected, what comes and goes, what is dropped. Main thread.
#include "main/metrics.h"

#include "relay/handover_in.h"
#include "relay/handover_out.h"
#include "relay/nodes.h"

#include <string>

namespace belfry {

static void write_drain(const drain_counters *n, metrics_text *t) {
    metric_begin(t, "belfry_drain_total", metric_type::counter,
                 "Connections that were asked to leave at an end or a reload: said; of those, closed and timed_out; "
                 "dropped: those that could not be asked in time.");
    metric_value(t, {{"step", "said"}}, n->said);
    metric_value(t, {{"step", "closed"}}, n->closed);
    metric_value(t, {{"step", "timed_out"}}, n->timed_out);
    metric_value(t, {{"step", "dropped"}}, n->dropped);
}

static void write_tickets(const ticket_counters &n, metrics_text *t) {
    metric_counter(t, "belfry_tls_tickets_sealed_total", "Session tickets that clients were given.", n.sealed);
    metric_begin(t, "belfry_tls_tickets_total", metric_type::counter,
                 "Session tickets that clients came with, by the key that sealed them: newest, older; unknown: a key "
                 "that is erased, or never was, so that a whole handshake follows.");
    metric_value(t, {{"key", "newest"}}, n.newest);
    metric_value(t, {{"key", "older"}}, n.older);
    metric_value(t, {{"key", "unknown"}}, n.unknown);
    metric_counter(t, "belfry_tls_ticket_rotations_total", "New keys for session tickets.", n.rotations);
}

static void write_handover(const node *n, metrics_text *t) {
    const handover_in_counters in = handover_in_count(n);
    const handover_out_counters out = handover_out_count(n);
    metric_begin(t, "belfry_handover_total", metric_type::counter,
                 "Connections that came from the process before at an upgrade, or moved to the next one; or could not: "
                 "refused by the other one, or given up for want of time.");
    metric_value(t, {{"result", "come"}}, in.come);
    metric_value(t, {{"result", "moved"}}, out.moved);
    metric_value(t, {{"result", "refused"}}, in.refused + out.refused);
    metric_value(t, {{"result", "given_up"}}, in.dropped + out.given_up);
    metric_counter(t, "belfry_handover_gaps_total", "Rooms of such connections that were told a gap.", in.gaps);
}

void metrics_clients(const control_api *a, const control_sum *sum, metrics_text *t) {
    const counters *n = &sum->all.count;
    metric_begin(t, "belfry_connections", metric_type::gauge,
                 "Connections by route and transport: ws, sse, poll, tunnel, http (proxied), handshake, closing.");
    std::map<std::pair<std::string, std::string>, uint64_t> all = sum->census;
    for (const route &r : a->settings->relay.routes) // what a route is for is there with 0, too
        all[{r.host + r.path, r.mode == mode_rooms ? "ws" : "http"}] += 0;
    for (const auto &[what, count] : all)
        metric_value(t, {{"route", what.first}, {"transport", what.second}}, count);
    metric_gauge(t, "belfry_connections_max", "Connections that are taken at once, over all threads.",
                 static_cast<uint64_t>(a->settings->relay.max_connections));
    metric_gauge(t, "belfry_tls_connections", "Connections with TLS.", sum->all.tls);
    metric_gauge(t, "belfry_tls_handshakes_pending", "TLS handshakes under way.", sum->all.tls_handshakes);
    write_tickets(ticket_keys_count(a->settings->tickets), t);
    metric_counter(t, "belfry_accepted_total", "Connections that were accepted.", n->accepted);
    metric_counter(t, "belfry_accept_exhausted_total", "Times that accepting paused, for want of descriptors.",
                   sum->all.accept_exhausted);
    metric_begin(t, "belfry_handshakes_total", metric_type::counter,
                 "Handshakes of sessions by result; refused ones, and other refused requests, by reason.");
    metric_value(t, {{"result", "accepted"}, {"reason", ""}}, n->handshakes);
    for (int i = 0; i < refuse_reason_count; i++)
        metric_value(t, {{"result", "refused"}, {"reason", refuse_reason_name(static_cast<refuse_reason>(i))}},
                     n->refused[i]);
    metric_begin(
        t, "belfry_closed_total", metric_type::counter,
        "Sessions that ended, by close code; 1005 and 1006: without one; 3000, 4000: any code of that thousand.");
    for (const close_count &e : n->closed)
        if (e.count) metric_value(t, {{"code", e.code ? std::to_string(e.code) : "other"}}, e.count);
    write_drain(&n->drain, t);
    write_handover(a->node, t);
}

static void write_plain(const plain_counters *n, metrics_text *t) {
    metric_begin(t, "belfry_plain_sessions_total", metric_type::counter,
                 "Sessions without WebSocket that were opened, by transport; held: those by a backend's answer.");
    metric_value(t, {{"transport", "sse"}}, n->events - n->held);
    metric_value(t, {{"transport", "held"}}, n->held);
    metric_value(t, {{"transport", "poll"}}, n->polled);
    metric_counter(t, "belfry_polls_total", "Requests that polled for a session.", n->polls);
    metric_counter(t, "belfry_posts_total", "Messages that came by POST for a session.", n->posts);
}

void metrics_traffic(const control_sum *sum, metrics_text *t) {
    const counters *n = &sum->all.count;
    metric_counter(t, "belfry_messages_received_total", "Messages from clients.", n->messages_in);
    metric_counter(t, "belfry_received_bytes_total", "Bytes from clients, without TLS.", n->bytes_in);
    metric_counter(t, "belfry_sent_bytes_total", "Bytes to clients, without TLS.", n->bytes_out);
    metric_counter(t, "belfry_deliveries_total", "Messages that were queued for a client each.", n->deliveries);
    metric_counter(t, "belfry_replayed_total", "Messages that joiners had missed and were given, beside deliveries.",
                   n->replayed);
    metric_begin(t, "belfry_dropped_total", metric_type::counter, "What did not reach a client or a room, by reason.");
    for (int i = 0; i < drop_reason_count; i++)
        metric_value(t, {{"reason", drop_reason_name(static_cast<drop_reason>(i))}}, n->dropped[i]);
    metric_begin(t, "belfry_slow_closed_total", metric_type::counter,
                 "Clients that were closed with 4413 for being slow, by the limit that was met.");
    metric_value(t, {{"limit", "send_queue"}}, n->slow.closed_hard);
    metric_value(t, {{"limit", "send_queue_soft"}}, n->slow.closed_soft);
    metric_counter(t, "belfry_gaps_total", "Gaps that slow clients were told of.", n->slow.gaps);
    metric_begin(t, "belfry_pings_total", metric_type::counter, "WebSocket Pings, by who sent them.");
    metric_value(t, {{"from", "client"}}, n->pings_in);
    metric_value(t, {{"from", "server"}}, n->pings_out);
    write_plain(&n->plain, t);
}

void metrics_fanout(const control_sum *sum, metrics_text *t) {
    const counters *n = &sum->all.count;
    metric_gauge(t, "belfry_queue_bytes", "Bytes that wait to be written to clients.", sum->all.queue_bytes);
    metric_gauge(t, "belfry_queue_frames", "Messages that wait to be written to clients.", sum->all.queue_frames);
    metric_gauge(t, "belfry_blocked_connections", "Connections whose socket takes nothing at present.",
                 sum->all.blocked);
    metric_begin(t, "belfry_fanout_latency_seconds", metric_type::histogram,
                 "From a message's receipt to the last write to its members: one observation a message and worker.");
    metric_histogram(t, {}, &n->fanout);
    metric_counter(t, "belfry_writes_total", "Write calls to sockets.", sum->all.writes);
    metric_counter(t, "belfry_encodes_total", "Wire forms of messages that were made.", message_encodes());
    metric_begin(t, "belfry_compressions_total", metric_type::counter, "Messages that went through zlib.");
    metric_value(t, {{"direction", "out"}}, message_deflates());
    metric_value(t, {{"direction", "in"}}, n->inflates);
}

static void write_presence(const control_api *a, metrics_text *t) {
    const presence_counters n = presence_count(a->node->presence);
    metric_gauge(t, "belfry_presence_rooms", "Rooms with presence that connections of this node are in.", n.rooms);
    metric_gauge(t, "belfry_presence_members", "Members of those, of this node.", n.members);
    metric_gauge(t, "belfry_presence_held", "Leaves that are held back, since who left may come again.", n.held);
    metric_counter(t, "belfry_presence_announced_total", "Joins and leaves that rooms were told.", n.announced);
    metric_begin(t, "belfry_presence_errors_total", metric_type::counter, "What presence could not do.");
    metric_value(t, {{"what", "announce"}}, n.announce_failures);
    metric_value(t, {{"what", "write"}}, n.write_failures);
    metric_value(t, {{"what", "answer"}}, n.asks_refused);
    metric_value(t, {{"what", "hold"}}, n.held_over);
}

static void write_history(const control_api *a, metrics_text *t) {
    const feed_counters *n = &a->node->feeds.count;
    metric_begin(t, "belfry_recoveries_total", metric_type::counter,
                 "Joins that named a position, by whether everything since then was there.");
    metric_value(t, {{"recovered", "yes"}}, n->recovered);
    metric_value(t, {{"recovered", "no"}}, n->not_recovered);
    metric_counter(t, "belfry_history_reads_total", "Reads of a room's history.", n->reads);
    metric_counter(t, "belfry_history_filled_total", "Messages that the subscription had missed and history gave.",
                   n->filled);
    metric_counter(t, "belfry_history_gaps_total", "Times that it could not, and members were told.", n->gaps);
}

void metrics_rooms(const control_api *a, const control_sum *sum, metrics_text *t) {
    const node *n = a->node;
    metric_gauge(t, "belfry_rooms", "Rooms that connections of this node are in.", n->rooms.count);
    metric_gauge(t, "belfry_memberships", "Connections in rooms: one for each room of each.", sum->all.memberships);
    write_history(a, t);
    write_presence(a, t);
    const peers_counters p = peers_count(n->peers);
    metric_gauge(t, "belfry_other_nodes", "Other nodes that live.", n->others ? nodes_count(n->others) : 0);
    metric_gauge(t, "belfry_peer_questions_pending", "Questions to other nodes without an answer yet.",
                 peers_under_way(n->peers));
    metric_begin(t, "belfry_peer_questions_total", metric_type::counter,
                 "Questions to other nodes by what became of them; heard: theirs to this one.");
    metric_value(t, {{"result", "answered"}}, p.answered);
    metric_value(t, {{"result", "timed_out"}}, p.timed_out);
    metric_value(t, {{"result", "refused"}}, p.refused);
    metric_value(t, {{"result", "heard"}}, p.heard);
}

} // namespace belfry
