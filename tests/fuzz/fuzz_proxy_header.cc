// Fuzzes proto/proxy_header. What must hold for any bytes:
// - a header is complete with its last byte, not before, and the same whatever follows it;
// - what failed once stays failed, whatever comes; nothing longer than proxy_header_max is still incomplete;
// - a client that was named has an address; where none was named, there is none.
//
// One thread.
#include "proto/proxy_header.h"

#include <stdlib.h>
#include <string.h>

using namespace belfry;

namespace {

void require(bool holds) {
    if (!holds) abort();
}

void check_header(const proxy_header *h, view bytes) {
    require(h->size > 0 && h->size <= bytes.size() && h->size <= proxy_header_max);
    require(h->local == ip_is_none(&h->source));
    require(h->local ? h->family == 0 && h->port == 0 : h->family == 4 || h->family == 6);
    require(h->family != 4 || ip_is_v4(&h->source));
    const bool v1 = bytes[0] == 'P';
    require(!v1 || (h->size <= proxy_header_v1_max && bytes.substr(h->size - 2, 2) == "\r\n"));
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const view bytes(reinterpret_cast<const char *>(data), size);
    proxy_header whole = {};
    const char *why = nullptr;
    const proxy_header_result result = proxy_header_parse(bytes, &whole, &why);
    require((result == proxy_header_result::failed) == (why != nullptr));
    require(result != proxy_header_result::incomplete || size < proxy_header_max);
    if (result == proxy_header_result::complete) check_header(&whole, bytes);

    const size_t end = result == proxy_header_result::complete ? whole.size : size < 600 ? size : 600;
    bool failed = false;
    for (size_t n = 0; n <= end; n++) {
        proxy_header part = {};
        const proxy_header_result now = proxy_header_parse(bytes.substr(0, n), &part, &why);
        require(!failed || now == proxy_header_result::failed);
        failed = now == proxy_header_result::failed;
        require((now == proxy_header_result::complete) == (result == proxy_header_result::complete && n == end));
        if (now != proxy_header_result::complete) continue;
        require(part.local == whole.local && part.family == whole.family && part.port == whole.port);
        require(part.size == whole.size && ip_equal(&part.source, &whole.source));
    }
    require(failed == (result == proxy_header_result::failed));
    return 0;
}
