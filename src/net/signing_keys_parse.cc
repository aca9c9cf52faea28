// Reads keys from texts. A text is the operator's, not a stranger's, so the checks are there to find mistakes: private
// keys where public ones belong, a public key taken for a secret, sizes that nobody should trust any more.
// Main thread; what it makes belongs to the list that it is appended to. OpenSSL's own reasons are not passed on: some
// of them come with bytes of what was read.
#include "net/signing_keys_parse.h"

#include "base/frame.h"
#include "proto/json.h"

#include <openssl/bio.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/param_build.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <string.h>

namespace belfry {

namespace {

constexpr char private_key[] = "it is a private key: give the public one";
constexpr size_t kid_max = 255; // bytes

using octets = unsigned char;

const octets *octets_of(view bytes) {
    return reinterpret_cast<const octets *>(bytes.data());
}

bool fail(error *e, const char *why) {
    error_set(e, "%s", why);
    return false;
}

// ---- public keys of any origin

// Finds out what the key may verify. Null, or why it may verify nothing.
const char *classify(EVP_PKEY *key, jwt_algorithm *out) {
    char group[32];
    size_t group_size = 0;
    if (EVP_PKEY_is_a(key, "RSA") == 1) {
        *out = jwt_algorithm::rs256;
        const int bits = EVP_PKEY_get_bits(key);
        if (bits < signing_rsa_bits_min) return "an RSA key must have 2048 bits or more";
        if (bits > signing_rsa_bits_max) return "an RSA key must have 8192 bits or fewer";
    } else if (EVP_PKEY_is_a(key, "EC") == 1) {
        *out = jwt_algorithm::es256;
        // A curve written out in numbers is refused, even where they are those of P-256 (RFC 5480 section 2.1.1): with
        // another generator, anybody could sign (CVE-2020-0601).
        int written_out = 0;
        if (EVP_PKEY_get_int_param(key, OSSL_PKEY_PARAM_EC_DECODED_FROM_EXPLICIT_PARAMS, &written_out) != 1 ||
            written_out != 0 || EVP_PKEY_get_group_name(key, group, sizeof group, &group_size) != 1 ||
            view(group, group_size) != SN_X9_62_prime256v1)
            return "an EC key must be of the curve P-256";
    } else if (EVP_PKEY_is_a(key, "ED25519") == 1) {
        *out = jwt_algorithm::eddsa;
    } else {
        return "its type is none of RSA, EC (P-256), Ed25519";
    }
    // A point that is not on its curve, an even modulus, an exponent of 1.
    EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_from_pkey(nullptr, key, nullptr);
    const bool sound = context != nullptr && EVP_PKEY_public_check(context) == 1;
    EVP_PKEY_CTX_free(context);
    return sound ? nullptr : "the key's numbers are no sound key";
}

// Takes `key` (null where it could not be read) over.
const char *append_public(EVP_PKEY *key, view kid, std::vector<signing_key> *out) {
    if (key == nullptr) return "the public key can't be read: is it damaged?";
    jwt_algorithm algorithm = jwt_algorithm::hs256;
    const char *problem = classify(key, &algorithm);
    if (problem != nullptr)
        EVP_PKEY_free(key);
    else
        out->push_back({.algorithm = algorithm, .kid = std::string(kid), .secret = {}, .public_key = key});
    return problem;
}

// ---- PEM

// DER of a SubjectPublicKeyInfo or, where `certificate`, of an X.509 certificate, and nothing behind it.
EVP_PKEY *read_der(view der, bool certificate) {
    const octets *at = octets_of(der);
    const octets *end = at + der.size();
    EVP_PKEY *key = nullptr;
    if (certificate) {
        X509 *envelope = d2i_X509(nullptr, &at, static_cast<long>(der.size()));
        if (envelope != nullptr) key = X509_get_pubkey(envelope);
        X509_free(envelope);
    } else {
        key = d2i_PUBKEY(nullptr, &at, static_cast<long>(der.size()));
    }
    if (key != nullptr && at != end) {
        EVP_PKEY_free(key);
        key = nullptr;
    }
    return key;
}

constexpr view pem_begin = "-----BEGIN ";

bool parse_pem(view text, view kid, std::vector<signing_key> *out, error *e) {
    // Before anything is read: so also where it stands behind EC PARAMETERS, or is damaged.
    if (text.find("PRIVATE KEY-----") != view::npos) return fail(e, private_key);
    // A certificate's chain would make keys of its authorities.
    if (text.find(pem_begin, text.find(pem_begin) + 1) != view::npos)
        return fail(e, "it holds several PEM blocks: give each key by itself, of a certificate's chain the first");
    BIO *in = BIO_new_mem_buf(text.data(), static_cast<int>(text.size()));
    char *name = nullptr, *header = nullptr;
    octets *der = nullptr;
    long size = 0;
    const bool read = in != nullptr && PEM_read_bio(in, &name, &header, &der, &size) == 1;
    const view kind = read ? view(name) : view();
    const char *problem = nullptr;
    if (!read)
        problem = "the PEM block can't be read: is it damaged?";
    else if (kind != PEM_STRING_PUBLIC && kind != PEM_STRING_X509)
        problem = "a PEM block must be a PUBLIC KEY or a CERTIFICATE";
    else
        problem = append_public(
            read_der(view(reinterpret_cast<const char *>(der), static_cast<size_t>(size)), kind == PEM_STRING_X509),
            kid, out);
    OPENSSL_free(name);
    OPENSSL_free(header);
    OPENSSL_free(der);
    BIO_free(in);
    return problem == nullptr || fail(e, problem);
}

// ---- JWK (RFC 7517, RFC 7518 section 6, RFC 8037 section 2)

// The decoded member `name`; empty where it is missing or is not base64url.
std::string take_bytes(const json_object *jwk, view name) {
    const json_member *member = json_find(jwk, name);
    if (!member || member->type != json_type::string) return {};
    std::string bytes(member->text.size() * 3 / 4, '\0');
    size_t size = 0;
    if (!base64url_decode(member->text, bytes.data(), &size)) return {};
    bytes.resize(size);
    return bytes;
}

// The text of the member `name`; empty where it is missing or is no string.
view take_text(const json_object *jwk, view name) {
    const json_member *member = json_find(jwk, name);
    return member && member->type == json_type::string ? member->text : view();
}

EVP_PKEY *key_from(const char *type, OSSL_PARAM_BLD *build) {
    OSSL_PARAM *parameters = OSSL_PARAM_BLD_to_param(build);
    EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_from_name(nullptr, type, nullptr);
    EVP_PKEY *key = nullptr;
    if (parameters == nullptr || context == nullptr || EVP_PKEY_fromdata_init(context) != 1 ||
        EVP_PKEY_fromdata(context, &key, EVP_PKEY_PUBLIC_KEY, parameters) != 1)
        key = nullptr;
    EVP_PKEY_CTX_free(context);
    OSSL_PARAM_free(parameters);
    return key;
}

EVP_PKEY *rsa_from(const std::string &modulus, const std::string &exponent) {
    // BN_bin2bn takes a length in an int, which signing_key_text_max keeps far away.
    BIGNUM *n = BN_bin2bn(octets_of(modulus), static_cast<int>(modulus.size()), nullptr);
    BIGNUM *e = BN_bin2bn(octets_of(exponent), static_cast<int>(exponent.size()), nullptr);
    OSSL_PARAM_BLD *build = OSSL_PARAM_BLD_new();
    EVP_PKEY *key = nullptr;
    if (n != nullptr && e != nullptr && build != nullptr &&
        OSSL_PARAM_BLD_push_BN(build, OSSL_PKEY_PARAM_RSA_N, n) == 1 &&
        OSSL_PARAM_BLD_push_BN(build, OSSL_PKEY_PARAM_RSA_E, e) == 1)
        key = key_from("RSA", build);
    OSSL_PARAM_BLD_free(build);
    BN_free(n);
    BN_free(e);
    return key;
}

// SEC 1 section 2.3.3: 04, x, y.
EVP_PKEY *p256_from(const std::string &x, const std::string &y) {
    const std::string point = "\x04" + x + y;
    OSSL_PARAM_BLD *build = OSSL_PARAM_BLD_new();
    EVP_PKEY *key = nullptr;
    if (build != nullptr &&
        OSSL_PARAM_BLD_push_utf8_string(build, OSSL_PKEY_PARAM_GROUP_NAME, SN_X9_62_prime256v1, 0) == 1 &&
        OSSL_PARAM_BLD_push_octet_string(build, OSSL_PKEY_PARAM_PUB_KEY, point.data(), point.size()) == 1)
        key = key_from("EC", build);
    OSSL_PARAM_BLD_free(build);
    return key;
}

// Null, or why the key can't be had.
const char *append_rsa(const json_object *jwk, view kid, std::vector<signing_key> *out) {
    const std::string n = take_bytes(jwk, "n"), e = take_bytes(jwk, "e");
    if (n.empty() || e.empty()) return "an RSA key must have n and e in base64url";
    return append_public(rsa_from(n, e), kid, out);
}

const char *append_ec(const json_object *jwk, view kid, std::vector<signing_key> *out) {
    if (take_text(jwk, "crv") != "P-256") return "an EC key must be of the curve P-256";
    const std::string x = take_bytes(jwk, "x"), y = take_bytes(jwk, "y");
    // RFC 7518 section 6.2.1.2: always 32 bytes.
    if (x.size() != 32 || y.size() != 32) return "an EC key must have x and y of 32 bytes each in base64url";
    return append_public(p256_from(x, y), kid, out);
}

const char *append_okp(const json_object *jwk, view kid, std::vector<signing_key> *out) {
    if (take_text(jwk, "crv") != "Ed25519") return "an OKP key must be of the curve Ed25519";
    const std::string x = take_bytes(jwk, "x");
    if (x.size() != 32) return "an Ed25519 key must have x of 32 bytes in base64url";
    return append_public(EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, nullptr, octets_of(x), x.size()), kid, out);
}

const char *append_secret(std::string secret, view kid, std::vector<signing_key> *out) {
    if (secret.size() < signing_secret_min) {
        OPENSSL_cleanse(secret.data(), secret.size());
        return "a secret must have 32 bytes or more";
    }
    out->push_back({.algorithm = jwt_algorithm::hs256,
                    .kid = std::string(kid),
                    .secret = std::move(secret),
                    .public_key = nullptr});
    return nullptr;
}

const char *append_oct(const json_object *jwk, view kid, std::vector<signing_key> *out) {
    return append_secret(take_bytes(jwk, "k"), kid, out);
}

struct key_type {
    view name;
    view algorithm; // what `alg` may say
    const char *(*append)(const json_object *jwk, view kid, std::vector<signing_key> *out);
};

constexpr key_type key_types[] = {{"RSA", "RS256", append_rsa},
                                  {"EC", "ES256", append_ec},
                                  {"OKP", "EdDSA", append_okp},
                                  {"oct", "HS256", append_oct}};

// RFC 7517 section 4.3. True where the member is missing, or is an array with "verify" in it.
bool may_verify(const json_object *jwk) {
    const json_member *member = json_find(jwk, "key_ops");
    if (!member) return true;
    view operations[16];
    size_t count = 0;
    buffer scratch;
    buffer_reserve(&scratch, member->raw.size());
    bool found = false;
    if (member->type == json_type::array && !json_read_strings(member->raw, operations, 16, &count, &scratch)) {
        for (size_t i = 0; i < count; i++)
            found = found || operations[i] == "verify";
    }
    buffer_free(&scratch);
    return found;
}

struct jwk_reading {
    json_reader *reader;           // owned
    std::vector<signing_key> *out; // borrowed
    view kid;                      // that the text was given; empty: none
    const char *problem;           // why the last key can't be had; null: it could
    bool grave;                    // the problem is one that must not be passed over
};

// Appends the key, or sets problem.
void read_jwk(jwk_reading *j, const json_object *jwk) {
    j->problem = nullptr;
    // RFC 7518 sections 6.2.2 and 6.3.2: every private key has d.
    if (json_find(jwk, "d")) {
        j->problem = private_key;
        j->grave = true;
        return;
    }
    const json_member *kid = json_find(jwk, "kid");
    view name = j->kid;
    if (kid) name = kid->type == json_type::string && kid->text_valid ? kid->text : view();
    if ((kid && name.empty()) || name.size() > kid_max)
        j->problem = "its kid must be a string of 1 to 255 bytes";
    else if (!j->kid.empty() && name != j->kid)
        j->problem = "its kid is another than the kid= in front of it";
    else if (json_find(jwk, "use") && take_text(jwk, "use") != "sig")
        j->problem = "it is not for signatures, says its use";
    else if (!may_verify(jwk))
        j->problem = "it is not for verifying, say its key_ops";
    if (j->problem != nullptr) return;
    for (const key_type &type : key_types) {
        if (take_text(jwk, "kty") != type.name) continue;
        j->problem = json_find(jwk, "alg") && take_text(jwk, "alg") != type.algorithm
                         ? "its alg is none of RS256, ES256, EdDSA, HS256, or not its type's"
                         : type.append(jwk, name, j->out);
        return;
    }
    j->problem = "its kty is none of RSA, EC, OKP, oct";
}

bool read_element(view raw, json_type type, void *context) {
    jwk_reading *j = static_cast<jwk_reading *>(context);
    json_object jwk;
    error ignored;
    if (type != json_type::object || !json_parse_object(j->reader, raw, &jwk, &ignored))
        j->problem = "a key of the set is no JSON object of at most 32 members";
    else
        read_jwk(j, &jwk);
    return !j->grave;
}

// Section 5: what can't be used of a set is passed over.
bool read_set(jwk_reading *j, const json_member *keys, error *e) {
    if (!j->kid.empty()) return fail(e, "a key set names its keys itself: no kid= in front of it");
    if (keys->type != json_type::array) return fail(e, "a key set's keys must be an array");
    const size_t before = j->out->size();
    if (!json_each_element(j->reader, keys->raw, read_element, j, e)) return false;
    if (j->grave) return fail(e, j->problem);
    if (j->out->size() > before) return true;
    if (j->problem == nullptr) return fail(e, "the key set is empty");
    error_set(e, "the key set holds no key that could be used; of its last one: %s", j->problem);
    return false;
}

bool read_json(jwk_reading *j, view source, error *e) {
    json_object object;
    if (!json_parse_object(j->reader, source, &object, e)) return false; // says no byte of what it read
    const json_member *keys = json_find(&object, "keys");
    if (keys) return read_set(j, keys, e);
    read_jwk(j, &object);
    return j->problem == nullptr || fail(e, j->problem);
}

bool parse_json(view text, view kid, std::vector<signing_key> *out, error *e) {
    frame *source = frame_copy(text);
    jwk_reading j = {.reader = json_reader_new(), .out = out, .kid = kid, .problem = nullptr, .grave = false};
    const bool fine = read_json(&j, frame_view(source), e);
    json_reader_free(j.reader);
    OPENSSL_cleanse(source->data, source->size); // it may be a secret's
    frame_unref(source);
    return fine;
}

// ---- bare secrets

// Keycloak, for one, shows public keys as base64 without the lines around. Such a "secret" is known to everybody.
bool is_bare_public_key(view text) {
    std::string der(text.size(), '\0');
    size_t size = 0;
    if (!base64_decode(text, der.data(), &size)) return false;
    EVP_PKEY *key = read_der(view(der.data(), size), false);
    if (key == nullptr) key = read_der(view(der.data(), size), true);
    EVP_PKEY_free(key);
    return key != nullptr;
}

bool parse_secret(view text, view kid, std::vector<signing_key> *out, error *e) {
    while (text.ends_with('\n') || text.ends_with('\r'))
        text.remove_suffix(1);
    for (char c : text) {
        const octets octet = static_cast<octets>(c);
        if (octet < 0x20 || octet == 0x7f)
            return fail(e, "it is neither PEM nor JSON, and as a secret it must be one line without control characters "
                           "(a JWK of kty oct may hold any bytes)");
    }
    if (is_bare_public_key(text))
        return fail(e, "it is a public key, which is no secret: put its BEGIN and END lines around it");
    const char *problem = append_secret(std::string(text), kid, out);
    return problem == nullptr || fail(e, problem);
}

} // namespace

bool signing_keys_parse(view text, std::vector<signing_key> *out, error *e) {
    if (text.size() > signing_key_text_max) return fail(e, "it is longer than 256 KiB");
    constexpr view prefix = "kid=";
    view kid;
    if (text.starts_with(prefix)) {
        const size_t space = text.find(' ');
        if (space == view::npos) return fail(e, "kid= wants a name, a space and a key");
        kid = text.substr(prefix.size(), space - prefix.size());
        if (kid.empty() || kid.size() > kid_max) return fail(e, "kid= wants a name of 1 to 255 bytes");
        text.remove_prefix(space + 1);
    }
    const size_t start = text.find_first_not_of(" \t\r\n");
    bool fine = false;
    if (start == view::npos)
        fine = fail(e, "it is empty");
    else if (text[start] == '{')
        fine = parse_json(text, kid, out, e);
    else if (text.find(pem_begin) != view::npos)
        fine = parse_pem(text, kid, out, e);
    else
        fine = parse_secret(text, kid, out, e);
    ERR_clear_error(); // the thread's later TLS calls would take what is left for theirs
    return fine;
}

} // namespace belfry
