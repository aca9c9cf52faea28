// Lines of logs. See log_line.h.
#include "base/log_line.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

namespace belfry {

static_assert(sizeof log_line::text >= log_text_max * 6 + 256, "a message of log.h fits, escaped");

void log_line_put(log_line *l, view bytes) {
    size_t size = bytes.size() < sizeof l->text - l->size ? bytes.size() : sizeof l->text - l->size;
    memcpy(l->text + l->size, bytes.data(), size);
    l->size += size;
}

__attribute__((format(printf, 2, 3))) static void put_format(log_line *l, const char *format, ...) {
    char text[64];
    va_list arguments;
    va_start(arguments, format);
    int size = vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (size > 0) log_line_put(l, view(text, static_cast<size_t>(size) < sizeof text ? static_cast<size_t>(size) : 63));
}

// How many bytes the UTF-8 character at `at` has (RFC 3629 section 4); 0 where there is none. The log judges
// for itself, because base stands below proto/utf8.
static size_t character_size(const char *at, size_t left) {
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

// `quoted`: in text form, too, a quote and a backslash are escaped.
static void put_escaped(log_line *l, view bytes, bool quoted) {
    for (size_t i = 0, step = 1; i < bytes.size(); i += step) {
        unsigned char c = static_cast<unsigned char>(bytes[i]);
        size_t character = character_size(bytes.data() + i, bytes.size() - i);
        step = character ? character : 1;
        bool control = c < 0x20 || c == 0x7f;
        // U+0080 to U+009f are c2 80 to c2 9f.
        bool control_c1 = character == 2 && c == 0xc2 && static_cast<unsigned char>(bytes[i + 1]) < 0xa0;
        if (l->json && !character)
            log_line_put(l, "\\ufffd");
        else if (l->json && control_c1)
            put_format(l, "\\u%04x", static_cast<unsigned char>(bytes[i + 1]));
        else if (l->json && control)
            put_format(l, "\\u%04x", c);
        else if (quoted && (c == '"' || c == '\\'))
            put_format(l, "\\%c", c);
        else if (control_c1)
            put_format(l, "\\xc2\\x%02x", static_cast<unsigned char>(bytes[i + 1]));
        else if (control || !character)
            put_format(l, "\\x%02x", c);
        else
            log_line_put(l, bytes.substr(i, step));
    }
}

void log_line_put_escaped(log_line *l, view bytes) {
    put_escaped(l, bytes, l->json);
}

void log_line_put_time(log_line *l) {
    timespec now = {};
    clock_gettime(CLOCK_REALTIME, &now);
    tm utc = {};
    gmtime_r(&now.tv_sec, &utc);
    put_format(l, "%04d-%02d-%02dT%02d:%02d:%02d.%03dZ", utc.tm_year + 1900, utc.tm_mon + 1, utc.tm_mday, utc.tm_hour,
               utc.tm_min, utc.tm_sec, static_cast<int>(now.tv_nsec / 1000000));
}

// ---------------------------------------------------------------- fields

static bool is_plain(unsigned char c) {
    bool letter = (c | 0x20) >= 'a' && (c | 0x20) <= 'z', digit = c >= '0' && c <= '9';
    return letter || digit || (c && strchr("-._~:/@+%,*&?!$()[];", c));
}

static bool all_plain(view value) {
    for (char c : value)
        if (!is_plain(static_cast<unsigned char>(c))) return false;
    return !value.empty();
}

// False where there is no room for a field whose value takes `bytes`.
static bool begin_field(log_line *l, const char *name, size_t bytes) {
    if (bytes + log_field_slack > sizeof l->text - l->size - 1) return false;
    put_format(l, l->json ? ",\"%s\":" : " %s=", name);
    return true;
}

// Not in the middle of a character: a byte 10xxxxxx continues one.
static view cut(view value) {
    size_t size = log_text_max / 2;
    while (size > log_text_max / 2 - 4 && (static_cast<unsigned char>(value[size]) & 0xc0) == 0x80)
        size--;
    return value.substr(0, size);
}

void log_line_field(log_line *l, const char *name, view value) {
    bool whole = value.size() <= log_text_max / 2;
    if (!whole) value = cut(value);
    if (!begin_field(l, name, value.size() * 6)) return;
    bool quoted = l->json || !whole || !all_plain(value);
    if (quoted) log_line_put(l, "\"");
    put_escaped(l, value, quoted);
    if (!whole) log_line_put(l, "...");
    if (quoted) log_line_put(l, "\"");
}

void log_line_number(log_line *l, const char *name, uint64_t value) {
    if (begin_field(l, name, 0)) put_format(l, "%llu", static_cast<unsigned long long>(value));
}

void log_line_seconds(log_line *l, const char *name, uint64_t ms) {
    if (begin_field(l, name, 0))
        put_format(l, "%llu.%03u", static_cast<unsigned long long>(ms / 1000), static_cast<unsigned>(ms % 1000));
}

} // namespace belfry
