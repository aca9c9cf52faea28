// Signature keys and checking with them. How they are written is read by signing_keys_parse.cc.
// Counted and immutable once made: the workers share one, each checks by itself. Making one: main thread.
#include "net/signing_keys.h"

#include "net/signing_keys_parse.h"
#include "proto/hmac.h"

#include <atomic>
#include <new>
#include <openssl/crypto.h>
#include <openssl/ecdsa.h>
#include <openssl/err.h>
#include <openssl/evp.h>

namespace belfry {

struct signing_keys {
    std::atomic<uint32_t> references; // counted
    bool any_kid;                     // one of them at least has an id
    std::vector<signing_key> list;
};

namespace {

// How far apart r and s stand, and what they and Ed25519's two halves come to.
constexpr size_t half_size = 32;
constexpr size_t signature_size = 2 * half_size;

using octets = unsigned char;

const octets *octets_of(view bytes) {
    return reinterpret_cast<const octets *>(bytes.data());
}

bool is_candidate(const signing_keys *keys, const signing_key *key, jwt_algorithm algorithm, view kid) {
    return key->algorithm == algorithm && (kid.empty() || !keys->any_kid || key->kid == kid);
}

bool verify_with(const signing_key *key, view data, view signature) {
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    if (context == nullptr) fatal("out of memory for a signature");
    // Ed25519 hashes by itself (RFC 8032 section 5.1.7). An RSA key's padding is PKCS #1 v1.5 by default.
    const EVP_MD *digest = key->algorithm == jwt_algorithm::eddsa ? nullptr : EVP_sha256();
    const bool good =
        EVP_DigestVerifyInit(context, nullptr, digest, nullptr, key->public_key) == 1 &&
        EVP_DigestVerify(context, octets_of(signature), signature.size(), octets_of(data), data.size()) == 1;
    EVP_MD_CTX_free(context);
    return good;
}

// OpenSSL reads ECDSA signatures in DER. Of r and s that are 0 or beyond the curve's order it says no by itself.
bool verify_es256(const signing_key *key, view data, view signature) {
    if (signature.size() != signature_size) return false;
    ECDSA_SIG *numbers = ECDSA_SIG_new();
    BIGNUM *r = BN_bin2bn(octets_of(signature), half_size, nullptr);
    BIGNUM *s = BN_bin2bn(octets_of(signature) + half_size, half_size, nullptr);
    if (numbers == nullptr || r == nullptr || s == nullptr || ECDSA_SIG_set0(numbers, r, s) != 1)
        fatal("out of memory for a signature");
    octets *der = nullptr;
    const int size = i2d_ECDSA_SIG(numbers, &der);
    ECDSA_SIG_free(numbers);
    if (size <= 0) fatal("out of memory for a signature");
    const bool good = verify_with(key, data, view(reinterpret_cast<char *>(der), static_cast<size_t>(size)));
    OPENSSL_free(der);
    return good;
}

bool verify_one(const signing_key *key, view data, view signature) {
    switch (key->algorithm) {
    case jwt_algorithm::hs256: {
        uint8_t wanted[hmac_sha256_size];
        hmac_sha256(key->secret, data, wanted);
        return bytes_equal_constant_time(view(reinterpret_cast<char *>(wanted), sizeof wanted), signature);
    }
    case jwt_algorithm::rs256:
        return signature.size() == static_cast<size_t>(EVP_PKEY_get_size(key->public_key)) &&
               verify_with(key, data, signature);
    case jwt_algorithm::es256:
        return verify_es256(key, data, signature);
    case jwt_algorithm::eddsa:
        return signature.size() == signature_size && verify_with(key, data, signature);
    }
    return false;
}

bool verifier_has(void *context, jwt_algorithm algorithm, view kid) {
    return signing_keys_has(static_cast<const signing_keys *>(context), algorithm, kid);
}

bool verifier_verify(void *context, jwt_algorithm algorithm, view kid, view signed_part, view signature) {
    return signing_keys_verify(static_cast<const signing_keys *>(context), algorithm, kid, signed_part, signature);
}

} // namespace

signing_keys *signing_keys_load(const char *const *texts, size_t count, error *e) {
    ERR_clear_error();
    signing_keys *keys = new (std::nothrow) signing_keys;
    if (keys == nullptr) fatal("out of memory for keys");
    keys->references.store(1, std::memory_order_relaxed);
    keys->any_kid = false;
    bool fine = true;
    for (size_t i = 0; fine && i < count; i++) {
        fine = signing_keys_parse(texts[i], &keys->list, e);
        if (fine && keys->list.size() > signing_keys_max) {
            error_set(e, "there are more than %zu keys", signing_keys_max);
            fine = false;
        }
        if (!fine) error_set(e, "key %zu: %s", i + 1, e->text);
    }
    if (!fine) {
        signing_keys_unref(keys);
        return nullptr;
    }
    for (const signing_key &key : keys->list)
        keys->any_kid = keys->any_kid || !key.kid.empty();
    return keys;
}

signing_keys *signing_keys_ref(signing_keys *keys) {
    keys->references.fetch_add(1, std::memory_order_relaxed);
    return keys;
}

void signing_keys_unref(signing_keys *keys) {
    if (keys == nullptr || keys->references.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
    for (signing_key &key : keys->list) {
        OPENSSL_cleanse(key.secret.data(), key.secret.size());
        EVP_PKEY_free(key.public_key);
    }
    delete keys;
}

bool signing_keys_has(const signing_keys *keys, jwt_algorithm algorithm, view kid) {
    for (const signing_key &key : keys->list)
        if (is_candidate(keys, &key, algorithm, kid)) return true;
    return false;
}

bool signing_keys_verify(const signing_keys *keys, jwt_algorithm algorithm, view kid, view signed_part,
                         view signature) {
    bool good = false;
    for (const signing_key &key : keys->list) {
        if (!is_candidate(keys, &key, algorithm, kid)) continue;
        good = verify_one(&key, signed_part, signature);
        if (good) break;
    }
    // A wrong signature leaves its reason in the thread's queue, where the next TLS call would take it for its own.
    ERR_clear_error();
    return good;
}

jwt_verifier signing_keys_verifier(const signing_keys *keys) {
    // Only handed back to the two functions above, which take it as const again.
    return {.context = const_cast<signing_keys *>(keys), .has_key = verifier_has, .verify = verifier_verify};
}

} // namespace belfry
