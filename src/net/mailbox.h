// One direction between two threads: a ring, an eventfd bell on the consumer's loop, and the producer's overflow.
//
// Entries are pointers whose ownership moves with them. The producer never blocks and never loses an entry: what the
// ring can't take waits in the overflow, in order, and moves on in mailbox_flush (called once a turn). A producer with
// an overflow must stop taking in new work that causes entries (mailbox_backlogged); so the overflow is bounded by what
// one turn's work can add.
#pragma once

#include "base/ring.h"
#include "net/loop.h"

namespace belfry {

struct mailbox {
    struct ring ring;
    loop *consumer;  // borrowed: whose wake_fd is the bell
    void **overflow; // owned: FIFO of entries that did not fit, producer's
    size_t overflow_first, overflow_count, overflow_capacity;
};

void mailbox_init(mailbox *m, uint32_t capacity, loop *consumer);
void mailbox_destroy(mailbox *m); // both sides stopped, drained
// Producer.
void mailbox_send(mailbox *m, void *entry);
// Producer: moves the overflow into the ring as far as it goes; true when none is left.
bool mailbox_flush(mailbox *m);
inline bool mailbox_backlogged(const mailbox *m) {
    return m->overflow_count != 0;
}
// Consumer: the next entry or null.
inline void *mailbox_receive(mailbox *m) {
    return ring_pop(&m->ring);
}

} // namespace belfry
