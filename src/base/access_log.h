// The access log: one line for each connection that ends, each request that was answered, each that was refused. Beside
// the log (log.h), in the same form: text or JSON, what came from outside escaped, no line ever cut in its middle.
//
// Text form:  2026-11-21T22:07:43.123Z connection conn=c_7Qx2 peer=203.0.113.7 user="Ann B." seconds=12.345
// JSON form:  {"time":"2026-11-21T22:07:43.123Z","event":"connection","conn":"c_7Qx2",...}
//
// To syslog the text form goes without its time. Never pass a secret, nor the query of a path. Any thread but where a
// function says otherwise.
#pragma once

#include "base/error.h"
#include "base/log_line.h"

namespace belfry {

// `target`: "off", "stderr", "syslog", or a file's path (opened for appending, 0640). Main thread, also while others
// write. False with a reason in `e`: nothing has changed.
[[nodiscard]] bool access_log_open(const char *target, bool json, error *e);
// Whether access_log_open would do.
[[nodiscard]] bool access_log_check(const char *target, error *e);
// log_reopen's and log_tend's parts. Main thread.
[[nodiscard]] bool access_log_reopen(error *e);
void access_log_tend();
[[nodiscard]] bool access_log_enabled();
uint64_t access_log_lines();   // since the start
uint64_t access_log_dropped(); // of them, that could not be written

// Begins a line of that kind; log_line.h's fields come next, then access_log_end writes it.
void access_log_begin(log_line *l, const char *event);
void access_log_end(log_line *l);

} // namespace belfry
