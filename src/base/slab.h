// Objects of one size, carved from pages: no malloc header, no fragmentation, counted memory.
//
// One slab belongs to one thread. A page whose objects are all free is given back, but for one spare, so a
// burst that ends does not stay. Under AddressSanitizer free objects are poisoned.
#pragma once

#include "base/list.h"

#include <stddef.h>
#include <stdint.h>

namespace belfry {

struct slab {
    size_t object_size; // bytes, rounded up to 16
    size_t page_size;   // bytes, a power of two, pages are aligned to it
    link partial;       // pages with free objects
    link full;          // pages without
    void *spare;        // owned: one empty page, or null
    size_t pages;       // in use, the spare included
    size_t live;        // objects in use
};

// Takes 16 <= object_size <= page_size/4. page_size is a power of two, 4096 to 1 MiB.
void slab_init(slab *s, size_t object_size, size_t page_size);
// Uninitialised memory, aligned to 16. Never null.
[[nodiscard]] void *slab_get(slab *s);
void slab_put(slab *s, void *object);
// Bytes that the pages take from the system.
size_t slab_bytes(const slab *s);
// Frees all pages. All objects must have been put back; aborts otherwise (a leak is a bug).
void slab_destroy(slab *s);

} // namespace belfry
