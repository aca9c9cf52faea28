// HMAC-SHA-256 by OpenSSL's one-shot function. Owns nothing; pure; any thread.
#include "proto/hmac.h"

#include "base/error.h"

#include <limits.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

namespace belfry {

void hmac_sha256(view key, view data, uint8_t out[hmac_sha256_size]) {
    // OpenSSL counts a key's bytes in an int.
    if (key.size() > INT_MAX) fatal("hmac_sha256: a key of %zu bytes", key.size());
    // An empty view may hold a null pointer, which OpenSSL takes for "the key of the last time".
    const char *key_bytes = key.empty() ? "" : key.data();
    const uint8_t *bytes = reinterpret_cast<const uint8_t *>(data.empty() ? "" : data.data());
    unsigned size = 0;
    if (HMAC(EVP_sha256(), key_bytes, static_cast<int>(key.size()), bytes, data.size(), out, &size) == nullptr ||
        size != hmac_sha256_size)
        fatal("OpenSSL refuses HMAC-SHA-256, which hooks and tokens need");
}

} // namespace belfry
