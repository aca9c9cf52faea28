// Certificate pairs: read from PEM files, checked, and put into one SSL_CTX for each set of pairs that share a name,
// with a table from names to these. Main thread; what it makes is read-only afterwards.
#include "net/tls_pairs.h"

#include "base/log.h"

#include <map>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdarg.h>
#include <stdio.h>
#include <string>
#include <vector>

namespace belfry {

namespace {

// A name's SSL_CTXs, counted, but for the one that owns the table: a reference to that would be a circle.
struct names {
    std::map<std::string, SSL_CTX *, std::less<>> table;
};

struct pair {
    const tls_certificate *files = nullptr; // borrowed
    X509 *leaf = nullptr;                   // owned
    STACK_OF(X509) *chain = nullptr;        // owned
    EVP_PKEY *key = nullptr;                // owned
    std::vector<std::string> names;         // lower case; wildcards as "*.example.com"

    pair() = default;
    pair(const pair &) = delete;
    pair &operator=(const pair &) = delete;
    ~pair() {
        X509_free(leaf);
        sk_X509_pop_free(chain, X509_free);
        EVP_PKEY_free(key);
    }
};

std::string lower(view s) {
    std::string out(s);
    for (char &c : out)
        if (c >= 'A' && c <= 'Z') c = static_cast<char>(c + ('a' - 'A'));
    return out;
}

// False for what no honest authority signs: an empty name, or one with a NUL, which C code would read as another,
// shorter one (HAProxy 6c85fb11b, CVE-2025-66220). A '*' anywhere but as the whole left-most label never matches (RFC
// 6125 section 7.2), so such a name is left out.
bool add_name(pair *p, const ASN1_STRING *text) {
    const view name(reinterpret_cast<const char *>(ASN1_STRING_get0_data(text)),
                    static_cast<size_t>(ASN1_STRING_length(text)));
    if (name.empty() || name.find('\0') != view::npos) return false;
    const bool wildcard = name.size() > 2 && name[0] == '*' && name[1] == '.';
    if (name.substr(wildcard ? 2 : 0).find('*') == view::npos) p->names.push_back(lower(name));
    return true;
}

// The common name counts only where there is no DNS name (RFC 6125 section 6.4.4).
bool read_names(pair *p) {
    GENERAL_NAMES *all =
        static_cast<GENERAL_NAMES *>(X509_get_ext_d2i(p->leaf, NID_subject_alt_name, nullptr, nullptr));
    bool good = true, any = false;
    for (int i = 0; good && i < sk_GENERAL_NAME_num(all); i++) {
        const GENERAL_NAME *name = sk_GENERAL_NAME_value(all, i);
        if (name->type != GEN_DNS) continue;
        any = true;
        good = add_name(p, name->d.dNSName);
    }
    GENERAL_NAMES_free(all);
    if (any) return good;
    X509_NAME *subject = X509_get_subject_name(p->leaf);
    const int at = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);
    return at < 0 || add_name(p, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at)));
}

bool read_chain(pair *p, error *e) {
    const char *file = p->files->chain_file;
    BIO *in = BIO_new_file(file, "r");
    if (in != nullptr) {
        p->leaf = PEM_read_bio_X509_AUX(in, nullptr, tls_no_pass_phrase, nullptr);
        p->chain = sk_X509_new_null();
        X509 *next = nullptr;
        while (p->leaf != nullptr && (next = PEM_read_bio_X509(in, nullptr, tls_no_pass_phrase, nullptr)) != nullptr)
            if (sk_X509_push(p->chain, next) == 0) fatal("tls: out of memory");
        BIO_free(in);
    }
    // Reading up to the end of the file leaves "no start line" behind; anything else is damage.
    if (p->leaf == nullptr || ERR_GET_REASON(ERR_peek_last_error()) != PEM_R_NO_START_LINE) {
        tls_fail(e, "%s: no PEM certificate chain", file);
        return false;
    }
    ERR_clear_error();
    if (X509_cmp_current_time(X509_get0_notAfter(p->leaf)) < 0) {
        error_set(e, "%s: the certificate has expired", file);
        return false;
    }
    if (X509_cmp_current_time(X509_get0_notBefore(p->leaf)) > 0)
        log_warn("tls: %s: the certificate is not valid yet", file);
    if (!read_names(p)) {
        error_set(e, "%s: the certificate has an empty name or one with a NUL byte", file);
        return false;
    }
    return true;
}

bool read_key(pair *p, error *e) {
    const char *file = p->files->key_file;
    BIO *in = BIO_new_file(file, "r");
    if (in != nullptr) {
        p->key = PEM_read_bio_PrivateKey(in, nullptr, tls_no_pass_phrase, nullptr);
        BIO_free(in);
    }
    if (p->key == nullptr) {
        tls_fail(e, "%s: no PEM private key without pass phrase", file);
        return false;
    }
    if (X509_check_private_key(p->leaf, p->key) == 1) return true;
    ERR_clear_error();
    error_set(e, "%s: the key does not belong to the certificate in %s", file, p->files->chain_file);
    return false;
}

// Indexes of pairs, of different key types, that serve one name together.
using pair_set = std::vector<size_t>;

struct load {
    const std::vector<pair> *pairs; // borrowed
    const tls_pairs_kind *kind;     // borrowed
    std::map<std::string, pair_set> by_name;
    std::map<pair_set, SSL_CTX *> made; // counted
};

void group_by_name(load *l) {
    for (size_t i = 0; i < l->pairs->size(); i++) {
        const pair &p = (*l->pairs)[i];
        for (const std::string &name : p.names) {
            pair_set &set = l->by_name[name];
            bool taken = false;
            for (size_t other : set)
                taken = taken || other == i || EVP_PKEY_get_id((*l->pairs)[other].key) == EVP_PKEY_get_id(p.key);
            if (!taken)
                set.push_back(i);
            else if (set.back() != i)
                log_warn("tls: %s: %s is served by an earlier certificate of the same key type", p.files->chain_file,
                         name.c_str());
        }
    }
}

// Tickets of all names, and of all listeners, are sealed with the same keys; the session id context, a digest of the
// scope and the leaves, is what keeps a session of one from being resumed under another. Whatever else a session stands
// for one day (that a client has shown a certificate, say) has to go in here, too.
bool set_session_context(SSL_CTX *native, const load *l, const pair_set &set) {
    unsigned char digest[EVP_MAX_MD_SIZE], leaf[EVP_MAX_MD_SIZE];
    unsigned size = 0;
    const view scope = l->kind->scope;
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    bool good = md != nullptr && EVP_DigestInit_ex(md, EVP_sha256(), nullptr) == 1 &&
                EVP_Digest(scope.data(), scope.size(), leaf, &size, EVP_sha256(), nullptr) == 1 &&
                EVP_DigestUpdate(md, leaf, size) == 1; // of one size, so that no scope can look like a leaf
    for (size_t i : set)
        good = good && X509_digest((*l->pairs)[i].leaf, EVP_sha256(), leaf, &size) == 1 &&
               EVP_DigestUpdate(md, leaf, size) == 1;
    good = good && EVP_DigestFinal_ex(md, digest, &size) == 1;
    EVP_MD_CTX_free(md);
    return good && SSL_CTX_set_session_id_context(native, digest, size) == 1;
}

// The SSL_CTX with these pairs, borrowed from l->made; null with a reason.
SSL_CTX *context_of(load *l, const pair_set &set, error *e) {
    const auto found = l->made.find(set);
    if (found != l->made.end()) return found->second;
    SSL_CTX *native = l->kind->make(l->kind->tickets, e);
    if (native == nullptr) return nullptr;
    for (size_t i : set) {
        const pair &p = (*l->pairs)[i];
        if (SSL_CTX_use_cert_and_key(native, p.leaf, p.key, p.chain, 1) == 1) continue;
        tls_fail(e, "%s: the certificate can't be used", p.files->chain_file);
        SSL_CTX_free(native);
        return nullptr;
    }
    if (!set_session_context(native, l, set)) {
        tls_fail(e, "TLS can't be set up");
        SSL_CTX_free(native);
        return nullptr;
    }
    l->made.emplace(set, native);
    return native;
}

void names_free(void *owner, void *value, CRYPTO_EX_DATA *, int, long, void *) {
    names *n = static_cast<names *>(value);
    if (n == nullptr) return;
    for (const auto &[name, native] : n->table)
        if (native != owner) SSL_CTX_free(native);
    delete n;
}

int names_index() {
    static const int index = SSL_CTX_get_ex_new_index(0, nullptr, nullptr, nullptr, names_free); // once a process
    return index;
}

// The default serves what the first pair's first name is served by: the first pair, and its twin of another key type.
SSL_CTX *build(load *l, error *e) {
    const std::vector<std::string> &first = l->pairs->front().names;
    SSL_CTX *initial = context_of(l, first.empty() ? pair_set{0} : l->by_name[first.front()], e);
    if (initial == nullptr) return nullptr;
    names *n = new names;
    if (SSL_CTX_set_ex_data(initial, names_index(), n) != 1) fatal("tls: out of memory");
    for (const auto &[name, set] : l->by_name) {
        SSL_CTX *native = context_of(l, set, e);
        if (native == nullptr) return nullptr;
        if (native != initial) SSL_CTX_up_ref(native);
        n->table.emplace(name, native);
    }
    SSL_CTX_up_ref(initial); // the caller's
    return initial;
}

} // namespace

SSL_CTX *tls_pairs_load(const tls_certificate *files, size_t count, const tls_pairs_kind *kind, error *e) {
    if (count == 0) {
        error_set(e, "TLS needs a certificate and a key");
        return nullptr;
    }
    std::vector<pair> pairs(count);
    for (size_t i = 0; i < count; i++) {
        pairs[i].files = &files[i];
        if (!read_chain(&pairs[i], e) || !read_key(&pairs[i], e)) return nullptr;
    }
    load l = {.pairs = &pairs, .kind = kind, .by_name = {}, .made = {}};
    group_by_name(&l);
    SSL_CTX *initial = build(&l, e);
    for (const auto &[set, native] : l.made)
        SSL_CTX_free(native);
    return initial;
}

SSL_CTX *tls_names_find(const SSL_CTX *initial, view name) {
    const names *n = static_cast<const names *>(SSL_CTX_get_ex_data(initial, names_index()));
    if (n == nullptr || name.size() > 255) return nullptr;
    std::string wanted = lower(name);
    if (!wanted.empty() && wanted.back() == '.') wanted.pop_back();
    auto found = n->table.find(wanted);
    const size_t dot = wanted.find('.');
    // One label and no more; and an empty one ("." + "example.com") is none.
    if (found == n->table.end() && dot != std::string::npos && dot > 0) found = n->table.find("*" + wanted.substr(dot));
    return found == n->table.end() ? nullptr : found->second;
}

void tls_fail(error *e, const char *format, ...) {
    error reason;
    tls_take_error(&reason);
    char what[256];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(what, sizeof what, format, arguments);
    va_end(arguments);
    error_set(e, "%s: %s", what, reason.text);
}

int tls_no_pass_phrase(char *, int, int, void *) {
    return -1;
}

} // namespace belfry
