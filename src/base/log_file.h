// Where a log's lines go: standard error, a file, syslog, or nowhere. One write(2) a line, so lines of several threads
// never mix. A disk that is full, or a file that is gone, loses lines and nothing else: they are counted, and once it
// works again the log itself says how many.
//
// Two of them exist as long as the process: the log's and the access log's. What a log writes to changes on the main
// thread alone; its descriptor keeps its number for ever (dup3), so that a writer on another thread never meets one
// that has become a client's socket meanwhile.
#pragma once

#include "base/error.h"
#include "base/log_line.h"

#include <atomic>
#include <string>

namespace belfry {

enum class log_target : uint8_t { off, standard_error, file, syslog };

struct log_file {
    const char *name; // "log", "access log": in what is said about it; static
    std::atomic<log_target> target;
    std::atomic<int> fd{-1};          // owned: of the file; -1: there never was one
    std::atomic<uint64_t> dropped{0}; // lines that could not be written
    std::atomic<int> why{0};          // errno of the last of them
    std::atomic<bool> torn{false};    // the last line was written in part: the next begins a new one
    std::atomic<bool> gone{false};    // the file was deleted and can't be made again
    std::string path = {};            // of the file. Main thread.
    uint64_t told = 0;                // of `dropped`, said so. Main thread.
};

// `target`: "off", "stderr", "syslog", or a file's path (opened for appending, 0640; root follows no symbolic link but
// its own). Main thread; others may be writing. False with a reason in `e`: nothing has changed.
[[nodiscard]] bool log_file_open(log_file *f, const char *target, error *e);
// Whether that would do: a file is opened, and closed again.
[[nodiscard]] bool log_file_check(const log_file *f, const char *target, error *e);
// Opens the file again (logrotate has moved it away). False with a reason: the old one stays in use. Main thread.
[[nodiscard]] bool log_file_reopen(log_file *f, error *e);
// The line gets its newline here. `priority` is syslog's. errno stays as it was. Any thread.
void log_file_write(log_file *f, const log_line *l, int priority);
// Now and then: a file that was deleted is made again; where lines could not be written, tries to say so by a line that
// `make` writes of the sentence. Main thread.
void log_file_tend(log_file *f, void (*make)(log_line *l, const char *sentence));

} // namespace belfry
