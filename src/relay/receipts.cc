// Receipts. Main thread.
#include "relay/receipts.h"

#include <stdlib.h>
#include <string.h>

namespace belfry {

namespace {

struct receipt {
    table_node node;
    link place;
    uint64_t since_ms;
    bool known;
    uint64_t receivers;
    receipts_told told; // who waits; null: nobody
    void *context;
    char name[48]; // the node's id and the number
    size_t name_size;
};

bool named(const table_node *t, view key) {
    const receipt *one = BELFRY_CONTAINER_OF(const_cast<table_node *>(t), receipt, node);
    return view(one->name, one->name_size) == key;
}

// The number, then the node's id: 8 to 40 bytes.
size_t write_name(view node, uint64_t sequence, char out[48]) {
    size_t size = node.size() < 40 ? node.size() : 40;
    memcpy(out, &sequence, sizeof sequence);
    memcpy(out + sizeof sequence, node.data(), size);
    return sizeof sequence + size;
}

void tell(receipt *one, int64_t receivers) {
    receipts_told told = one->told;
    one->told = nullptr;
    if (told) told(one->context, receivers);
}

void forget(receipts *r, receipt *one) {
    table_remove(&r->by_name, &one->node);
    list_remove(&one->place);
    tell(one, -1);
    delete one;
}

receipt *first(receipts *r) {
    return BELFRY_CONTAINER_OF(r->order.next, receipt, place);
}

// The one of that name, made where there is none.
receipt *get(receipts *r, view node, uint64_t sequence, uint64_t now_ms) {
    char name[48];
    size_t size = write_name(node, sequence, name);
    uint64_t hash = hash_bytes(view(name, size));
    if (table_node *t = table_find(&r->by_name, hash, view(name, size), named))
        return BELFRY_CONTAINER_OF(t, receipt, node);
    if (r->by_name.count >= receipts_max) {
        r->forgotten++;
        forget(r, first(r));
    }
    auto *one = new receipt{};
    one->since_ms = now_ms;
    memcpy(one->name, name, size);
    one->name_size = size;
    table_insert(&r->by_name, &one->node, hash);
    list_push_back(&r->order, &one->place);
    return one;
}

} // namespace

void receipts_init(receipts *r) {
    table_init(&r->by_name);
    list_init(&r->order);
    r->forgotten = 0;
}

void receipts_destroy(receipts *r) {
    while (!list_empty(&r->order))
        forget(r, first(r));
    table_destroy(&r->by_name);
}

void receipts_add(receipts *r, view node, uint64_t sequence, uint64_t receivers, uint64_t now_ms) {
    receipt *one = get(r, node, sequence, now_ms);
    one->known = true;
    one->receivers = receivers;
    tell(one, static_cast<int64_t>(receivers));
}

void receipts_ask(receipts *r, view node, uint64_t sequence, uint64_t now_ms, receipts_told told, void *context) {
    receipt *one = get(r, node, sequence, now_ms);
    if (one->known) return told(context, static_cast<int64_t>(one->receivers));
    tell(one, -1);
    one->told = told;
    one->context = context;
}

void receipts_turn(receipts *r, uint64_t now_ms) {
    while (!list_empty(&r->order) && first(r)->since_ms + receipts_keep_ms <= now_ms)
        forget(r, first(r));
}

} // namespace belfry
