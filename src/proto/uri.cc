// Pieces of request targets: percent-decoding and -encoding, query parameters, and paths that are safe to match on.
//
// Pure functions over the caller's bytes. Any thread.
#include "proto/uri.h"

#include <algorithm>

namespace belfry {

namespace {

int hex_value(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

// The byte that %XX at `i` stands for; -1 where it is none.
int decode_at(view in, size_t i) {
    if (in.size() - i < 3) return -1;
    const int high = hex_value(in[i + 1]);
    const int low = hex_value(in[i + 2]);
    return high < 0 || low < 0 ? -1 : high * 16 + low;
}

bool is_unreserved(char c) { // RFC 3986 section 2.3
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '-' || c == '.' ||
           c == '_' || c == '~';
}

// "." and "..", also with parameters behind a ';': some backends cut those off first and then climb.
bool is_dot_segment(view segment) {
    const view name = segment.substr(0, segment.find(';'));
    return name == "." || name == "..";
}

bool has_dot_segment(view path) {
    while (!path.empty()) {
        const size_t slash = std::min(path.find('/'), path.size());
        if (is_dot_segment(path.substr(0, slash))) return true;
        path.remove_prefix(std::min(slash + 1, path.size()));
    }
    return false;
}

} // namespace

bool uri_decode(view in, bool plus, char *out, size_t *out_size) {
    size_t n = 0;
    for (size_t i = 0; i < in.size(); i++) {
        if (in[i] == '%') {
            const int byte = decode_at(in, i);
            if (byte < 0) return false;
            out[n++] = static_cast<char>(byte);
            i += 2;
        } else {
            out[n++] = plus && in[i] == '+' ? ' ' : in[i];
        }
    }
    *out_size = n;
    return true;
}

void uri_encode(view in, buffer *out) {
    static const char digits[] = "0123456789ABCDEF"; // upper case: RFC 3986 section 2.1
    buffer_reserve(out, in.size());
    for (const char c : in) {
        if (is_unreserved(c)) {
            buffer_append_char(out, c);
            continue;
        }
        const auto byte = static_cast<unsigned char>(c);
        const char triple[] = {'%', digits[byte >> 4], digits[byte & 15]};
        buffer_append(out, view(triple, sizeof triple));
    }
}

bool uri_next_parameter(view *rest, view *name, view *value) {
    while (!rest->empty()) {
        const size_t end = std::min(rest->find('&'), rest->size());
        const view pair = rest->substr(0, end);
        rest->remove_prefix(std::min(end + 1, rest->size()));
        if (pair.empty()) continue; // "a=1&&b=2"
        const size_t equals = std::min(pair.find('='), pair.size());
        *name = pair.substr(0, equals);
        *value = pair.substr(std::min(equals + 1, pair.size()));
        return true;
    }
    return false;
}

std::string uri_parameter(view query, view wanted) {
    view name, value;
    while (uri_next_parameter(&query, &name, &value)) {
        if (name != wanted) continue;
        std::string out(value.size(), 0);
        size_t size = 0;
        if (!uri_decode(value, true, out.data(), &size)) return std::string();
        out.resize(size);
        return out;
    }
    return std::string();
}

bool uri_normalise_path(view in, char *out, size_t *out_size) {
    if (!in.starts_with('/')) return false;
    size_t n = 0;
    for (size_t i = 0; i < in.size(); i++) {
        int byte = static_cast<unsigned char>(in[i]);
        if (byte == '%') {
            byte = decode_at(in, i);
            // An encoded '/' is data here and a separator in many a backend.
            if (byte < 0 || byte == '/') return false;
            i += 2;
        }
        // A '\\', encoded or not, is a separator to some backends.
        if (byte < 0x20 || byte == 0x7f || byte == '\\') return false;
        out[n++] = static_cast<char>(byte);
    }
    *out_size = n;
    return !has_dot_segment(view(out, n));
}

} // namespace belfry
