// The ring between two threads. ring_push runs on the producer, ring_pop on the consumer, nothing else here
// may run beside them.
#include "base/ring.h"

#include "base/error.h"

#include <stdlib.h>

namespace belfry {

void ring_init(ring *r, uint32_t capacity) {
    if (capacity < 2 || capacity > 1u << 20 || (capacity & (capacity - 1)) != 0) {
        fatal("ring_init: the capacity %u is not a power of two from 2 to 2^20", capacity);
    }
    r->slots = static_cast<void **>(memory_get_zeroed(capacity * sizeof(void *)));
    r->mask = capacity - 1;
    r->head.store(0);
    r->tail.store(0);
}

void ring_destroy(ring *r) {
    free(r->slots);
    r->slots = nullptr;
    r->mask = 0;
}

bool ring_push(ring *r, void *entry, bool *was_empty) {
    uint32_t tail = r->tail.load(std::memory_order_relaxed); // only this thread writes it
    // Acquire: the consumer has read the slot before it gave it back. head and tail run on past the mask and
    // wrap at 2^32, so their difference is the number of entries.
    if (tail - r->head.load(std::memory_order_acquire) > r->mask) return false;
    r->slots[tail & r->mask] = entry;
    r->tail.store(tail + 1, std::memory_order_seq_cst);
    // head is read again, after the store. In the single order of these accesses either the consumer's last
    // look at tail comes after our store, and it saw the entry; or it comes before, and then its store to
    // head does too, and we see it here: the ring was empty, the consumer may sleep, ring the bell.
    *was_empty = r->head.load(std::memory_order_seq_cst) == tail;
    return true;
}

void *ring_pop(ring *r) {
    uint32_t head = r->head.load(std::memory_order_relaxed); // only this thread writes it
    if (r->tail.load(std::memory_order_seq_cst) == head) return nullptr;
    void *entry = r->slots[head & r->mask];
    r->head.store(head + 1, std::memory_order_seq_cst);
    return entry;
}

uint32_t ring_size(const ring *r) {
    // head first: read the other way round, pops in between could make the difference negative. Pushes in
    // between can make it larger than the ring is.
    uint32_t head = r->head.load(std::memory_order_acquire);
    uint32_t size = r->tail.load(std::memory_order_acquire) - head;
    return size > r->mask ? r->mask + 1 : size;
}

} // namespace belfry
