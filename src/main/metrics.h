// GET /metrics: all that Belfry counts, for Prometheus. doc/metrics.md lists it. Labels are what the configuration
// names, what Belfry itself names, and nothing that a client may choose, so that nobody can make the list grow. Main
// thread.
#pragma once

#include "main/control_context.h"
#include "main/control_sum.h"
#include "main/metrics_text.h"

namespace belfry {

// `q`: an answered status query.
void metrics_write(const control_api *a, const query *q, buffer *out);

// Its parts: metrics_relay.cc, metrics_backends.cc.
void metrics_clients(const control_api *a, const control_sum *sum, metrics_text *t);
void metrics_traffic(const control_sum *sum, metrics_text *t);
void metrics_fanout(const control_sum *sum, metrics_text *t);
void metrics_backends(const control_api *a, const control_sum *sum, metrics_text *t);
void metrics_broker(const control_api *a, metrics_text *t);
void metrics_rooms(const control_api *a, const control_sum *sum, metrics_text *t);

} // namespace belfry
