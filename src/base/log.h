// The log: one line a call, one write(2) a line, so lines of several threads never mix.
//
// Text form:  2026-11-21T22:07:43.123Z warn listener: accept paused, too many open files
// JSON form:  {"time":"2026-11-21T22:07:43.123Z","level":"warn","message":"listener: accept paused, ..."}
// Bytes below 0x20 and 0x7f are escaped as \xHH in text form and per RFC 8259 in JSON form, so that what a
// client sent can't forge a line. So are U+0080 to U+009f, which terminals obey, and what is not UTF-8 (in JSON
// form as U+FFFD, for a line that is not JSON is a line lost). A message over 2,000 bytes is cut with "...".
// syslog gets the same, but for the text form's time and level, which it has itself. Never pass a secret. All functions
// may be called on any thread, except log_open, which runs before other threads start.
#pragma once

#include "base/error.h"

#include <stdint.h>

namespace belfry {

enum class log_level : uint8_t { error, warn, info, debug };

// `target` is "stderr", "syslog" or a file's path (opened for appending, 0640). False with a reason in `e`.
[[nodiscard]] bool log_open(const char *target, log_level level, bool json, error *e);
// Opens the file again (after logrotate moved it); on failure keeps the old one and says so in it.
void log_reopen();
void log_set_level(log_level level);
[[nodiscard]] bool log_enabled(log_level level);
// How many lines of this level were written since the start.
uint64_t log_count(log_level level);

__attribute__((format(printf, 1, 2))) void log_error(const char *format, ...);
__attribute__((format(printf, 1, 2))) void log_warn(const char *format, ...);
__attribute__((format(printf, 1, 2))) void log_info(const char *format, ...);
__attribute__((format(printf, 1, 2))) void log_debug(const char *format, ...);

// For lines that a client can cause at will: at most `burst` a second for each site, the rest is counted and
// the count told with the next line that passes. One static object a call site:
//   static log_limit limit = {.burst = 5};
//   uint64_t held; if (log_limit_pass(&limit, &held)) log_info("... (%llu more held back)", held);
struct log_limit {
    uint32_t burst = 5;
    // Shared by all threads; updated with relaxed atomics (__atomic builtins).
    uint64_t second = 0;
    uint32_t used = 0;
    uint64_t held = 0;
};
[[nodiscard]] bool log_limit_pass(log_limit *limit, uint64_t *held_before);

} // namespace belfry
