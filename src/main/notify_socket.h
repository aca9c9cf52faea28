// What systemd is told of the service (sd_notify(3)), by the protocol itself: one datagram to $NOTIFY_SOCKET. The
// master's, since the unit accepts them from the main process alone.
#pragma once

#include "base/bytes.h"

#include <stdint.h>
#include <string>

namespace belfry {

// Sends the lines. Where nobody asked for them (no NOTIFY_SOCKET) or nobody reads, nothing happens; never blocks.
void notify_send(view lines);

// "RELOADING=1" with the time that systemd wants with it.
std::string notify_reloading(uint64_t monotonic_ns);
// $WATCHDOG_USEC in milliseconds, where it is this process's (WATCHDOG_PID, as text, is `pid` or absent); 0: no
// watchdog.
uint64_t notify_watchdog_ms(const char *usec, const char *watchdog_pid, int64_t pid);

} // namespace belfry
