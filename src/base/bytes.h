// Views of bytes, a growable buffer, and the few text codings that need no library.
//
// A `view` borrows: it owns nothing and never outlives the callback that handed it over, unless the
// function that returns it says so. A `buffer` owns its bytes. Nothing here is thread-safe by itself;
// each object belongs to one thread.
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <string_view>

namespace belfry {

// Borrowed bytes, not necessarily text and not NUL-terminated.
using view = std::string_view;

// Owned, growable bytes. Starts as all zeroes (`buffer b = {};`), ends with buffer_free.
struct buffer {
    char *data = nullptr; // owned (malloc)
    size_t size = 0;      // bytes in use
    size_t capacity = 0;  // bytes allocated
};

// Makes room for `more` bytes behind the ones in use. Out of memory is fatal.
void buffer_reserve(buffer *b, size_t more);
void buffer_append(buffer *b, view bytes);
void buffer_append_char(buffer *b, char c);
void buffer_append_uint(buffer *b, uint64_t n);
void buffer_append_int(buffer *b, int64_t n);
__attribute__((format(printf, 2, 3))) void buffer_printf(buffer *b, const char *format, ...);
// Forgets the first n bytes (n <= size) and moves the rest to the front.
void buffer_consume(buffer *b, size_t n);
// Forgets the content, keeps the memory.
void buffer_clear(buffer *b);
// Gives the memory back; the buffer is as new. Safe to call twice.
void buffer_free(buffer *b);
inline view buffer_view(const buffer *b) {
    return view(b->data, b->size);
}

// True where both hold the same bytes; the time depends on the lengths alone. For secrets.
[[nodiscard]] bool bytes_equal_constant_time(view a, view b);

// ASCII case-insensitive equality (RFC 9110 section 5.1).
[[nodiscard]] bool bytes_equal_nocase(view a, view b);

// Without spaces and tabs at both ends.
view bytes_trim(view s);

// A decimal number of 1 to 20 digits, nothing else around it; false where it is none or does not fit.
[[nodiscard]] bool bytes_parse_uint(view s, uint64_t *out);

// Nothing but characters of base64url (RFC 4648 section 5), or empty: what needs no escape in JSON, URLs and headers.
[[nodiscard]] bool bytes_are_base64url(view s);

// RFC 4648 section 4, with padding. `out` takes 4*((n+2)/3) bytes; returns how many were written.
size_t base64_encode(view in, char *out);
// RFC 4648 section 5, without padding.
size_t base64url_encode(view in, char *out);
// Strict: length a multiple of four, padding where due, no white space, unused bits zero.
// `out` takes 3*(n/4) bytes. False where the text is not base64.
[[nodiscard]] bool base64_decode(view in, char *out, size_t *out_size);
// Strict: base64url_encode's alphabet without padding or white space, unused bits zero. `out` takes 3*n/4 bytes. False
// where the text is not that.
[[nodiscard]] bool base64url_decode(view in, char *out, size_t *out_size);

} // namespace belfry
