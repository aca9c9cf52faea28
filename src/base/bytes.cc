// Buffers, comparisons, decimal numbers and base64. Holds no state: any thread, on objects of its own.
#include "base/bytes.h"

#include "base/error.h"

#include <charconv>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

namespace belfry {

void buffer_reserve(buffer *b, size_t more) {
    if (more <= b->capacity - b->size) return;
    size_t needed = 0;
    if (__builtin_add_overflow(b->size, more, &needed)) fatal("a buffer of %zu and %zu more bytes", b->size, more);
    size_t capacity = b->capacity < 32 ? 64 : b->capacity * 2; // doubling keeps appending linear in all
    if (capacity < needed) capacity = needed;
    b->data = static_cast<char *>(memory_resize(b->data, capacity));
    b->capacity = capacity;
}

void buffer_append(buffer *b, view bytes) {
    if (bytes.empty()) return;
    buffer_reserve(b, bytes.size());
    memcpy(b->data + b->size, bytes.data(), bytes.size());
    b->size += bytes.size();
}

void buffer_append_char(buffer *b, char c) {
    buffer_reserve(b, 1);
    b->data[b->size++] = c;
}

template <typename integer> static void append_integer(buffer *b, integer n) {
    char digits[24]; // 20 digits and a sign at most
    std::to_chars_result end = std::to_chars(digits, digits + sizeof digits, n);
    buffer_append(b, view(digits, static_cast<size_t>(end.ptr - digits)));
}

void buffer_append_uint(buffer *b, uint64_t n) {
    append_integer(b, n);
}

void buffer_append_int(buffer *b, int64_t n) {
    append_integer(b, n);
}

void buffer_printf(buffer *b, const char *format, ...) {
    va_list arguments, again;
    va_start(arguments, format);
    va_copy(again, arguments);
    size_t room = b->capacity - b->size;
    int wanted = vsnprintf(room ? b->data + b->size : nullptr, room, format, arguments);
    va_end(arguments);
    if (wanted < 0) fatal("buffer_printf: the format \"%s\" can't be carried out", format);
    size_t size = static_cast<size_t>(wanted);
    if (size >= room) { // vsnprintf also wants a byte for its NUL
        buffer_reserve(b, size + 1);
        vsnprintf(b->data + b->size, size + 1, format, again);
    }
    va_end(again);
    b->size += size;
}

void buffer_consume(buffer *b, size_t n) {
    if (n > b->size) fatal("buffer_consume: %zu of %zu bytes", n, b->size);
    if (n == 0) return;
    b->size -= n;
    memmove(b->data, b->data + n, b->size);
}

void buffer_clear(buffer *b) {
    b->size = 0;
}

void buffer_free(buffer *b) {
    free(b->data);
    *b = {};
}

bool bytes_equal_constant_time(view a, view b) {
    if (a.size() != b.size()) return false;
    // volatile: the compiler may not leave the loop early once the outcome is certain.
    volatile unsigned char difference = 0;
    for (size_t i = 0; i < a.size(); i++)
        difference = static_cast<unsigned char>(difference | (a[i] ^ b[i]));
    return difference == 0;
}

// ASCII only, whatever the locale says.
static char lower(char c) {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c + ('a' - 'A')) : c;
}

bool bytes_equal_nocase(view a, view b) {
    if (a.size() != b.size()) return false;
    for (size_t i = 0; i < a.size(); i++) {
        if (lower(a[i]) != lower(b[i])) return false;
    }
    return true;
}

view bytes_trim(view s) {
    while (!s.empty() && (s.front() == ' ' || s.front() == '\t'))
        s.remove_prefix(1);
    while (!s.empty() && (s.back() == ' ' || s.back() == '\t'))
        s.remove_suffix(1);
    return s;
}

bool bytes_parse_uint(view s, uint64_t *out) {
    if (s.empty() || s.size() > 20) return false;
    uint64_t n = 0;
    for (char c : s) {
        if (c < '0' || c > '9') return false;
        if (__builtin_mul_overflow(n, uint64_t{10}, &n)) return false;
        if (__builtin_add_overflow(n, static_cast<uint64_t>(c - '0'), &n)) return false;
    }
    *out = n;
    return true;
}

static constexpr char base64_alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
static constexpr char base64url_alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

static size_t encode(view in, char *out, const char *alphabet, bool padding) {
    const unsigned char *bytes = reinterpret_cast<const unsigned char *>(in.data());
    char *start = out;
    size_t left = in.size();
    for (; left >= 3; left -= 3, bytes += 3) {
        uint32_t group = uint32_t{bytes[0]} << 16 | uint32_t{bytes[1]} << 8 | bytes[2];
        *out++ = alphabet[group >> 18];
        *out++ = alphabet[group >> 12 & 63];
        *out++ = alphabet[group >> 6 & 63];
        *out++ = alphabet[group & 63];
    }
    if (left == 0) return static_cast<size_t>(out - start);
    uint32_t group = uint32_t{bytes[0]} << 16 | (left == 2 ? uint32_t{bytes[1]} << 8 : 0);
    *out++ = alphabet[group >> 18];
    *out++ = alphabet[group >> 12 & 63];
    if (left == 2) *out++ = alphabet[group >> 6 & 63];
    for (; padding && left < 3; left++)
        *out++ = '=';
    return static_cast<size_t>(out - start);
}

bool bytes_are_base64url(view s) {
    for (char c : s) {
        bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
        if (!letter && !(c >= '0' && c <= '9') && c != '-' && c != '_') return false;
    }
    return true;
}

size_t base64_encode(view in, char *out) {
    return encode(in, out, base64_alphabet, true);
}

size_t base64url_encode(view in, char *out) {
    return encode(in, out, base64url_alphabet, false);
}

// The six bits that c stands for in either alphabet, whose last two characters are given; or -1.
static int base64_value(char c, const char *last_two) {
    if (c >= 'A' && c <= 'Z') return c - 'A';
    if (c >= 'a' && c <= 'z') return c - 'a' + 26;
    if (c >= '0' && c <= '9') return c - '0' + 52;
    if (c == last_two[0]) return 62;
    return c == last_two[1] ? 63 : -1;
}

// `in` has no padding.
static bool decode(view in, char *out, const char *last_two, size_t *out_size) {
    if (in.size() % 4 == 1) return false; // six bits are no byte
    char *start = out;
    uint32_t bits = 0;  // what is decoded, and not yet written, stands in the low `count` bits
    unsigned count = 0; // below 8
    for (char c : in) {
        int value = base64_value(c, last_two);
        if (value < 0) return false;
        bits = (bits << 6 | static_cast<uint32_t>(value)) & 0x3fff;
        count += 6;
        if (count < 8) continue;
        count -= 8;
        *out++ = static_cast<char>(bits >> count & 0xff);
    }
    // RFC 4648 section 3.5: else several texts would stand for the same bytes.
    if ((bits & ((1u << count) - 1)) != 0) return false;
    *out_size = static_cast<size_t>(out - start);
    return true;
}

bool base64_decode(view in, char *out, size_t *out_size) {
    if (in.size() % 4 != 0) return false;
    size_t padding = 0;
    if (in.ends_with("=="))
        padding = 2;
    else if (in.ends_with('='))
        padding = 1;
    in.remove_suffix(padding);
    return decode(in, out, "+/", out_size);
}

bool base64url_decode(view in, char *out, size_t *out_size) {
    return decode(in, out, "-_", out_size);
}

} // namespace belfry
