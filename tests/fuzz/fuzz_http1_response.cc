// Fuzzes http1_parse_response. What must hold for any bytes:
// - the result is the same whether a head comes whole, byte by byte, or in two pieces;
// - all views lie inside the input, in the head;
// - a head that was accepted, written again from its parts, is accepted with the same parts;
// - no accepted head has two readings: a bare CR or LF, a control, two lengths.
//
// One thread.
#include "proto/http1.h"
#include "proto/http1_body.h"

#include <stdlib.h>
#include <string>

using namespace belfry;

namespace {

void require(bool holds) {
    if (!holds) abort();
}

struct parsed {
    http1_result result = http1_result::incomplete;
    std::string why;
    std::string held; // what the response points into
    http1_response response = {};
};

void step(view bytes, http1_scan *scan, parsed *p) {
    const char *why = nullptr;
    p->held = bytes;
    p->result = http1_parse_response(p->held, scan, &p->response, &why);
    p->why = why;
    require((static_cast<int>(p->result) >= 400) == !p->why.empty());
}

bool inside(view part, view whole) {
    return part.empty() || (part.data() >= whole.data() && part.data() + part.size() <= whole.data() + whole.size());
}

void same(const parsed &a, const parsed &b) {
    require(a.result == b.result && a.why == b.why);
    if (a.result != http1_result::complete) return;
    const http1_response &x = a.response;
    const http1_response &y = b.response;
    require(x.status == y.status && x.reason == y.reason && x.minor_version == y.minor_version);
    require(x.keep_alive == y.keep_alive && x.chunked == y.chunked && x.field_count == y.field_count);
    require(x.has_content_length == y.has_content_length && x.content_length == y.content_length);
    for (uint32_t i = 0; i < x.field_count; i++) {
        require(x.fields[i].name == y.fields[i].name && x.fields[i].value == y.fields[i].value);
    }
}

void check_accepted(const parsed &p) {
    const http1_response &r = p.response;
    require(r.head_size <= http1_head_max && r.head_size <= p.held.size());
    const view head = view(p.held).substr(0, r.head_size);
    require(head.starts_with("HTTP/1.") && head.ends_with("\r\n\r\n"));
    require(head.find('\0') == view::npos);
    require(r.status >= 100 && r.status <= 599);
    const std::string line = " " + std::to_string(r.status) + " " + std::string(r.reason) + "\r\n";
    require(head.substr(8, line.size()) == line);
    require(inside(r.reason, head) && r.reason.find_first_of("\r\n") == view::npos);
    require(!(r.has_content_length && r.chunked) && !(r.chunked && r.minor_version == 0));
    for (uint32_t i = 0; i < r.field_count; i++) {
        require(inside(r.fields[i].name, head) && inside(r.fields[i].value, head));
        require(http1_is_token(r.fields[i].name));
        require(r.fields[i].value.find_first_of("\r\n") == view::npos);
    }
    require(http1_response_body_kind(&r, "HEAD") == http1_body_kind::none);
    const http1_body_kind kind = http1_response_body_kind(&r, "GET");
    require(kind != http1_body_kind::chunked || r.chunked);
    require(kind != http1_body_kind::length || r.has_content_length);
    require(kind != http1_body_kind::until_close || !(r.chunked || r.has_content_length));
}

// The shortest way to write the response: never longer than what was read.
std::string write_again(const http1_response &r) {
    std::string text = r.minor_version == 0 ? "HTTP/1.0 " : "HTTP/1.1 ";
    text += std::to_string(r.status) + " " + std::string(r.reason) + "\r\n";
    for (uint32_t i = 0; i < r.field_count; i++) {
        text += std::string(r.fields[i].name) + ":" + std::string(r.fields[i].value) + "\r\n";
    }
    return text + "\r\n";
}

parsed parse_whole(view bytes) {
    parsed p;
    http1_scan scan = {};
    step(bytes, &scan, &p);
    return p;
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const view bytes(reinterpret_cast<const char *>(data), size);
    const parsed whole = parse_whole(bytes);

    parsed by_byte;
    http1_scan scan = {};
    for (size_t n = 0; n <= size && by_byte.result == http1_result::incomplete; n++) {
        step(bytes.substr(0, n), &scan, &by_byte);
    }
    same(whole, by_byte);

    parsed in_two;
    scan = {};
    step(bytes.substr(0, size > 0 ? data[size - 1] % size : 0), &scan, &in_two);
    if (in_two.result == http1_result::incomplete) step(bytes, &scan, &in_two);
    same(whole, in_two);

    if (whole.result == http1_result::complete) {
        check_accepted(whole);
        const parsed again = parse_whole(write_again(whole.response));
        same(whole, again);
        require(again.response.head_size == again.held.size());
    }
    return 0;
}
