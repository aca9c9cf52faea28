// TLS contexts: what all connections of a listener share. Certificate pairs are loaded by tls_pairs.cc; here are the
// profile, the choice by SNI and ALPN, the client side and the text of a failure.
//
// A tls_context is counted and never changes once made. Streams of any thread use it; making one: main thread.
#include "net/tls.h"

#include "net/tls_pairs.h"

#include <atomic>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/tls1.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

namespace belfry {

struct tls_context {
    std::atomic<uint32_t> references; // counted
    SSL_CTX *native;                  // counted by OpenSSL: lives on while one of its SSLs does
};

namespace {

// Mozilla "intermediate", guidelines version 5.7.
constexpr char cipher_list[] = "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:"
                               "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:"
                               "ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305:"
                               "DHE-RSA-AES128-GCM-SHA256:DHE-RSA-AES256-GCM-SHA384:DHE-RSA-CHACHA20-POLY1305";
constexpr char cipher_suites[] = "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256";
constexpr char group_list[] = "X25519:P-256:P-384";

constexpr unsigned char alpn_http1[] = {8, 'h', 't', 't', 'p', '/', '1', '.', '1'};

// OpenSSL's socket BIO writes with write(2), which MSG_NOSIGNAL can't reach: a peer that is gone must not end the
// process. A handler that the program has set is left alone.
void ignore_sigpipe() {
    struct sigaction now;
    if (sigaction(SIGPIPE, nullptr, &now) == 0 && now.sa_handler == SIG_DFL) signal(SIGPIPE, SIG_IGN);
}

// RFC 7301 section 3.2: a client that offers protocols of which we speak none gets no_application_protocol; one that
// offers none at all never comes here.
int choose_alpn(SSL *, const unsigned char **out, unsigned char *out_size, const unsigned char *in, unsigned in_size,
                void *) {
    unsigned char *chosen = nullptr;
    if (SSL_select_next_proto(&chosen, out_size, alpn_http1, sizeof alpn_http1, in, in_size) != OPENSSL_NPN_NEGOTIATED)
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    *out = chosen;
    return SSL_TLSEXT_ERR_OK;
}

// The host_name of the server_name extension (RFC 6066 section 3), or an empty view: a 16-bit list size, then type 0,
// a 16-bit size and the name. OpenSSL itself refuses a malformed list later.
view client_hello_name(SSL *ssl) {
    const unsigned char *p = nullptr;
    size_t size = 0;
    if (SSL_client_hello_get0_ext(ssl, TLSEXT_TYPE_server_name, &p, &size) != 1 || size < 5) return {};
    const size_t name_size = static_cast<size_t>(p[3]) << 8 | p[4];
    if (p[2] != TLSEXT_NAMETYPE_host_name || name_size > size - 5) return {};
    return view(reinterpret_cast<const char *>(p + 5), name_size);
}

// Switches to the certificates of the name that the client asks for. Done in the ClientHello callback and not in the
// servername callback, because that one runs after a session was resumed: a ticket of one name would then open another
// (CVE-2025-23419). Here the session id context is already the right one when OpenSSL looks at the ticket.
int choose_certificate(SSL *ssl, int *, void *) {
    const view name = client_hello_name(ssl);
    if (name.empty()) return SSL_CLIENT_HELLO_SUCCESS;
    SSL_CTX *chosen = tls_names_find(SSL_get_SSL_CTX(ssl), name);
    if (chosen != nullptr) SSL_set_SSL_CTX(ssl, chosen);
    return SSL_CLIENT_HELLO_SUCCESS;
}

tls_context *context_new(SSL_CTX *native) {
    tls_context *c = static_cast<tls_context *>(memory_get_zeroed(sizeof(tls_context)));
    c->references.store(1, std::memory_order_relaxed);
    c->native = native;
    ignore_sigpipe();
    return c;
}

// What servers and clients have in common.
bool set_profile(SSL_CTX *native) {
    // RELEASE_BUFFERS: an idle connection gives its 16 KB record buffers back. PARTIAL and MOVING: a record is written
    // from a buffer that belongs to the thread, so the next call may hold the same bytes elsewhere, and more of them.
    // Off (it is on by default): SSL_read would loop inside OpenSSL over records without data, a flood of KeyUpdates,
    // say, for as long as the socket has some: seconds during which a thread serves nobody else. So it is one such
    // record a turn.
    SSL_CTX_clear_mode(native, SSL_MODE_AUTO_RETRY);
    SSL_CTX_set_mode(native,
                     SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    // IGNORE_UNEXPECTED_EOF: a bare FIN is eof, as on a plain socket; the WebSocket Close frame tells the truth.
    SSL_CTX_set_options(native, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION | SSL_OP_IGNORE_UNEXPECTED_EOF);
    SSL_CTX_clear_options(native, SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_NO_TICKET);
    SSL_CTX_set_read_ahead(native, 0);
    SSL_CTX_set_session_cache_mode(native, SSL_SESS_CACHE_OFF);
    // A key with a pass phrase is refused instead of asking at the terminal for it.
    SSL_CTX_set_default_passwd_cb(native, tls_no_pass_phrase);
    return SSL_CTX_set_min_proto_version(native, TLS1_2_VERSION) == 1 &&
           SSL_CTX_set_cipher_list(native, cipher_list) == 1 && SSL_CTX_set_ciphersuites(native, cipher_suites) == 1 &&
           SSL_CTX_set1_groups_list(native, group_list) == 1;
}

// Stateless tickets alone resume sessions. One a handshake: a WebSocket client keeps one connection, and each ticket
// costs the handshake 250 bytes. That TLS 1.3 resumes with a new key exchange only (psk_dhe_ke) is OpenSSL's default.
SSL_CTX *make_server(ticket_keys *tickets, error *e) {
    SSL_CTX *native = SSL_CTX_new(TLS_server_method());
    if (native == nullptr || !set_profile(native) || SSL_CTX_set_dh_auto(native, 1) != 1 ||
        SSL_CTX_set_num_tickets(native, tickets != nullptr ? 1 : 0) != 1) {
        tls_fail(e, "TLS can't be set up");
        SSL_CTX_free(native);
        return nullptr;
    }
    if (tickets != nullptr)
        ticket_keys_serve(tickets, native);
    else
        SSL_CTX_set_options(native, SSL_OP_NO_TICKET); // TLS 1.2's; with it alone, 1.3 would hand out names of sessions
    SSL_CTX_set_alpn_select_cb(native, choose_alpn, nullptr);
    SSL_CTX_set_client_hello_cb(native, choose_certificate, nullptr);
    return native;
}

} // namespace

tls_context *tls_server_new(const tls_certificate *pairs, size_t count, ticket_keys *tickets, view scope, error *e) {
    ERR_clear_error();
    const tls_pairs_kind kind = {make_server, tickets, scope};
    SSL_CTX *native = tls_pairs_load(pairs, count, &kind, e);
    return native == nullptr ? nullptr : context_new(native);
}

tls_context *tls_client_new(const char *ca_file, bool verify, error *e) {
    ERR_clear_error();
    SSL_CTX *native = SSL_CTX_new(TLS_client_method());
    if (native == nullptr || !set_profile(native)) {
        tls_fail(e, "TLS can't be set up");
        SSL_CTX_free(native);
        return nullptr;
    }
    if (verify) {
        const int loaded =
            ca_file != nullptr ? SSL_CTX_load_verify_file(native, ca_file) : SSL_CTX_set_default_verify_paths(native);
        if (loaded != 1) {
            tls_fail(e, "%s: the CA certificates can't be read", ca_file != nullptr ? ca_file : "system's store");
            SSL_CTX_free(native);
            return nullptr;
        }
    }
    SSL_CTX_set_verify(native, verify ? SSL_VERIFY_PEER : SSL_VERIFY_NONE, nullptr);
    return context_new(native);
}

tls_context *tls_ref(tls_context *c) {
    c->references.fetch_add(1, std::memory_order_relaxed);
    return c;
}

void tls_unref(tls_context *c) {
    if (c == nullptr || c->references.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
    SSL_CTX_free(c->native);
    free(c);
}

SSL_CTX *tls_native(tls_context *c) {
    return c->native;
}

void tls_take_error(error *e) {
    const char *data = nullptr;
    int flags = 0;
    const unsigned long code = ERR_get_error_all(nullptr, nullptr, nullptr, &data, &flags);
    const char *detail = (flags & ERR_TXT_STRING) != 0 && data != nullptr ? data : "";
    const char *reason = ERR_reason_error_string(code);
    if (code == 0)
        error_set(e, "no reason given");
    else if (ERR_SYSTEM_ERROR(code)) // "No such file or directory" says all; the data is the call's name
        error_set(e, "%s", strerror(ERR_GET_REASON(code)));
    else if (reason == nullptr)
        error_set(e, "OpenSSL error %lx", code);
    else
        error_set(e, "%s%s%s%s", reason, *detail != '\0' ? " (" : "", detail, *detail != '\0' ? ")" : "");
    ERR_clear_error();
}

} // namespace belfry
