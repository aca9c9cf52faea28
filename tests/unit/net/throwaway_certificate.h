// Throw-away certificates for tests: self-signed, made in the process, written as PEM files.
#pragma once

#include <assert.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <string>
#include <vector>

namespace throwaway {

struct wish {
    const char *key = "EC"; // or "RSA", "ED25519"
    std::vector<std::string> dns = {};
    std::vector<std::string> ip = {}; // 4 bytes each
    std::string common_name = {};
    long begins = -3600; // seconds from now
    long ends = 3600;
};

inline EVP_PKEY *make_key(const std::string &type) {
    if (type == "RSA") return EVP_RSA_gen(2048);
    if (type == "EC") return EVP_EC_gen("P-256");
    return EVP_PKEY_Q_keygen(nullptr, nullptr, type.c_str());
}

inline void add_names(X509 *certificate, const wish &w) {
    GENERAL_NAMES *names = sk_GENERAL_NAME_new_null();
    for (const std::string &text : w.dns) {
        GENERAL_NAME *name = GENERAL_NAME_new();
        ASN1_IA5STRING *value = ASN1_IA5STRING_new();
        ASN1_STRING_set(value, text.data(), static_cast<int>(text.size())); // with its NUL, where a test wants one
        GENERAL_NAME_set0_value(name, GEN_DNS, value);
        sk_GENERAL_NAME_push(names, name);
    }
    for (const std::string &bytes : w.ip) {
        GENERAL_NAME *name = GENERAL_NAME_new();
        ASN1_OCTET_STRING *value = ASN1_OCTET_STRING_new();
        ASN1_OCTET_STRING_set(value, reinterpret_cast<const unsigned char *>(bytes.data()),
                              static_cast<int>(bytes.size()));
        GENERAL_NAME_set0_value(name, GEN_IPADD, value);
        sk_GENERAL_NAME_push(names, name);
    }
    if (sk_GENERAL_NAME_num(names) > 0) X509_add1_ext_i2d(certificate, NID_subject_alt_name, names, 0, 0);
    GENERAL_NAMES_free(names);
}

// Writes CHAIN and KEY. A pass phrase, where given, encrypts the key.
inline void make(const wish &w, const std::string &chain, const std::string &key_file,
                 const char *pass_phrase = nullptr) {
    static long serial = 1;
    EVP_PKEY *key = make_key(w.key);
    X509 *certificate = X509_new();
    X509_set_version(certificate, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(certificate), serial++);
    X509_gmtime_adj(X509_getm_notBefore(certificate), w.begins);
    X509_gmtime_adj(X509_getm_notAfter(certificate), w.ends);
    X509_NAME *subject = X509_get_subject_name(certificate);
    X509_NAME_add_entry_by_txt(subject, "O", MBSTRING_ASC, reinterpret_cast<const unsigned char *>("throw-away"), -1,
                               -1, 0);
    if (!w.common_name.empty())
        X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC,
                                   reinterpret_cast<const unsigned char *>(w.common_name.data()),
                                   static_cast<int>(w.common_name.size()), -1, 0);
    X509_set_issuer_name(certificate, subject);
    add_names(certificate, w);
    X509_set_pubkey(certificate, key);
    const bool digest_of_its_own = std::string(w.key) == "ED25519";
    const int signed_size = X509_sign(certificate, key, digest_of_its_own ? nullptr : EVP_sha256());
    FILE *out = fopen(chain.c_str(), "w");
    PEM_write_X509(out, certificate);
    fclose(out);
    out = fopen(key_file.c_str(), "w");
    PEM_write_PrivateKey(out, key, pass_phrase == nullptr ? nullptr : EVP_aes_128_cbc(), nullptr, 0, nullptr,
                         const_cast<char *>(pass_phrase));
    fclose(out);
    assert(signed_size > 0);
    X509_free(certificate);
    EVP_PKEY_free(key);
}

} // namespace throwaway
