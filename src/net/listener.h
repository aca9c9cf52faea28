// Accepting, without spinning when descriptors run out. One listener belongs to one loop.
#pragma once

#include "net/address.h"
#include "net/loop.h"

namespace belfry {

struct listener;

// `fd` is accepted, non-blocking, close-on-exec; it is the callee's now.
using listener_accept = void (*)(int fd, const struct sockaddr *peer, socklen_t peer_size, void *context);

struct listener {
    loop *on;            // borrowed
    int fd;              // borrowed: the caller opened it and closes it after listener_stop
    bool paused;         // by want (EMFILE, ENFILE, ENOBUFS, ENOMEM; ENOSPC of epoll) or by listener_pause
    bool held;           // by listener_pause
    uint32_t backoff_ms; // 100, doubling to 1,000
    watch readable;
    later retry;
    listener_accept accept;
    void *context; // borrowed
    uint64_t accepted;
    uint64_t exhausted; // times of want; the log line about it is rate-limited
};

// Starts accepting: at most 64 connections a turn, so that a burst does not starve who is in already.
void listener_start(listener *l, loop *on, int fd, listener_accept accept, void *context);
// For max_connections: stops and starts accepting; connections wait in the kernel's backlog.
void listener_pause(listener *l);
void listener_resume(listener *l);
void listener_stop(listener *l);

} // namespace belfry
