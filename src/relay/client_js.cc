// The browser client's file and its answers.
#include "relay/client_js.h"

#include "base/hash.h"

#include <stdio.h>

namespace belfry {

// A raw string that the build makes of src/web/belfry.js, in the build directory.
static constexpr view source =
#include <web/belfry_js.inc>
    ;

// An answer must fit beside another one into what is queued before a route's send_queue is known.
static_assert(source.size() < 30000);

bool client_js_named(const route *r, view path) {
    if (!r->client_js || !path.starts_with(r->path)) return false;
    view rest = path.substr(r->path.size());
    return rest == (r->path.ends_with('/') ? "belfry.js" : "/belfry.js");
}

// The same on every node that runs this build: the key is fixed.
static uint64_t fingerprint() {
    static const uint8_t key[16] = {'b', 'e', 'l', 'f', 'r', 'y', '.', 'j', 's'};
    static const uint64_t made = hash_siphash(key, 2, 4, source);
    return made;
}

// Weakly compared: a proxy that compresses marks the tag so.
static bool client_has(const http1_request *q, view tag) {
    const http1_field *field = http1_find(q, "If-None-Match", nullptr);
    view rest = field ? field->value : view(), element;
    while (http1_next_element(&rest, &element)) {
        if (element.starts_with("W/")) element.remove_prefix(2);
        if (element == tag || element == "*") return true;
    }
    return false;
}

bool client_js_write(const http1_request *q, bool keep_alive, buffer *out) {
    if (q->method != "GET" && q->method != "HEAD") return false;
    char tag[24];
    snprintf(tag, sizeof tag, "\"%016llx\"", static_cast<unsigned long long>(fingerprint()));
    bool same = client_has(q, tag);
    buffer_printf(out, "HTTP/1.1 %d %s\r\nConnection: %s\r\n", same ? 304 : 200, http1_reason(same ? 304 : 200),
                  keep_alive ? "keep-alive" : "close");
    if (!same)
        buffer_printf(out, "Content-Type: text/javascript; charset=utf-8\r\nContent-Length: %zu\r\n", source.size());
    buffer_printf(out,
                  "ETag: %s\r\nCache-Control: public, max-age=3600\r\nAccess-Control-Allow-Origin: *\r\n"
                  "Cross-Origin-Resource-Policy: cross-origin\r\nX-Content-Type-Options: nosniff\r\n\r\n",
                  tag);
    if (!same && q->method == "GET") buffer_append(out, source);
    return true;
}

} // namespace belfry
