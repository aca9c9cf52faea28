// Writing log lines. One log a process; its state is set by log_open before threads start, and read after that.
//
// log_reopen may run beside writers: it puts the new file under the old descriptor number (dup3), so a line goes
// to the one or the other, whole. Lines are built on the stack: no allocation, no lock.
#include "base/log.h"

#include <atomic>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <string>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

namespace belfry {

namespace {

enum class target_kind : uint8_t { standard_error, file, syslog };

struct log_state {
    target_kind kind = target_kind::standard_error;
    bool json = false;
    int fd = STDERR_FILENO; // owned where kind is file
    std::string path;       // of the file
    std::atomic<log_level> level{log_level::info};
    std::atomic<uint64_t> counts[4]{};
};

log_state state;

constexpr const char *level_names[] = {"error", "warn", "info", "debug"};
constexpr int syslog_priorities[] = {LOG_ERR, LOG_WARNING, LOG_INFO, LOG_DEBUG};

// Before escaping. One byte becomes at most 6 (\u00XX), which bounds the line's size too.
constexpr size_t message_limit = 2000;

// A line under construction. `put` cuts at the end, but no line gets there.
struct line {
    char text[message_limit * 6 + 200];
    size_t size = 0;
};

void put(line *l, const char *bytes, size_t size) {
    if (size > sizeof l->text - l->size) size = sizeof l->text - l->size;
    memcpy(l->text + l->size, bytes, size);
    l->size += size;
}

void put(line *l, const char *text) {
    put(l, text, strlen(text));
}

__attribute__((format(printf, 2, 3))) void put_format(line *l, const char *format, ...) {
    char text[64];
    va_list arguments;
    va_start(arguments, format);
    int size = vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (size > 0) put(l, text, static_cast<size_t>(size) < sizeof text ? static_cast<size_t>(size) : sizeof text - 1);
}

// How many bytes the UTF-8 character at `at` has (RFC 3629 section 4); 0 where there is none. The log judges
// for itself, because base stands below proto/utf8.
size_t character_size(const char *at, size_t left) {
    auto byte = [at](size_t i) { return static_cast<unsigned char>(at[i]); };
    unsigned char first = byte(0);
    if (first < 0x80) return 1;
    size_t size = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
    if (first < 0xc2 || first > 0xf4 || size > left) return 0;
    for (size_t i = 1; i < size; i++) {
        if ((byte(i) & 0xc0) != 0x80) return 0;
    }
    bool overlong = (first == 0xe0 && byte(1) < 0xa0) || (first == 0xf0 && byte(1) < 0x90);
    bool surrogate = first == 0xed && byte(1) > 0x9f;
    bool beyond = first == 0xf4 && byte(1) > 0x8f;
    return overlong || surrogate || beyond ? 0 : size;
}

void put_escaped(line *l, const char *bytes, size_t size) {
    for (size_t i = 0, step = 1; i < size; i += step) {
        unsigned char c = static_cast<unsigned char>(bytes[i]);
        size_t character = character_size(bytes + i, size - i);
        step = character ? character : 1;
        bool control = c < 0x20 || c == 0x7f;
        // U+0080 to U+009f are c2 80 to c2 9f.
        bool control_c1 = character == 2 && c == 0xc2 && static_cast<unsigned char>(bytes[i + 1]) < 0xa0;
        if (state.json && !character)
            put(l, "\\ufffd");
        else if (state.json && control_c1)
            put_format(l, "\\u%04x", static_cast<unsigned char>(bytes[i + 1]));
        else if (state.json && control)
            put_format(l, "\\u%04x", c);
        else if (state.json && (c == '"' || c == '\\'))
            put_format(l, "\\%c", c);
        else if (control_c1)
            put_format(l, "\\xc2\\x%02x", static_cast<unsigned char>(bytes[i + 1]));
        else if (control || !character)
            put_format(l, "\\x%02x", c);
        else
            put(l, bytes + i, step);
    }
}

void put_time(line *l) {
    timespec now = {};
    clock_gettime(CLOCK_REALTIME, &now);
    tm utc = {};
    gmtime_r(&now.tv_sec, &utc);
    put_format(l, "%04d-%02d-%02dT%02d:%02d:%02d.%03dZ", utc.tm_year + 1900, utc.tm_mon + 1, utc.tm_mday, utc.tm_hour,
               utc.tm_min, utc.tm_sec, static_cast<int>(now.tv_nsec / 1000000));
}

// Without the newline.
void put_line(line *l, log_level level, const char *message, size_t size) {
    const char *name = level_names[static_cast<size_t>(level)];
    if (state.json) {
        put(l, "{\"time\":\"");
        put_time(l);
        put(l, "\",\"level\":\"");
        put(l, name);
        put(l, "\",\"message\":\"");
        put_escaped(l, message, size);
        put(l, "\"}");
        return;
    }
    if (state.kind != target_kind::syslog) {
        put_time(l);
        put(l, " ");
        put(l, name);
        put(l, " ");
    }
    put_escaped(l, message, size);
}

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
    int saved = errno; // so that a caller may log first and look at errno after
    char message[message_limit + 1];
    size_t size = format_message(message, format, arguments);
    line l;
    put_line(&l, level, message, size);
    state.counts[static_cast<size_t>(level)].fetch_add(1, std::memory_order_relaxed);
    if (state.kind == target_kind::syslog) {
        syslog(syslog_priorities[static_cast<size_t>(level)], "%.*s", static_cast<int>(l.size), l.text);
    } else {
        put(&l, "\n");
        // A disk that is full loses the line: the service matters more, and there is nowhere to say so.
        while (write(state.fd, l.text, l.size) < 0 && errno == EINTR) {
        }
    }
    errno = saved;
}

// -1 where it fails, with errno.
int open_file(const char *path) {
    return open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY, 0640);
}

} // namespace

bool log_open(const char *target, log_level level, bool json, error *e) {
    target_kind kind = target_kind::file;
    int fd = STDERR_FILENO;
    if (strcmp(target, "stderr") == 0)
        kind = target_kind::standard_error;
    else if (strcmp(target, "syslog") == 0)
        kind = target_kind::syslog;
    else
        fd = open_file(target);
    if (fd < 0) {
        error_set(e, "can't open the log \"%s\" for appending: %s", target, strerror(errno));
        return false;
    }
    if (state.kind == target_kind::file) close(state.fd);
    if (state.kind == target_kind::syslog) closelog();
    if (kind == target_kind::syslog) openlog("belfry", LOG_PID | LOG_NDELAY, LOG_DAEMON);
    state.kind = kind;
    state.json = json;
    state.fd = fd;
    state.path = kind == target_kind::file ? target : "";
    log_set_level(level);
    return true;
}

void log_reopen() {
    if (state.kind != target_kind::file) return;
    int fd = open_file(state.path.c_str());
    if (fd < 0) {
        log_error("log: can't open \"%s\" again: %s; the old file stays in use", state.path.c_str(), strerror(errno));
        return;
    }
    if (dup3(fd, state.fd, O_CLOEXEC) < 0) {
        log_error("log: can't change over to \"%s\": %s; the old file stays in use", state.path.c_str(),
                  strerror(errno));
    }
    close(fd);
}

void log_set_level(log_level level) {
    state.level.store(level, std::memory_order_relaxed);
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
