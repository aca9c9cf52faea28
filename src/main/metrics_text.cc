// Prometheus' text format. Pure; main thread.
#include "main/metrics_text.h"

#include "proto/utf8.h"

namespace belfry {

static const char *type_name(metric_type type) {
    static const char *const names[] = {"counter", "gauge", "histogram"};
    return names[static_cast<size_t>(type)];
}

// Backslash, line feed and, in values, the quote; what is no UTF-8 would make the whole page unreadable.
static void append_escaped(buffer *out, view text, bool quoted) {
    const bool utf8 = utf8_valid(text);
    for (char c : text) {
        if (c == '\\')
            buffer_append(out, "\\\\");
        else if (c == '\n')
            buffer_append(out, "\\n");
        else if (c == '"' && quoted)
            buffer_append(out, "\\\"");
        else
            buffer_append_char(out, static_cast<unsigned char>(c) >= 0x80 && !utf8 ? '?' : c);
    }
}

void metric_begin(metrics_text *t, const char *name, metric_type type, const char *help) {
    t->name = name;
    buffer_printf(t->out, "# HELP %s ", name);
    append_escaped(t->out, help, false);
    buffer_printf(t->out, "\n# TYPE %s %s\n", name, type_name(type));
}

static void append_seconds(buffer *out, uint64_t ns) {
    constexpr uint64_t second = 1000000000;
    buffer_append_uint(out, ns / second);
    uint64_t rest = ns % second, width = 9;
    if (!rest) return;
    for (; rest % 10 == 0; width--)
        rest /= 10;
    buffer_printf(out, ".%0*llu", static_cast<int>(width), static_cast<unsigned long long>(rest));
}

static void append_label(buffer *out, bool *first, const char *name, view value) {
    buffer_append(out, *first ? "{" : ",");
    *first = false;
    buffer_append(out, name);
    buffer_append(out, "=\"");
    append_escaped(out, value, true);
    buffer_append_char(out, '"');
}

// NAME SUFFIX {LABELS,le="BOUND"} and a blank; `bound` null: there is none.
static void begin_sample(metrics_text *t, const char *suffix, metric_labels labels, const buffer *bound) {
    bool first = true;
    buffer_append(t->out, t->name);
    buffer_append(t->out, suffix);
    for (const metric_label &l : labels)
        append_label(t->out, &first, l.name, l.value);
    if (bound) append_label(t->out, &first, "le", buffer_view(bound));
    if (!first) buffer_append_char(t->out, '}');
    buffer_append_char(t->out, ' ');
}

static void end_sample(metrics_text *t, uint64_t value) {
    buffer_append_uint(t->out, value);
    buffer_append_char(t->out, '\n');
}

void metric_value(metrics_text *t, metric_labels labels, uint64_t value) {
    begin_sample(t, "", labels, nullptr);
    end_sample(t, value);
}

void metric_seconds(metrics_text *t, metric_labels labels, uint64_t ns) {
    begin_sample(t, "", labels, nullptr);
    append_seconds(t->out, ns);
    buffer_append_char(t->out, '\n');
}

// Buckets are cumulative here.
void metric_histogram(metrics_text *t, metric_labels labels, const histogram *h) {
    uint64_t sum = 0;
    buffer bound = {};
    for (size_t i = 0; i <= histogram_bounds_count; i++) {
        sum += h->counts[i];
        buffer_clear(&bound);
        if (i < histogram_bounds_count)
            append_seconds(&bound, histogram_bounds_ns[i]);
        else
            buffer_append(&bound, "+Inf");
        begin_sample(t, "_bucket", labels, &bound);
        end_sample(t, sum);
    }
    buffer_free(&bound);
    begin_sample(t, "_sum", labels, nullptr);
    append_seconds(t->out, h->sum_ns);
    buffer_append_char(t->out, '\n');
    begin_sample(t, "_count", labels, nullptr);
    end_sample(t, sum);
}

void metric_counter(metrics_text *t, const char *name, const char *help, uint64_t value) {
    metric_begin(t, name, metric_type::counter, help);
    metric_value(t, {}, value);
}

void metric_gauge(metrics_text *t, const char *name, const char *help, uint64_t value) {
    metric_begin(t, name, metric_type::gauge, help);
    metric_value(t, {}, value);
}

} // namespace belfry
