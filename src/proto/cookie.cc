// Cookies: the pairs of a Cookie field.
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

} // namespace belfry
