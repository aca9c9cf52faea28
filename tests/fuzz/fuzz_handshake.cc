// Fuzzes proto/handshake. The input is a request head; where it ends early, lines that make it whole are put behind.
// What must hold:
// - every refusal has a status that is one, a reason, and whole extra lines;
// - what was accepted has a key of 24 bytes, distinct tokens as subprotocols, no body, and was wanted;
// - the answers are whole heads, and the refusal's length is that of its body.
//
// One thread.
#include "proto/handshake.h"

#include <stdlib.h>
#include <string>

using namespace belfry;

namespace {

void require(bool holds) {
    if (!holds) abort();
}

void check_accepted(const http1_request *r, const handshake *h) {
    require(handshake_wanted(r) && r->method == "GET" && r->minor_version == 1);
    require(r->content_length == 0 && !r->chunked);
    require(h->key.size() == 24 && h->key.ends_with("=="));
    require(h->protocol_count <= handshake_protocols_max);
    for (uint32_t i = 0; i < h->protocol_count; i++) {
        require(http1_is_token(h->protocols[i]));
        require(handshake_offers(h, h->protocols[i]) == static_cast<int>(i));
    }
    buffer out = {};
    handshake_write_101(h->key, h->protocol_count > 0 ? h->protocols[0] : "", "", &out);
    const view answer = buffer_view(&out);
    require(answer.starts_with("HTTP/1.1 101 ") && answer.find("\r\n\r\n") == answer.size() - 4);
    buffer_free(&out);
}

void check_refused(const http1_request *r, const handshake_verdict &verdict) {
    require(verdict.status == 400 || verdict.status == 405 || verdict.status == 426);
    require(verdict.why[0] != '\0');
    const view field = verdict.field;
    require(field.empty() || field.ends_with("\r\n"));
    require((verdict.status == 400) == field.empty());
    buffer out = {};
    http1_write_error(verdict.status, r->target, field, false, &out); // the target: bytes of the client's
    const view answer = buffer_view(&out);
    const size_t body = answer.find("\r\n\r\n") + 4;
    require(answer.find("\r\n", body) == view::npos && answer.ends_with("\"}}"));
    const std::string length = "Content-Length: " + std::to_string(answer.size() - body) + "\r\n";
    require(answer.substr(0, body).find(length) != view::npos);
    buffer_free(&out);
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    std::string bytes(reinterpret_cast<const char *>(data), size);
    bytes += "\r\nHost: a\r\nUpgrade: websocket\r\nConnection: upgrade\r\nSec-WebSocket-Version: 13\r\n\r\n";
    http1_scan scan = {};
    http1_request request;
    const char *why = nullptr;
    if (http1_parse_request(bytes, &scan, &request, &why) != http1_result::complete) return 0;
    handshake h;
    const handshake_verdict verdict = handshake_check(&request, &h);
    if (verdict.status == 101) {
        check_accepted(&request, &h);
    } else {
        check_refused(&request, verdict);
    }
    return 0;
}
