// The WebSocket opening handshake, server side: each field that RFC 6455 section 4.2.1 names is parsed by its grammar,
// and the first rule that is broken decides the refusal.
//
// Pure functions over a parsed request. Any thread.
#include "proto/handshake.h"

#include "base/error.h"
#include "proto/extensions.h"

#include <algorithm>
#include <openssl/sha.h>

namespace belfry {

namespace {

constexpr size_t key_size = 24; // base64 of 16 bytes

// RFC 9110 section 15.5.22: a 426 must name what to upgrade to, and the connection option that goes with it;
// RFC 6455 section 4.4: and the version.
constexpr const char *upgrade_fields = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n";

handshake_verdict refuse(int status, const char *why, const char *field = "") {
    return {.status = status, .why = why, .field = field};
}

// ---- list fields

// Calls `each` with every element of the list field `name`, all its lines in order; false as soon as one call is.
// *present gets whether the field is there at all.
template <typename each_function>
bool for_each_element(const http1_request *r, view name, bool *present, each_function each) {
    *present = false;
    for (uint32_t i = 0; i < r->field_count; i++) {
        if (!bytes_equal_nocase(r->fields[i].name, name)) continue;
        *present = true;
        view rest = r->fields[i].value;
        view element;
        while (http1_next_element(&rest, &element)) {
            if (!each(element)) return false;
        }
    }
    return true;
}

// protocol-name ["/" protocol-version], RFC 9110 section 7.8.
bool is_protocol(view element) {
    const size_t slash = element.find('/');
    if (slash == view::npos) return http1_is_token(element);
    return http1_is_token(element.substr(0, slash)) && http1_is_token(element.substr(slash + 1));
}

handshake_verdict check_upgrade(const http1_request *r) {
    bool has_upgrade = false;
    bool has_connection = false;
    if (!for_each_element(r, "Upgrade", &has_upgrade, is_protocol))
        return refuse(400, "the Upgrade field is malformed");
    if (!for_each_element(r, "Connection", &has_connection, http1_is_token)) {
        return refuse(400, "the Connection field is malformed");
    }
    const bool connection = http1_list_has(r, "Connection", "upgrade");
    if (!has_upgrade && !connection) {
        return refuse(426, "this address speaks WebSocket: the request is no upgrade", upgrade_fields);
    }
    if (!http1_list_has(r, "Upgrade", "websocket")) return refuse(400, "the Upgrade field does not name websocket");
    if (!connection) return refuse(400, "the Connection field does not name upgrade");
    return {};
}

// ---- single fields

handshake_verdict check_version(const http1_request *r) {
    size_t count = 0;
    const http1_field *version = http1_find(r, "Sec-WebSocket-Version", &count);
    if (count > 1) return refuse(400, "several Sec-WebSocket-Version fields");
    if (version == nullptr) return refuse(400, "no Sec-WebSocket-Version field");
    if (version->value == "13") return {};
    uint64_t number = 0;
    // RFC 6455 section 4.3 knows no leading zeros.
    if (!bytes_parse_uint(version->value, &number) || (version->value.size() > 1 && version->value[0] == '0')) {
        return refuse(400, "Sec-WebSocket-Version is not a number");
    }
    return refuse(426, "only WebSocket version 13 is spoken here", upgrade_fields);
}

handshake_verdict check_key(const http1_request *r, handshake *out) {
    size_t count = 0;
    const http1_field *key = http1_find(r, "Sec-WebSocket-Key", &count);
    if (count > 1) return refuse(400, "several Sec-WebSocket-Key fields");
    if (key == nullptr) return refuse(400, "no Sec-WebSocket-Key field");
    char nonce[3 * (key_size / 4)];
    size_t nonce_size = 0;
    if (key->value.size() != key_size || !base64_decode(key->value, nonce, &nonce_size) || nonce_size != 16) {
        return refuse(400, "Sec-WebSocket-Key is not the base64 of 16 bytes");
    }
    out->key = key->value;
    return {};
}

handshake_verdict check_origin(const http1_request *r, handshake *out) {
    size_t count = 0;
    const http1_field *origin = http1_find(r, "Origin", &count);
    if (count > 1) return refuse(400, "several Origin fields"); // one of them may be allowed, which proves nothing
    out->has_origin = count == 1;
    if (origin != nullptr) out->origin = origin->value;
    return {};
}

// ---- subprotocols and extensions

handshake_verdict check_protocols(const http1_request *r, handshake *out) {
    const char *why = nullptr;
    bool present = false;
    const bool fine = for_each_element(r, "Sec-WebSocket-Protocol", &present, [&](view element) {
        if (!http1_is_token(element)) {
            why = "Sec-WebSocket-Protocol is not a list of tokens";
        } else if (handshake_offers(out, element) >= 0) {
            why = "Sec-WebSocket-Protocol names a subprotocol twice"; // section 4.1, item 10 of the request
        } else if (out->protocol_count == handshake_protocols_max) {
            why = "too many subprotocols";
        } else {
            out->protocols[out->protocol_count++] = element;
        }
        return why == nullptr;
    });
    if (!fine) return refuse(400, why);
    if (present && out->protocol_count == 0) return refuse(400, "Sec-WebSocket-Protocol is empty");
    return {};
}

handshake_verdict check_extensions(const http1_request *r) {
    extension_reader reader = {.request = r};
    extension_word word;
    extension_item item;
    bool any = false;
    while ((item = extension_next(&reader, &word)) != extension_item::end) {
        if (item == extension_item::malformed) return refuse(400, "the Sec-WebSocket-Extensions field is malformed");
        any = true;
    }
    size_t fields = 0;
    (void)http1_find(r, "Sec-WebSocket-Extensions", &fields);
    if (fields && !any) return refuse(400, "the Sec-WebSocket-Extensions field is empty");
    return {};
}

} // namespace

bool handshake_wanted(const http1_request *r) {
    size_t count = 0;
    (void)http1_find(r, "Upgrade", &count);
    return count > 0 && http1_list_has(r, "Connection", "upgrade");
}

handshake_verdict handshake_check(const http1_request *r, handshake *out) {
    *out = {};
    if (r->method != "GET") return refuse(405, "a WebSocket handshake is a GET request", "Allow: GET\r\n");
    handshake_verdict verdict = check_upgrade(r);
    if (verdict.status != 101) return verdict;
    // HTTP/1.0 has no Upgrade (RFC 9110 section 7.8). Mostly it is a proxy in front that was not told to speak 1.1.
    if (r->minor_version < 1) return refuse(400, "a WebSocket handshake needs HTTP/1.1");
    // Bytes of a body would be taken for frames, or frames for a body.
    if (r->chunked || r->content_length > 0) return refuse(400, "a WebSocket handshake has no body");
    verdict = check_version(r); // before the key: older versions have none, and should learn about 13
    if (verdict.status == 101) verdict = check_key(r, out);
    if (verdict.status == 101) verdict = check_origin(r, out);
    if (verdict.status == 101) verdict = check_protocols(r, out);
    if (verdict.status == 101) verdict = check_extensions(r);
    return verdict;
}

void handshake_accept(view key, char *out) {
    static constexpr view guid = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"; // section 1.3
    unsigned char text[key_size + guid.size()];
    const view used = key.substr(0, key_size);
    std::copy(used.begin(), used.end(), text);
    std::copy(guid.begin(), guid.end(), text + used.size());
    unsigned char digest[SHA_DIGEST_LENGTH];
    if (SHA1(text, used.size() + guid.size(), digest) == nullptr) {
        fatal("OpenSSL refuses SHA-1, which the WebSocket handshake needs (RFC 6455 section 4.2.2)");
    }
    base64_encode(view(reinterpret_cast<const char *>(digest), sizeof digest), out);
}

int handshake_offers(const handshake *h, view name) {
    for (uint32_t i = 0; i < h->protocol_count; i++) {
        if (h->protocols[i] == name) return static_cast<int>(i);
    }
    return -1;
}

void handshake_write_101(view key, view protocol, view extra, buffer *out) {
    char accept[handshake_accept_size];
    handshake_accept(key, accept);
    buffer_append(out, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                       "Sec-WebSocket-Accept: ");
    buffer_append(out, view(accept, sizeof accept));
    if (!protocol.empty()) {
        buffer_append(out, "\r\nSec-WebSocket-Protocol: ");
        buffer_append(out, protocol);
    }
    buffer_append(out, "\r\n");
    buffer_append(out, extra);
    buffer_append(out, "\r\n");
}

} // namespace belfry
