// Tokens for the tests of jwt and of the keys that they are signed with.
#pragma once

#include "base/bytes.h"
#include "proto/hmac.h"

#include <string>

namespace belfry {

// The payload of RFC 7515 appendices A.1 to A.3, and what it says in `exp`.
inline constexpr char rfc7515_payload[] =
    "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
inline constexpr uint64_t rfc7515_expires_ms = 1300819380'000;
// Appendix A.1.1: the key, base64url, and the token.
inline constexpr char rfc7515_a1_key[] =
    "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow";
inline const std::string rfc7515_a1_token = std::string("eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.") + rfc7515_payload +
                                            ".dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";

inline std::string base64url(view bytes) {
    std::string out(4 * ((bytes.size() + 2) / 3), '\0');
    out.resize(base64url_encode(bytes, out.data()));
    return out;
}

// The bytes of well-formed base64url; for vectors.
inline std::string from_base64url(view text) {
    std::string out(text.size() * 3 / 4, '\0');
    size_t size = 0;
    if (!base64url_decode(text, out.data(), &size)) return "not base64url";
    out.resize(size);
    return out;
}

// HEADER.PAYLOAD, as it is signed.
inline std::string unsigned_token(view header, view payload) {
    return base64url(header) + "." + base64url(payload);
}

inline std::string hs256_token(view header, view payload, view secret) {
    const std::string head = unsigned_token(header, payload);
    uint8_t signature[hmac_sha256_size];
    hmac_sha256(secret, head, signature);
    return head + "." + base64url(view(reinterpret_cast<char *>(signature), sizeof signature));
}

} // namespace belfry
