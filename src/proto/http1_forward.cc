// Heads on their way through the proxy. Requests first, then answers, then the ids that follow a request around.
//
// Pure functions that append to the caller's buffer. Any thread.
#include "proto/http1_forward.h"

#include "proto/http1_fields.h"
#include "proto/http1_names.h"

#include <algorithm>

namespace belfry {

namespace {

void write_field(view name, view value, buffer *out) {
    buffer_append(out, name);
    buffer_append(out, ": ");
    buffer_append(out, value);
    buffer_append(out, "\r\n");
}

void write_framing(http1_body_kind body, uint64_t length, buffer *out) {
    if (body == http1_body_kind::chunked) buffer_append(out, "Transfer-Encoding: chunked\r\n");
    if (body != http1_body_kind::length) return;
    buffer_append(out, "Content-Length: ");
    buffer_append_uint(out, length);
    buffer_append(out, "\r\n");
}

// True where Connection names anything but the three that most heads have and whose fields go anyway: only then is each
// field looked for in it.
bool connection_names_fields(http1_field_list list) {
    for (uint32_t i = 0; i < list.count; i++) {
        if (!bytes_equal_nocase(list.fields[i].name, "Connection")) continue;
        view rest = list.fields[i].value;
        view option;
        while (http1_next_element(&rest, &option)) {
            if (!bytes_equal_nocase(option, "close") && !bytes_equal_nocase(option, "keep-alive") &&
                !bytes_equal_nocase(option, "upgrade")) {
                return true;
            }
        }
    }
    return false;
}

// ---- requests

// Whether one of the field lines in `extra` has that name.
bool extra_names(view extra, view name) {
    while (!extra.empty()) {
        const view line = http1_take_line(&extra);
        if (http1_name_collides(line.substr(0, line.find(':')), name)) return true;
    }
    return false;
}

bool is_rewritten(view name) {
    return bytes_equal_nocase(name, "Forwarded") || bytes_equal_nocase(name, "X-Forwarded-For") ||
           bytes_equal_nocase(name, "X-Forwarded-Proto") || bytes_equal_nocase(name, "X-Forwarded-Host");
}

// Whether a client's field passes by what its name is known for.
bool request_trait_passes(view name, uint8_t traits, const forward_request_options *o) {
    if ((traits & (http1_name_respelt | http1_name_hop | http1_name_remade)) != 0) return false;
    if ((traits & http1_name_client) != 0) return o->trusted && !is_rewritten(name);
    if ((traits & http1_name_websocket) != 0) return o->upgrade_websocket;
    return (traits & http1_name_trailer) == 0 || o->body == http1_body_kind::chunked;
}

void write_passing_fields(const http1_request *r, const forward_request_options *o, buffer *out) {
    const http1_field_list list = {r->fields, r->field_count};
    const bool names_fields = connection_names_fields(list);
    for (uint32_t i = 0; i < list.count; i++) {
        const view name = list.fields[i].name;
        const uint8_t traits = http1_name_traits(name);
        if (!request_trait_passes(name, traits, o)) continue;
        const bool essential = (traits & http1_name_essential) != 0;
        if (names_fields && !essential && http1_list_contains(list, "Connection", name)) continue;
        if (extra_names(o->extra, name)) continue;
        write_field(name, list.fields[i].value, out);
    }
}

// What a trusted proxy said in that field, and behind it `own`, in one line. Nothing where both are empty.
void write_chain(const http1_request *r, view name, bool trusted, view own, buffer *out) {
    const size_t begin = out->size;
    view separator = ": ";
    const auto append = [&](view value) {
        if (value.empty()) return;
        buffer_append(out, separator == ": " ? name : "");
        buffer_append(out, separator);
        buffer_append(out, value);
        separator = ", ";
    };
    for (uint32_t i = 0; trusted && i < r->field_count; i++) {
        if (bytes_equal_nocase(r->fields[i].name, name)) append(r->fields[i].value);
    }
    append(own);
    if (out->size > begin) buffer_append(out, "\r\n");
}

// What a trusted proxy said, once, else `own`. Nothing where both are empty.
void write_first_word(const http1_request *r, view name, bool trusted, view own, buffer *out) {
    const http1_field *said = trusted ? http1_find(r, name, nullptr) : nullptr;
    const view value = said != nullptr && !said->value.empty() ? said->value : own;
    if (!value.empty()) write_field(name, value, out);
}

// A forwarded-element (RFC 7239 section 4). Neither an address nor a valid authority has a '"' or '\\' to escape.
void write_forwarded_element(view client_host, view authority, view scheme, buffer *out) {
    const bool ipv6 = client_host.find(':') != view::npos;
    if (client_host.empty()) client_host = "unknown"; // section 6.2
    buffer_append(out, ipv6 ? "for=\"[" : "for=");
    buffer_append(out, client_host);
    buffer_append(out, ipv6 ? "]\"" : "");
    if (!authority.empty()) {
        const view quote = http1_is_token(authority) ? "" : "\"";
        buffer_append(out, ";host=");
        buffer_append(out, quote);
        buffer_append(out, authority);
        buffer_append(out, quote);
    }
    buffer_append(out, ";proto=");
    buffer_append(out, scheme);
}

void write_client(const http1_request *r, const forward_request_options *o, buffer *out) {
    write_chain(r, "X-Forwarded-For", o->trusted, o->client_host, out);
    write_first_word(r, "X-Forwarded-Proto", o->trusted, o->scheme, out);
    write_first_word(r, "X-Forwarded-Host", o->trusted, r->authority, out);
    buffer element = {};
    write_forwarded_element(o->client_host, r->authority, o->scheme, &element);
    write_chain(r, "Forwarded", o->trusted, buffer_view(&element), out);
    buffer_free(&element);
}

view trace_id(view traceparent) {
    return traceparent.substr(3, 32);
}

void write_trace(const http1_request *r, const forward_request_options *o, buffer *out) {
    if (!o->request_id.empty()) write_field("X-Request-Id", o->request_id, out);
    if (o->traceparent.empty()) return;
    write_field("traceparent", o->traceparent, out);
    const http1_field *came = http1_find(r, "traceparent", nullptr);
    if (came == nullptr || !http1_traceparent_valid(came->value) || !http1_traceparent_valid(o->traceparent)) return;
    if (trace_id(came->value) == trace_id(o->traceparent)) write_chain(r, "tracestate", true, "", out);
}

} // namespace

const char *http1_forward_refuse(const http1_request *r) {
    if (r->method == "CONNECT") return "CONNECT is not for this server";
    size_t options = 0;
    for (uint32_t i = 0; i < r->field_count; i++) {
        if (!bytes_equal_nocase(r->fields[i].name, "Connection")) continue;
        view rest = r->fields[i].value;
        view option;
        while (http1_next_element(&rest, &option)) {
            if (options++ == http1_connection_options_max) return "too many connection options";
            if (!http1_is_token(option)) return "the Connection field is no list of tokens";
            if ((http1_name_traits(option) & http1_name_essential) != 0) {
                return "the Connection field names a field that must get through";
            }
        }
    }
    return nullptr;
}

void http1_forward_target(const http1_request *r, buffer *out) {
    buffer_append(out, r->path);
    if (r->query.empty()) return;
    buffer_append_char(out, '?');
    buffer_append(out, r->query);
}

void http1_forward_request(const http1_request *r, view target, const forward_request_options *o, buffer *out) {
    buffer_reserve(out, r->head_size + o->extra.size() + 512); // most heads then grow the buffer once
    buffer_append(out, r->method);
    buffer_append_char(out, ' ');
    buffer_append(out, target);
    buffer_append(out, " HTTP/1.1\r\n");
    write_field("Host", o->host, out);
    if (o->upgrade_websocket) buffer_append(out, "Connection: Upgrade\r\nUpgrade: websocket\r\n");
    write_framing(o->body, o->content_length, out);
    write_passing_fields(r, o, out);
    write_client(r, o, out);
    write_trace(r, o, out);
    buffer_append(out, o->extra);
    buffer_append(out, "\r\n");
}

// ---- answers

namespace {

void write_status_line(const http1_response *r, buffer *out) {
    buffer_append(out, "HTTP/1.1 ");
    buffer_append_int(out, r->status);
    buffer_append_char(out, ' ');
    buffer_append(out, r->reason);
    buffer_append(out, "\r\n");
}

// Framing and what becomes of the connection.
void write_answer_framing(const http1_response *r, http1_body_kind body, uint64_t length, bool client_http11,
                          bool keep_alive, buffer *out) {
    if (r->status == 101) {
        const http1_field *upgrade = http1_find(r, "Upgrade", nullptr);
        buffer_append(out, "Connection: Upgrade\r\n");
        if (upgrade != nullptr) write_field("Upgrade", upgrade->value, out);
    }
    if (r->status < 200) return;
    if (body == http1_body_kind::none && r->has_content_length && r->status != 204) {
        write_framing(http1_body_kind::length, r->content_length, out); // of the content that is not sent
    } else {
        write_framing(body, length, out);
    }
    if (!keep_alive || body == http1_body_kind::until_close) {
        buffer_append(out, "Connection: close\r\n");
    } else if (!client_http11) {
        buffer_append(out, "Connection: keep-alive\r\n");
    }
}

bool named_in(const view *names, size_t count, view name) {
    return std::any_of(names, names + count, [name](view one) { return bytes_equal_nocase(one, name); });
}

} // namespace

void http1_forward_response(const http1_response *r, http1_body_kind body, uint64_t length, bool client_http11,
                            bool keep_alive, const view *drop, size_t drop_count, view extra, buffer *out) {
    if (r->status < 200 && !client_http11) return; // RFC 9110 section 15.2
    if (body == http1_body_kind::chunked && !client_http11) body = http1_body_kind::until_close;
    buffer_reserve(out, r->head_size + extra.size() + 128); // most heads then grow the buffer once
    write_status_line(r, out);
    write_answer_framing(r, body, length, client_http11, keep_alive, out);
    const http1_field_list list = {r->fields, r->field_count};
    const bool names_fields = connection_names_fields(list);
    for (uint32_t i = 0; i < list.count; i++) {
        const view name = list.fields[i].name;
        const uint8_t traits = http1_name_traits(name);
        if ((traits & http1_name_hop) != 0) continue;
        if ((traits & http1_name_trailer) != 0 && (body != http1_body_kind::chunked || r->status < 200)) continue;
        const bool essential = (traits & http1_name_essential) != 0;
        if (names_fields && !essential && http1_list_contains(list, "Connection", name)) continue;
        if (!named_in(drop, drop_count, name)) write_field(name, list.fields[i].value, out);
    }
    buffer_append(out, extra);
    buffer_append(out, "\r\n");
}

// ---- ids

namespace {

constexpr std::array<bool, 256> id_chars = http1_make_table("-._~:+/=@");

bool is_hex(char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
}

char *write_hex(const uint8_t *bytes, size_t size, char *out) {
    for (size_t i = 0; i < size; i++) {
        *out++ = "0123456789abcdef"[bytes[i] >> 4];
        *out++ = "0123456789abcdef"[bytes[i] & 15];
    }
    return out;
}

} // namespace

bool http1_request_id_valid(view id) {
    return !id.empty() && id.size() <= http1_request_id_max &&
           std::all_of(id.begin(), id.end(), [](char c) { return http1_in_table(id_chars, c); });
}

bool http1_traceparent_valid(view traceparent) {
    if (traceparent.size() != http1_traceparent_size || !traceparent.starts_with("00-")) return false;
    for (size_t i = 2; i < traceparent.size(); i++) {
        const bool dash = i == 2 || i == 35 || i == 52;
        if (dash ? traceparent[i] != '-' : !is_hex(traceparent[i])) return false;
    }
    const view parent_id = traceparent.substr(36, 16);
    return trace_id(traceparent).find_first_not_of('0') != view::npos && parent_id.find_first_not_of('0') != view::npos;
}

void http1_traceparent_make(const uint8_t random[http1_traceparent_random], char out[http1_traceparent_size]) {
    uint8_t ids[http1_traceparent_random];
    std::copy_n(random, sizeof ids, ids);
    // An id of zeros is no id. One in 2^64, or a source of randomness that is broken.
    if (std::all_of(ids, ids + 16, [](uint8_t byte) { return byte == 0; })) ids[15] = 1;
    if (std::all_of(ids + 16, ids + 24, [](uint8_t byte) { return byte == 0; })) ids[23] = 1;
    char *at = std::copy_n("00-", 3, out);
    at = write_hex(ids, 16, at);
    *at++ = '-';
    at = write_hex(ids + 16, 8, at);
    std::copy_n("-00", 3, at);
}

} // namespace belfry
