// Single-producer single-consumer ring of pointers between two threads, bounded, without locks.
//
// The producer calls ring_push, the consumer ring_pop; each side is one thread for the ring's life.
// Wake-up protocol: ring_push tells whether the consumer may be asleep (the ring was empty when the entry
// went in); the producer then rings the consumer's eventfd. The consumer, once woken, pops until null.
// Both sides use sequentially consistent accesses on head and tail, which makes "pushed to an empty ring"
// and "found the ring empty" exclude each other (Dekker), so no wake-up is lost.
#pragma once

#include <atomic>
#include <stddef.h>
#include <stdint.h>

namespace belfry {

struct ring {
    void **slots = nullptr; // owned
    uint32_t mask = 0;
    alignas(64) std::atomic<uint32_t> head{0}; // next to pop, written by the consumer
    alignas(64) std::atomic<uint32_t> tail{0}; // next to push, written by the producer
};

// capacity: entries, a power of two, 2 to 2^20.
void ring_init(ring *r, uint32_t capacity);
// Frees the slots; entries still inside are the caller's to have drained.
void ring_destroy(ring *r);
// Producer. False where the ring is full (nothing happened). *was_empty: ring the bell.
[[nodiscard]] bool ring_push(ring *r, void *entry, bool *was_empty);
// Consumer. Null where it is empty.
[[nodiscard]] void *ring_pop(ring *r);
// Either side; a snapshot.
uint32_t ring_size(const ring *r);

} // namespace belfry
