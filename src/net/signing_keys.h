// The keys that JSON Web Tokens are checked with: public keys (RSA, EC P-256, Ed25519) and HMAC secrets, each for the
// one algorithm that its type has (RFC 8725 section 3.1), with or without a key id.
//
// Counted, and immutable once loaded: any thread may verify. Loading: main thread. Secrets are overwritten when the
// last reference goes. No text that comes out of here holds a byte of a key.
#pragma once

#include "base/bytes.h"
#include "base/error.h"
#include "proto/jwt.h"

#include <stddef.h>

namespace belfry {

struct signing_keys; // counted

inline constexpr size_t signing_keys_max = 16;             // a token without kid is tried with all of its type
inline constexpr size_t signing_key_text_max = 256 * 1024; // bytes of one text: key sets with certificates are long
inline constexpr size_t signing_secret_min = 32;           // bytes: RFC 7518 section 3.2
inline constexpr int signing_rsa_bits_min = 2048;          // section 3.3
inline constexpr int signing_rsa_bits_max = 8192;          // bounds what checking a token costs

// Loads `count` texts, each what one key or key set is written in:
//
// - PEM, one block: a public key (`PUBLIC KEY`) or an X.509 certificate, which is but the envelope of its key: dates
//   and issuer are not looked at. Private keys are refused: the file of those does not belong on this machine.
// - JSON, where the text begins with '{': a JWK or a JWK Set (RFC 7517). kty RSA, EC (P-256), OKP (Ed25519) or oct;
//   `kid`, `use`, `key_ops` and `alg` are respected. In a set, keys for other uses, of other types and sizes are passed
//   over (section 5), as long as one is left; a private key is refused in a set, too.
// - anything else: an HMAC secret, without the newline at its end. 32 bytes or more and no control characters. A public
//   key in bare base64 is refused: as a secret it would let everybody sign.
//
// A text may begin with `kid=NAME ` (NAME without spaces), which names its key; a JWK must then have that kid or none.
//
// One reference, or null with a reason that begins "key N:" and names the text by its place, from 1.
[[nodiscard]] signing_keys *signing_keys_load(const char *const *texts, size_t count, error *e);
signing_keys *signing_keys_ref(signing_keys *keys);
void signing_keys_unref(signing_keys *keys); // null is fine

// Which keys would be tried for a token: those of the algorithm's type that have its `kid`; all of the type where the
// token names none (an empty view) or where no key has an id.
[[nodiscard]] bool signing_keys_has(const signing_keys *keys, jwt_algorithm algorithm, view kid);
// True where `signature` is that of `signed_part` by one of them. RS256: PKCS #1 v1.5, as long as the key; ES256: the
// 64 bytes of r and s (RFC 7518 section 3.4), not DER; EdDSA: 64 bytes; HS256: 32 bytes, compared in constant time.
[[nodiscard]] bool signing_keys_verify(const signing_keys *keys, jwt_algorithm algorithm, view kid, view signed_part,
                                       view signature);
// The two above as jwt_check wants them. `keys` is borrowed.
jwt_verifier signing_keys_verifier(const signing_keys *keys);

} // namespace belfry
