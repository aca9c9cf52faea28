// JSON Web Tokens (RFC 7519) in the compact form of JWS (RFC 7515), as a client hands them over at the handshake or in
// an `auth` message: bytes, options and the time in, claims or the reason of a refusal out.
//
// The signature is checked by functions that the caller gives, because keys are net/'s business (net/signing_keys.h).
// What RFC 8725 asks for is done here: `alg` never decides by itself what is done (section 3.1), and nothing that the
// header says about keys is followed but `kid` (3.10: jku, x5u, jwk, x5c are as if they were not there).
//
// Pure; the thread of the reader. No text that comes out of here quotes the token. Fuzzed.
#pragma once

#include "base/bytes.h"
#include "proto/json.h"

#include <stdint.h>
#include <string>
#include <vector>

namespace belfry {

inline constexpr size_t jwt_size_max = 8192;      // bytes: as long as the whole head of a request may be
inline constexpr size_t jwt_patterns_max = 64;    // of each kind, join and publish
inline constexpr size_t jwt_info_max = 1024;      // bytes
inline constexpr size_t jwt_audiences_max = 64;   // entries of `aud`
inline constexpr int64_t jwt_leeway_max = 86'400; // seconds

// What a signature is made with (RFC 7518 section 3.1, RFC 8037 section 3.1). A key is for one of them and no other.
enum class jwt_algorithm : uint8_t { hs256, rs256, es256, eddsa };

// The algorithm of that name, in its exact spelling. False for any other, "none" among them.
[[nodiscard]] bool jwt_algorithm_parse(view name, jwt_algorithm *out);
// The algorithm's bit in jwt_options.
inline uint32_t jwt_algorithm_bit(jwt_algorithm algorithm) {
    return 1u << static_cast<unsigned>(algorithm);
}

// What a route asks of its tokens. Read-only while tokens are checked; any number of threads.
struct jwt_options {
    uint32_t algorithms = 0;            // jwt_algorithm_bit of each that is accepted; none by itself
    bool expiry_required = true;        // false: a token without `exp` is good for ever
    int64_t leeway = 0;                 // seconds by which clocks may differ, 0 to jwt_leeway_max (cut to that)
    std::string issuer;                 // what `iss` must be; empty: it is not looked at
    std::vector<std::string> audiences; // one of them must be in `aud`; none: it is not looked at
};

// Who knows the keys. An empty `kid` means that the token names none.
struct jwt_verifier {
    void *context; // borrowed
    // True where there is a key that would be tried.
    bool (*has_key)(void *context, jwt_algorithm algorithm, view kid);
    // True where `signature` (decoded, of any size) is that of `signed_part` by such a key. A key must be used with its
    // own algorithm alone: a token that names HS256 is never checked with the bytes of a public key.
    bool (*verify)(void *context, jwt_algorithm algorithm, view kid, view signed_part, view signature);
};

// What a good token says. Owns everything.
struct jwt_claims {
    std::string subject; // `sub`: the user, fit to be part of the room name @user:ID; empty: there is none
    bool expires;        // false: for ever
    uint64_t expires_ms; // `exp`, without leeway, as clock.wall_ms counts
    bool has_rooms;      // `rooms` is there; false: the route's own rules alone decide
    // Patterns (proto/room_name.h), each a valid name and none of Belfry's own.
    std::vector<std::string> join;
    std::vector<std::string> publish;
    std::string info;    // `info`: any JSON, verbatim; empty: there is none
    std::string payload; // all claims: the JSON object verbatim, valid as a whole, jwt_size_max bytes at most
};

enum class jwt_result : uint8_t {
    ok,
    malformed, // too large, not three parts, no JSON, a header that asks for what is not done (crit, b64)
    algorithm, // unknown or not accepted
    key,       // no key for this algorithm and kid
    signature, // wrong
    expired,   // `exp` is over
    early,     // `nbf` is still to come
    issuer,    // `iss` is missing or another
    audience,  // `aud` is missing or names others
    claims,    // a claim is missing or is not what it must be
};

// The result as a word: for counters and logs. Static text.
const char *jwt_result_name(jwt_result result);

// Checks a token at the time `wall_ms`. The claims are looked at only after the signature was found good. `out` is
// filled in with jwt_result::ok alone; else *why is a static text that says what is wrong.
//
// Dates (`exp`, `nbf`, `iat`) are NumericDate: seconds since 1970 with or without a fraction (RFC 7519 section 2).
// One beyond the year 9999 is refused: it is in milliseconds, or means to overflow somebody. A token is good up to
// `exp` plus leeway, not at it (section 4.1.4), and from `nbf` minus leeway on.
//
// `rooms` is an array of patterns (for join and publish alike) or {"join":[...],"publish":[...]}, where a missing
// member means none.
[[nodiscard]] jwt_result jwt_check(json_reader *r, view token, const jwt_options *options, uint64_t wall_ms,
                                   const jwt_verifier *verifier, jwt_claims *out, const char **why);

} // namespace belfry
