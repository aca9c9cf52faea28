// Presence in Redis: writing, reading, and what dead nodes leave behind. Main thread.
#include "relay/presence_redis.h"

#include "base/log.h"
#include "proto/room_name.h"
#include "relay/broker_redis.h"
#include "relay/client.h"
#include "relay/presence_room.h"

#include <deque>
#include <string.h>

namespace belfry {

static constexpr size_t foreign_max =
    4096; // entries found that wait to be taken out; above it nothing more is looked for
static constexpr const char *rooms_at_once = "256", *entries_at_once = "512";

// A walk looks through all rooms that a node had members in, for entries in its name.
struct node_walk {
    std::string node;
    bool begun, all_rooms;          // the set of rooms was asked for; was read to its end
    std::string rooms_cursor;       //
    std::vector<std::string> rooms; // of the part that was read last, still to be looked through
    bool held;                      // looks through the held ones of rooms.back()
    std::string entries_cursor;
    bool spared; // the node lives after all
};

struct presence_redis {
    presence_store head;
    broker *over; // borrowed
    std::string prefix, own;
    void (*tidied)(void *context, view node);
    void *context;               // borrowed
    std::deque<node_walk> walks; // the first one is under way
    bool asking;                 // for its next part
    uint64_t now_ms, retry_ms;
    buffer scratch; // padded: values are parsed here
};

static presence_redis *of(presence_store *s) {
    return reinterpret_cast<presence_redis *>(s);
}

static void log_failure(const char *what, const redis_value *reply) {
    static log_limit limit;
    uint64_t held = 0;
    if (!reply || !log_limit_pass(&limit, &held)) return; // null: the broker has told that the link broke
    view why = reply->type == redis_type::error ? reply->text : view("an answer that Belfry does not know");
    log_warn("presence: %s in Redis failed: %.*s (%llu more not shown)", what, static_cast<int>(why.size()), why.data(),
             static_cast<unsigned long long>(held));
}

static bool is_array(const redis_value *v) {
    return v && v->type == redis_type::array;
}

struct room_keys {
    std::string members, held, users;
};

static room_keys keys_of(const presence_redis *s, view room) {
    std::string tag = broker_redis_tag(room);
    return {s->prefix + "member:" + tag, s->prefix + "member:held:" + tag, s->prefix + "member:users:" + tag};
}

static std::string rooms_key(const presence_redis *s, view node) {
    return s->prefix + "node:" + std::string(node) + ":rooms";
}

// ---------------------------------------------------------------- what stands in the hashes

static std::string value_of(presence_redis *s, const presence_entry *e) {
    buffer *out = &s->scratch;
    buffer_clear(out);
    buffer_append(out, "{");
    if (e->user_size) {
        buffer_append(out, "\"user\":");
        json_write_string(out, presence_user(e));
    }
    if (e->info_size) {
        buffer_append(out, e->user_size ? ",\"info\":" : "\"info\":");
        buffer_append(out, presence_info(e));
    }
    buffer_append_char(out, '}');
    return std::string(buffer_view(out));
}

static bool is_conn(view text) {
    static constexpr view alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    return text.size() == conn_id_size && text.starts_with("c_") &&
           text.substr(2).find_first_not_of(alphabet) == view::npos;
}

struct found_member {
    view user, info; // until the next value is read
};

// False where it is none of ours.
static bool read_value(presence_redis *s, view value, found_member *out) {
    json_object o;
    error e;
    *out = {};
    buffer_clear(&s->scratch);
    buffer_reserve(&s->scratch, value.size() + frame_padding);
    buffer_append(&s->scratch, value);
    memset(s->scratch.data + s->scratch.size, 0, frame_padding);
    if (!json_parse_object(s->head.of->reader, buffer_view(&s->scratch), &o, &e)) return false;
    if (const json_member *m = json_find(&o, "user")) {
        if (m->type != json_type::string || !m->text_valid || m->text.size() > client_user_max) return false;
        out->user = m->text;
    }
    if (const json_member *m = json_find(&o, "info")) {
        if (m->raw.size() > client_info_max) return false;
        out->info = m->raw;
    }
    return true;
}

// ---------------------------------------------------------------- writing

static void on_written(redis *, const redis_value *reply, void *context, uint64_t tag) {
    auto *s = static_cast<presence_redis *>(context);
    auto *r = reinterpret_cast<presence_room *>(tag); // busy: it lives
    uint8_t crossed[presence_batch_max] = {};
    bool fine = is_array(reply) && reply->count == r->sent.size();
    for (size_t i = 0; fine && i < reply->count; i++) {
        fine = reply->elements[i].type == redis_type::integer;
        crossed[i] = reply->elements[i].integer == 1;
    }
    if (!fine) log_failure("a change of a room's members", reply);
    presence_written(s->head.of, r, fine ? crossed : nullptr);
}

static bool write(presence_store *base, presence_room *r) {
    static constexpr const char *what[] = {"drop", "list", "hold", ""}; // by presence_place
    presence_redis *s = of(base);
    room_keys keys = keys_of(s, presence_room_name(r));
    std::vector<std::string> values;
    values.reserve(r->sent.size()); // views into it
    std::vector<view> words = {keys.members, keys.held, keys.users, "change"};
    for (const presence_entry *e : r->sent) {
        values.push_back(value_of(s, e));
        for (view word : {view(what[e->sent]), presence_conn(e), presence_counted_user(e), view(values.back())})
            words.push_back(word);
    }
    return broker_redis_run(s->over, redis_script::presence, 3, static_cast<int>(words.size()), words.data(),
                            on_written, s, reinterpret_cast<uint64_t>(r));
}

static void on_known(presence_redis *s, const redis_value *reply, uint64_t tag, bool known) {
    bool fine = reply && reply->type == redis_type::integer;
    if (!fine) log_failure("a change of this node's rooms", reply);
    presence_known(s->head.of, reinterpret_cast<presence_room *>(tag), fine, known);
}

static void on_added(redis *, const redis_value *reply, void *context, uint64_t tag) {
    on_known(static_cast<presence_redis *>(context), reply, tag, true);
}

static void on_removed(redis *, const redis_value *reply, void *context, uint64_t tag) {
    on_known(static_cast<presence_redis *>(context), reply, tag, false);
}

static bool know(presence_store *base, presence_room *r, bool known) {
    presence_redis *s = of(base);
    std::string key = rooms_key(s, s->own);
    view words[] = {known ? "SADD" : "SREM", key, presence_room_name(r)};
    return broker_redis_command(s->over, key, 3, words, known ? on_added : on_removed, s,
                                reinterpret_cast<uint64_t>(r));
}

// ---------------------------------------------------------------- reading

static void on_read(redis *, const redis_value *reply, void *context, uint64_t tag) {
    auto *s = static_cast<presence_redis *>(context);
    auto *r = reinterpret_cast<presence_room *>(tag);
    if (!is_array(reply) || reply->count % 2 == 0 || reply->elements[0].type != redis_type::integer) {
        log_failure("reading a room's members", reply);
        return presence_read(s->head.of, r, nullptr);
    }
    buffer out = {};
    uint64_t n = 0, count = static_cast<uint64_t>(reply->elements[0].integer);
    for (size_t i = 1; i < reply->count && n < presence_members_max; i += 2) {
        const redis_value *conn = &reply->elements[i], *value = conn + 1;
        found_member m;
        if (conn->type != redis_type::text || value->type != redis_type::text || !is_conn(conn->text)) continue;
        if (!read_value(s, value->text, &m)) continue;
        presence_write_member(&out, conn->text, m.user, m.info);
        buffer_append_char(&out, presence_separator);
        n++;
    }
    presence_page page = {frame_copy(buffer_view(&out)), count, n < count};
    buffer_free(&out);
    presence_read(s->head.of, r, &page);
    frame_unref(page.members);
}

static bool read(presence_store *base, presence_room *r) {
    presence_redis *s = of(base);
    room_keys keys = keys_of(s, presence_room_name(r));
    std::string most = std::to_string(presence_members_max);
    view words[] = {keys.members, keys.held, keys.users, "members", most};
    return broker_redis_run(s->over, redis_script::presence, 3, 5, words, on_read, s, reinterpret_cast<uint64_t>(r));
}

// ---------------------------------------------------------------- walks

static void begin_walk(presence_redis *s, view node) {
    for (node_walk &w : s->walks) {
        if (w.node != node) continue;
        w.begun = w.spared = false;
        return;
    }
    s->walks.push_back({std::string(node), false, false, {}, {}, false, {}, false});
}

// The first part of [cursor, array of texts], or null.
static const redis_value *scanned(presence_redis *s, const redis_value *reply, std::string *cursor) {
    bool fine = is_array(reply) && reply->count == 2 && reply->elements[0].type == redis_type::text &&
                reply->elements[1].type == redis_type::array;
    s->asking = false;
    if (!fine) {
        log_failure("looking through a node's rooms", reply);
        s->retry_ms = s->now_ms + presence_retry_ms;
        return nullptr;
    }
    *cursor = reply->elements[0].text;
    return &reply->elements[1];
}

static void on_rooms(redis *, const redis_value *reply, void *context, uint64_t) {
    auto *s = static_cast<presence_redis *>(context);
    node_walk *w = &s->walks.front();
    const redis_value *names = scanned(s, reply, &w->rooms_cursor);
    if (!names) return;
    w->all_rooms = w->rooms_cursor == "0";
    for (size_t i = 0; i < names->count; i++)
        if (names->elements[i].type == redis_type::text && !room_name_check(names->elements[i].text))
            w->rooms.emplace_back(names->elements[i].text);
    w->held = false;
    w->entries_cursor = "0";
}

// On to the room's held ones, then to the next room.
static void end_part(node_walk *w) {
    w->entries_cursor = "0";
    if (w->held) w->rooms.pop_back();
    w->held = !w->held;
}

static void on_entries(redis *, const redis_value *reply, void *context, uint64_t) {
    auto *s = static_cast<presence_redis *>(context);
    node_walk *w = &s->walks.front();
    const redis_value *pairs = scanned(s, reply, &w->entries_cursor);
    if (!pairs && reply && reply->type == redis_type::error && reply->text.starts_with("WRONGTYPE"))
        return end_part(w); // somebody else's key: it must not keep what is behind it
    if (!pairs || w->spared) return;
    for (size_t i = 0; i + 1 < pairs->count; i += 2) {
        const redis_value *conn = &pairs->elements[i], *value = conn + 1;
        found_member m = {};
        if (conn->type != redis_type::text || !is_conn(conn->text) || conn->text.substr(2, node_id_size) != w->node)
            continue;
        if (value->type == redis_type::text && !read_value(s, value->text, &m)) m = {};
        presence_found(s->head.of, w->rooms.back(), conn->text, m.user, m.info, w->held, w->node != s->own);
    }
    if (w->entries_cursor == "0") end_part(w);
}

static bool ask_rooms(presence_redis *s, const node_walk *w) {
    std::string key = rooms_key(s, w->node);
    view words[] = {"SSCAN", key, w->rooms_cursor, "COUNT", rooms_at_once};
    return broker_redis_command(s->over, key, 5, words, on_rooms, s, 0);
}

static bool ask_entries(presence_redis *s, const node_walk *w) {
    room_keys keys = keys_of(s, w->rooms.back());
    view key = w->held ? keys.held : keys.members;
    std::string pattern = "c_" + w->node + "*"; // base64url has no pattern characters
    view words[] = {"HSCAN", key, w->entries_cursor, "MATCH", pattern, "COUNT", entries_at_once};
    return broker_redis_command(s->over, key, 7, words, on_entries, s, 0);
}

static void nothing(redis *, const redis_value *, void *, uint64_t) {}

static void end_walk(presence_redis *s) {
    std::string node = s->walks.front().node;
    s->walks.pop_front();
    if (node == s->own) return;
    std::string key = rooms_key(s, node);
    view words[] = {"DEL", key};
    if (broker_redis_command(s->over, key, 2, words, nothing, s, 0)) s->tidied(s->context, node);
}

static void turn(presence_store *base, uint64_t now_ms) {
    presence_redis *s = of(base);
    s->now_ms = now_ms;
    if (s->asking || s->walks.empty() || now_ms < s->retry_ms || !s->over->ops->ready(s->over)) return;
    node_walk *w = &s->walks.front();
    if (w->spared) return s->walks.pop_front();
    if (!w->begun) *w = {w->node, true, false, "0", {}, false, "0", false};
    if (s->head.of->foreign >= foreign_max) return;
    if (!w->rooms.empty())
        s->asking = ask_entries(s, w);
    else if (!w->all_rooms)
        s->asking = ask_rooms(s, w);
    else if (!s->head.of->foreign) // what was found is out
        end_walk(s);
}

// ---------------------------------------------------------------- the rest

static void resync(presence_store *base) {
    begin_walk(of(base), of(base)->own);
}

static bool ready(const presence_store *base) {
    const broker *over = reinterpret_cast<const presence_redis *>(base)->over;
    return over->ops->ready(over);
}

static bool idle(const presence_store *) {
    return true; // another node goes on with a walk
}

static size_t bytes(const presence_store *base) {
    return reinterpret_cast<const presence_redis *>(base)->scratch.capacity;
}

static void destroy(presence_store *base) {
    buffer_free(&of(base)->scratch);
    delete of(base);
}

static const presence_store_ops ops = {write, know, read, turn, resync, ready, idle, bytes, destroy};

void presence_redis_new(presence *p, const presence_redis_settings *settings) {
    auto *s = new presence_redis{};
    s->head = {&ops, p};
    s->over = settings->over;
    s->prefix = settings->prefix;
    s->own = node_id();
    s->tidied = settings->tidied;
    s->context = settings->context;
    p->store->ops->free(p->store);
    p->store = &s->head;
}

void presence_redis_tidy(presence *p, view node) {
    begin_walk(of(p->store), node);
}

void presence_redis_spare(presence *p, view node) {
    for (node_walk &w : of(p->store)->walks)
        if (w.node == node) w.spared = true; // the answer that it waits for comes first
}

void presence_redis_leave(presence *p) {
    presence_redis *s = of(p->store);
    std::string key = rooms_key(s, s->own);
    view words[] = {"DEL", key};
    if (!broker_redis_command(s->over, key, 2, words, nothing, s, 0))
        log_warn("presence: the broker is out of reach, the other nodes will find that this one is gone");
}

} // namespace belfry
