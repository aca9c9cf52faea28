// The link between the old and the new worker process during an upgrade, over which the old one's connections move
// (relay/handover.h says how). It carries whole messages (proto/handover.h) in packets of a SOCK_SEQPACKET pair, keeps
// what the other side does not read yet in a bounded queue, and lives as long as the old process: until its end, orders
// for connections that have moved go over it. Main thread.
#pragma once

#include <stddef.h>

namespace belfry {

struct daemon;

// Bytes of messages that may wait for the other side. Far more than workers are allowed to have under way; beyond it
// the other side counts as dead.
inline constexpr size_t handover_link_queue_max = 256 << 20;

// The old process: the new one is ready and reads the other end of `fd`, which is this function's now. Connections move
// from the next turn on, those that can; handover_giving says until when. Where one is under way, or nothing came (-1),
// nothing happens, but that the descriptor is closed.
void handover_begin_old(daemon *d, int fd);
// The new process: takes in what comes.
void handover_begin_new(daemon *d, int fd);

// Connections are still moving away: the old process does not say goodbye to anybody yet. False before the beginning.
[[nodiscard]] bool handover_giving(const daemon *d);
// Connections may still come: a next upgrade has to wait.
[[nodiscard]] bool handover_taking(const daemon *d);

// Once a turn, before node_turn. Harmless without a link.
void handover_turn(daemon *d);
// The process ends: before node_join, the workers still being there. The link is closed, the other side learns that
// this one is gone.
void handover_end(daemon *d);

} // namespace belfry
