// One host name to addresses, without blocking: /etc/hosts and DNS by libevent's evdns. Numeric addresses need neither.
//
// A question reads resolv.conf and hosts anew, so that changes are felt. It belongs to one loop and frees itself.
#pragma once

#include "net/address.h"
#include "net/loop.h"

#include <stddef.h>
#include <stdint.h>

namespace belfry {

struct resolve;

inline constexpr size_t resolve_max = 16; // addresses told at most

// `found` is valid during the call; count 0: `why` says why. The resolve is gone afterwards.
using resolve_done = void (*)(const address *found, size_t count, const char *why, void *context);

// `done` comes once, from the loop, never from within this call.
[[nodiscard]] resolve *resolve_start(loop *on, const char *host, uint16_t port, resolve_done done, void *context);
// `done` is not called any more. The loop has to turn for resolve_linger_ms before all memory is back.
void resolve_cancel(resolve *r);

inline constexpr int resolve_linger_ms = 100;

} // namespace belfry
