// Reader of Sec-WebSocket-Extensions. Pure; any thread.
#include "proto/extensions.h"

#include <algorithm>

namespace belfry {

namespace {

void skip_blanks(view *rest) {
    rest->remove_prefix(std::min(rest->find_first_not_of(" \t"), rest->size()));
}

bool take_char(view *rest, char c) {
    skip_blanks(rest);
    if (!rest->starts_with(c)) return false;
    rest->remove_prefix(1);
    return true;
}

bool take_token(view *rest, view *out) {
    skip_blanks(rest);
    size_t n = 0;
    while (n < rest->size() && http1_is_token(rest->substr(n, 1)))
        n++;
    *out = rest->substr(0, n);
    rest->remove_prefix(n);
    return n > 0;
}

// The inside of a quoted-string and its closing quote. What it stands for must be a token (section 9.1), so a
// backslash may stand in front of nothing but a tchar.
bool take_quoted_token(view *rest, view *out) {
    size_t n = 0;
    while (n < rest->size() && (*rest)[n] != '"') {
        if ((*rest)[n] == '\\') n++;
        if (!http1_is_token(rest->substr(std::min(n, rest->size()), 1))) return false;
        n++;
    }
    if (n >= rest->size() || n == 0) return false;
    *out = rest->substr(0, n);
    rest->remove_prefix(n + 1);
    return true;
}

// extension-param = token [ "=" ( token / quoted-string ) ]
bool take_parameter(view *rest, extension_word *out) {
    if (!take_token(rest, &out->name)) return false;
    out->has_value = take_char(rest, '=');
    if (!out->has_value) return true;
    return take_char(rest, '"') ? take_quoted_token(rest, &out->value) : take_token(rest, &out->value);
}

// False where no field is left.
bool next_field(extension_reader *r) {
    r->inside = false;
    while (r->field < r->request->field_count) {
        const http1_field *f = &r->request->fields[r->field++];
        if (!bytes_equal_nocase(f->name, "Sec-WebSocket-Extensions")) continue;
        r->rest = f->value;
        return true;
    }
    return false;
}

} // namespace

extension_item extension_next(extension_reader *r, extension_word *out) {
    *out = {};
    if (r->inside && take_char(&r->rest, ';'))
        return take_parameter(&r->rest, out) ? extension_item::parameter : extension_item::malformed;
    for (;;) {
        bool separated = !r->inside;
        while (take_char(&r->rest, ','))
            separated = true;
        if (!r->rest.empty()) {
            if (!separated || !take_token(&r->rest, &out->name)) return extension_item::malformed;
            r->inside = true;
            return extension_item::extension;
        }
        if (!next_field(r)) return extension_item::end;
    }
}

view extension_value(const extension_word *w, char *out, size_t size) {
    size_t n = 0;
    for (size_t i = 0; i < w->value.size(); i++) {
        if (w->value[i] == '\\') continue; // in front of a tchar alone, and no tchar itself
        if (n == size) return view();
        out[n++] = w->value[i];
    }
    return view(out, n);
}

} // namespace belfry
