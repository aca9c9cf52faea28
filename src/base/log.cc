// Writing log lines. One log a process, whose level and form any thread reads; where its lines go is log_file.h's.
// Lines are built on the stack: no allocation, no lock.
#include "base/log.h"

#include "base/access_log.h"
#include "base/log_file.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <syslog.h>
#include <time.h>

namespace belfry {

namespace {

struct log_state {
    log_file file{.name = "log", .target = log_target::standard_error};
    std::atomic<bool> json{false};
    std::atomic<log_level> level{log_level::info};
    std::atomic<uint64_t> counts[4]{};
};

log_state state;

constexpr const char *level_names[] = {"error", "warn", "info", "debug"};
constexpr int syslog_priorities[] = {LOG_ERR, LOG_WARNING, LOG_INFO, LOG_DEBUG};

// Without the newline. What stands before the message has room in any case.
void make_line(log_line *l, log_level level, view message) {
    const char *name = level_names[static_cast<size_t>(level)];
    l->json = state.json.load(std::memory_order_relaxed);
    bool timed = l->json || state.file.target.load(std::memory_order_relaxed) != log_target::syslog;
    if (l->json) log_line_put(l, "{\"time\":\"");
    if (timed) log_line_put_time(l);
    if (l->json)
        log_line_put(l, "\",\"level\":\"");
    else if (timed)
        log_line_put(l, " ");
    if (timed) log_line_put(l, name);
    if (l->json)
        log_line_put(l, "\",\"message\":\"");
    else if (timed)
        log_line_put(l, " ");
    log_line_put_escaped(l, message);
    if (l->json) log_line_put(l, "\"}");
}

void make_warning(log_line *l, const char *sentence) {
    make_line(l, log_level::warn, sentence);
}

constexpr size_t message_limit = log_text_max;

// Formats into message[message_limit + 1] and returns the size.
__attribute__((format(printf, 2, 0))) size_t format_message(char *message, const char *format, va_list arguments) {
    int wanted = vsnprintf(message, message_limit + 1, format, arguments);
    if (wanted < 0) wanted = snprintf(message, message_limit + 1, "(a message that can't be formatted)");
    size_t size = static_cast<size_t>(wanted);
    if (size <= message_limit) return size;
    size = message_limit - 3;
    // Not in the middle of a character: a byte 10xxxxxx continues one.
    while (size > message_limit - 7 && (static_cast<unsigned char>(message[size]) & 0xc0) == 0x80)
        size--;
    memcpy(message + size, "...", 4);
    return size + 3;
}

__attribute__((format(printf, 2, 0))) void log_write(log_level level, const char *format, va_list arguments) {
    if (!log_enabled(level)) return;
    char message[message_limit + 1];
    size_t size = format_message(message, format, arguments);
    log_line l;
    make_line(&l, level, view(message, size));
    state.counts[static_cast<size_t>(level)].fetch_add(1, std::memory_order_relaxed);
    log_file_write(&state.file, &l, syslog_priorities[static_cast<size_t>(level)]);
}

} // namespace

bool log_open(const char *target, log_level level, bool json, error *e) {
    if (!log_file_open(&state.file, target, e)) return false;
    state.json = json;
    log_set_level(level);
    return true;
}

void log_reopen() {
    error e;
    if (!log_file_reopen(&state.file, &e)) log_error("%s", e.text);
    if (!access_log_reopen(&e)) log_error("%s", e.text);
}

void log_tend() {
    static time_t last; // the main thread's
    timespec now = {};
    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    if (now.tv_sec == last) return;
    last = now.tv_sec;
    log_file_tend(&state.file, make_warning);
    access_log_tend();
}

uint64_t log_dropped() {
    return state.file.dropped.load(std::memory_order_relaxed);
}

void log_set_level(log_level level) {
    state.level.store(level, std::memory_order_relaxed);
}

void log_set_json(bool json) {
    state.json.store(json, std::memory_order_relaxed);
}

bool log_enabled(log_level level) {
    return level <= state.level.load(std::memory_order_relaxed);
}

uint64_t log_count(log_level level) {
    return state.counts[static_cast<size_t>(level)].load(std::memory_order_relaxed);
}

void log_error(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    log_write(log_level::error, format, arguments);
    va_end(arguments);
}

void log_warn(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    log_write(log_level::warn, format, arguments);
    va_end(arguments);
}

void log_info(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    log_write(log_level::info, format, arguments);
    va_end(arguments);
}

void log_debug(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    log_write(log_level::debug, format, arguments);
    va_end(arguments);
}

bool log_limit_pass(log_limit *limit, uint64_t *held_before) {
    timespec now = {};
    clock_gettime(CLOCK_MONOTONIC_COARSE, &now); // a few ns: this is where a flood is stopped
    uint64_t second = static_cast<uint64_t>(now.tv_sec);
    uint64_t last = __atomic_load_n(&limit->second, __ATOMIC_RELAXED);
    // One thread starts the new second. Others that count between its two stores can make a second let a few
    // more pass, or a few fewer: it is a flood's limit, not an account.
    if (last != second &&
        __atomic_compare_exchange_n(&limit->second, &last, second, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
        __atomic_store_n(&limit->used, 0, __ATOMIC_RELAXED);
    }
    // Read first, for `used` must not run over to 0 in a long flood.
    if (__atomic_load_n(&limit->used, __ATOMIC_RELAXED) >= limit->burst ||
        __atomic_fetch_add(&limit->used, 1, __ATOMIC_RELAXED) >= limit->burst) {
        __atomic_fetch_add(&limit->held, 1, __ATOMIC_RELAXED);
        return false;
    }
    *held_before = __atomic_exchange_n(&limit->held, 0, __ATOMIC_RELAXED);
    return true;
}

} // namespace belfry
