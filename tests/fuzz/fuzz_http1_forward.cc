// Fuzzes proto/http1_forward: the first byte chooses the options, the rest is a head. What must hold for each request
// that the parser accepts and http1_forward_refuse lets pass, and for each answer:
// - what is forwarded is accepted by the same parser, with the same method and the target that was meant, or the same
//   status and reason;
// - there is one Host, one framing, the one that was asked for, and nothing that is for one hop;
// - each other field is one of the input's, in order, and none is missing but those that are known or that Connection
//   names.
//
// One thread.
#include "proto/http1_forward.h"
#include "proto/http1_names.h"

#include <stdlib.h>
#include <string>

using namespace belfry;

namespace {

constexpr view trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

void require(bool holds) {
    if (!holds) abort();
}

// What http1_forward_request writes by itself.
bool is_own(view name) {
    for (const view own : {"Host", "Connection", "Upgrade", "Content-Length", "Transfer-Encoding", "X-Forwarded-For",
                           "X-Forwarded-Proto", "X-Forwarded-Host", "Forwarded", "X-Request-Id", "traceparent",
                           "tracestate", "X-Extra"}) {
        if (name == own) return true;
    }
    return false;
}

size_t count_of(const http1_request *r, view name) {
    size_t count = 0;
    (void)http1_find(r, name, &count);
    return count;
}

size_t count_of(const http1_response *r, view name) {
    size_t count = 0;
    (void)http1_find(r, name, &count);
    return count;
}

void check_framing(const http1_request *again, const forward_request_options &o) {
    require(again->chunked == (o.body == http1_body_kind::chunked));
    require(again->has_content_length == (o.body == http1_body_kind::length));
    require(again->content_length == o.content_length);
    require(count_of(again, "Host") == 1 && again->authority == o.host && again->keep_alive);
    for (const char *name :
         {"Keep-Alive", "Proxy-Connection", "TE", "Expect", "Proxy-Authorization", "HTTP2-Settings"}) {
        require(count_of(again, name) == 0);
    }
    require(count_of(again, "Connection") == o.upgrade_websocket && count_of(again, "Upgrade") == o.upgrade_websocket);
    require(count_of(again, "X-Forwarded-For") == 1 && count_of(again, "Forwarded") == 1);
    const http1_field *chain = http1_find(again, "X-Forwarded-For", nullptr);
    require(o.trusted ? chain->value.ends_with(o.client_host) : chain->value == o.client_host);
    require(count_of(again, "X-Forwarded-Proto") == 1 && count_of(again, "X-Extra") == 1);
}

// Where the next field of `again` that is not our own stands, from `at` on.
uint32_t next_foreign(const http1_request *again, uint32_t at) {
    while (at < again->field_count && is_own(again->fields[at].name))
        at++;
    return at;
}

void check_fields(const http1_request *r, const http1_request *again) {
    uint32_t at = next_foreign(again, 0);
    for (uint32_t i = 0; i < r->field_count; i++) {
        const http1_field *f = &r->fields[i];
        const bool here = at < again->field_count && !is_own(f->name) && again->fields[at].name == f->name &&
                          again->fields[at].value == f->value;
        if (here) {
            require((http1_name_traits(f->name) & (http1_name_hop | http1_name_respelt)) == 0);
            at = next_foreign(again, at + 1);
        } else {
            require(http1_name_traits(f->name) != 0 || http1_list_has(r, "Connection", f->name) ||
                    http1_name_collides(f->name, "X-Extra"));
        }
    }
    require(at == again->field_count);
}

void check_request(const http1_request *r, uint8_t choice) {
    forward_request_options o = {};
    o.host = "backend:80";
    o.scheme = choice & 1 ? "https" : "http";
    o.client_host = choice & 2 ? "2001:db8::1" : "192.0.2.7";
    o.trusted = choice & 4;
    o.upgrade_websocket = choice & 8;
    o.traceparent = choice & 16 ? trace : "";
    o.request_id = choice & 32 ? "id" : "";
    o.extra = "X-Extra: 1\r\n";
    o.body = http1_request_body_kind(r);
    o.content_length = r->content_length;
    buffer target = {};
    buffer out = {};
    http1_forward_target(r, &target);
    http1_forward_request(r, buffer_view(&target), &o, &out);
    http1_scan scan = {};
    http1_request again;
    const char *why = nullptr;
    const http1_result result = http1_parse_request(buffer_view(&out), &scan, &again, &why);
    // What is added can be too much for another parser like this one.
    const bool large = out.size > http1_head_max || r->field_count + 12 > http1_field_max;
    require(result == http1_result::complete || (result == http1_result::head_too_large && large));
    if (result == http1_result::complete) {
        require(again.head_size == out.size && again.method == r->method && again.minor_version == 1);
        require(again.target == buffer_view(&target) && again.path == r->path && again.query == r->query);
        check_framing(&again, o);
        check_fields(r, &again);
        require(http1_forward_refuse(&again) == nullptr);
    }
    buffer_free(&out);
    buffer_free(&target);
}

void check_response(const http1_response *r, uint8_t choice) {
    const bool http11 = choice & 1;
    const view drop = "X-Drop";
    const http1_body_kind body =
        http1_client_body_kind(http1_response_body_kind(r, choice & 4 ? "HEAD" : "GET"), http11);
    buffer out = {};
    http1_forward_response(r, body, r->content_length, http11, choice & 2, &drop, 1, "X-Extra: 1\r\n", &out);
    if (r->status < 200 && !http11) {
        require(out.size == 0);
        return;
    }
    http1_scan scan = {};
    http1_response again;
    const char *why = nullptr;
    const http1_result result = http1_parse_response(buffer_view(&out), &scan, &again, &why);
    const bool large = out.size > http1_head_max || r->field_count + 4 > http1_field_max;
    require(result == http1_result::complete || (result == http1_result::head_too_large && large));
    if (result == http1_result::complete) {
        require(again.head_size == out.size && again.status == r->status && again.reason == r->reason);
        require(again.chunked == (r->status >= 200 && body == http1_body_kind::chunked));
        require(body != http1_body_kind::length || again.content_length == r->content_length);
        require(http1_response_body_kind(&again, choice & 4 ? "HEAD" : "GET") == body);
        require(r->status < 200 || again.keep_alive == ((choice & 2) && body != http1_body_kind::until_close));
        require(count_of(&again, "X-Drop") == 0 && count_of(&again, "Keep-Alive") == 0);
        require(count_of(&again, "Connection") <= 1);
    }
    buffer_free(&out);
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 1) return 0;
    const view bytes(reinterpret_cast<const char *>(data) + 1, size - 1);
    http1_scan scan = {};
    const char *why = nullptr;
    http1_request request;
    if (http1_parse_request(bytes, &scan, &request, &why) == http1_result::complete &&
        http1_forward_refuse(&request) == nullptr) {
        check_request(&request, data[0]);
    }
    scan = {};
    http1_response response;
    if (http1_parse_response(bytes, &scan, &response, &why) == http1_result::complete) {
        check_response(&response, data[0]);
    }
    return 0;
}
