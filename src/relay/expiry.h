// The end of a client's credentials. At client::expires_ms the refresh hook is asked, where the route has one; without
// a renewal (by that hook, or by an `auth` message of the client) within 25 s, Close 4401. Owner's thread.
#pragma once

#include "relay/client.h"

namespace belfry {

inline constexpr uint64_t expiry_grace_ms = 25000;

// Sets client::expires_ms (0 seconds: never), makes the client where there is none.
void expiry_set(conn *c, uint64_t seconds);
// Arms the deadline by client::expires_ms; again after each renewal. Harmless without a client.
void expiry_arm(conn *c);
// The client's own `auth` was taken and has set client::expires_ms: arms the deadline, and what the refresh hook said
// or is about to say of what was before counts no more.
void expiry_renewed(conn *c);
// Seconds left, 0: never expires.
uint64_t expiry_left(const conn *c);
// By command (refresh): asks the refresh hook now.
void expiry_refresh(conn *c);

} // namespace belfry
