// A worker thread: its shard, its listeners, and the turn of its loop.
//
// One turn: wait for events (epoll, once), read the mailbox, fire deadlines, read again who has bytes left, write a
// slice of the dirty connections, flush the mailbox to the node, free what was closed.
#pragma once

#include "net/grace.h"
#include "relay/letter.h"
#include "relay/shard.h"

#include <pthread.h>

namespace belfry {

struct adoption;
struct upstream_shared;

struct worker_listener {
    listener accepting;
    struct worker *of;                 // borrowed
    const listener_settings *settings; // borrowed
};

struct worker {
    struct shard shard;
    pthread_t thread;
    bool started;
    struct grace pause;
    std::atomic<uint64_t> beats;              // turns of its loop, for others to see that it lives
    std::vector<worker_listener *> listeners; // owned
    uint64_t accept_exhausted;                // of listeners that are gone
};

// A listening socket. The descriptor becomes the worker's with worker_start, or with the adoption that names it first;
// the worker closes it when an adoption names it no more, and at its end.
struct worker_socket {
    int fd;
    const listener_settings *settings; // borrowed
};

// letter_type::adopt, once for each worker.
struct adopt_letter {
    letter head;
    const adoption *what;               // borrowed, until it is answered
    std::vector<worker_socket> sockets; // all that it is to accept on
};

inline constexpr uint32_t mailbox_capacity = 8192; // entries a direction

// Main thread: prepares worker `index`, whose outbox rings the node's loop. Nothing runs yet. `upstreams`: one for each
// of settings->upstreams; `pace`: shared by all workers, null: goodbyes know none. Borrowed until worker_destroy.
void worker_init(worker *w, uint8_t index, const relay_settings *settings, loop *node_loop,
                 std::atomic<int64_t> *process_live, const std::atomic<bool> *node_stalled,
                 upstream_shared *const *upstreams = nullptr, drain_pace *pace = nullptr);
// Main thread: starts the thread, which accepts on these sockets. False where the thread can't be made.
[[nodiscard]] bool worker_start(worker *w, const worker_socket *sockets, size_t count);
// How often the thread's loop has turned. Any thread.
inline uint64_t worker_beats(const worker *w) {
    return w->beats.load(std::memory_order_relaxed);
}
// Main thread: waits for the thread's end (it ends by a stop or kill letter, not by itself).
void worker_join(worker *w);
// Main thread, after worker_join: settles the letters that came after the thread's end.
void worker_drain(worker *w);
// Main thread, after worker_drain: gives all memory back.
void worker_destroy(worker *w);

} // namespace belfry
