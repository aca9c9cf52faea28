// Keyed hashing and an intrusive hash table, safe against keys chosen by an attacker.
//
// SipHash-1-3 (Aumasson and Bernstein, 2012; the 1-3 variant as Rust and Ruby use it for tables) with a key
// drawn at start from getrandom(2). A table belongs to one thread and owns none of its nodes.
#pragma once

#include "base/bytes.h"

#include <stddef.h>
#include <stdint.h>

namespace belfry {

// Draws the process's key. Called once, before threads start. Tests may pass a fixed seed != 0.
void hash_init(uint64_t fixed_seed);
uint64_t hash_bytes(view bytes);
// SipHash with a given 16-byte key and c/d rounds, for test vectors (2-4) and stable hashes.
uint64_t hash_siphash(const uint8_t key[16], int c, int d, view bytes);
// n random bytes from the kernel; fatal where there are none.
void random_bytes(void *out, size_t n);
// Uniform in [0, bound); bound > 0. Not for secrets (xorshift, one state a thread, seeded by getrandom).
uint32_t random_below(uint32_t bound);
// n bytes of the same kind: for marks that must not repeat, where nothing is decided by them.
void random_fill(void *out, size_t n);

struct table_node {
    table_node *next; // borrowed
    uint64_t hash;
};

struct table {
    table_node **buckets = nullptr; // owned
    size_t mask = 0;                // buckets - 1
    size_t count = 0;
    bool walking = false; // table_each runs: no inserting, and shrinking waits for its end
};

using table_equal = bool (*)(const table_node *node, view key);

void table_init(table *t);
// Frees the buckets, not the nodes.
void table_destroy(table *t);
[[nodiscard]] table_node *table_find(const table *t, uint64_t hash, view key, table_equal equal);
// The caller made sure that the key is not there yet. Sets node->hash. Grows at load 1 (doubling).
void table_insert(table *t, table_node *node, uint64_t hash);
// The node must be in the table. Shrinks at load 1/8, never below 16 buckets.
void table_remove(table *t, table_node *node);
// Walks all nodes in bucket order. `visit` may remove (and free) the node it is given, no other, and must not insert.
void table_each(table *t, void (*visit)(table_node *node, void *context), void *context);
size_t table_bytes(const table *t);

} // namespace belfry
