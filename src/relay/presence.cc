// Presence: the entries of this process, from what workers say to what the store has and the rooms are told. Main
// thread.
#include "relay/presence_room.h"

#include "base/log.h"

#include <new>
#include <stdlib.h>
#include <string.h>

namespace belfry {

// ---------------------------------------------------------------- rooms

static bool room_named(const table_node *t, view key) {
    return presence_room_name(BELFRY_CONTAINER_OF(const_cast<table_node *>(t), presence_room, node)) == key;
}

static presence_room *find_room(const presence *p, view name) {
    table_node *t = table_find(&p->rooms, hash_bytes(name), name, room_named);
    return t ? BELFRY_CONTAINER_OF(t, presence_room, node) : nullptr;
}

presence_room *presence_room_of(presence *p, view name) {
    if (presence_room *r = find_room(p, name)) return r;
    const room_rule *rule = room_rule_find(p->settings, name);
    auto *r = new (memory_get(sizeof(presence_room) + name.size())) presence_room{};
    r->announce = rule && rule->announce;
    list_init(&r->entries);
    list_init(&r->dirty);
    list_init(&r->asking);
    r->name_size = static_cast<uint32_t>(name.size());
    memcpy(r->name, name.data(), name.size());
    table_insert(&p->rooms, &r->node, hash_bytes(name));
    p->room_bytes += sizeof *r + name.size();
    return r;
}

static void free_room(presence *p, presence_room *r) {
    list_remove(&r->dirty);
    list_remove(&r->asking);
    table_remove(&p->rooms, &r->node);
    p->room_bytes -= sizeof *r + r->name_size;
    presence_forget_page(r);
    r->~presence_room();
    free(r);
}

static void make_dirty(presence *p, presence_room *r) {
    if (list_empty(&r->dirty)) list_push_back(&p->dirty, &r->dirty);
}

void presence_release(presence *p, presence_room *r) {
    if (!list_empty(&r->entries) || r->busy || r->reading || !r->waiters.empty()) return;
    if (r->known && !p->stopping && !p->shared) return make_dirty(p, r); // the store is to forget it first
    if (r->page.members && p->now_ms < r->read_ms + presence_page_ms && !r->page_stale) {
        if (list_empty(&r->asking)) list_push_back(&p->asking, &r->asking); // who asks next gets it
        return;
    }
    free_room(p, r);
}

// ---------------------------------------------------------------- entries

struct entry_key {
    char bytes[sizeof(presence_room *) + conn_id_size];
    operator view() const { return view(bytes, sizeof bytes); }
};

static entry_key key_of(const presence_room *r, view conn) {
    entry_key key;
    memcpy(key.bytes, &r, sizeof r);
    memcpy(key.bytes + sizeof r, conn.data(), conn_id_size);
    return key;
}

static bool entry_named(const table_node *t, view key) {
    const presence_entry *e = BELFRY_CONTAINER_OF(const_cast<table_node *>(t), presence_entry, node);
    return memcmp(key.data(), &e->room, sizeof e->room) == 0 && key.substr(sizeof e->room) == presence_conn(e);
}

static presence_entry *find_entry(const presence *p, const presence_room *r, view conn) {
    entry_key key = key_of(r, conn);
    table_node *t = table_find(&p->entries, hash_bytes(key), key, entry_named);
    return t ? BELFRY_CONTAINER_OF(t, presence_entry, node) : nullptr;
}

static void set_text(presence *p, presence_entry *e, view user, view info) {
    p->text_bytes -= size_t{e->user_size} + e->info_size;
    free(e->text);
    size_t size = user.size() + info.size();
    e->text = size ? static_cast<char *>(memory_get(size)) : nullptr;
    e->user_size = static_cast<uint8_t>(user.size());
    e->info_size = static_cast<uint16_t>(info.size());
    if (!user.empty()) memcpy(e->text, user.data(), user.size());
    if (!info.empty()) memcpy(e->text + user.size(), info.data(), info.size());
    p->text_bytes += size;
}

static presence_entry *new_entry(presence *p, presence_room *r, view conn, view user, view info) {
    auto *e = new (slab_get(&p->entry_slab)) presence_entry{};
    entry_key key = key_of(r, conn);
    e->room = r;
    memcpy(e->conn, conn.data(), conn_id_size);
    list_init(&e->held);
    set_text(p, e, user, info);
    table_insert(&p->entries, &e->node, hash_bytes(key));
    list_push_back(&r->entries, &e->sibling);
    return e;
}

static void free_entry(presence *p, presence_entry *e) {
    if (e->foreign)
        p->foreign--;
    else
        e->room->own--;
    table_remove(&p->entries, &e->node);
    list_remove(&e->sibling);
    p->text_bytes -= size_t{e->user_size} + e->info_size;
    free(e->text);
    slab_put(&p->entry_slab, e);
}

// It differs from what the store has, or may have.
static void queue(presence *p, presence_entry *e) {
    if (e->queued || e->busy) return; // what is under way is looked at when it is done
    e->queued = true;
    e->room->queue.push_back(e);
    make_dirty(p, e->room);
}

static void unhold(presence *p, presence_entry *e) {
    if (list_empty(&e->held)) return;
    list_remove(&e->held);
    p->held_count--;
}

static void set_wanted(presence *p, presence_entry *e, presence_place wanted) {
    const bool was = e->wanted == presence_listed, is = wanted == presence_listed;
    e->room->listed += is - was;
    p->count.members += static_cast<uint64_t>(is) - was;
    e->wanted = wanted;
    e->room->page_stale = true;
    queue(p, e);
}

static void end_hold(presence *p, presence_entry *e) {
    unhold(p, e);
    set_wanted(p, e, presence_nowhere);
}

static presence_entry *first_held(const presence *p) {
    return list_empty(&p->held) ? nullptr : BELFRY_CONTAINER_OF(p->held.next, presence_entry, held);
}

// ---------------------------------------------------------------- what workers say

void presence_enter(presence *p, view room, view conn, view user, view info, bool news) {
    presence_room *r = presence_room_of(p, room);
    presence_entry *e = find_entry(p, r, conn);
    if (!e) {
        e = new_entry(p, r, conn, user, info);
        e->told = !news;
        r->own++;
        return set_wanted(p, e, presence_listed);
    }
    if (e->foreign) return; // ids are unguessable and never used twice: can't be
    unhold(p, e);
    if (presence_info(e) != info) {
        set_text(p, e, std::string(presence_user(e)), info); // nobody becomes another user
        e->stale = true;
    }
    set_wanted(p, e, presence_listed);
}

void presence_exit(presence *p, view room, view conn) {
    presence_room *r = find_room(p, room);
    presence_entry *e = r ? find_entry(p, r, conn) : nullptr;
    if (!e || e->foreign || e->wanted != presence_listed) return;
    if (!r->announce || p->stopping || (e->stored == presence_nowhere && !e->busy))
        return set_wanted(p, e, presence_nowhere); // nobody knows of it
    if (p->held_count == presence_held_max) {
        p->count.held_over++;
        end_hold(p, first_held(p));
    }
    e->due_ms = p->now_ms + presence_hold_ms;
    list_push_back(&p->held, &e->held);
    p->held_count++;
    set_wanted(p, e, presence_held);
}

void presence_moved(presence *p, view room, view conn) {
    presence_room *r = find_room(p, room);
    presence_entry *e = r ? find_entry(p, r, conn) : nullptr;
    if (!e || e->foreign) return;
    unhold(p, e);
    if (e->wanted == presence_listed) {
        r->listed--;
        p->count.members--;
    }
    e->moved = true;
    if (e->busy || e->queued) return; // what it was about to be is written and told yet, by who knows of it
    free_entry(p, e);
    presence_release(p, r);
}

void presence_share(presence *p, bool shared) {
    p->shared = shared;
}

void presence_found(presence *p, view room, view conn, view user, view info, bool held, bool lost) {
    presence_room *r = presence_room_of(p, room);
    if (!find_entry(p, r, conn)) {
        presence_entry *e = new_entry(p, r, conn, user, info);
        e->foreign = true;
        e->stored = presence_unknown;
        e->lost = lost && !held;
        e->told = lost; // what stands in our own name is what an older copy of Redis's data has brought back
        p->foreign++;
        queue(p, e);
    }
    presence_release(p, r);
}

void presence_write_member(buffer *out, view conn, view user, view info) {
    buffer_append(out, "{\"conn\":\"");
    buffer_append(out, conn);
    buffer_append_char(out, '"');
    if (!user.empty()) {
        buffer_append(out, ",\"user\":");
        json_write_string(out, user);
    }
    if (!info.empty()) {
        buffer_append(out, ",\"info\":");
        buffer_append(out, info);
    }
    buffer_append_char(out, '}');
}

// ---------------------------------------------------------------- to the store, and what comes back

static void announce(presence *p, const presence_entry *e, bool join) {
    if (!e->room->announce) return;
    buffer_clear(&p->scratch);
    buffer_append(&p->scratch, join ? "{\"event\":\"join\",\"member\":" : "{\"event\":\"leave\",\"member\":");
    presence_write_member(&p->scratch, presence_conn(e), presence_user(e), presence_info(e));
    buffer_append(&p->scratch, e->lost ? ",\"cause\":\"node_lost\"}" : "}");
    if (p->events->announce(p->context, presence_room_name(e->room), buffer_view(&p->scratch)))
        p->count.announced++;
    else
        p->count.announce_failures++;
}

// Another process's, and nothing of it is this one's to write any more.
static bool over_with(const presence_entry *e) {
    return e->moved && e->wanted == e->stored && !e->stale;
}

// False where there is nothing to do for it, then it may be gone.
static bool worth_writing(presence *p, presence_entry *e) {
    if ((e->wanted == presence_nowhere && e->stored == presence_nowhere) || over_with(e)) {
        free_entry(p, e);
        return false;
    }
    return e->stale || e->wanted != e->stored;
}

static void take_batch(presence *p, presence_room *r) {
    size_t n = 0;
    for (; n < r->queue.size() && r->sent.size() < presence_batch_max; n++) {
        presence_entry *e = r->queue[n];
        e->queued = false;
        if (!worth_writing(p, e)) continue;
        e->sent = e->wanted;
        e->stale = false;
        e->busy = true;
        r->sent.push_back(e);
    }
    r->queue.erase(r->queue.begin(), r->queue.begin() + static_cast<ptrdiff_t>(n));
    if (r->queue.empty()) r->queue.shrink_to_fit();
    r->read_after -= r->read_after < n ? r->read_after : n;
}

static void know(presence *p, presence_room *r, bool known) {
    r->busy = true;
    if (!p->store->ops->know(p->store, r, known)) presence_known(p, r, false, known);
}

static void write_room(presence *p, presence_room *r) {
    if (r->own && !r->known && p->store->ops->know) return know(p, r, true);
    take_batch(p, r);
    if (!r->sent.empty()) {
        r->busy = true;
        p->batches++;
        p->count.writes++;
        if (!p->store->ops->write(p->store, r)) presence_written(p, r, nullptr);
        return;
    }
    if (!r->queue.empty()) return make_dirty(p, r);
    if (list_empty(&r->entries) && r->known && !p->stopping && !p->shared) return know(p, r, false);
    presence_release(p, r);
}

// Each dirty room gets one batch written; how many were.
static uint64_t write_round(presence *p) {
    const uint64_t before = p->count.writes;
    link now;
    list_init(&now);
    list_splice(&now, &p->dirty);
    while (!list_empty(&now)) {
        presence_room *r = BELFRY_CONTAINER_OF(now.next, presence_room, dirty);
        list_remove(&r->dirty);
        if (r->busy) continue; // looked at again when that is done
        if (p->batches >= presence_batches_max || p->now_ms < r->retry_ms)
            make_dirty(p, r);
        else
            write_room(p, r);
    }
    return p->count.writes - before;
}

// A store that answers at once may get several batches of a room in a turn.
static void write_dirty(presence *p) {
    p->more = false;
    if (!p->store->ops->ready(p->store)) return;
    for (uint64_t written = 0, n = 1; n && !p->more; written += n) {
        n = write_round(p);
        p->more = n && written + n >= presence_batches_max;
    }
}

static void done(presence *p, presence_entry *e, bool crossed) {
    e->stored = e->sent;
    if (e->sent == presence_listed) {
        if (crossed && !e->told) announce(p, e, true);
        e->told = true;
    } else if (e->sent == presence_nowhere) {
        if (crossed && e->told) announce(p, e, false);
        e->told = false;
    }
    if ((e->wanted == presence_nowhere && e->stored == presence_nowhere && !e->stale) || over_with(e))
        free_entry(p, e);
    else if (e->stale || e->wanted != e->stored)
        queue(p, e);
}

static void failed(presence *p, presence_entry *e) {
    if (e->moved) return free_entry(p, e);
    e->stored = presence_unknown;
    e->stale = true;
    queue(p, e);
}

void presence_written(presence *p, presence_room *r, const uint8_t *crossed) {
    std::vector<presence_entry *> sent;
    sent.swap(r->sent);
    r->busy = false;
    p->batches--;
    if (!crossed) {
        p->count.write_failures++;
        r->retry_ms = p->now_ms + presence_retry_ms;
    }
    for (size_t i = 0; i < sent.size(); i++) {
        sent[i]->busy = false;
        if (crossed)
            done(p, sent[i], crossed[i] != 0);
        else
            failed(p, sent[i]);
    }
    if (!r->queue.empty()) make_dirty(p, r);
    presence_release(p, r);
}

void presence_known(presence *p, presence_room *r, bool fine, bool known) {
    r->busy = false;
    if (fine)
        r->known = known;
    else
        r->retry_ms = p->now_ms + presence_retry_ms;
    if (!r->queue.empty()) make_dirty(p, r);
    presence_release(p, r);
}

// ---------------------------------------------------------------- the turn, and life

static void end_holds(presence *p) {
    for (presence_entry *e = first_held(p); e && (p->stopping || e->due_ms <= p->now_ms); e = first_held(p))
        end_hold(p, e);
}

void presence_turn(presence *p, uint64_t now_ms) {
    p->now_ms = now_ms;
    end_holds(p);
    write_dirty(p);
    p->store->ops->turn(p->store, now_ms);
    presence_answer_waiting(p, now_ms);
}

static void write_again(presence *p, presence_room *r) {
    r->known = false;
    for (link *at = r->entries.next; at != &r->entries; at = at->next) {
        presence_entry *e = BELFRY_CONTAINER_OF(at, presence_entry, sibling);
        if (e->stored != presence_nowhere) e->stored = presence_unknown;
        queue(p, e);
    }
}

static void tell_again(table_node *t, void *) {
    presence_entry *e = BELFRY_CONTAINER_OF(t, presence_entry, node);
    if (!e->foreign) e->told = false;
}

void presence_resync(presence *p, bool taken_for_lost) {
    table_each(
        &p->rooms,
        [](table_node *t, void *context) {
            write_again(static_cast<presence *>(context), BELFRY_CONTAINER_OF(t, presence_room, node));
        },
        p);
    if (taken_for_lost) table_each(&p->entries, tell_again, nullptr);
    if (p->store->ops->resync && !p->shared) p->store->ops->resync(p->store);
}

void presence_resync_room(presence *p, view room) {
    if (presence_room *r = find_room(p, room)) write_again(p, r);
}

void presence_stop(presence *p) {
    p->stopping = true;
}

bool presence_busy(const presence *p) {
    return p->more;
}

bool presence_idle(const presence *p) {
    return list_empty(&p->dirty) && list_empty(&p->held) && !p->batches && p->entries.count == 0 &&
           p->store->ops->idle(p->store);
}

presence *presence_new(const relay_settings *settings, json_reader *reader, const presence_events *events,
                       void *context) {
    auto *p = new presence{};
    p->settings = settings;
    p->reader = reader;
    p->events = events;
    p->context = context;
    slab_init(&p->entry_slab, sizeof(presence_entry), 65536);
    table_init(&p->entries);
    table_init(&p->rooms);
    for (link *l : {&p->held, &p->dirty, &p->asking})
        list_init(l);
    p->store = presence_memory_new(p);
    return p;
}

void presence_settle(presence *p) {
    table_each(
        &p->rooms,
        [](table_node *t, void *context) {
            presence_refuse_waiters(static_cast<presence *>(context), BELFRY_CONTAINER_OF(t, presence_room, node));
        },
        p);
}

void presence_free(presence *p) {
    presence_settle(p);
    table_each(
        &p->entries,
        [](table_node *t, void *context) {
            free_entry(static_cast<presence *>(context), BELFRY_CONTAINER_OF(t, presence_entry, node));
        },
        p);
    table_each(
        &p->rooms,
        [](table_node *t, void *context) {
            free_room(static_cast<presence *>(context), BELFRY_CONTAINER_OF(t, presence_room, node));
        },
        p);
    p->store->ops->free(p->store);
    table_destroy(&p->entries);
    table_destroy(&p->rooms);
    slab_destroy(&p->entry_slab);
    buffer_free(&p->scratch);
    delete p;
}

static bool announced(const presence *p, view room) {
    const room_rule *rule = room_rule_find(p->settings, room);
    return rule && rule->announce;
}

void presence_adopt(presence *p, const relay_settings *settings) {
    p->settings = settings;
    table_each(
        &p->rooms,
        [](table_node *t, void *context) {
            presence_room *r = BELFRY_CONTAINER_OF(t, presence_room, node);
            r->announce = announced(static_cast<const presence *>(context), presence_room_name(r));
        },
        p);
}

bool presence_wanted(const presence *p, view room) {
    const room_rule *rule = room_rule_find(p->settings, room);
    return rule && rule->presence;
}

presence_counters presence_count(const presence *p) {
    presence_counters now = p->count;
    now.rooms = p->rooms.count;
    now.held = p->held_count;
    now.bytes = slab_bytes(&p->entry_slab) + table_bytes(&p->entries) + table_bytes(&p->rooms) + p->room_bytes +
                p->text_bytes + p->store->ops->bytes(p->store);
    return now;
}

} // namespace belfry
