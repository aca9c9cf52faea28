// Failure: a text for the caller to pass on, and the end of the process for what can't be mended.
//
// Out of memory is fatal by design (architecture: every callback comes from C, so nothing may unwind).
// All functions may be called on any thread.
#pragma once

#include <stddef.h>

namespace belfry {

// What went wrong, for a person: what, where, what to do. Always NUL-terminated, cut with "..." if too long.
struct error {
    char text[512] = {0};
};

// An argument may be e->text itself: error_set(e, "%s:%d: %s", file, line, e->text) puts a place in front.
__attribute__((format(printf, 2, 3))) void error_set(error *e, const char *format, ...);

// Writes `belfry: fatal: TEXT` to standard error and aborts.
[[noreturn]] __attribute__((format(printf, 1, 2))) void fatal(const char *format, ...);

// malloc, calloc, realloc that never return null. Freed with free(3).
[[nodiscard]] void *memory_get(size_t size);
[[nodiscard]] void *memory_get_zeroed(size_t size);
[[nodiscard]] void *memory_resize(void *old, size_t size);
[[nodiscard]] char *memory_copy_text(const char *text, size_t size); // adds a NUL

} // namespace belfry
