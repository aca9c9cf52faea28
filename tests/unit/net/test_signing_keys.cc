// Keys and signatures: the vectors of RFC 7515 and RFC 8037, every way to write a key, and key confusion.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
extern "C" {
#include <cmocka.h>
}

#include "../proto/jwt_harness.h"
#include "net/signing_keys.h"
#include "throwaway_certificate.h"

#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/rsa.h>
#include <string.h>
#include <string>
#include <vector>

using namespace belfry;
using std::string;

namespace {

// Of RFC 7515 appendix A.2.1.
const string rsa_n = "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4Ql"
                     "L-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUs"
                     "LA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoud"
                     "F8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ";
const string a2_jwk = R"({"kty":"RSA","n":")" + rsa_n + R"(","e":"AQAB"})";
const string a2_signed = string("eyJhbGciOiJSUzI1NiJ9.") + rfc7515_payload;
const string a2_signature =
    "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1d"
    "nZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwu"
    "sC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77"
    "Rw";
// Of A.3.1.
const string a3_jwk = R"({"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",)"
                      R"("y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"})";
const string a3_signed = string("eyJhbGciOiJFUzI1NiJ9.") + rfc7515_payload;
const string a3_signature = "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";
// Of RFC 8037 appendices A.2 and A.4.
const string ed_jwk = R"({"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"})";
const string ed_signed = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc";
const string ed_signature = "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";
// A.1.1 of RFC 7515.
const string a1_jwk = string(R"({"kty":"oct","k":")") + rfc7515_a1_key + R"("})";

constexpr jwt_algorithm hs256 = jwt_algorithm::hs256, rs256 = jwt_algorithm::rs256, es256 = jwt_algorithm::es256,
                        eddsa = jwt_algorithm::eddsa;

// Made once: an RSA key takes a while.
EVP_PKEY *rsa, *ec, *ed;
signing_keys *keys;
json_reader *reader;

int make_keys(void **) {
    rsa = throwaway::make_key("RSA");
    ec = throwaway::make_key("EC");
    ed = throwaway::make_key("ED25519");
    return 0;
}

int free_keys(void **) {
    EVP_PKEY_free(rsa);
    EVP_PKEY_free(ec);
    EVP_PKEY_free(ed);
    return 0;
}

int setup(void **) {
    keys = nullptr;
    reader = json_reader_new();
    return 0;
}

int teardown(void **) {
    signing_keys_unref(keys);
    json_reader_free(reader);
    return 0;
}

string text_of(BIO *out) {
    char *data = nullptr;
    const long size = BIO_get_mem_data(out, &data);
    string text(data, static_cast<size_t>(size));
    BIO_free(out);
    return text;
}

string public_pem(EVP_PKEY *key) {
    BIO *out = BIO_new(BIO_s_mem());
    PEM_write_bio_PUBKEY(out, key);
    return text_of(out);
}

string private_pem(EVP_PKEY *key, const char *pass_phrase = nullptr) {
    BIO *out = BIO_new(BIO_s_mem());
    PEM_write_bio_PrivateKey(out, key, pass_phrase ? EVP_aes_128_cbc() : nullptr, nullptr, 0, nullptr,
                             const_cast<char *>(pass_phrase));
    return text_of(out);
}

string certificate_pem(EVP_PKEY *key) {
    X509 *certificate = X509_new();
    X509_gmtime_adj(X509_getm_notBefore(certificate), -7200);
    X509_gmtime_adj(X509_getm_notAfter(certificate), -3600); // over: only its key counts
    X509_set_pubkey(certificate, key);
    X509_sign(certificate, key, EVP_PKEY_is_a(key, "ED25519") ? nullptr : EVP_sha256());
    BIO *out = BIO_new(BIO_s_mem());
    PEM_write_bio_X509(out, certificate);
    X509_free(certificate);
    return text_of(out);
}

// The base64 of a PEM block in one line.
string bare(const string &pem) {
    string out;
    size_t at = pem.find('\n') + 1;
    const size_t end = pem.find("-----END");
    for (; at < end; at++)
        if (pem[at] != '\n') out += pem[at];
    return out;
}

// What the private key makes of it; ECDSA in DER.
string sign(EVP_PKEY *key, const string &data) {
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    string signature(1024, '\0');
    size_t size = signature.size();
    EVP_DigestSignInit(context, nullptr, EVP_PKEY_is_a(key, "ED25519") ? nullptr : EVP_sha256(), nullptr, key);
    EVP_DigestSign(context, reinterpret_cast<unsigned char *>(signature.data()), &size,
                   reinterpret_cast<const unsigned char *>(data.data()), data.size());
    EVP_MD_CTX_free(context);
    signature.resize(size);
    return signature;
}

// r and s of an ECDSA signature in DER, 32 bytes each.
string raw_of(const string &der) {
    const unsigned char *at = reinterpret_cast<const unsigned char *>(der.data());
    ECDSA_SIG *numbers = d2i_ECDSA_SIG(nullptr, &at, static_cast<long>(der.size()));
    unsigned char raw[64];
    BN_bn2binpad(ECDSA_SIG_get0_r(numbers), raw, 32);
    BN_bn2binpad(ECDSA_SIG_get0_s(numbers), raw + 32, 32);
    ECDSA_SIG_free(numbers);
    return string(reinterpret_cast<char *>(raw), sizeof raw);
}

void load(const std::vector<string> &texts) {
    signing_keys_unref(keys);
    std::vector<const char *> pointers;
    for (const string &text : texts)
        pointers.push_back(text.c_str());
    error e;
    keys = signing_keys_load(pointers.data(), pointers.size(), &e);
    if (!keys) fail_msg("%s", e.text);
}

// The reason for which the text is refused.
string refused(const std::vector<string> &texts) {
    std::vector<const char *> pointers;
    for (const string &text : texts)
        pointers.push_back(text.c_str());
    error e;
    signing_keys *got = signing_keys_load(pointers.data(), pointers.size(), &e);
    signing_keys_unref(got);
    if (got) fail_msg("%s was taken for a key", texts.back().c_str());
    assert_int_equal(ERR_peek_error(), 0);
    return e.text;
}

void assert_refused(const string &text, const char *wanted) {
    const string why = refused({text});
    if (why.find("key 1: ") != 0 || why.find(wanted) == string::npos)
        fail_msg("\"%s\" does not say \"%s\"", why.c_str(), wanted);
}

bool verify(jwt_algorithm algorithm, const string &data, const string &signature, const char *kid = "") {
    const bool good = signing_keys_verify(keys, algorithm, kid, data, signature);
    assert_int_equal(ERR_peek_error(), 0); // nothing is left for the thread's next TLS call to stumble over
    return good;
}

// Through jwt_check, as the daemon does it.
jwt_result check(const string &token, uint32_t algorithms = 15) {
    jwt_options options;
    options.algorithms = algorithms;
    jwt_claims claims;
    const char *why = nullptr;
    const jwt_verifier verifier = signing_keys_verifier(keys);
    return jwt_check(reader, token, &options, rfc7515_expires_ms - 1, &verifier, &claims, &why);
}

// ---- vectors

void the_vectors_of_rfc_7515(void **) {
    load({a1_jwk});
    assert_int_equal(check(rfc7515_a1_token), jwt_result::ok);
    load({a2_jwk});
    assert_int_equal(check(a2_signed + "." + a2_signature), jwt_result::ok);
    load({a3_jwk});
    assert_int_equal(check(a3_signed + "." + a3_signature), jwt_result::ok);
    // All in one box: each token finds its own.
    load({a1_jwk, a2_jwk, a3_jwk, ed_jwk});
    assert_int_equal(check(rfc7515_a1_token), jwt_result::ok);
    assert_int_equal(check(a2_signed + "." + a2_signature), jwt_result::ok);
    assert_int_equal(check(a3_signed + "." + a3_signature), jwt_result::ok);
    assert_int_equal(check(string("eyJhbGciOiJub25lIn0.") + rfc7515_payload + "."), jwt_result::algorithm); // A.5
}

void the_vector_of_rfc_8037(void **) {
    load({ed_jwk});
    assert_true(verify(eddsa, ed_signed, from_base64url(ed_signature)));
    // Its payload is "Example of Ed25519 signing": signed well, and no claims.
    assert_int_equal(check(ed_signed + "." + ed_signature), jwt_result::malformed);
}

void assert_altered_fails(jwt_algorithm algorithm, const string &data, const string &signature) {
    assert_true(verify(algorithm, data, signature));
    for (size_t at = 0; at < signature.size(); at++) {
        string bad = signature;
        bad[at] = static_cast<char>(bad[at] ^ 1);
        if (verify(algorithm, data, bad)) fail_msg("byte %zu of the signature does not count", at);
    }
    for (size_t at = 0; at < data.size(); at += 7) {
        string bad = data;
        bad[at] = static_cast<char>(bad[at] ^ 1);
        if (verify(algorithm, bad, signature)) fail_msg("byte %zu of the data does not count", at);
    }
    for (const string &bad :
         {string(), signature.substr(1), signature.substr(0, signature.size() - 1), signature + '\0', '\0' + signature,
          signature + signature, string(signature.size(), '\0'), string(signature.size(), '\xff')})
        assert_false(verify(algorithm, data, bad));
}

void anything_altered_fails(void **) {
    load({a1_jwk, a2_jwk, a3_jwk, ed_jwk});
    const size_t dot = rfc7515_a1_token.rfind('.');
    assert_altered_fails(hs256, rfc7515_a1_token.substr(0, dot), from_base64url(rfc7515_a1_token.substr(dot + 1)));
    assert_altered_fails(rs256, a2_signed, from_base64url(a2_signature));
    assert_altered_fails(es256, a3_signed, from_base64url(a3_signature));
    assert_altered_fails(eddsa, ed_signed, from_base64url(ed_signature));
}

// ---- confusion

// The classic: who checks HS256 with whatever bytes the key has, takes the public key for a secret.
void a_public_key_is_no_secret(void **) {
    for (EVP_PKEY *key : {rsa, ec, ed}) {
        const string pem = public_pem(key);
        load({pem});
        for (const string &secret : {pem, pem.substr(0, pem.size() - 1), bare(pem), string()}) {
            const string token = hs256_token(R"({"alg":"HS256"})", R"({"exp":1300819380})", secret);
            assert_int_equal(check(token), jwt_result::key);
            const size_t dot = token.rfind('.');
            assert_false(verify(hs256, token.substr(0, dot), from_base64url(token.substr(dot + 1))));
        }
    }
    // Nor can one be configured as a secret by mistake.
    for (EVP_PKEY *key : {rsa, ec, ed}) {
        assert_refused(bare(public_pem(key)), "it is a public key, which is no secret");
        assert_refused("kid=a " + bare(certificate_pem(key)) + "\n", "it is a public key, which is no secret");
    }
}

void a_key_is_for_its_own_algorithm(void **) {
    const jwt_algorithm all[] = {hs256, rs256, es256, eddsa};
    const string jwks[] = {a1_jwk, a2_jwk, a3_jwk, ed_jwk};
    const size_t dot = rfc7515_a1_token.rfind('.');
    const string data[] = {rfc7515_a1_token.substr(0, dot), a2_signed, a3_signed, ed_signed};
    const string signatures[] = {rfc7515_a1_token.substr(dot + 1), a2_signature, a3_signature, ed_signature};
    for (size_t key = 0; key < 4; key++) {
        load({jwks[key]});
        for (size_t named = 0; named < 4; named++) {
            assert_int_equal(signing_keys_has(keys, all[named], ""), key == named);
            for (size_t made = 0; made < 4; made++)
                assert_int_equal(verify(all[named], data[made], from_base64url(signatures[made])),
                                 key == named && made == named);
        }
    }
    load({a2_jwk});
    assert_int_equal(check(a3_signed + "." + a3_signature), jwt_result::key); // ES256 token, RSA key
    assert_int_equal(check(a2_signed + "." + a2_signature, jwt_algorithm_bit(hs256)), jwt_result::algorithm);
}

// CVE-2022-21449 and its kin: r and s that are 0, or the order, or DER where raw bytes belong.
void es256_takes_no_cheap_numbers(void **) {
    load({public_pem(ec)});
    const string order = "\xff\xff\xff\xff" + string(4, '\0') + string(8, '\xff') +
                         "\xbc\xe6\xfa\xad\xa7\x17\x9e\x84\xf3\xb9\xca\xc2\xfc\x63\x25\x51";
    const string zero(32, '\0');
    const string one = string(31, '\0') + '\x01';
    for (const string &r : {zero, one, order})
        for (const string &s : {zero, one, order})
            assert_false(verify(es256, "data", r + s));
    const string der = sign(ec, "data");
    assert_false(verify(es256, "data", der));
    const string good = raw_of(der);
    assert_true(verify(es256, "data", good));
    assert_false(verify(es256, "data", good.substr(32) + good.substr(0, 32)));
    // Numbers with leading zeroes are as good: some of these have one.
    for (int i = 0; i < 400; i++)
        assert_true(verify(es256, "data", raw_of(sign(ec, "data"))));
}

// The same RSA key by another padding, or another digest, is another algorithm.
void rs256_is_pkcs1_with_sha256(void **) {
    load({public_pem(rsa)});
    assert_true(verify(rs256, "data", sign(rsa, "data")));
    for (const bool pss : {true, false}) {
        EVP_MD_CTX *context = EVP_MD_CTX_new();
        EVP_PKEY_CTX *parameters = nullptr;
        unsigned char signature[256];
        size_t size = sizeof signature;
        EVP_DigestSignInit(context, &parameters, pss ? EVP_sha256() : EVP_sha384(), nullptr, rsa);
        if (pss) EVP_PKEY_CTX_set_rsa_padding(parameters, RSA_PKCS1_PSS_PADDING);
        EVP_DigestSign(context, signature, &size, reinterpret_cast<const unsigned char *>("data"), 4);
        EVP_MD_CTX_free(context);
        assert_int_equal(size, sizeof signature);
        assert_false(verify(rs256, "data", string(reinterpret_cast<char *>(signature), size)));
    }
}

// ---- how keys are written

void pem_of_each_type(void **) {
    for (EVP_PKEY *key : {rsa, ec, ed}) {
        const jwt_algorithm algorithm = key == rsa ? rs256 : key == ec ? es256 : eddsa;
        const string made = sign(key, "data");
        const string signature = key == ec ? raw_of(made) : made;
        for (const string &text :
             {public_pem(key), certificate_pem(key), "a word in front\n" + public_pem(key) + "and one behind\n",
              "kid=a " + public_pem(key)}) {
            load({text});
            assert_true(verify(algorithm, "data", signature));
        }
    }
}

void private_keys_are_refused(void **) {
    constexpr char wanted[] = "it is a private key: give the public one";
    for (EVP_PKEY *key : {rsa, ec, ed}) {
        assert_refused(private_pem(key), wanted);
        assert_refused(private_pem(key, "pass phrase"), wanted);
        assert_refused("kid=a " + public_pem(key) + private_pem(key), wanted);
    }
    assert_refused("-----BEGIN RSA PRIVATE KEY-----\ndamaged\n", wanted);
    assert_refused(R"({"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",)"
                   R"("d":"nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A"})",
                   wanted);
    assert_refused(R"({"keys":[)" + a3_jwk + R"(,{"kty":"EC","crv":"P-256","d":"AA"}]})", wanted);
}

void bad_pem(void **) {
    const string pem = public_pem(rsa);
    string damaged = pem;
    damaged[100] = damaged[100] == 'A' ? 'B' : 'A';
    damaged[40] = '!';
    assert_refused(damaged, "can't be read: is it damaged?");
    assert_refused(pem.substr(0, 200), "can't be read: is it damaged?");
    assert_refused("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "can't be read: is it damaged?");
    assert_refused("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "can't be read: is it damaged?");
    assert_refused("-----BEGIN RSA PUBLIC KEY-----\nAAAA\n-----END RSA PUBLIC KEY-----\n",
                   "must be a PUBLIC KEY or a CERTIFICATE");
    assert_refused(pem + pem, "several PEM blocks");
    // Bytes behind the key, inside the block.
    string der = bare(public_pem(ed)); // 44 bytes: 60 characters, one '=' of padding
    assert_int_equal(der.size(), 60);
    assert_refused("-----BEGIN PUBLIC KEY-----\n" + der.substr(0, 59) + "A\n-----END PUBLIC KEY-----\n",
                   "can't be read: is it damaged?");
    // The place is told, the bytes are not.
    const string why = refused({a2_jwk, public_pem(ec), damaged});
    assert_int_equal(why.find("key 3: "), 0);
    assert_true(why.find(damaged.substr(60, 8)) == string::npos);
}

void weak_and_foreign_keys(void **) {
    EVP_PKEY *small = EVP_RSA_gen(1024);
    const string small_pem = public_pem(small);
    EVP_PKEY_free(small);
    assert_refused(small_pem, "2048 bits or more");
    EVP_PKEY *p384 = EVP_EC_gen("P-384");
    const string p384_pem = public_pem(p384);
    EVP_PKEY_free(p384);
    assert_refused(p384_pem, "must be of the curve P-256");
    EVP_PKEY *x25519 = throwaway::make_key("X25519");
    const string x25519_pem = public_pem(x25519);
    EVP_PKEY_free(x25519);
    assert_refused(x25519_pem, "none of RSA, EC (P-256), Ed25519");
    EVP_PKEY *ed448 = throwaway::make_key("ED448");
    const string ed448_pem = public_pem(ed448);
    EVP_PKEY_free(ed448);
    assert_refused(ed448_pem, "none of RSA, EC (P-256), Ed25519");
}

// P-256 with its numbers written out, as CVE-2020-0601 needs them.
void a_curve_must_be_named(void **) {
    EVP_PKEY *key = EVP_PKEY_dup(ec);
    EVP_PKEY_set_utf8_string_param(key, OSSL_PKEY_PARAM_EC_ENCODING, OSSL_PKEY_EC_ENCODING_EXPLICIT);
    const string pem = public_pem(key);
    EVP_PKEY_free(key);
    assert_true(pem.size() > public_pem(ec).size());
    assert_refused(pem, "must be of the curve P-256");
}

void bad_jwk(void **) {
    const struct {
        string text;
        const char *wanted;
    } rows[] = {
        {"{", "bad JSON"},
        {"{}", "its kty is none of"},
        {R"({"kty":"oct","kty":"oct"})", "a member is named twice"},
        {R"({"kty":"rsa"})", "its kty is none of"},
        {R"({"kty":"RSA","e":"AQAB"})", "must have n and e"},
        {R"({"kty":"RSA","e":"AQAB","n":"=="})", "must have n and e"},
        {R"({"kty":"RSA","e":"AQAB","n":"0vx7"})", "2048 bits or more"},
        {R"({"kty":"RSA","e":"AQAB","n":")" + string(1368, '_') + "\"}", "8192 bits or fewer"},
        {R"({"kty":"RSA","e":"AQ","n":")" + rsa_n + "\"}", "no sound key"},                   // e = 1
        {R"({"kty":"RSA","e":"AQAB","n":")" + rsa_n.substr(0, 341) + "g\"}", "no sound key"}, // even
        {R"({"kty":"EC","crv":"P-384","x":"AA","y":"AA"})", "must be of the curve P-256"},
        {R"({"kty":"EC","crv":"P-256","x":"AA","y":"AA"})", "x and y of 32 bytes"},
        {R"({"kty":"EC","crv":"P-256","x":")" + string(43, 'A') + R"(","y":")" + string(42, 'A') + "E\"}", "key"},
        {R"({"kty":"OKP","crv":"X25519","x":"AA"})", "must be of the curve Ed25519"},
        {R"({"kty":"OKP","crv":"Ed25519","x":"AA"})", "x of 32 bytes"},
        {R"({"kty":"oct"})", "32 bytes or more"},
        {R"({"kty":"oct","k":")" + base64url(string(31, 'k')) + "\"}", "32 bytes or more"},
        {R"({"kty":"oct","k":")" + string(43, '+') + "\"}", "32 bytes or more"},
        {R"({"use":"enc",)" + a2_jwk.substr(1), "not for signatures"},
        {R"({"use":7,)" + a2_jwk.substr(1), "not for signatures"},
        {R"({"key_ops":["encrypt"],)" + a2_jwk.substr(1), "not for verifying"},
        {R"({"key_ops":"verify",)" + a2_jwk.substr(1), "not for verifying"},
        {R"({"alg":"RS512",)" + a2_jwk.substr(1), "its alg is"},
        {R"({"alg":"HS256",)" + a2_jwk.substr(1), "its alg is"},
        {R"({"alg":"none",)" + a1_jwk.substr(1), "its alg is"},
        {R"({"kid":7,)" + a2_jwk.substr(1), "its kid must be"},
        {R"({"kid":"",)" + a2_jwk.substr(1), "its kid must be"},
        {R"({"kid":")" + string(256, 'k') + "\"," + a2_jwk.substr(1), "its kid must be"},
        {R"(kid=a {"kid":"b",)" + a2_jwk.substr(1), "another than the kid="},
    };
    for (const auto &row : rows)
        assert_refused(row.text, row.wanted);
    load({"\n  " + a2_jwk + "\n",
          R"({"use":"sig","alg":"RS256","key_ops":["sign","ver\u0069fy"],"x5c":["x"],)" + a2_jwk.substr(1)});
    assert_true(verify(rs256, a2_signed, from_base64url(a2_signature)));
}

void key_sets(void **) {
    const string usable = R"({"kid":"one",)" + a2_jwk.substr(1) + R"(,{"kid":"two",)" + a3_jwk.substr(1);
    // Passed over: other uses, types, sizes, and what is no key at all.
    load({R"({"keys":[{"kty":"RSA","use":"enc"},{"kty":"new"},{"kty":"EC","crv":"P-521"},7,null,)" + usable +
          R"(,{"alg":"RS512","kid":"one",)" + a2_jwk.substr(1) + R"(],"more":1})"});
    assert_true(signing_keys_has(keys, rs256, "one"));
    assert_false(signing_keys_has(keys, rs256, "two"));
    assert_true(signing_keys_has(keys, es256, "two"));
    assert_true(verify(rs256, a2_signed, from_base64url(a2_signature), "one"));
    assert_true(verify(es256, a3_signed, from_base64url(a3_signature), "two"));
    assert_refused(R"({"keys":[]})", "the key set is empty");
    assert_refused(R"({"keys":{}})", "must be an array");
    assert_refused(R"({"keys":[{"kty":"new"}]})", "of its last one: its kty is none of");
    assert_refused(R"(kid=x {"keys":[)" + usable + "]}", "names its keys itself");
    assert_refused(R"({"keys":[)" + usable + "]", "bad JSON");
}

void secrets(void **) {
    const string secret = "it has spaces, \xc3\xbc, and 32 bytes+";
    const string token = hs256_token(R"({"alg":"HS256"})", R"({"exp":1300819380})", secret);
    for (const string &text : {secret, secret + "\n", secret + "\r\n", "kid=a " + secret + "\n"}) {
        load({text});
        assert_int_equal(check(token), jwt_result::ok);
    }
    load({secret + "x"});
    assert_int_equal(check(token), jwt_result::signature);
    assert_refused(string(31, 's') + "\n", "a secret must have 32 bytes or more");
    load({string(32, 's')});
    for (const string &bad : {secret + "\n" + secret, "\x01" + secret, secret + "\x7f", secret + "\t"})
        assert_refused(bad, "neither PEM nor JSON");
    for (const char *empty : {"", " ", "\n", "kid=a ", "kid=a \n"})
        assert_refused(empty, "it is empty");
    assert_refused("kid=a", "a name, a space and a key");
    assert_refused("kid= " + secret, "1 to 255 bytes");
    assert_refused("kid=" + string(256, 'k') + " " + secret, "1 to 255 bytes");
    const string why = refused({"short-canary"});
    assert_true(why.find("canary") == string::npos);
}

// ---- ids

void a_kid_chooses(void **) {
    const string first(32, '1'), second(32, '2');
    const string by_first = from_base64url(hs256_token("h", "p", first).substr(6)); // behind "aA.cA."
    load({"kid=a " + first, "kid=b " + second});
    const string token_a = hs256_token(R"({"alg":"HS256","kid":"a"})", R"({"exp":1300819380})", first);
    const string token_b = hs256_token(R"({"alg":"HS256","kid":"b"})", R"({"exp":1300819380})", first);
    const string token_c = hs256_token(R"({"alg":"HS256","kid":"c"})", R"({"exp":1300819380})", first);
    const string token = hs256_token(R"({"alg":"HS256"})", R"({"exp":1300819380})", second);
    assert_int_equal(check(token_a), jwt_result::ok);
    assert_int_equal(check(token_b), jwt_result::signature); // the other key's id
    assert_int_equal(check(token_c), jwt_result::key);
    assert_int_equal(check(token), jwt_result::ok); // names none: each is tried
    assert_true(verify(hs256, "aA.cA", by_first, "a"));
    assert_false(verify(hs256, "aA.cA", by_first, "c"));
    // Where one key has an id, those without are for tokens without.
    load({"kid=b " + second, first});
    assert_int_equal(check(token_a), jwt_result::key);
    assert_int_equal(check(hs256_token(R"({"alg":"HS256"})", R"({"exp":1300819380})", first)), jwt_result::ok);
    // Where none has, a token's is not looked at.
    load({second, first});
    assert_int_equal(check(token_a), jwt_result::ok);
    load({first, second}); // whichever is tried first
    assert_int_equal(check(token_a), jwt_result::ok);
    // Two keys of one id: both.
    load({"kid=a " + second, "kid=a " + first, "kid=a " + a2_jwk});
    assert_int_equal(check(token_a), jwt_result::ok);
}

void sixteen_keys_and_no_more(void **) {
    std::vector<string> texts;
    for (char c = 'a'; c < 'a' + 16; c++)
        texts.push_back(string(32, c));
    load(texts);
    const string last = hs256_token(R"({"alg":"HS256"})", R"({"exp":1300819380})", string(32, 'p'));
    assert_int_equal(check(last), jwt_result::ok);
    texts.push_back(string(32, 'q'));
    assert_string_equal(refused(texts).c_str(), "key 17: there are more than 16 keys");
    load({});
    assert_int_equal(check(last), jwt_result::key);
    assert_refused(string(signing_key_text_max + 1, 's'), "longer than 256 KiB");
}

void references_are_counted(void **) {
    load({ed_jwk, string(32, 's')});
    signing_keys *second = signing_keys_ref(keys);
    signing_keys_unref(second);
    assert_true(verify(eddsa, ed_signed, from_base64url(ed_signature)));
    signing_keys_unref(nullptr);
}

} // namespace

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main() {
    const CMUnitTest tests[] = {
        TEST(the_vectors_of_rfc_7515),
        TEST(the_vector_of_rfc_8037),
        TEST(anything_altered_fails),
        TEST(a_public_key_is_no_secret),
        TEST(a_key_is_for_its_own_algorithm),
        TEST(es256_takes_no_cheap_numbers),
        TEST(rs256_is_pkcs1_with_sha256),
        TEST(pem_of_each_type),
        TEST(private_keys_are_refused),
        TEST(bad_pem),
        TEST(weak_and_foreign_keys),
        TEST(a_curve_must_be_named),
        TEST(bad_jwk),
        TEST(key_sets),
        TEST(secrets),
        TEST(a_kid_chooses),
        TEST(sixteen_keys_and_no_more),
        TEST(references_are_counted),
    };
    return cmocka_run_group_tests(tests, make_keys, free_keys);
}
