// Fuzzes proto/cookie: the bytes are a Cookie field's value. What must hold:
// - names are tokens, names and values lie inside the input, in order, and hold no ';';
// - cookie_find agrees with the walk.
//
// One thread.
#include "proto/cookie.h"

#include <stdlib.h>

using namespace belfry;

namespace {

void require(bool holds) {
    if (!holds) abort();
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const view field(reinterpret_cast<const char *>(data), size);
    http1_request request = {}; // as if parsed
    request.field_count = 2;
    request.fields[0] = {"cookie", field};
    request.fields[1] = {"X-Cookie", field};
    view rest = field;
    view name;
    view value;
    const char *behind = field.data();
    while (cookie_next(&rest, &name, &value)) {
        require(http1_is_token(name));
        require(name.data() >= behind && value.data() > name.data() + name.size() - 1);
        require(value.data() + value.size() <= field.data() + field.size());
        require(value.find(';') == view::npos && rest.size() < field.size());
        behind = value.data() + value.size();
        size_t count = 0;
        const view found = cookie_find(&request, name, &count);
        require(count >= 1 && (count == 1 ? found == value : found.empty()));
    }
    require(rest.empty());
    return 0;
}
