// Certificate pairs and the names they are for: the part of tls.cc that reads files. For tls.cc and its tests alone.
//
// The table of names belongs to the default SSL_CTX (as its ex_data), so it lives as long as any SSL made from it,
// also when the tls_context was let go in the middle of a handshake. Read-only once made; any thread.
#pragma once

#include "base/bytes.h"
#include "base/error.h"
#include "net/tls.h"

struct ssl_ctx_st;

namespace belfry {

// What all SSL_CTXs of a context have in common: tls_server_new's arguments, and who gives an SSL_CTX with the profile
// set and no certificate yet.
struct tls_pairs_kind {
    struct ssl_ctx_st *(*make)(ticket_keys *tickets, error *e);
    ticket_keys *tickets; // borrowed; or null
    view scope;
};

// The default SSL_CTX, and siblings behind its table of names, with every pair loaded; null with a reason.
[[nodiscard]] struct ssl_ctx_st *tls_pairs_load(const tls_certificate *pairs, size_t count, const tls_pairs_kind *kind,
                                                error *e);
// The SSL_CTX for a name (any case): exact, else by a wildcard for its left-most label; null: the default one.
struct ssl_ctx_st *tls_names_find(const struct ssl_ctx_st *initial, view name);

// Sets "TEXT: the oldest queued error" and empties the queue.
__attribute__((format(printf, 2, 3))) void tls_fail(error *e, const char *format, ...);
// The pass phrase callback that knows none.
int tls_no_pass_phrase(char *into, int size, int writing, void *context);

} // namespace belfry
