// Cookies: the pairs of a Cookie field, and one Set-Cookie line.
//
// Pure functions; nothing is owned here. Any thread.
#include "proto/cookie.h"

#include <algorithm>

namespace belfry {

bool cookie_next(view *rest, view *name, view *value) {
    while (!rest->empty()) {
        const size_t end = std::min(rest->find(';'), rest->size());
        const view pair = rest->substr(0, end);
        rest->remove_prefix(std::min(end + 1, rest->size()));
        const size_t equals = pair.find('=');
        if (equals == view::npos) continue;
        *name = bytes_trim(pair.substr(0, equals));
        if (!http1_is_token(*name)) continue;
        *value = bytes_trim(pair.substr(equals + 1));
        if (value->size() >= 2 && value->front() == '"' && value->back() == '"') {
            *value = value->substr(1, value->size() - 2);
        }
        return true;
    }
    return false;
}

view cookie_find(const http1_request *r, view name, size_t *count) {
    view found;
    size_t n = 0;
    for (uint32_t i = 0; i < r->field_count; i++) {
        if (!bytes_equal_nocase(r->fields[i].name, "Cookie")) continue;
        view rest = r->fields[i].value;
        view one;
        view value;
        while (cookie_next(&rest, &one, &value)) {
            if (one != name) continue;
            found = value;
            n++;
        }
    }
    if (count != nullptr) *count = n;
    return n == 1 ? found : view();
}

static bool is_octet(char c) {
    return c > ' ' && c < 0x7f && c != '"' && c != ',' && c != ';' && c != '\\';
}

static bool begins_with(view name, view prefix) {
    return bytes_equal_nocase(name.substr(0, prefix.size()), prefix);
}

bool cookie_write_set(view name, view value, bool secure, uint64_t max_age, buffer *out) {
    if (!http1_is_token(name) || name.size() + value.size() > cookie_size_max) return false;
    if (!std::all_of(value.begin(), value.end(), is_octet)) return false;
    // RFC 6265bis section 4.1.3. What else __Host- asks for, Path=/ and no Domain, always holds.
    if (!secure && (begins_with(name, "__Host-") || begins_with(name, "__Secure-"))) return false;
    buffer_append(out, "Set-Cookie: ");
    buffer_append(out, name);
    buffer_append_char(out, '=');
    buffer_append(out, value);
    if (max_age > 0) {
        buffer_append(out, "; Max-Age=");
        buffer_append_uint(out, max_age);
    }
    buffer_append(out, "; Path=/; HttpOnly; SameSite=Lax");
    buffer_append(out, secure ? "; Secure\r\n" : "\r\n");
    return true;
}

} // namespace belfry
