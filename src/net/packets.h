// Messages between two processes of one Belfry, over a pair of SOCK_SEQPACKET sockets: each comes whole or not at all,
// and can bring descriptors along (SCM_RIGHTS, unix(7)). The functions hold no state: any thread; a watch belongs to
// its loop's thread.
#pragma once

#include "base/bytes.h"
#include "base/error.h"
#include "net/loop.h"

namespace belfry {

inline constexpr size_t packet_size_max = 65536;     // bytes a message
inline constexpr size_t packet_descriptors_max = 64; // a message; the kernel would take 253 (SCM_MAX_FD)

// Both ends non-blocking and close-on-exec, the caller's to close. False with a reason.
[[nodiscard]] bool packet_pair(int ends[2], error *e);

enum class packet_sent : uint8_t {
    whole, // the descriptors stay the caller's too: the other side gets duplicates
    full,  // the other side does not read: nothing was sent
    gone,  // there is no other side any more, or the kernel refuses
};
// 1 to packet_size_max bytes, and up to packet_descriptors_max descriptors. Never raises SIGPIPE, never blocks.
[[nodiscard]] packet_sent packet_send(int fd, view bytes, const int *descriptors = nullptr, size_t count = 0);
// The same, but waits up to `ms` while the other side is full.
[[nodiscard]] packet_sent packet_send_within(int fd, view bytes, const int *descriptors, size_t count, int ms);

enum class packet_got : uint8_t {
    whole,
    nothing, // none waits now
    ended,   // the other side is gone
    broken,  // longer, or with more descriptors, than we ever send; nothing of it is kept
};
struct packet {
    size_t size;
    size_t count;
    int descriptors[packet_descriptors_max]; // the caller's to close; close-on-exec
};
// Reads one message into `into`, which holds packet_size_max bytes.
[[nodiscard]] packet_got packet_receive(int fd, char *into, packet *out);
void packet_close_descriptors(packet *p);

// Calls `ready` on the loop while there is something to receive, or an end. Descriptor and context are borrowed.
struct packet_watch {
    struct watch watch;
    loop *on; // borrowed
    int fd;   // borrowed
    void (*ready)(void *context);
    void *context; // borrowed
};
void packet_watch_start(packet_watch *w, loop *on, int fd, void (*ready)(void *context), void *context);
// Calls `ready` also while the other side takes more: for who was told `full`. One watch a descriptor: epoll has one
// entry.
void packet_watch_writable(packet_watch *w, bool also);
// May be called from `ready`; does nothing where it is not on.
void packet_watch_stop(packet_watch *w);

} // namespace belfry
