// Writes the text format of Prometheus, version 0.0.4: for each metric a HELP and a TYPE line, then its samples. Names
// and label names are ours and taken as they are; label values are escaped. Main thread.
#pragma once

#include "base/bytes.h"
#include "base/histogram.h"

#include <initializer_list>
#include <stdint.h>

namespace belfry {

inline constexpr char metrics_content_type[] = "text/plain; version=0.0.4; charset=utf-8";

enum class metric_type : uint8_t { counter, gauge, histogram };

struct metric_label {
    const char *name; // borrowed
    view value;
};
using metric_labels = std::initializer_list<metric_label>;

struct metrics_text {
    buffer *out;      // borrowed
    const char *name; // borrowed: of the metric that is being written
};

// All samples of a metric follow its metric_begin. By convention counters end in _total, times are in seconds.
void metric_begin(metrics_text *t, const char *name, metric_type type, const char *help);
void metric_value(metrics_text *t, metric_labels labels, uint64_t value);
// In seconds, exact.
void metric_seconds(metrics_text *t, metric_labels labels, uint64_t ns);
void metric_histogram(metrics_text *t, metric_labels labels, const histogram *h);
// A metric of one sample without labels.
void metric_counter(metrics_text *t, const char *name, const char *help, uint64_t value);
void metric_gauge(metrics_text *t, const char *name, const char *help, uint64_t value);

} // namespace belfry
