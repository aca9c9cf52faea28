// Requests without WebSocket. Pure.
#include "relay/plain_request.h"

#include "proto/uri.h"
#include "relay/settings.h"

namespace belfry {

// "q=0" (RFC 9110 section 12.4.2), with any number of zeros.
static bool is_refused(view parameters) {
    while (!parameters.empty()) {
        size_t end = parameters.find(';');
        view one = bytes_trim(parameters.substr(0, end));
        parameters.remove_prefix(end == view::npos ? parameters.size() : end + 1);
        if (one.size() < 3 || (one[0] | 0x20) != 'q' || one[1] != '=') continue;
        return one.substr(2).find_first_not_of("0.") == view::npos;
    }
    return false;
}

bool plain_request_wants_events(const http1_request *q) {
    for (uint32_t i = 0; i < q->field_count; i++) {
        if (!bytes_equal_nocase(q->fields[i].name, "Accept")) continue;
        view rest = q->fields[i].value, one;
        while (http1_next_element(&rest, &one)) {
            size_t end = one.find(';');
            view parameters = end == view::npos ? view() : one.substr(end + 1);
            if (bytes_equal_nocase(bytes_trim(one.substr(0, end)), "text/event-stream") && !is_refused(parameters))
                return true;
        }
    }
    return false;
}

static bool has_field(const http1_request *q, view name) {
    size_t count = 0;
    (void)http1_find(q, name, &count);
    return count > 0;
}

plain_request plain_request_of(const struct route *r, const http1_request *q) {
    if (!r->sse && !r->poll) return plain_ask_none;
    if (q->method == "GET" || q->method == "HEAD") {
        if (r->poll && uri_parameter(q->query, "transport") == "poll")
            return uri_parameter(q->query, "cursor").empty() ? plain_ask_session : plain_ask_poll;
        return r->sse && plain_request_wants_events(q) ? plain_ask_events : plain_ask_none;
    }
    if (q->method == "POST") return has_field(q, "Belfry-Connection") ? plain_ask_post : plain_ask_none;
    if (q->method == "OPTIONS" && has_field(q, "Access-Control-Request-Method")) return plain_ask_preflight;
    return plain_ask_none;
}

enum belfry_kind plain_request_kind(plain_request p) {
    if (p == plain_ask_preflight) return BELFRY_HTTP;
    return p == plain_ask_poll || p == plain_ask_post ? BELFRY_CARRIED : BELFRY_EVENTS;
}

// The JSON protocol's object may come as text/plain, too, which a page can send without asking first. A raw message
// may be anything: what is no text becomes a binary one.
static bool content_fits(const exchange *x) {
    size_t count = 0;
    const http1_field *f = http1_find(&x->request, "Content-Type", &count);
    if (!f) return count == 0;
    if (x->on->route->protocol == route_raw) return true;
    view type = bytes_trim(f->value.substr(0, f->value.find(';')));
    return bytes_equal_nocase(type, "application/json") || bytes_equal_nocase(type, "text/plain");
}

plain_objection plain_request_check(const exchange *x) {
    const http1_request *q = &x->request;
    if (q->method == "HEAD") return {405, "a session can't be opened by HEAD", plain_allow};
    if (q->minor_version < 1) return {505, "sessions need HTTP/1.1"};
    if (x->plain == plain_ask_preflight) return {};
    if (x->plain != plain_ask_post)
        return q->chunked || q->content_length ? plain_objection{400, "this request has no body"} : plain_objection{};
    if (!q->chunked && !q->has_content_length) return {411, "a message has a body"};
    if (q->content_length > static_cast<uint64_t>(x->on->route->max_message))
        return {413, "the body is larger than max_message"};
    if (!content_fits(x)) return {415, "the body must be application/json or text/plain"};
    return {};
}

} // namespace belfry
