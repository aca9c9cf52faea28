// SipHash, randomness and the hash table. hash_init runs before threads start; the key is only read after
// that. Each table belongs to one thread.
#include "base/hash.h"

#include "base/error.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

namespace belfry {

namespace {

constexpr size_t buckets_least = 16;

struct sip_state {
    uint64_t v0, v1, v2, v3;
};

struct sip_key {
    uint64_t k0, k1;
};

sip_key process_key; // written by hash_init alone

uint64_t rotate(uint64_t x, int n) {
    return x << n | x >> (64 - n);
}

uint64_t load_little_endian(const void *from) {
    uint64_t word;
    memcpy(&word, from, sizeof word);
    return le64toh(word);
}

inline void sip_rounds(sip_state *s, int rounds) {
    for (int i = 0; i < rounds; i++) {
        s->v0 += s->v1;
        s->v1 = rotate(s->v1, 13) ^ s->v0;
        s->v0 = rotate(s->v0, 32);
        s->v2 += s->v3;
        s->v3 = rotate(s->v3, 16) ^ s->v2;
        s->v0 += s->v3;
        s->v3 = rotate(s->v3, 21) ^ s->v0;
        s->v2 += s->v1;
        s->v1 = rotate(s->v1, 17) ^ s->v2;
        s->v2 = rotate(s->v2, 32);
    }
}

// Inline, so that hash_bytes gets a copy with its round counts unrolled.
inline uint64_t sip(sip_key key, int c, int d, view bytes) {
    // The paper's section 2.1: the constants are the text "somepseudorandomlygeneratedbytes".
    sip_state s = {key.k0 ^ 0x736f6d6570736575, key.k1 ^ 0x646f72616e646f6d, key.k0 ^ 0x6c7967656e657261,
                   key.k1 ^ 0x7465646279746573};
    size_t whole = bytes.size() / 8 * 8;
    for (size_t i = 0; i < whole; i += 8) {
        uint64_t word = load_little_endian(bytes.data() + i);
        s.v3 ^= word;
        sip_rounds(&s, c);
        s.v0 ^= word;
    }
    // The last word: what is left, and the length modulo 256 in the top byte.
    uint64_t last = static_cast<uint64_t>(bytes.size()) << 56;
    for (size_t i = whole; i < bytes.size(); i++) {
        last |= uint64_t{static_cast<unsigned char>(bytes[i])} << (8 * (i - whole));
    }
    s.v3 ^= last;
    sip_rounds(&s, c);
    s.v0 ^= last;
    s.v2 ^= 0xff;
    sip_rounds(&s, d);
    return s.v0 ^ s.v1 ^ s.v2 ^ s.v3;
}

} // namespace

void hash_init(uint64_t fixed_seed) {
    if (fixed_seed == 0) {
        random_bytes(&process_key, sizeof process_key);
    } else {
        process_key = {fixed_seed, ~fixed_seed};
    }
}

uint64_t hash_bytes(view bytes) {
    return sip(process_key, 1, 3, bytes);
}

uint64_t hash_siphash(const uint8_t key[16], int c, int d, view bytes) {
    return sip({load_little_endian(key), load_little_endian(key + 8)}, c, d, bytes);
}

void random_bytes(void *out, size_t n) {
    char *to = static_cast<char *>(out);
    while (n > 0) {
        ssize_t got = getrandom(to, n, 0); // may give less than asked above 256 bytes
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) fatal("getrandom: %s", strerror(errno));
        to += got;
        n -= static_cast<size_t>(got);
    }
}

// xorshift64* (Vigna 2016): its high half is the good one.
static uint32_t random_word() {
    static thread_local uint64_t state = 0;
    while (state == 0)
        random_bytes(&state, sizeof state); // xorshift stays at 0 for ever
    state ^= state >> 12;
    state ^= state << 25;
    state ^= state >> 27;
    return static_cast<uint32_t>(state * 0x2545f4914f6cdd1d >> 32);
}

uint32_t random_below(uint32_t bound) {
    for (;;) {
        uint64_t product = uint64_t{random_word()} * bound;
        // Lemire 2019: the product's high half is in [0, bound); refusing the lowest 2^32 mod bound low halves
        // makes all of them equally likely.
        uint32_t low = static_cast<uint32_t>(product);
        if (low >= bound || low >= (0u - bound) % bound) return static_cast<uint32_t>(product >> 32);
    }
}

void random_fill(void *out, size_t n) {
    char *to = static_cast<char *>(out);
    while (n) {
        uint32_t word = random_word();
        size_t take = n < sizeof word ? n : sizeof word;
        memcpy(to, &word, take);
        to += take;
        n -= take;
    }
}

// Moves all nodes to `buckets` buckets, a power of two.
static void table_resize(table *t, size_t buckets) {
    table_node **to = static_cast<table_node **>(memory_get_zeroed(buckets * sizeof(table_node *)));
    for (size_t i = 0; t->buckets && i <= t->mask; i++) {
        for (table_node *node = t->buckets[i], *next; node; node = next) {
            next = node->next;
            table_node **bucket = &to[node->hash & (buckets - 1)];
            node->next = *bucket;
            *bucket = node;
        }
    }
    free(t->buckets);
    t->buckets = to;
    t->mask = buckets - 1;
}

void table_init(table *t) {
    *t = {};
    table_resize(t, buckets_least);
}

void table_destroy(table *t) {
    free(t->buckets);
    *t = {};
}

table_node *table_find(const table *t, uint64_t hash, view key, table_equal equal) {
    for (table_node *node = t->buckets[hash & t->mask]; node; node = node->next) {
        if (node->hash == hash && equal(node, key)) return node;
    }
    return nullptr;
}

void table_insert(table *t, table_node *node, uint64_t hash) {
    if (t->walking) fatal("table_insert during table_each: the walk would miss nodes or meet them twice");
    if (t->count > t->mask) table_resize(t, (t->mask + 1) * 2);
    node->hash = hash;
    table_node **bucket = &t->buckets[hash & t->mask];
    node->next = *bucket;
    *bucket = node;
    t->count++;
}

// One halving leaves the load near 1/4, as far from growing as from shrinking again; a walk that removed many
// nodes may be due several.
static void table_shrink(table *t) {
    size_t buckets = t->mask + 1;
    while (buckets > buckets_least && t->count < buckets / 8)
        buckets /= 2;
    if (buckets <= t->mask) table_resize(t, buckets);
}

void table_remove(table *t, table_node *node) {
    table_node **at = &t->buckets[node->hash & t->mask];
    while (*at != node) {
        if (!*at) fatal("table_remove: the node is not in the table");
        at = &(*at)->next;
    }
    *at = node->next;
    node->next = nullptr;
    t->count--;
    if (!t->walking) table_shrink(t);
}

void table_each(table *t, void (*visit)(table_node *node, void *context), void *context) {
    bool nested = t->walking;
    t->walking = true; // keeps the buckets where they are; shrinking is made up for below
    for (size_t i = 0; i <= t->mask; i++) {
        for (table_node *node = t->buckets[i], *next; node; node = next) {
            next = node->next; // `visit` may free the node
            visit(node, context);
        }
    }
    t->walking = nested;
    if (!nested) table_shrink(t);
}

size_t table_bytes(const table *t) {
    return t->buckets ? (t->mask + 1) * sizeof(table_node *) : 0;
}

} // namespace belfry
