// The keys of TLS session tickets (RFC 5077 section 4): a short ring for all listeners of a process. The newest key
// seals; it and those before it open what they have sealed, until no ticket of theirs can be valid any more. Then they
// are erased, so that who gets hold of the process's memory later can't open the recorded sessions of earlier days.
//
// Counted. The keys lie in a page of their own, which goes into no core file, nor, if the system lets us lock it, into
// swap. The main thread makes and erases keys; handshakes of any thread use them, behind a lock that is held for as
// long as it takes to copy 80 bytes.
#pragma once

#include <stddef.h>
#include <stdint.h>

struct ssl_ctx_st;

namespace belfry {

struct ticket_keys;

// How long a session can be resumed: TLS 1.2's from its whole handshake on, TLS 1.3's, whose secret is a new one each
// time, from its last ticket on. A key opens that long after the last ticket that it has sealed, or as long as it has
// sealed, if that is shorter.
inline constexpr int64_t ticket_lifetime_ms = 7200 * 1000;
// The newest, the one before it, and what an upgrade brings: the oldest go if there are more.
inline constexpr size_t ticket_keys_max = 4;

// With one key, from now_ms (CLOCK_MONOTONIC, as all times here) on. No random bytes: fatal.
[[nodiscard]] ticket_keys *ticket_keys_new(uint64_t now_ms);
ticket_keys *ticket_keys_ref(ticket_keys *k);
// The last one erases all. Null does nothing.
void ticket_keys_unref(ticket_keys *k);

// Makes a new key once the newest is `rotate_ms` old, and erases what is due. 0: no context seals tickets any more, so
// that a key lives as short as is possible without failing handshakes that have begun. Once a turn; main thread.
void ticket_keys_tend(ticket_keys *k, int64_t rotate_ms, uint64_t now_ms);

// Has the context's tickets sealed with AES-256-CBC and HMAC-SHA-256 by these keys. It keeps a reference. Before the
// context is used; main thread. A ticket that an older key has opened is renewed, one of TLS 1.3 always. Which sessions
// a ticket may resume is no matter of its key, but of the context's session id context.
void ticket_keys_serve(ticket_keys *k, struct ssl_ctx_st *native);

// For an upgrade's next process: a descriptor of a file in memory with all keys (the caller's to close), or -1. Main
// thread.
[[nodiscard]] int ticket_keys_lend(const ticket_keys *k);
// Takes the keys of such a file in, to open with, not to seal. False where it is none; nothing has changed then. The
// descriptor stays the caller's. Main thread.
[[nodiscard]] bool ticket_keys_borrow(ticket_keys *k, int fd, int64_t rotate_ms, uint64_t now_ms);

// Tickets by the key that they came with. `unknown`: erased meanwhile, another server's, or made up; a whole handshake
// follows. Any thread.
struct ticket_counters {
    uint64_t rotations;
    uint64_t sealed, newest, older, unknown;
};
ticket_counters ticket_keys_count(const ticket_keys *k);

} // namespace belfry
