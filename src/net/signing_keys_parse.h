// What keys are written in: PEM, JWK, JWK Sets, bare secrets. The part of signing_keys that reads texts; for
// signing_keys.cc alone. Main thread.
#pragma once

#include "base/bytes.h"
#include "base/error.h"
#include "net/signing_keys.h"

#include <string>
#include <vector>

struct evp_pkey_st;

namespace belfry {

struct signing_key {
    jwt_algorithm algorithm;
    std::string kid;                          // empty: none
    std::string secret;                       // hs256
    struct evp_pkey_st *public_key = nullptr; // owned by signing_keys: all but hs256
};

// Appends the key, or the keys, that `text` holds; false with a reason (signing_keys_load's, without "key N:"). What
// was appended is the caller's to free either way.
[[nodiscard]] bool signing_keys_parse(view text, std::vector<signing_key> *out, error *e);

} // namespace belfry
