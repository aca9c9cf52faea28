// Error texts, the fatal end, and memory that is never null. Any thread; holds no state.
#include "base/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

namespace belfry {

// Formats into text[capacity]; what does not fit is cut, whole UTF-8 characters only, and ends in "...".
// Returns the length.
__attribute__((format(printf, 3, 0))) static size_t format_cut(char *text, size_t capacity, const char *format,
                                                               va_list arguments) {
    int wanted = vsnprintf(text, capacity, format, arguments);
    if (wanted < 0) wanted = snprintf(text, capacity, "(a text that can't be formatted)");
    size_t size = static_cast<size_t>(wanted);
    if (size < capacity) return size;
    size = capacity - 1 - 3;
    // A byte 10xxxxxx continues a character: step back to where that character began.
    while (size > 0 && (static_cast<unsigned char>(text[size]) & 0xc0) == 0x80)
        size--;
    memcpy(text + size, "...", 4);
    return size + 3;
}

void error_set(error *e, const char *format, ...) {
    // By way of a copy, because callers put a place in front of what they were told:
    // error_set(e, "%s:%d: %s", file, line, e->text).
    char text[sizeof e->text];
    va_list arguments;
    va_start(arguments, format);
    size_t size = format_cut(text, sizeof text, format, arguments);
    va_end(arguments);
    memcpy(e->text, text, size + 1);
}

void fatal(const char *format, ...) {
    // No malloc and one write: this also serves where memory has run out, and beside other threads' lines.
    static constexpr char prefix[] = "belfry: fatal: ";
    constexpr size_t prefix_size = sizeof prefix - 1;
    char line[1024];
    memcpy(line, prefix, prefix_size);
    va_list arguments;
    va_start(arguments, format);
    size_t size = prefix_size + format_cut(line + prefix_size, sizeof line - prefix_size - 1, format, arguments);
    va_end(arguments);
    line[size++] = '\n';
    if (write(STDERR_FILENO, line, size) < 0) abort(); // nothing is left to tell it to
    abort();
}

[[noreturn]] static void memory_exhausted(size_t size) {
    fatal("out of memory: %zu bytes are not to be had; lower max_connections or give the process more", size);
}

void *memory_get(size_t size) {
    void *memory = malloc(size ? size : 1); // malloc(0) may be null without being a failure
    if (!memory) memory_exhausted(size);
    return memory;
}

void *memory_get_zeroed(size_t size) {
    void *memory = calloc(1, size ? size : 1);
    if (!memory) memory_exhausted(size);
    return memory;
}

void *memory_resize(void *old, size_t size) {
    void *memory = realloc(old, size ? size : 1);
    if (!memory) memory_exhausted(size);
    return memory;
}

char *memory_copy_text(const char *text, size_t size) {
    char *copy = static_cast<char *>(memory_get(size + 1));
    if (size) memcpy(copy, text, size); // an empty view may hold a null pointer
    copy[size] = 0;
    return copy;
}

} // namespace belfry
