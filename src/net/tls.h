// TLS contexts by OpenSSL 3: Mozilla's "intermediate" profile (version 5.7: TLS 1.2 and 1.3, ECDHE and DHE with AEAD
// only, the client's preference), several certificate pairs chosen by SNI, ALPN http/1.1, stateless session tickets
// (their keys: ticket_keys.h), no renegotiation, no compression.
//
// A context is immutable once made and counted; streams of any thread may use it. Making one: main thread.
#pragma once

#include "base/bytes.h"
#include "base/error.h"
#include "net/ticket_keys.h"

#include <stddef.h>

struct ssl_ctx_st;

namespace belfry {

struct tls_context; // counted

struct tls_certificate {
    const char *chain_file; // PEM, leaf first
    const char *key_file;   // PEM, without pass phrase
};

// The first pair is the default for clients without SNI or with an unknown name; others are chosen by the
// subjectAltName (exact, or one left-most wildcard label; the common name only where there is no DNS name), names with
// a NUL are refused. A pair whose key does not match, an expired or unreadable file: null with a reason that names the
// file. Two pairs of different key types for one name: both are offered.
//
// `tickets` seals sessions and opens them (referenced; null: nobody gets a ticket, each handshake is a whole one). A
// ticket resumes a session where `scope`, the listener's name, and the certificates for the name are those that it was
// made under, so also after a reload that makes a new context of the same; elsewhere it is passed over and a whole
// handshake shows the certificate.
[[nodiscard]] tls_context *tls_server_new(const tls_certificate *pairs, size_t count, ticket_keys *tickets, view scope,
                                          error *e);

// For Belfry's own connections (Redis): verified against ca_file (null: the system's store), the host name checked, SNI
// sent (not for addresses). `verify` false turns both checks off (a throw-away test set-up; the caller warns).
[[nodiscard]] tls_context *tls_client_new(const char *ca_file, bool verify, error *e);

tls_context *tls_ref(tls_context *c);
void tls_unref(tls_context *c);
struct ssl_ctx_st *tls_native(tls_context *c); // for net/ alone

// The text of OpenSSL's oldest queued error, the queue emptied.
void tls_take_error(error *e);

} // namespace belfry
