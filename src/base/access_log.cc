// The access log's lines. See access_log.h.
#include "base/access_log.h"

#include "base/log_file.h"

#include <syslog.h>

namespace belfry {

static log_file file{.name = "access log", .target = log_target::off};
static std::atomic<bool> json_form{false};
static std::atomic<uint64_t> lines{0};

bool access_log_open(const char *target, bool json, error *e) {
    if (!log_file_open(&file, target, e)) return false;
    json_form = json;
    return true;
}

bool access_log_check(const char *target, error *e) {
    return log_file_check(&file, target, e);
}

bool access_log_reopen(error *e) {
    return log_file_reopen(&file, e);
}

bool access_log_enabled() {
    return file.target.load(std::memory_order_relaxed) != log_target::off;
}

uint64_t access_log_lines() {
    return lines.load(std::memory_order_relaxed);
}

uint64_t access_log_dropped() {
    return file.dropped.load(std::memory_order_relaxed);
}

void access_log_begin(log_line *l, const char *event) {
    l->json = json_form.load(std::memory_order_relaxed);
    if (l->json) log_line_put(l, "{\"time\":\"");
    bool timed = l->json || file.target.load(std::memory_order_relaxed) != log_target::syslog;
    if (timed) log_line_put_time(l);
    if (l->json)
        log_line_put(l, "\",\"event\":\"");
    else if (timed)
        log_line_put(l, " ");
    log_line_put(l, event);
    if (l->json) log_line_put(l, "\"");
}

void access_log_end(log_line *l) {
    if (l->json) log_line_put(l, "}");
    lines.fetch_add(1, std::memory_order_relaxed);
    log_file_write(&file, l, LOG_INFO);
}

static void make_note(log_line *l, const char *sentence) {
    access_log_begin(l, "note");
    log_line_field(l, "text", sentence);
    if (l->json) log_line_put(l, "}");
}

void access_log_tend() {
    log_file_tend(&file, make_note);
}

} // namespace belfry
