// The lexical half of JSON: strings, numbers, literals, white space, both ways.
// Owns nothing; pure; any thread. Every byte here may come from a hostile client, so each function knows its `end`.
#include "proto/json_text.h"

#include "proto/utf8.h"

#include <charconv>
#include <string.h>

namespace belfry {

namespace {

constexpr uint32_t not_a_unit = 0xffffffffu;
constexpr view replacement = "\xef\xbf\xbd"; // U+FFFD

bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

// True where none of the eight bytes is a quote, a backslash or below 0x20. The borrow between bytes can only make
// a false alarm behind a true one, so the answer is exact.
bool word_is_plain(uint64_t word) {
    constexpr uint64_t ones = 0x0101010101010101u;
    constexpr uint64_t highs = ones * 0x80;
    uint64_t quotes = word ^ (ones * '"');
    uint64_t backslashes = word ^ (ones * '\\');
    uint64_t hits =
        ((word - ones * 0x20) & ~word) | ((quotes - ones) & ~quotes) | ((backslashes - ones) & ~backslashes);
    return (hits & highs) == 0;
}

// The UTF-16 unit of four hexadecimal digits.
uint32_t read_unit(const char *at, const char *end) {
    if (end - at < 4) return not_a_unit;
    uint32_t unit = 0;
    for (int i = 0; i < 4; i++) {
        char c = at[i];
        uint32_t digit;
        if (is_digit(c))
            digit = static_cast<uint32_t>(c - '0');
        else if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f')
            digit = static_cast<uint32_t>((c | 0x20) - 'a' + 10);
        else
            return not_a_unit;
        unit = unit << 4 | digit;
    }
    return unit;
}

const char *skip_digits(const char *at, const char *end) {
    while (at < end && is_digit(*at))
        at++;
    return at;
}

// RFC 8259 section 6. Numbers may be of any size and precision; only those that fit are handed out as integers.
const char *number_check(view token, json_member *out) {
    const char *at = token.data();
    const char *end = at + token.size();
    if (at < end && *at == '-') at++;
    const char *digits = at;
    at = skip_digits(at, end);
    if (at == digits) return "a value is no string, number, true, false or null";
    if (*digits == '0' && at - digits > 1) return "a number begins with a superfluous zero";
    bool whole = true;
    if (at < end && *at == '.') {
        whole = false;
        const char *fraction = ++at;
        at = skip_digits(at, end);
        if (at == fraction) return "a number lacks digits behind its point";
    }
    if (at < end && (*at == 'e' || *at == 'E')) {
        whole = false;
        at++;
        if (at < end && (*at == '+' || *at == '-')) at++;
        const char *exponent = at;
        at = skip_digits(at, end);
        if (at == exponent) return "a number lacks digits in its exponent";
    }
    if (at != end) return "a number has something else behind it";
    out->type = json_type::number;
    if (whole) {
        std::from_chars_result result = std::from_chars(token.data(), end, out->integer);
        out->is_integer = result.ec == std::errc() && result.ptr == end;
    }
    return nullptr;
}

void append_character(buffer *out, uint32_t character) {
    auto put = [out](uint32_t byte) { buffer_append_char(out, static_cast<char>(static_cast<uint8_t>(byte))); };
    if (character < 0x80) {
        put(character);
    } else if (character < 0x800) {
        put(0xc0 | character >> 6);
        put(0x80 | (character & 0x3f));
    } else if (character < 0x10000) {
        put(0xe0 | character >> 12);
        put(0x80 | (character >> 6 & 0x3f));
        put(0x80 | (character & 0x3f));
    } else {
        put(0xf0 | character >> 18);
        put(0x80 | (character >> 12 & 0x3f));
        put(0x80 | (character >> 6 & 0x3f));
        put(0x80 | (character & 0x3f));
    }
}

// `at` stands behind "\u". Two escapes make one character beyond U+FFFF (RFC 8259 section 7); half a pair makes none.
const char *unescape_unit(const char *at, const char *end, buffer *out, bool *whole) {
    uint32_t unit = read_unit(at, end);
    at += 4;
    if (unit >= 0xd800 && unit < 0xdc00 && end - at >= 6 && at[0] == '\\' && at[1] == 'u') {
        uint32_t low = read_unit(at + 2, end);
        if (low >= 0xdc00 && low < 0xe000) {
            append_character(out, 0x10000 + ((unit - 0xd800) << 10) + (low - 0xdc00));
            return at + 6;
        }
    }
    if (unit >= 0xd800 && unit < 0xe000) {
        buffer_append(out, replacement);
        *whole = false;
    } else {
        append_character(out, unit);
    }
    return at;
}

char unescape_letter(char letter) {
    switch (letter) {
    case 'b':
        return '\b';
    case 'f':
        return '\f';
    case 'n':
        return '\n';
    case 'r':
        return '\r';
    case 't':
        return '\t';
    default:
        return letter; // quote, backslash, slash
    }
}

void write_escape(buffer *out, char c) {
    constexpr char hex[] = "0123456789abcdef";
    const char *from = "\b\f\n\r\t\"\\";
    const char *to = "bfnrt\"\\";
    buffer_append_char(out, '\\');
    const char *found = c == '\0' ? nullptr : strchr(from, c);
    if (found) {
        buffer_append_char(out, to[found - from]);
        return;
    }
    buffer_append(out, "u00");
    buffer_append_char(out, hex[static_cast<uint8_t>(c) >> 4]);
    buffer_append_char(out, hex[static_cast<uint8_t>(c) & 0xf]);
}

// `text` is valid UTF-8. Runs without escapes are copied whole.
void write_escaped(buffer *out, view text) {
    size_t run = 0;
    for (size_t i = 0; i < text.size(); i++) {
        uint8_t byte = static_cast<uint8_t>(text[i]);
        if (byte >= 0x20 && byte != '"' && byte != '\\') continue;
        buffer_append(out, text.substr(run, i - run));
        write_escape(out, text[i]);
        run = i + 1;
    }
    buffer_append(out, text.substr(run));
}

// The length of the character at the start of `text`; 0 where there is none, and then *bad is how many bytes one
// U+FFFD stands for (the longest beginning of a character, or one byte: Unicode 15 section 3.9, best practice).
size_t character_length(view text, size_t *bad) {
    uint8_t state = utf8_start;
    for (size_t i = 0; i < text.size(); i++) {
        state = utf8_step(state, text.substr(i, 1));
        if (state == utf8_start) return i + 1;
        if (state == utf8_bad) {
            *bad = i > 0 ? i : 1;
            return 0;
        }
    }
    *bad = text.size();
    return 0;
}

// Behind the value that begins at `at`; white space behind a scalar may be included.
const char *skip_valid(const char *at, const char *end) {
    size_t open = 0;
    for (; at < end; at++) {
        switch (*at) {
        case '"':
            at = json_string_end(at + 1, end);
            if (!at || open == 0) return at ? at : end;
            at--;
            break;
        case '[':
        case '{':
            open++;
            break;
        case ']':
        case '}':
            if (open == 0) return at;
            if (--open == 0) return at + 1;
            break;
        case ',':
            if (open == 0) return at;
            break;
        default:
            break;
        }
    }
    return at;
}

} // namespace

view json_trim(view s) {
    while (!s.empty() && json_is_space(s.front()))
        s.remove_prefix(1);
    while (!s.empty() && json_is_space(s.back()))
        s.remove_suffix(1);
    return s;
}

const char *json_string_end(const char *at, const char *end) {
    for (;;) {
        while (static_cast<size_t>(end - at) >= sizeof(uint64_t)) {
            uint64_t word;
            memcpy(&word, at, sizeof word);
            if (!word_is_plain(word)) break;
            at += sizeof word;
        }
        while (at < end && static_cast<uint8_t>(*at) >= 0x20 && *at != '"' && *at != '\\')
            at++;
        if (at == end) return nullptr;
        if (*at == '"') return at + 1;
        if (*at != '\\' || end - at < 2) return nullptr;
        char letter = at[1];
        at += 2;
        if (letter == 'u') {
            if (read_unit(at, end) == not_a_unit) return nullptr;
            at += 4;
        } else if (letter == '\0' || !strchr("\"\\/bfnrt", letter)) {
            return nullptr;
        }
    }
}

const char *json_scalar_check(view token, json_member *out) {
    out->is_integer = false;
    out->integer = 0;
    if (token.empty()) return "a value is missing";
    const char *end = token.data() + token.size();
    if (token[0] == '"') {
        const char *string_end = json_string_end(token.data() + 1, end);
        if (!string_end) return "a string holds a bad escape or a control character, or does not end";
        if (string_end != end) return "a string has something else behind it";
        out->type = json_type::string;
    } else if (token == "true" || token == "false") {
        out->type = json_type::boolean;
    } else if (token == "null") {
        out->type = json_type::null;
    } else {
        return number_check(token, out);
    }
    return nullptr;
}

bool json_next_valid(view array, size_t *at, view *element) {
    const char *end = array.data() + array.size();
    const char *begin = array.data() + *at;
    while (begin < end && (json_is_space(*begin) || *begin == ','))
        begin++;
    if (begin == end || *begin == ']') return false;
    const char *behind = skip_valid(begin, end);
    *element = json_trim(view(begin, static_cast<size_t>(behind - begin)));
    *at = static_cast<size_t>(behind - array.data());
    return true;
}

json_type json_type_of(view value) {
    switch (value[0]) {
    case '{':
        return json_type::object;
    case '[':
        return json_type::array;
    case '"':
        return json_type::string;
    case 'n':
        return json_type::null;
    case 't':
    case 'f':
        return json_type::boolean;
    default:
        return json_type::number;
    }
}

const char *json_read_strings(view raw, view *out, size_t max, size_t *count, buffer *scratch) {
    size_t at = 1;
    view element;
    *count = 0;
    while (json_next_valid(raw, &at, &element)) {
        if (json_type_of(element) != json_type::string) return "an entry is not a string";
        if (*count == max) return "it has too many entries";
        view text = element.substr(1, element.size() - 2);
        if (text.find('\\') != view::npos) {
            size_t begin = scratch->size;
            if (!json_unescape(element, scratch)) return "an entry has half a surrogate pair";
            text = view(scratch->data + begin, scratch->size - begin);
        }
        out[(*count)++] = text;
    }
    return nullptr;
}

bool json_unescape(view raw, buffer *out) {
    bool whole = true;
    const char *at = raw.data() + 1;
    const char *end = raw.data() + raw.size() - 1;
    while (at < end) {
        const void *found = memchr(at, '\\', static_cast<size_t>(end - at));
        const char *backslash = found ? static_cast<const char *>(found) : end;
        buffer_append(out, view(at, static_cast<size_t>(backslash - at)));
        if (backslash == end) break;
        char letter = backslash[1];
        at = backslash + 2;
        if (letter == 'u')
            at = unescape_unit(at, end, out, &whole);
        else
            buffer_append_char(out, unescape_letter(letter));
    }
    return whole;
}

void json_write_string(buffer *out, view text) {
    buffer_reserve(out, text.size() + 2);
    buffer_append_char(out, '"');
    if (utf8_valid(text)) {
        write_escaped(out, text);
    } else {
        while (!text.empty()) {
            size_t bad = 0;
            size_t length = character_length(text, &bad);
            if (length > 0)
                write_escaped(out, text.substr(0, length));
            else
                buffer_append(out, replacement);
            text.remove_prefix(length > 0 ? length : bad);
        }
    }
    buffer_append_char(out, '"');
}

void json_write_error(buffer *out, int code, view message) {
    buffer_append(out, "{\"error\":{\"code\":");
    buffer_append_int(out, code);
    buffer_append(out, ",\"message\":");
    json_write_string(out, message);
    buffer_append(out, "}}");
}

} // namespace belfry
