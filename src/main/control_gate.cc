// The control API's gate. Pure.
#include "main/control_gate.h"

#include "proto/handshake.h"

#include <string>

namespace belfry {

static bool handshake_token_fits(const http1_request *q, view token) {
    static constexpr view prefix = "belfry.token.";
    const http1_field *f = http1_find(q, "Sec-WebSocket-Protocol", nullptr);
    view rest = f ? f->value : view(), element;
    while (http1_next_element(&rest, &element)) {
        if (!element.starts_with(prefix)) continue;
        std::string said(element.size(), 0);
        size_t size = 0;
        if (!base64url_decode(element.substr(prefix.size()), said.data(), &size)) return false;
        return bytes_equal_constant_time(view(said.data(), size), token);
    }
    return false;
}

bool control_gate_token(const http1_request *q, view token) {
    static constexpr view scheme = "Bearer ";
    if (token.empty()) return false;
    if (handshake_wanted(q) && handshake_token_fits(q, token)) return true;
    size_t count = 0;
    const http1_field *f = http1_find(q, "Authorization", &count);
    if (!f || count != 1 || !bytes_equal_nocase(f->value.substr(0, scheme.size()), scheme)) return false;
    return bytes_equal_constant_time(bytes_trim(f->value.substr(scheme.size())), token);
}

bool control_gate_origin(const http1_request *q) {
    size_t count = 0;
    const http1_field *origin = http1_find(q, "Origin", &count);
    if (!count) return true;
    size_t scheme = origin ? origin->value.find("://") : view::npos;
    if (scheme == view::npos) return false; // null, or several
    view host = origin->value.substr(scheme + 3);
    const http1_field *forwarded = http1_find(q, "X-Forwarded-Host", nullptr);
    return bytes_equal_nocase(host, q->authority) || (forwarded && bytes_equal_nocase(host, forwarded->value));
}

} // namespace belfry
