// A mailbox between two threads: the ring of base/ring.h, the consumer's bell, and the producer's overflow.
// The overflow is the producer's alone; the ring belongs to both sides as ring.h says.
#include "net/mailbox.h"

#include "base/error.h"

#include <stdlib.h>
#include <string.h>

namespace belfry {

namespace {

constexpr size_t overflow_start = 64;
// An overflow that grew larger is given back once empty: a burst that ends does not stay.
constexpr size_t overflow_kept = 4096;

void overflow_add(mailbox *m, void *entry) {
    if (m->overflow_first + m->overflow_count == m->overflow_capacity) {
        // Half or more of the room is in front: moving costs less than what was taken out since the last time.
        if (m->overflow_first != 0 && m->overflow_first >= m->overflow_capacity / 2) {
            memmove(m->overflow, m->overflow + m->overflow_first, m->overflow_count * sizeof(void *));
            m->overflow_first = 0;
        } else {
            m->overflow_capacity = m->overflow_capacity == 0 ? overflow_start : m->overflow_capacity * 2;
            m->overflow = static_cast<void **>(memory_resize(m->overflow, m->overflow_capacity * sizeof(void *)));
        }
    }
    m->overflow[m->overflow_first + m->overflow_count++] = entry;
}

void overflow_emptied(mailbox *m) {
    m->overflow_first = 0;
    if (m->overflow_capacity <= overflow_kept) return;
    free(m->overflow);
    m->overflow = nullptr;
    m->overflow_capacity = 0;
}

} // namespace

void mailbox_init(mailbox *m, uint32_t capacity, loop *consumer) {
    ring_init(&m->ring, capacity);
    m->consumer = consumer;
    m->overflow = nullptr;
    m->overflow_first = m->overflow_count = m->overflow_capacity = 0;
}

void mailbox_destroy(mailbox *m) {
    ring_destroy(&m->ring);
    free(m->overflow);
    m->overflow = nullptr;
    m->overflow_first = m->overflow_count = m->overflow_capacity = 0;
}

void mailbox_send(mailbox *m, void *entry) {
    bool was_empty = false;
    // Behind an overflow nothing may overtake it.
    if (m->overflow_count != 0 || !ring_push(&m->ring, entry, &was_empty)) {
        overflow_add(m, entry);
        return;
    }
    if (was_empty) loop_wake(m->consumer);
}

bool mailbox_flush(mailbox *m) {
    if (m->overflow_count == 0) return true;
    bool was_empty = false, ring_bell = false;
    while (m->overflow_count != 0 && ring_push(&m->ring, m->overflow[m->overflow_first], &was_empty)) {
        m->overflow_first++;
        m->overflow_count--;
        ring_bell |= was_empty;
    }
    if (ring_bell) loop_wake(m->consumer);
    if (m->overflow_count != 0) return false;
    overflow_emptied(m);
    return true;
}

} // namespace belfry
