// TLS contexts: the profile, ALPN, SNI, tickets, what is refused, and verification on the client's side.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
extern "C" {
#include <cmocka.h>
}

#include "net/stream.h"
#include "net/tls.h"
#include "tls_fixture.h"

using namespace belfry;
using namespace tls_fixture;

namespace {

std::string refusal(const std::string &chain, const std::string &key) {
    const tls_certificate pair = {chain.c_str(), key.c_str()};
    error e;
    tls_context *c = tls_server_new(&pair, 1, nullptr, scope, &e);
    assert_null(c);
    assert_int_equal(ERR_peek_error(), 0);
    return e.text;
}

// The pair whose certificate the client was shown, by its first name.
std::string served(const char *host) {
    open_ends(host);
    shake_hands_well();
    X509 *shown = SSL_get1_peer_certificate(ssl_of(&ends.client));
    assert_non_null(shown);
    std::string found = "none";
    for (const char *name : {"a", "a-rsa", "wild", "other", "named", "both"}) {
        FILE *in = fopen((file(name) + ".pem").c_str(), "r");
        X509 *candidate = PEM_read_X509(in, nullptr, nullptr, nullptr);
        fclose(in);
        if (X509_cmp(shown, candidate) == 0) found = name;
        X509_free(candidate);
    }
    X509_free(shown);
    return found;
}

void test_profile_versions(void **) {
    serve({"a"});
    trust("", false);
    open_ends("a.example.com");
    SSL_set_cipher_list(ssl_of(&ends.client), "ALL:@SECLEVEL=0"); // else the client itself would not offer 1.1
    SSL_set_min_proto_version(ssl_of(&ends.client), TLS1_1_VERSION);
    SSL_set_max_proto_version(ssl_of(&ends.client), TLS1_1_VERSION);
    outcome o = shake_hands();
    assert_true(o.server == stream_result::failed);
    assert_true(contains(o.server_why, "unsupported protocol"));

    for (int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
        open_ends("a.example.com");
        SSL_set_max_proto_version(ssl_of(&ends.client), version);
        shake_hands_well();
        assert_int_equal(SSL_version(ssl_of(&ends.server)), version);
    }
}

void test_profile_ciphers(void **) {
    serve({"a", "a-rsa"});
    trust("", false);
    // Client's preference.
    for (const char *wanted : {"TLS_CHACHA20_POLY1305_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_AES_128_GCM_SHA256"}) {
        open_ends("a.example.com");
        const std::string order = std::string(wanted) + ":TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384";
        assert_int_equal(SSL_set_ciphersuites(ssl_of(&ends.client), order.c_str()), 1);
        shake_hands_well();
        assert_string_equal(SSL_get_cipher(ssl_of(&ends.server)), wanted);
    }
    struct {
        const char *offered;
        bool good;
    } cases[] = {{"ECDHE-ECDSA-AES128-GCM-SHA256", true},
                 {"ECDHE-RSA-CHACHA20-POLY1305", true},
                 {"DHE-RSA-AES256-GCM-SHA384", true},
                 {"ECDHE-RSA-AES128-SHA", false},
                 {"AES128-GCM-SHA256", false},
                 {"ECDHE-ECDSA-AES256-SHA384", false}};
    for (const auto &c : cases) {
        open_ends("a.example.com");
        SSL_set_max_proto_version(ssl_of(&ends.client), TLS1_2_VERSION);
        assert_int_equal(SSL_set_cipher_list(ssl_of(&ends.client), c.offered), 1);
        const outcome o = shake_hands();
        assert_true((o.server == stream_result::ok) == c.good);
        if (!c.good) assert_true(contains(o.server_why, "no shared cipher"));
    }
}

void test_alpn(void **) {
    serve({"a", "other"});
    trust("", false);
    struct {
        const char *offer;
        const char *chosen; // null: fatal
    } cases[] = {{"\x08http/1.1", "http/1.1"},
                 {"\x02h2\x08http/1.1", "http/1.1"},
                 {"", ""},
                 {"\x02h2", nullptr},
                 {"\x08http/1.0", nullptr}};
    for (const char *host : {"a.example.com", "other.example.org"})
        for (const auto &c : cases) {
            open_ends(host);
            if (*c.offer != '\0')
                SSL_set_alpn_protos(ssl_of(&ends.client), reinterpret_cast<const unsigned char *>(c.offer),
                                    static_cast<unsigned>(strlen(c.offer)));
            if (c.chosen == nullptr) {
                const outcome o = shake_hands();
                assert_true(o.server == stream_result::failed && o.client == stream_result::failed);
                assert_true(contains(o.client_why, "no application protocol"));
                continue;
            }
            shake_hands_well();
            const unsigned char *chosen = nullptr;
            unsigned size = 0;
            SSL_get0_alpn_selected(ssl_of(&ends.client), &chosen, &size);
            assert_true(std::string(reinterpret_cast<const char *>(chosen), size) == c.chosen);
        }
}

void test_sni(void **) {
    trust("", false);
    serve({"other", "a", "wild", "named", "both"});
    struct {
        const char *host, *served;
    } cases[] = {{"a.example.com", "a"}, // exact before wildcard
                 {"A.EXAMPLE.com", "a"},      {"mixed.example.com", "a"},         {"b.example.com", "wild"},
                 {"b.example.com.", "wild"},  {"c.b.example.com", "other"},       // one label only
                 {"example.com", "other"},    {"world.partial.example", "other"}, // a partial wildcard never matches
                 {"*.example.com", "wild"},   {"other.example.org", "other"},     {"unknown.example", "other"},
                 {"192.0.2.1", "other"}, // no SNI at all
                 {"cn.example.net", "named"}, {"san.example.net", "both"},        {"hidden.example.net", "other"}};
    for (const auto &c : cases)
        assert_string_equal(served(c.host).c_str(), c.served);

    // An exact name of the default pair wins over another pair's wildcard.
    serve({"a", "wild"});
    assert_string_equal(served("a.example.com").c_str(), "a");
    assert_string_equal(served("z.example.com").c_str(), "wild");
    // Of two pairs of one key type for one name, the first.
    serve({"other", "wild", "wild"});
    assert_string_equal(served("z.example.com").c_str(), "wild");
}

void test_rsa_and_ecdsa_for_one_name(void **) {
    trust("", false);
    for (bool first : {true, false}) {
        if (first)
            serve({"a", "a-rsa", "other"});
        else
            serve({"other", "a-rsa", "a"});
        for (const char *algorithms : {"RSA-PSS+SHA256", "ECDSA+SHA256"}) {
            open_ends("a.example.com");
            assert_int_equal(SSL_set1_sigalgs_list(ssl_of(&ends.client), algorithms), 1);
            shake_hands_well();
            EVP_PKEY *key = X509_get0_pubkey(SSL_get0_peer_certificate(ssl_of(&ends.client)));
            assert_int_equal(EVP_PKEY_get_id(key), algorithms[0] == 'R' ? EVP_PKEY_RSA : EVP_PKEY_EC);
        }
        // A name that the ECDSA certificate alone has is not answered with the RSA one.
        open_ends("mixed.example.com");
        SSL_set1_sigalgs_list(ssl_of(&ends.client), "RSA-PSS+SHA256");
        assert_true(shake_hands().server == stream_result::failed);
    }
}

void test_refused_pairs(void **) {
    make("expired", {.dns = {"x.example"}, .begins = -7200, .ends = -60});
    make("nul", {.dns = {std::string("good.example\0.evil.example", 26)}});
    make("empty-name", {.dns = {""}});
    throwaway::make({.dns = {"x.example"}}, file("locked.pem"), file("locked.key"), "secret");
    FILE *out = fopen(file("garbage.pem").c_str(), "w");
    fputs("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", out);
    fclose(out);
    // A good leaf with a damaged certificate behind it.
    const std::string join = "cat " + file("a.pem") + " " + file("garbage.pem") + " > " + file("damaged.pem");
    assert_int_equal(system(join.c_str()), 0);

    struct {
        const char *chain, *key, *named, *reason;
    } cases[] = {{"absent.pem", "a.key", "absent.pem", "No such file"},
                 {"a.pem", "absent.key", "absent.key", "No such file"},
                 {"garbage.pem", "a.key", "garbage.pem", "no PEM certificate chain"},
                 {"damaged.pem", "a.key", "damaged.pem", "no PEM certificate chain"},
                 {"a.key", "a.key", "a.key", "no PEM certificate chain"},
                 {"a.pem", "a.pem", "a.pem", "no PEM private key"},
                 {"a.pem", "other.key", "other.key", "does not belong"},
                 {"a.pem", "a-rsa.key", "a-rsa.key", "does not belong"},
                 {"expired.pem", "expired.key", "expired.pem", "expired"},
                 {"nul.pem", "nul.key", "nul.pem", "NUL"},
                 {"empty-name.pem", "empty-name.key", "empty-name.pem", "empty name"},
                 {"locked.pem", "locked.key", "locked.key", "pass phrase"}};
    for (const auto &c : cases) {
        const std::string text = refusal(file(c.chain), file(c.key));
        assert_true(contains(text, file(c.named)));
        assert_true(contains(text, c.reason));
    }
    error e;
    assert_null(tls_server_new(nullptr, 0, nullptr, scope, &e));
    assert_null(tls_client_new(file("absent.pem").c_str(), true, &e));
    assert_true(contains(e.text, "absent.pem"));
}

void test_tickets(void **) {
    serve({"a", "other"});
    trust("", false);
    keep_sessions();
    for (int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
        assert_false(resumes("a.example.com", version, nullptr));
        assert_non_null(kept);
        SSL_SESSION *first = take_kept();
        assert_true(resumes("a.example.com", version, first));
        // A ticket of one name opens no other: SNI is what the client says, so it can lie about it.
        SSL_SESSION *moved = SSL_SESSION_dup(first);
        SSL_SESSION_set1_hostname(moved, "other.example.org");
        assert_false(resumes("other.example.org", version, moved));
        SSL_SESSION_free(moved);
        // A context made anew of the same, as by a reload, goes on; but with another certificate of that name, or for
        // another listener, the keys alone are not enough: there is a whole handshake.
        serve({"other", "a"});
        assert_true(resumes("a.example.com", version, first));
        serve({"a-rsa", "other"});
        assert_false(resumes("a.example.com", version, first));
        scope = "private";
        serve({"a", "other"});
        assert_false(resumes("a.example.com", version, first));
        scope = "public";
        serve({"a", "other"});
        assert_true(resumes("a.example.com", version, first));
        SSL_SESSION_free(first);
        SSL_SESSION_free(take_kept());
    }
    assert_int_equal(SSL_CTX_sess_number(tls_native(server_context)), 0);
}

void test_client_verification(void **) {
    serve({"a"});
    struct {
        const char *trusted;
        bool verify;
        const char *host, *why; // null: good
    } cases[] = {{"a", true, "a.example.com", nullptr},
                 {"a", true, "127.0.0.1", nullptr},
                 {"a", true, "b.example.com", "certificate refused: hostname mismatch"},
                 {"a", true, "127.0.0.2", "certificate refused: IP address mismatch"},
                 {"other", true, "a.example.com", "certificate refused: self-signed certificate"},
                 {"other", false, "b.example.com", nullptr}};
    for (const auto &c : cases) {
        trust(c.trusted, c.verify);
        open_ends(c.host);
        if (c.why == nullptr && c.verify) {
            shake_hands_well();
            const char *name = SSL_get_servername(ssl_of(&ends.server), TLSEXT_NAMETYPE_host_name);
            assert_true(c.host[0] == '1' ? name == nullptr : strcmp(name, c.host) == 0);
        } else if (c.why == nullptr) {
            // verify false also turns the name check off
            const outcome o = shake_hands();
            assert_true(o.client == stream_result::ok);
        } else {
            const outcome o = shake_hands();
            assert_true(o.client == stream_result::failed);
            assert_true(contains(o.client_why, c.why));
        }
    }
}

// A reload drops the context while a handshake is on: the names that SNI looks up must live on.
void test_context_let_go_in_handshake(void **) {
    serve({"other", "a"});
    trust("", false);
    open_ends("a.example.com");
    assert_ptr_equal(tls_ref(server_context), server_context);
    tls_unref(server_context);
    tls_unref(server_context);
    server_context = nullptr;
    shake_hands_well();
    X509 *shown = SSL_get0_peer_certificate(ssl_of(&ends.client));
    assert_int_equal(X509_check_host(shown, "a.example.com", 0, 0, nullptr), 1);
}

} // namespace

int main() {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_profile_versions, after_each),
        cmocka_unit_test_teardown(test_profile_ciphers, after_each),
        cmocka_unit_test_teardown(test_alpn, after_each),
        cmocka_unit_test_teardown(test_sni, after_each),
        cmocka_unit_test_teardown(test_rsa_and_ecdsa_for_one_name, after_each),
        cmocka_unit_test_teardown(test_refused_pairs, after_each),
        cmocka_unit_test_teardown(test_tickets, after_each),
        cmocka_unit_test_teardown(test_client_verification, after_each),
        cmocka_unit_test_teardown(test_context_let_go_in_handshake, after_each),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
