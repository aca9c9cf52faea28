// TLS contexts and TLS streams: the profile, ALPN, SNI, tickets, verification, and the stream rules over a socket pair.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
extern "C" {
#include <cmocka.h>
}

#include "net/stream.h"
#include "net/tls.h"
#include "throwaway_certificate.h"

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

using namespace belfry;

namespace {

std::string directory;
loop *on;
tls_context *server_context, *client_context;

std::string file(const char *name) {
    return directory + "/" + name;
}

struct ends {
    stream server, client;
} ends;

void never_ready(stream *, unsigned) {}

SSL *ssl_of(stream *s) {
    return static_cast<SSL *>(s->tls);
}

void close_ends() {
    if (ends.server.ops != nullptr) stream_close(&ends.server);
    if (ends.client.ops != nullptr) stream_close(&ends.client);
    ends = {};
}

// A connected pair: TLS on both ends, nothing exchanged yet.
void open_ends(const char *host) {
    close_ends();
    int fd[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fd), 0);
    stream_open_tls(&ends.server, on, fd[0], never_ready, server_context);
    stream_open_tls_client(&ends.client, on, fd[1], never_ready, client_context, host);
}

struct outcome {
    stream_result server, client;
    std::string server_why, client_why;
};

outcome shake_hands() {
    outcome o = {stream_result::again, stream_result::again, "", ""};
    for (int i = 0; i < 20; i++) {
        if (o.client == stream_result::again) {
            o.client = stream_handshake(&ends.client);
            if (o.client == stream_result::failed) o.client_why = stream_why();
        }
        if (o.server == stream_result::again) {
            o.server = stream_handshake(&ends.server);
            if (o.server == stream_result::failed) o.server_why = stream_why();
        }
    }
    return o;
}

void shake_hands_well() {
    const outcome o = shake_hands();
    if (o.server == stream_result::failed) print_message("server: %s\n", o.server_why.c_str());
    if (o.client == stream_result::failed) print_message("client: %s\n", o.client_why.c_str());
    assert_true(o.server == stream_result::ok && o.client == stream_result::ok);
}

// Makes server_context of pairs named in the test's directory.
void serve(std::vector<const char *> names) {
    static std::vector<std::string> paths;
    paths.clear();
    for (const char *name : names) {
        paths.push_back(file(name) + ".pem");
        paths.push_back(file(name) + ".key");
    }
    std::vector<tls_certificate> pairs;
    for (size_t i = 0; i < names.size(); i++)
        pairs.push_back({paths[2 * i].c_str(), paths[2 * i + 1].c_str()});
    tls_unref(server_context);
    error e;
    server_context = tls_server_new(pairs.data(), pairs.size(), &e);
    if (server_context == nullptr) print_message("%s\n", e.text);
    assert_non_null(server_context);
}

void trust(const char *name, bool verify) {
    tls_unref(client_context);
    error e;
    client_context = tls_client_new(verify ? (file(name) + ".pem").c_str() : nullptr, verify, &e);
    assert_non_null(client_context);
}

std::string refusal(const std::string &chain, const std::string &key) {
    const tls_certificate pair = {chain.c_str(), key.c_str()};
    error e;
    tls_context *c = tls_server_new(&pair, 1, &e);
    assert_null(c);
    assert_int_equal(ERR_peek_error(), 0);
    return e.text;
}

bool contains(const std::string &text, const std::string &part) {
    if (text.find(part) != std::string::npos) return true;
    print_message("no \"%s\" in: %s\n", part.c_str(), text.c_str());
    return false;
}

void make(const char *name, const throwaway::wish &w) {
    throwaway::make(w, file(name) + ".pem", file(name) + ".key");
}

int set_up(void **) {
    char made[] = "/tmp/belfry-tls-XXXXXX";
    if (mkdtemp(made) == nullptr) return -1;
    directory = made;
    on = loop_new();
    make("a", {.dns = {"a.example.com", "Mixed.Example.com"}, .ip = {std::string("\x7f\0\0\1", 4)}});
    make("a-rsa", {.key = "RSA", .dns = {"a.example.com"}});
    make("wild", {.dns = {"*.example.com", "w*.partial.example"}});
    make("other", {.dns = {"other.example.org"}});
    make("named", {.common_name = "cn.example.net"});
    make("both", {.dns = {"san.example.net"}, .common_name = "hidden.example.net"});
    return 0;
}

int tear_down(void **) {
    tls_unref(server_context);
    tls_unref(client_context);
    loop_free(on);
    const std::string remove = "rm -rf " + directory;
    return system(remove.c_str());
}

int after_each(void **) {
    close_ends();
    return 0;
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
    assert_null(tls_server_new(nullptr, 0, &e));
    assert_null(tls_client_new(file("absent.pem").c_str(), true, &e));
    assert_true(contains(e.text, "absent.pem"));
}

int keep_session(SSL *, SSL_SESSION *session) {
    SSL_SESSION **kept = static_cast<SSL_SESSION **>(SSL_CTX_get_app_data(tls_native(client_context)));
    if (*kept != nullptr) SSL_SESSION_free(*kept);
    *kept = session;
    return 1;
}

bool resumes(const char *host, int version, SSL_SESSION *session) {
    open_ends(host);
    SSL_set_max_proto_version(ssl_of(&ends.client), version);
    if (session != nullptr) SSL_set_session(ssl_of(&ends.client), session);
    shake_hands_well();
    char byte;
    size_t got;
    assert_true(stream_read(&ends.client, &byte, 1, &got) == stream_result::again); // takes the ticket
    stream_shutdown(&ends.client); // a connection that just breaks off would spoil its session on the client's side
    return SSL_session_reused(ssl_of(&ends.server)) == 1;
}

void test_tickets(void **) {
    serve({"a", "other"});
    trust("", false);
    SSL_SESSION *kept = nullptr;
    SSL_CTX *native = tls_native(client_context);
    SSL_CTX_set_session_cache_mode(native, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_set_app_data(native, &kept);
    SSL_CTX_sess_set_new_cb(native, keep_session);
    for (int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
        assert_false(resumes("a.example.com", version, nullptr));
        assert_non_null(kept);
        SSL_SESSION *first = kept;
        kept = nullptr;
        assert_true(resumes("a.example.com", version, first));
        // A ticket of one name opens no other: SNI is what the client says, so it can lie about it.
        SSL_SESSION *moved = SSL_SESSION_dup(first);
        SSL_SESSION_set1_hostname(moved, "other.example.org");
        assert_false(resumes("other.example.org", version, moved));
        SSL_SESSION_free(moved);
        // Nor one of a context made anew (its ticket keys are new).
        serve({"a", "other"});
        assert_false(resumes("a.example.com", version, first));
        SSL_SESSION_free(first);
        SSL_SESSION_free(kept);
        kept = nullptr;
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

void write_all(stream *s, const std::string &data) {
    for (size_t done = 0; done < data.size();) {
        const struct iovec part = {const_cast<char *>(data.data() + done), data.size() - done};
        size_t written = 0;
        assert_true(stream_write(s, &part, 1, &written) == stream_result::ok);
        assert_in_range(written, 1, 16384);
        done += written;
    }
}

void connected() {
    serve({"a"});
    trust("", false);
    open_ends("a.example.com");
    shake_hands_well();
    char byte;
    size_t got;
    assert_true(stream_read(&ends.client, &byte, 1, &got) == stream_result::again);
    assert_int_equal(ends.client.wants, stream_readable);
}

void test_read_takes_all_records(void **) {
    connected();
    for (int i = 0; i < 10; i++)
        write_all(&ends.client, std::string(1000, static_cast<char>('a' + i)));
    char into[16000];
    size_t got = 0;
    assert_true(stream_read(&ends.server, into, sizeof into, &got) == stream_result::ok);
    assert_int_equal(got, 10000);
    assert_int_equal(into[0], 'a');
    assert_int_equal(into[9999], 'j');
    assert_false(stream_pending(&ends.server));
    assert_true(stream_read(&ends.server, into, sizeof into, &got) == stream_result::again);
    assert_int_equal(got, 0);

    // A buffer smaller than the record: the rest is pending, though the socket holds nothing.
    write_all(&ends.client, "0123456789");
    assert_true(stream_read(&ends.server, into, 4, &got) == stream_result::ok);
    assert_int_equal(got, 4);
    assert_true(stream_pending(&ends.server));
    assert_true(stream_read(&ends.server, into, sizeof into, &got) == stream_result::ok);
    assert_memory_equal(into, "456789", 6);
    assert_false(stream_pending(&ends.server));
}

int bytes_on_wire(const stream *s) {
    int n = 0;
    assert_int_equal(ioctl(s->fd, FIONREAD, &n), 0);
    return n;
}

void test_write_gathers_one_record(void **) {
    connected();
    char first[] = "one ", second[] = "two ", third[] = "three";
    const struct iovec parts[] = {{first, 4}, {second, 4}, {nullptr, 0}, {third, 5}};
    size_t written = 0;
    const uint64_t writes = on->writes;
    assert_true(stream_write(&ends.server, parts, 4, &written) == stream_result::ok);
    assert_int_equal(written, 13);
    assert_int_equal(on->writes, writes + 1);
    assert_int_equal(bytes_on_wire(&ends.client), 5 + 13 + 1 + 16); // header, content, its type, tag: one record
    char into[64];
    size_t got = 0;
    assert_true(stream_read(&ends.client, into, sizeof into, &got) == stream_result::ok);
    assert_int_equal(got, 13);
    assert_memory_equal(into, "one two three", 13);

    // At most one record a call: a large first part goes straight, parts around the limit are cut.
    std::string large(20000, 'x'), half(10000, 'y');
    const struct iovec straight[] = {{large.data(), large.size()}, {half.data(), half.size()}};
    assert_true(stream_write(&ends.server, straight, 2, &written) == stream_result::ok);
    assert_int_equal(written, 16384);
    const struct iovec cut[] = {{half.data(), half.size()}, {large.data(), large.size()}};
    assert_true(stream_write(&ends.server, cut, 2, &written) == stream_result::ok);
    assert_int_equal(written, 16384);
    std::string all(40000, '\0');
    assert_true(stream_read(&ends.client, all.data(), all.size(), &got) == stream_result::ok);
    assert_int_equal(got, 32768);
    assert_true(all.substr(0, got) == std::string(16384, 'x') + half + std::string(6384, 'x'));

    assert_true(stream_write(&ends.server, parts + 2, 1, &written) == stream_result::ok); // nothing: no record
    assert_int_equal(written, 0);
    assert_int_equal(bytes_on_wire(&ends.client), 0);
}

// The socket fills up; the same bytes are offered again from elsewhere and with more behind them, as outq does it.
void test_write_again_then_more(void **) {
    connected();
    std::string expected;
    for (int i = 0; i < 4000000; i++)
        expected += static_cast<char>('A' + i % 23 + i / 1000 % 5);
    size_t done = 0, received = 0, agains = 0, grown = 0;
    std::string got_all;
    char into[65536];
    while (got_all.size() < expected.size()) {
        std::string here = expected.substr(done, 3000 + grown), there = expected.substr(done + here.size(), 500);
        const struct iovec parts[] = {{here.data(), here.size()}, {there.data(), there.size()}};
        std::string joined = here + there; // not gathered, as it is alone: the same bytes at another address
        const struct iovec alone = {joined.data(), joined.size()};
        const bool gathered = agains % 3 != 0;
        size_t written = 0;
        const stream_result r = done == expected.size() ? stream_result::again
                                : gathered              ? stream_write(&ends.server, parts, 2, &written)
                                                        : stream_write(&ends.server, &alone, 1, &written);
        assert_true(r == stream_result::ok || r == stream_result::again);
        done += written;
        if (r == stream_result::ok) {
            grown = 0;
            continue;
        }
        if (done < expected.size()) assert_int_equal(ends.server.wants, stream_writable);
        agains++;
        grown = agains % 7 * 1111;
        if (agains % 2 == 0) continue; // tries again with nothing drained
        if (stream_read(&ends.client, into, sizeof into, &received) == stream_result::ok)
            got_all.append(into, received);
    }
    assert_true(agains > 10);
    assert_true(got_all == expected);
}

void test_ends(void **) {
    char into[64];
    size_t got = 0;
    // close_notify, with data before it.
    connected();
    write_all(&ends.client, "last words");
    stream_shutdown(&ends.client);
    assert_true(stream_read(&ends.server, into, sizeof into, &got) == stream_result::ok);
    assert_int_equal(got, 10);
    assert_true(stream_pending(&ends.server));
    assert_true(stream_read(&ends.server, into, sizeof into, &got) == stream_result::eof);
    // Our side still writes; then ends: close_notify and FIN.
    write_all(&ends.server, "answer");
    stream_shutdown(&ends.server);
    assert_true(stream_read(&ends.client, into, sizeof into, &got) == stream_result::ok);
    assert_memory_equal(into, "answer", 6);
    assert_true(stream_read(&ends.client, into, sizeof into, &got) == stream_result::eof);
    assert_true((SSL_get_shutdown(ssl_of(&ends.client)) & SSL_RECEIVED_SHUTDOWN) != 0);
    stream_close(&ends.server);
    stream_close(&ends.server);
    assert_null(ends.server.tls);

    // A bare FIN is eof too.
    connected();
    write_all(&ends.client, "x");
    shutdown(ends.client.fd, SHUT_WR);
    assert_true(stream_read(&ends.server, into, sizeof into, &got) == stream_result::ok);
    assert_true(stream_read(&ends.server, into, sizeof into, &got) == stream_result::eof);

    // A FIN in the middle of the handshake is a failure.
    open_ends("a.example.com");
    assert_true(stream_handshake(&ends.server) == stream_result::again);
    assert_int_equal(ends.server.wants, stream_readable);
    shutdown(ends.client.fd, SHUT_WR);
    assert_true(stream_handshake(&ends.server) == stream_result::failed);
    assert_true(contains(stream_why(), "TLS handshake: the peer closed the connection"));

    // A peer that is gone: failed, and no SIGPIPE.
    connected();
    stream_close(&ends.client);
    char byte[] = "x";
    const struct iovec part = {byte, 1};
    assert_true(stream_write(&ends.server, &part, 1, &got) == stream_result::failed);
    assert_true(contains(stream_why(), "Broken pipe"));
    stream_shutdown(&ends.server);
}

void test_bad_bytes(void **) {
    // Garbage instead of a handshake.
    serve({"a"});
    trust("", false);
    for (const char *garbage :
         {"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "\x16\x03\x01\x00\x05hello", "\xff\xff\xff\xff\xff"}) {
        open_ends("a.example.com");
        const size_t size = garbage[0] == '\x16' ? 10 : strlen(garbage);
        assert_int_equal(write(ends.client.fd, garbage, size), size);
        assert_true(stream_handshake(&ends.server) == stream_result::failed);
        assert_true(contains(stream_why(), "TLS handshake: "));
        assert_true(stream_handshake(&ends.server) == stream_result::failed);
        assert_int_equal(ERR_peek_error(), 0);
    }
    // A forged record behind a good one: the data first, then the failure, which needs no readable socket.
    connected();
    write_all(&ends.client, "good");
    const char forged[] = "\x17\x03\x03\x00\x20"
                          "0123456789abcdef0123456789abcdef";
    assert_int_equal(write(ends.client.fd, forged, 37), 37);
    char into[64];
    size_t got = 0;
    assert_true(stream_read(&ends.server, into, sizeof into, &got) == stream_result::ok);
    assert_int_equal(got, 4);
    assert_true(stream_pending(&ends.server));
    assert_true(stream_read(&ends.server, into, sizeof into, &got) == stream_result::failed);
    const struct iovec part = {into, 4};
    assert_true(stream_write(&ends.server, &part, 1, &got) == stream_result::failed);
    // Alone: the reason is told.
    connected();
    assert_int_equal(write(ends.client.fd, forged, 37), 37);
    assert_true(stream_read(&ends.server, into, sizeof into, &got) == stream_result::failed);
    assert_true(contains(stream_why(), "TLS read: decryption failed or bad record mac"));
}

void test_no_renegotiation(void **) {
    serve({"a"});
    trust("", false);
    open_ends("a.example.com");
    SSL_set_max_proto_version(ssl_of(&ends.client), TLS1_2_VERSION);
    SSL_clear_options(ssl_of(&ends.client), SSL_OP_NO_RENEGOTIATION);
    shake_hands_well();
    assert_int_equal(SSL_renegotiate(ssl_of(&ends.client)), 1);
    (void)SSL_do_handshake(ssl_of(&ends.client));
    char into[64];
    size_t got = 0;
    assert_true(stream_read(&ends.server, into, sizeof into, &got) != stream_result::ok);
    ERR_clear_error();
    assert_int_equal(SSL_do_handshake(ssl_of(&ends.client)), -1);
    assert_int_equal(ERR_GET_REASON(ERR_peek_error()), SSL_R_NO_RENEGOTIATION);
    ERR_clear_error();
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

// An idle server connection: the SSL and all that hangs on it. The client end is freed before it is measured.
void test_memory_of_an_idle_stream(void **) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    skip(); // mallinfo2 knows nothing of a sanitizer's allocator
#else
    serve({"a"});
    trust("", false);
    constexpr int warm = 10, count = 500;
    static stream held[warm + count];
    size_t before = 0;
    for (int i = 0; i < warm + count; i++) {
        if (i == warm) before = mallinfo2().uordblks;
        open_ends("a.example.com");
        shake_hands_well();
        char byte;
        size_t got;
        write_all(&ends.client, "x");
        assert_true(stream_read(&ends.server, &byte, 1, &got) == stream_result::ok);
        write_all(&ends.server, "y");
        held[i] = ends.server;
        ends.server = {};
        stream_close(&ends.client);
    }
    const size_t each = (mallinfo2().uordblks - before) / count;
    print_message("idle TLS stream: %zu bytes\n", each);
    for (stream &s : held)
        stream_close(&s);
    assert_in_range(each, 1000, 14 * 1024);
#endif
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
        cmocka_unit_test_teardown(test_read_takes_all_records, after_each),
        cmocka_unit_test_teardown(test_write_gathers_one_record, after_each),
        cmocka_unit_test_teardown(test_write_again_then_more, after_each),
        cmocka_unit_test_teardown(test_ends, after_each),
        cmocka_unit_test_teardown(test_bad_bytes, after_each),
        cmocka_unit_test_teardown(test_no_renegotiation, after_each),
        cmocka_unit_test_teardown(test_context_let_go_in_handshake, after_each),
        cmocka_unit_test_teardown(test_memory_of_an_idle_stream, after_each),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
