// HMAC-SHA-256 (RFC 2104, FIPS 198-1): signs what is posted to hooks, checks HS256 tokens. Pure; any thread.
#pragma once

#include "base/bytes.h"

#include <stdint.h>

namespace belfry {

inline constexpr size_t hmac_sha256_size = 32;

// `key` and `data` may be of any size, empty too. Compare the outcome with bytes_equal_constant_time and nothing else.
void hmac_sha256(view key, view data, uint8_t out[hmac_sha256_size]);

} // namespace belfry
