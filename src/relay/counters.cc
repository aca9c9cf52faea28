// Names and sums of what workers count.
#include "relay/counters.h"

namespace belfry {

const char *refuse_reason_name(refuse_reason r) {
    static const char *const names[refuse_reason_count] = {"bad_request",    "not_found",   "method_not_allowed",
                                                           "timeout",        "too_large",   "target_too_long",
                                                           "head_too_large", "misdirected", "upgrade_required",
                                                           "http_version",   "full",        "draining",
                                                           "room",           "tls_failed",  "tls_timeout",
                                                           "gone",           "origin",      "unauthorized",
                                                           "forbidden",      "rate",        "backend",
                                                           "preface"};
    return names[r];
}

const char *drop_reason_name(drop_reason r) {
    static const char *const names[drop_reason_count] = {"slow_consumer", "oldest",   "replaced", "closing", "pong",
                                                         "oversized",     "no_right", "rate",     "hook"};
    return names[r];
}

// Peers choose among 2,000 codes; so that nobody can fill the table, those that are not Belfry's own are counted by
// their thousand.
static uint16_t code_group(uint16_t code) {
    static const uint16_t own[] = {4400, 4401, 4403, 4408, 4409, 4413, 4502, 4503};
    for (uint16_t o : own)
        if (code == o) return code;
    return code < 3000 ? code : static_cast<uint16_t>(code / 1000 * 1000);
}

static void add_code(counters *c, uint16_t code, uint64_t n) {
    for (size_t i = 0; i < close_codes_max; i++) {
        close_count *entry = &c->closed[i];
        bool last = i + 1 == close_codes_max;
        if (entry->count && entry->code != code && !last) continue;
        entry->code = last ? 0 : code;
        entry->count += n;
        return;
    }
}

void counters_close(counters *c, uint16_t code) {
    add_code(c, code_group(code), 1);
}

void counters_add(counters *sum, const counters *part) {
    sum->accepted += part->accepted;
    sum->handshakes += part->handshakes;
    sum->messages_in += part->messages_in;
    sum->bytes_in += part->bytes_in;
    sum->deliveries += part->deliveries;
    sum->replayed += part->replayed;
    sum->bytes_out += part->bytes_out;
    sum->turns += part->turns;
    sum->pings_in += part->pings_in;
    sum->pings_out += part->pings_out;
    sum->inflates += part->inflates;
    for (size_t i = 0; i < refuse_reason_count; i++)
        sum->refused[i] += part->refused[i];
    for (size_t i = 0; i < drop_reason_count; i++)
        sum->dropped[i] += part->dropped[i];
    sum->slow.closed_hard += part->slow.closed_hard;
    sum->slow.closed_soft += part->slow.closed_soft;
    sum->slow.gaps += part->slow.gaps;
    edge_counters *to = &sum->edge;
    const edge_counters *from = &part->edge;
    to->hook_calls += from->hook_calls;
    to->hook_failures += from->hook_failures;
    to->hook_refusals += from->hook_refusals;
    to->requests += from->requests;
    for (size_t i = 0; i < sizeof to->answers / sizeof *to->answers; i++)
        to->answers[i] += from->answers[i];
    to->request_bytes += from->request_bytes;
    to->response_bytes += from->response_bytes;
    to->tunnels += from->tunnels;
    to->client_js += from->client_js;
    to->published += from->published;
    to->publish_failures += from->publish_failures;
    sum->plain.events += part->plain.events;
    sum->plain.polled += part->plain.polled;
    sum->plain.held += part->plain.held;
    sum->plain.polls += part->plain.polls;
    sum->plain.posts += part->plain.posts;
    sum->drain.said += part->drain.said;
    sum->drain.closed += part->drain.closed;
    sum->drain.timed_out += part->drain.timed_out;
    sum->drain.dropped += part->drain.dropped;
    for (const close_count &e : part->closed)
        if (e.count) add_code(sum, e.code, e.count);
    histogram_merge(&sum->fanout, &part->fanout);
    for (size_t i = 0; i < hook_kinds; i++)
        histogram_merge(&sum->hook_times[i], &part->hook_times[i]);
}

} // namespace belfry
