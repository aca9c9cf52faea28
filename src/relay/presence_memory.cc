// The store of presence in this process: what its own connections are in is all there is, so only users are counted.
// Main thread.
#include "relay/presence_room.h"

#include <new>
#include <stdlib.h>
#include <string.h>

namespace belfry {

// How many connections a user has in a room, held ones included.
struct user_count {
    table_node node;
    presence_room *room; // borrowed: it has an entry of the user
    uint32_t count;
    uint8_t size;
    char user[];
};

struct presence_memory {
    presence_store head;
    table users;
    size_t bytes;
};

static presence_memory *of(presence_store *s) {
    return reinterpret_cast<presence_memory *>(s);
}

struct user_key {
    char bytes[sizeof(presence_room *) + 255];
    size_t size;
    operator view() const { return view(bytes, size); }
};

static user_key key_of(const presence_room *r, view user) {
    user_key key;
    memcpy(key.bytes, &r, sizeof r);
    memcpy(key.bytes + sizeof r, user.data(), user.size());
    key.size = sizeof r + user.size();
    return key;
}

static bool named(const table_node *t, view key) {
    const user_count *u = BELFRY_CONTAINER_OF(const_cast<table_node *>(t), user_count, node);
    return memcmp(key.data(), &u->room, sizeof u->room) == 0 && key.substr(sizeof u->room) == view(u->user, u->size);
}

// True where it is the user's first connection.
static bool came(presence_memory *m, const presence_entry *e) {
    view user = presence_counted_user(e);
    if (user.empty()) return true;
    user_key key = key_of(e->room, user);
    uint64_t hash = hash_bytes(key);
    if (table_node *t = table_find(&m->users, hash, key, named)) {
        BELFRY_CONTAINER_OF(t, user_count, node)->count++;
        return false;
    }
    auto *u = new (memory_get(sizeof(user_count) + user.size())) user_count{};
    u->room = e->room;
    u->count = 1;
    u->size = static_cast<uint8_t>(user.size());
    memcpy(u->user, user.data(), user.size());
    table_insert(&m->users, &u->node, hash);
    m->bytes += sizeof *u + u->size;
    return true;
}

// True where it was the last one.
static bool went(presence_memory *m, const presence_entry *e) {
    view user = presence_counted_user(e);
    if (user.empty()) return true;
    user_key key = key_of(e->room, user);
    table_node *t = table_find(&m->users, hash_bytes(key), key, named);
    if (!t) return false;
    user_count *u = BELFRY_CONTAINER_OF(t, user_count, node);
    if (--u->count) return false;
    table_remove(&m->users, &u->node);
    m->bytes -= sizeof *u + u->size;
    free(u);
    return true;
}

static bool write(presence_store *s, presence_room *r) {
    uint8_t crossed[presence_batch_max] = {};
    for (size_t i = 0; i < r->sent.size(); i++) {
        const presence_entry *e = r->sent[i];
        if (e->stored == presence_nowhere && e->sent != presence_nowhere) crossed[i] = came(of(s), e);
        if (e->stored != presence_nowhere && e->sent == presence_nowhere) crossed[i] = went(of(s), e);
    }
    presence_written(s->of, r, crossed);
    return true;
}

static bool read(presence_store *s, presence_room *r) {
    buffer out = {};
    size_t n = 0;
    for (link *at = r->entries.next; at != &r->entries && n < presence_members_max; at = at->next) {
        const presence_entry *e = BELFRY_CONTAINER_OF(at, presence_entry, sibling);
        if (e->wanted != presence_listed) continue;
        presence_write_member(&out, presence_conn(e), presence_user(e), presence_info(e));
        buffer_append_char(&out, presence_separator);
        n++;
    }
    presence_page page = {frame_copy(buffer_view(&out)), r->listed, n < r->listed};
    buffer_free(&out);
    presence_read(s->of, r, &page);
    frame_unref(page.members);
    return true;
}

static void turn(presence_store *, uint64_t) {}
static bool ready(const presence_store *) {
    return true;
}
static bool idle(const presence_store *) {
    return true;
}
static size_t bytes(const presence_store *s) {
    const auto *m = reinterpret_cast<const presence_memory *>(s);
    return m->bytes + table_bytes(&m->users);
}

static void destroy(presence_store *s) {
    presence_memory *m = of(s);
    table_each(
        &m->users,
        [](table_node *t, void *users) {
            table_remove(static_cast<table *>(users), t);
            free(BELFRY_CONTAINER_OF(t, user_count, node));
        },
        &m->users);
    table_destroy(&m->users);
    delete m;
}

static const presence_store_ops ops = {write, nullptr, read, turn, nullptr, ready, idle, bytes, destroy};

presence_store *presence_memory_new(presence *p) {
    auto *m = new presence_memory{};
    m->head = {&ops, p};
    table_init(&m->users);
    return &m->head;
}

} // namespace belfry
