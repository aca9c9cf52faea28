// Pages and the objects in them. A slab and all that came from it belong to one thread.
//
// A page is a power of two large and aligned to that, so an object's page is found by a mask and an object
// needs no header. Pages come from mmap(2): malloc would add a header to an aligned block, which costs most of
// a second page, and would keep a page that was given back.
#include "base/slab.h"

#include "base/error.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#if defined(__SANITIZE_ADDRESS__)
#define BELFRY_ADDRESS_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define BELFRY_ADDRESS_SANITIZER 1
#endif
#endif

#ifdef BELFRY_ADDRESS_SANITIZER
#include <sanitizer/asan_interface.h>
#include <sanitizer/lsan_interface.h>
#endif

namespace belfry {

namespace {

// Lies in a free object.
struct free_object {
    free_object *next; // borrowed
};

// Lies at the start of each page.
struct page {
    link node;         // in the slab's partial or full list; in neither where it is the spare
    slab *owner;       // borrowed
    free_object *free; // borrowed: objects that were in use before
    char *untouched;   // borrowed: behind it nothing was ever used, so the kernel need not supply the memory
    size_t live;       // objects in use
};

constexpr size_t alignment = 16;
// A cache line, so that objects whose size is a multiple of it begin on one.
constexpr size_t page_header_size = (sizeof(page) + 63) & ~size_t{63};

void poison(void *memory, size_t size) {
#ifdef BELFRY_ADDRESS_SANITIZER
    __asan_poison_memory_region(memory, size);
#else
    (void)memory;
    (void)size;
#endif
}

void unpoison(void *memory, size_t size) {
#ifdef BELFRY_ADDRESS_SANITIZER
    __asan_unpoison_memory_region(memory, size);
#else
    (void)memory;
    (void)size;
#endif
}

// Where nobody can tell, false.
bool is_poisoned(const void *memory) {
#ifdef BELFRY_ADDRESS_SANITIZER
    return __asan_address_is_poisoned(memory) != 0;
#else
    (void)memory;
    return false;
#endif
}

char *map_or_die(size_t size) {
    void *memory = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) fatal("out of memory: a slab page of %zu bytes: %s", size, strerror(errno));
    return static_cast<char *>(memory);
}

// The kernel puts mappings side by side, so once one is aligned the next ones mostly are; and side by side
// they merge into one area, which keeps a process of many pages below vm.max_map_count.
char *map_aligned(size_t size) {
    char *memory = map_or_die(size);
    if ((reinterpret_cast<uintptr_t>(memory) & (size - 1)) == 0) return memory;
    munmap(memory, size);
    memory = map_or_die(2 * size);
    size_t before = (size - (reinterpret_cast<uintptr_t>(memory) & (size - 1))) & (size - 1);
    if (before) munmap(memory, before);
    munmap(memory + before + size, size - before);
    return memory + before;
}

page *page_of(const slab *s, void *object) {
    return reinterpret_cast<page *>(reinterpret_cast<uintptr_t>(object) & ~(s->page_size - 1));
}

char *page_end(const slab *s, page *p) {
    return reinterpret_cast<char *>(p) + s->page_size;
}

bool page_is_full(const slab *s, page *p) {
    return !p->free && static_cast<size_t>(page_end(s, p) - p->untouched) < s->object_size;
}

// Makes the page as new. An emptied page forgets its free list: handing out in address order again keeps the
// part of it that is in use small.
void page_reset(slab *s, page *p) {
    p->free = nullptr;
    p->untouched = reinterpret_cast<char *>(p) + page_header_size;
    p->live = 0;
    poison(p->untouched, static_cast<size_t>(page_end(s, p) - p->untouched));
}

page *page_create(slab *s) {
    char *memory = map_aligned(s->page_size);
#ifdef BELFRY_ADDRESS_SANITIZER
    __lsan_register_root_region(memory, s->page_size); // else what only our objects point to counts as leaked
#endif
    page *p = reinterpret_cast<page *>(memory);
    p->owner = s;
    page_reset(s, p);
    s->pages++;
    return p;
}

void page_destroy(slab *s, page *p) {
    unpoison(p, s->page_size); // the address may come back from mmap as something else's
#ifdef BELFRY_ADDRESS_SANITIZER
    __lsan_unregister_root_region(p, s->page_size);
#endif
    munmap(p, s->page_size);
    s->pages--;
}

} // namespace

void slab_init(slab *s, size_t object_size, size_t page_size) {
    if (page_size < 4096 || page_size > size_t{1} << 20 || (page_size & (page_size - 1)) != 0) {
        fatal("slab_init: the page size %zu is not a power of two from 4096 to 1 MiB", page_size);
    }
    if (object_size < alignment || object_size > page_size / 4) {
        fatal("slab_init: objects of %zu bytes in pages of %zu", object_size, page_size);
    }
    s->object_size = (object_size + alignment - 1) & ~(alignment - 1);
    s->page_size = page_size;
    list_init(&s->partial);
    list_init(&s->full);
    s->spare = nullptr;
    s->pages = 0;
    s->live = 0;
}

void *slab_get(slab *s) {
    if (list_empty(&s->partial)) {
        page *fresh = s->spare ? static_cast<page *>(s->spare) : page_create(s);
        s->spare = nullptr;
        list_push_back(&s->partial, &fresh->node);
    }
    page *p = BELFRY_CONTAINER_OF(s->partial.next, page, node);
    void *object = p->free;
    if (object) {
        unpoison(object, s->object_size);
        p->free = p->free->next;
    } else {
        object = p->untouched;
        unpoison(object, s->object_size);
        p->untouched += s->object_size;
    }
    p->live++;
    s->live++;
    if (page_is_full(s, p)) {
        list_remove(&p->node);
        list_push_back(&s->full, &p->node);
    }
    return object;
}

void slab_put(slab *s, void *object) {
    page *p = page_of(s, object);
    size_t offset = static_cast<size_t>(static_cast<char *>(object) - reinterpret_cast<char *>(p));
    // Cheap beside what else closing a connection costs, and each of these would be memory corruption.
    if (p->owner != s || offset < page_header_size || (offset - page_header_size) % s->object_size != 0) {
        fatal("slab_put: %p is not an object of this slab", object);
    }
    if (p->live == 0 || is_poisoned(object)) fatal("slab_put: %p is free already", object);
    bool was_full = page_is_full(s, p);
    free_object *freed = static_cast<free_object *>(object);
    freed->next = p->free;
    p->free = freed;
    poison(object, s->object_size);
    p->live--;
    s->live--;
    if (p->live == 0) {
        list_remove(&p->node);
        if (s->spare) {
            page_destroy(s, p);
        } else {
            page_reset(s, p);
            s->spare = p;
        }
    } else if (was_full) {
        list_remove(&p->node);
        list_push_back(&s->partial, &p->node);
    }
}

size_t slab_bytes(const slab *s) {
    return s->pages * s->page_size;
}

void slab_destroy(slab *s) {
    if (s->live != 0) fatal("slab_destroy: %zu objects of %zu bytes were not put back", s->live, s->object_size);
    // Without live objects no page is partial or full: the spare is all there is.
    if (s->spare) page_destroy(s, static_cast<page *>(s->spare));
    s->spare = nullptr;
}

} // namespace belfry
