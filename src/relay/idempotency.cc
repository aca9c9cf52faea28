// Ids that were published. Main thread.
#include "relay/idempotency.h"

#include "base/error.h"

#include <new>
#include <stdlib.h>
#include <string.h>
#include <string>

namespace belfry {

struct noted_id {
    table_node node;
    link place;
    uint64_t until_ms;
    position at;
    uint32_t key_size;
    char key[]; // the room, a zero (none can be in a room's name), the id
};

static bool keyed(const table_node *t, view key) {
    const noted_id *n = BELFRY_CONTAINER_OF(const_cast<table_node *>(t), noted_id, node);
    return view(n->key, n->key_size) == key;
}

static std::string key_of(view room, view id) {
    std::string key(room);
    key.push_back(0);
    return key.append(id);
}

static void forget(idempotency *i, noted_id *n) {
    table_remove(&i->ids, &n->node);
    list_remove(&n->place);
    free(n);
}

static noted_id *oldest(const idempotency *i) {
    return list_empty(&i->order) ? nullptr : BELFRY_CONTAINER_OF(i->order.next, noted_id, place);
}

static void expire(idempotency *i, uint64_t now_ms) {
    for (noted_id *n = oldest(i); n && n->until_ms <= now_ms; n = oldest(i))
        forget(i, n);
}

void idempotency_init(idempotency *i) {
    table_init(&i->ids);
    list_init(&i->order);
    i->evicted = 0;
}

void idempotency_destroy(idempotency *i) {
    while (noted_id *n = oldest(i))
        forget(i, n);
    table_destroy(&i->ids);
}

const position *idempotency_find(idempotency *i, view room, view id, uint64_t now_ms) {
    expire(i, now_ms);
    std::string key = key_of(room, id);
    table_node *t = table_find(&i->ids, hash_bytes(key), key, keyed);
    return t ? &BELFRY_CONTAINER_OF(t, noted_id, node)->at : nullptr;
}

void idempotency_note(idempotency *i, view room, view id, const position *at, uint64_t now_ms) {
    expire(i, now_ms);
    if (i->ids.count == idempotency_max) {
        forget(i, oldest(i));
        i->evicted++;
    }
    std::string key = key_of(room, id);
    auto *n = new (memory_get_zeroed(sizeof(noted_id) + key.size())) noted_id{};
    n->until_ms = now_ms + idempotency_ms;
    n->at = *at;
    n->key_size = static_cast<uint32_t>(key.size());
    memcpy(n->key, key.data(), key.size());
    table_insert(&i->ids, &n->node, hash_bytes(key));
    list_push_back(&i->order, &n->place);
}

} // namespace belfry
