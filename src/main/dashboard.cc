// The dashboard's page. Main thread.
#include "main/dashboard.h"

#include "base/hash.h"

namespace belfry {

// A raw string that the build makes of src/web/dashboard.html, in the build directory.
static constexpr view page =
#include <web/dashboard_html.inc>
    ;

static constexpr view mark = "@NONCE@"; // in the page, where its own script and style stand

static void write_page(view nonce, buffer *out) {
    for (view rest = page; !rest.empty();) {
        size_t at = rest.find(mark);
        buffer_append(out, rest.substr(0, at));
        if (at == view::npos) return;
        buffer_append(out, nonce);
        rest.remove_prefix(at + mark.size());
    }
}

// A script that gets into the page by whatever mistake has not got this answer's nonce, and may ask nobody else.
void dashboard_reply(control_conn *c) {
    char random[18], nonce[24];
    random_bytes(random, sizeof random);
    view made(nonce, base64_encode(view(random, sizeof random), nonce));
    buffer fields = {}, body = {};
    buffer_append(&fields, "Content-Security-Policy: default-src 'none'; connect-src 'self'; script-src 'nonce-");
    buffer_append(&fields, made);
    buffer_append(&fields, "'; style-src 'nonce-");
    buffer_append(&fields, made);
    buffer_append(&fields, "'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'\r\n"
                           "X-Content-Type-Options: nosniff\r\nReferrer-Policy: no-referrer\r\n"
                           "Cache-Control: no-store\r\n");
    write_page(made, &body);
    control_reply(c, 200, "text/html; charset=utf-8", buffer_view(&body), buffer_view(&fields));
    buffer_free(&fields);
    buffer_free(&body);
}

} // namespace belfry
