// The log: one line a call, one write(2) a line, so lines of several threads never mix.
//
// Text form:  2026-11-21T22:07:43.123Z warn listener: accept paused, too many open files
// JSON form:  {"time":"2026-11-21T22:07:43.123Z","level":"warn","message":"listener: accept paused, ..."}
// What a client sent can't forge a line: log_line.h escapes it. A message over 2,000 bytes is cut with "...". syslog
// gets the same, but for the text form's time and level, which it has itself. Never pass a secret. Any thread may
// write; what is written to changes on the main thread alone, while others write. Lines that can't be written are
// counted (log_file.h).
#pragma once

#include "base/error.h"

#include <stdint.h>

namespace belfry {

enum class log_level : uint8_t { error, warn, info, debug };

// `target` is "stderr", "syslog" or a file's path (opened for appending, 0640). False with a reason in `e`. Main
// thread.
[[nodiscard]] bool log_open(const char *target, log_level level, bool json, error *e);
// Opens the file again (after logrotate moved it), and the access log's; on failure keeps the old one and says so in
// it. Main thread.
void log_reopen();
// Once a second, however often it is called: files that were deleted are made again, and where lines could not be
// written, it says how many as soon as it can. The same for the access log. Main thread.
void log_tend();
// How many lines could not be written since the start.
uint64_t log_dropped();
void log_set_level(log_level level);
// The form of every line that begins from now on.
void log_set_json(bool json);
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
