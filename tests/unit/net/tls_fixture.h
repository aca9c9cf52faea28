// What the TLS tests share: certificates, contexts, and two ends of a socket pair with TLS on both.
#pragma once

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

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdlib.h>
#include <string.h>
#include <string>
#include <sys/socket.h>
#include <unistd.h>
#include <utility>
#include <vector>

namespace tls_fixture {

using namespace belfry;

inline std::string directory;
inline loop *on;
inline tls_context *server_context, *client_context;
inline ticket_keys *tickets;         // what contexts seal with
inline const char *scope = "public"; // that contexts are made for

inline std::string file(const char *name) {
    return directory + "/" + name;
}

struct both_ends {
    stream server, client;
};
inline both_ends ends;

inline void never_ready(watch *, unsigned) {}

inline SSL *ssl_of(stream *s) {
    return static_cast<SSL *>(s->tls);
}

inline void close_ends() {
    if (ends.server.ops != nullptr) stream_close(&ends.server);
    if (ends.client.ops != nullptr) stream_close(&ends.client);
    ends = {};
}

// A connected pair: TLS on both ends, nothing exchanged yet.
inline void open_ends(const char *host) {
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

inline outcome shake_hands() {
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

inline void shake_hands_well() {
    const outcome o = shake_hands();
    if (o.server == stream_result::failed) print_message("server: %s\n", o.server_why.c_str());
    if (o.client == stream_result::failed) print_message("client: %s\n", o.client_why.c_str());
    assert_true(o.server == stream_result::ok && o.client == stream_result::ok);
}

// Makes server_context of pairs named in the test's directory.
inline void serve(std::vector<const char *> names) {
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
    server_context = tls_server_new(pairs.data(), pairs.size(), tickets, scope, &e);
    if (server_context == nullptr) print_message("%s\n", e.text);
    assert_non_null(server_context);
}

inline void trust(const char *name, bool verify) {
    tls_unref(client_context);
    error e;
    client_context = tls_client_new(verify ? (file(name) + ".pem").c_str() : nullptr, verify, &e);
    assert_non_null(client_context);
}

// The newest ticket that a client of client_context got; owned.
inline SSL_SESSION *kept;

inline int keep_session(SSL *, SSL_SESSION *session) {
    SSL_SESSION_free(kept);
    kept = session;
    return 1;
}

inline void keep_sessions() {
    SSL_CTX *native = tls_native(client_context);
    SSL_CTX_set_session_cache_mode(native, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(native, keep_session);
}

inline SSL_SESSION *take_kept() {
    return std::exchange(kept, nullptr);
}

inline std::string ticket_of(const SSL_SESSION *session) {
    const unsigned char *bytes = nullptr;
    size_t size = 0;
    SSL_SESSION_get0_ticket(session, &bytes, &size);
    return std::string(reinterpret_cast<const char *>(bytes), size);
}

// Where the client was given another ticket than it came with: OpenSSL does not tell, in TLS 1.2.
inline void keep_renewed(const SSL_SESSION *before) {
    SSL *client = ssl_of(&ends.client);
    if (SSL_session_reused(client) == 1 && SSL_version(client) == TLS1_2_VERSION &&
        ticket_of(SSL_get0_session(client)) != ticket_of(before))
        keep_session(client, SSL_get1_session(client));
}

// A handshake with that ticket (null: without). With a copy: a client's session is spoiled by much that has nothing to
// do with the server.
inline bool resumes(const char *host, int version, SSL_SESSION *session) {
    open_ends(host);
    SSL_set_max_proto_version(ssl_of(&ends.client), version);
    SSL_SESSION *copy = session != nullptr ? SSL_SESSION_dup(session) : nullptr;
    if (copy != nullptr) SSL_set_session(ssl_of(&ends.client), copy);
    SSL_SESSION_free(copy);
    shake_hands_well();
    char byte;
    size_t got;
    assert_true(stream_read(&ends.client, &byte, 1, &got) == stream_result::again); // takes the ticket
    keep_renewed(session);
    stream_shutdown(&ends.client); // a connection that just breaks off would spoil its session on the client's side
    assert_int_equal(SSL_session_reused(ssl_of(&ends.server)), SSL_session_reused(ssl_of(&ends.client)));
    return SSL_session_reused(ssl_of(&ends.server)) == 1;
}

inline bool contains(const std::string &text, const std::string &part) {
    if (text.find(part) != std::string::npos) return true;
    print_message("no \"%s\" in: %s\n", part.c_str(), text.c_str());
    return false;
}

inline void make(const char *name, const throwaway::wish &w) {
    throwaway::make(w, file(name) + ".pem", file(name) + ".key");
}

inline int set_up(void **) {
    char made[] = "/tmp/belfry-tls-XXXXXX";
    if (mkdtemp(made) == nullptr) return -1;
    directory = made;
    on = loop_new();
    tickets = ticket_keys_new(0);
    make("a", {.dns = {"a.example.com", "Mixed.Example.com"}, .ip = {std::string("\x7f\0\0\1", 4)}});
    make("a-rsa", {.key = "RSA", .dns = {"a.example.com"}});
    make("wild", {.dns = {"*.example.com", "w*.partial.example"}});
    make("other", {.dns = {"other.example.org"}});
    make("named", {.common_name = "cn.example.net"});
    make("both", {.dns = {"san.example.net"}, .common_name = "hidden.example.net"});
    return 0;
}

inline int tear_down(void **) {
    tls_unref(server_context);
    tls_unref(client_context);
    ticket_keys_unref(tickets);
    loop_free(on);
    const std::string remove = "rm -rf " + directory;
    return system(remove.c_str());
}

inline int after_each(void **) {
    close_ends();
    SSL_SESSION_free(take_kept());
    return 0;
}

} // namespace tls_fixture
