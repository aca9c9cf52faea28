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
#include <vector>

namespace tls_fixture {

using namespace belfry;

inline std::string directory;
inline loop *on;
inline tls_context *server_context, *client_context;

inline std::string file(const char *name) {
    return directory + "/" + name;
}

struct both_ends {
    stream server, client;
};
inline both_ends ends;

inline void never_ready(stream *, unsigned) {}

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
    server_context = tls_server_new(pairs.data(), pairs.size(), &e);
    if (server_context == nullptr) print_message("%s\n", e.text);
    assert_non_null(server_context);
}

inline void trust(const char *name, bool verify) {
    tls_unref(client_context);
    error e;
    client_context = tls_client_new(verify ? (file(name) + ".pem").c_str() : nullptr, verify, &e);
    assert_non_null(client_context);
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
    loop_free(on);
    const std::string remove = "rm -rf " + directory;
    return system(remove.c_str());
}

inline int after_each(void **) {
    close_ends();
    return 0;
}

} // namespace tls_fixture
