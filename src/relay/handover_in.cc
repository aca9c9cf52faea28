// The new process's node. Main thread.
#include "relay/handover_in.h"

#include "base/hash.h"
#include "base/log.h"
#include "relay/handover_impl.h"
#include "relay/handover_in_carry.h"
#include "relay/node_impl.h"

#include <algorithm>
#include <unistd.h>
#include <unordered_map>
#include <unordered_set>
#include <vector>

namespace belfry {

static constexpr uint64_t ready_ms = 3000;     // for the broker
static constexpr uint64_t subscribe_ms = 3000; // for a round's rooms; who comes into others is told a gap
static constexpr size_t rooms_max = 1 << 20;   // of all rounds

enum class in_state : uint8_t { greeting, taking, over };

struct waiting_message {
    message *what;    // counted
    uint64_t arrival; // orders messages of different rooms
};

// Since the marker: the first one has ordinal 2, who has seen none has 1.
struct kept_room {
    bool counted;
    std::vector<waiting_message> messages;
};

struct handover_in {
    node *on; // borrowed
    handover_wire wire;
    in_state state;
    bool linked;
    bool greeted; // the old process's hello is to be answered
    bool ordered; // numbers mean something here, and there
    uint64_t began_ms, heard_ms;

    std::unordered_map<std::string, kept_room> rooms; // held, of all rounds
    std::unordered_set<std::string> known;            // that the old process has, or had until just now
    kept_room special;                                // @all and @conn:
    uint64_t arrivals;
    size_t kept_bytes;

    // The round under way.
    uint64_t round, round_ms;
    bool subscribing, marking;
    std::vector<std::string> round_rooms;
    size_t subscribed; // of those, at the front
    uint64_t nonce;

    std::vector<handover_letter *> asks;             // owned: of connections that are ahead of us
    std::unordered_map<uint64_t, conn_id> under_way; // by tag: installed, not started
    handover_carries *carries;                       // owned
    handover_in_counters count;
};

static uint64_t now_of(const handover_in *i) {
    return i->on->on->clock.monotonic_ms;
}

static bool say(handover_in *i, const handover_message *m) {
    return i->linked && i->wire.send(i->wire.context, m, -1);
}

static void to_worker(const handover_in *i, uint32_t worker, handover_letter *l) {
    node_send(i->on, worker, &l->head);
}

// ---------------------------------------------------------------- what is kept

// What a kept message takes, the entry included.
static size_t charge_of(const message *m) {
    return sizeof(message) + sizeof(waiting_message) + m->source->size;
}

static void forget_messages(handover_in *i, kept_room *r) {
    for (waiting_message &k : r->messages) {
        i->kept_bytes -= charge_of(k.what);
        message_unref(k.what);
    }
    r->messages.clear();
}

static void forget_all(handover_in *i) {
    for (auto &[name, r] : i->rooms) {
        forget_messages(i, &r);
        r.counted = false;
    }
    forget_messages(i, &i->special);
    i->special.counted = false;
}

static void keep(handover_in *i, kept_room *r, message *m) {
    if (!r->counted) return;
    r->messages.push_back({message_ref(m), i->arrivals++});
    i->kept_bytes += charge_of(m);
    if (i->kept_bytes <= handover_kept_max) return;
    log_warn("handover: more messages came meanwhile than are kept: who moves now is told that some are missing");
    forget_all(i);
}

void handover_in_note(node *n, message *m) {
    handover_in *i = n->arriving;
    if (i->state != in_state::taking || !i->ordered) return;
    if (handover_special(m)) return keep(i, &i->special, m);
    auto at = i->rooms.find(std::string(m->room));
    if (at == i->rooms.end()) return;
    const node_room *r = node_room_find(n, m->room, m->room_hash);
    if (r && handover_counts(r->feed != nullptr, m)) keep(i, &at->second, m);
}

// What a room holds behind an ordinal; null where nobody knows.
static const kept_room *kept_of(const handover_in *i, const handover_seen *s) {
    const kept_room *r = &i->special;
    if (!s->room.empty()) {
        auto at = i->rooms.find(s->room);
        r = at == i->rooms.end() ? nullptr : &at->second;
    }
    return r && r->counted && s->ordinal && i->ordered ? r : nullptr;
}

void handover_in_kept(node *n, view room, uint64_t ordinal, std::vector<message *> *out) {
    handover_seen s = {std::string(room), ordinal, true};
    const kept_room *r = kept_of(n->arriving, &s);
    for (uint64_t at = ordinal - 1; r && at < r->messages.size(); at++)
        out->push_back(message_ref(r->messages[at].what));
}

// ---------------------------------------------------------------- what a connection has missed

// The old process has delivered what has not come here yet.
static bool ahead(const handover_in *i, const handover_letter *ask) {
    for (const handover_seen &s : ask->seen) {
        const kept_room *r = kept_of(i, &s);
        if (r && s.ordinal - 1 > r->messages.size()) return true;
    }
    return false;
}

static bool addressed(const message *m, view self) {
    return m->room == "@all" || m->room.substr(6) == self; // @conn:ID
}

static void answer(handover_in *i, const handover_letter *ask) {
    std::vector<waiting_message> missed;
    conn_id_text self = conn_id_format(ask->who);
    handover_letter *l = handover_letter_new(handover_op::told, 0, ask->who);
    for (const handover_seen &s : ask->seen) {
        const kept_room *r = kept_of(i, &s);
        if (!r && !s.history && !s.room.empty()) l->names.push_back(s.room);
        for (uint64_t at = s.ordinal - 1; r && !s.history && at < r->messages.size(); at++)
            if (!s.room.empty() || addressed(r->messages[at].what, self)) missed.push_back(r->messages[at]);
    }
    i->count.gaps += l->names.size();
    std::sort(missed.begin(), missed.end(),
              [](const waiting_message &a, const waiting_message &b) { return a.arrival < b.arrival; });
    for (const waiting_message &k : missed)
        l->replay.push_back(message_ref(k.what));
    to_worker(i, ask->who.worker, l);
}

static void answer_asks(handover_in *i) {
    size_t left = 0;
    for (handover_letter *ask : i->asks) {
        if (ahead(i, ask)) {
            i->asks[left++] = ask;
            continue;
        }
        answer(i, ask);
        handover_letter_free(ask);
    }
    i->asks.resize(left);
}

static void end_asks(handover_in *i) {
    for (handover_letter *ask : i->asks)
        handover_letter_free(ask);
    i->asks.clear();
}

// ---------------------------------------------------------------- rooms

static void hold_rooms(handover_in *i, const handover_message *m) {
    if (i->state != in_state::taking || i->subscribing || i->marking || m->number < i->round) return;
    i->round = m->number;
    for (view name : m->names) {
        if (i->known.size() >= rooms_max) break;
        std::string room(name);
        i->known.insert(room);
        kept_room *kept = &i->rooms[room];
        forget_messages(i, kept);
        kept->counted = false; // until the marker of this round
        i->round_rooms.push_back(room);
        node_hold(i->on, room);
    }
    if (!m->flag) return;
    i->subscribing = true;
    i->subscribed = 0;
    i->round_ms = now_of(i);
}

static bool is_active(const handover_in *i, const std::string &room) {
    const node_room *r = node_room_find(i->on, room, hash_bytes(room));
    return r && r->active;
}

// Both processes hear it, and count from there on. Where it can't be sent, the round comes to nothing: the old process
// has a time-out.
static void end_subscribing(handover_in *i) {
    node *n = i->on;
    i->subscribing = false;
    if (!i->ordered) {
        handover_message m = {handover_type::subscribed};
        m.number = i->round;
        i->round_rooms.clear();
        return void(say(i, &m));
    }
    std::string text = handover_marker_text(i->nonce, i->round);
    i->marking = true;
    (void)n->broker->ops->send_to_node(n->broker, node_id(), text, nullptr, nullptr, 0);
}

void handover_in_marker(node *n, view bytes) {
    handover_in *i = n->arriving;
    if (i->state != in_state::taking || !i->marking || bytes != handover_marker_text(i->nonce, i->round)) return;
    i->marking = false;
    i->special.counted = true;
    for (const std::string &room : i->round_rooms)
        if (is_active(i, room)) i->rooms[room].counted = true;
    i->round_rooms.clear();
}

// ---------------------------------------------------------------- the old process's words

static void over(handover_in *i);

static void greet(handover_in *i) {
    node *n = i->on;
    i->greeted = false;
    i->ordered = i->ordered && handover_ordered(n);
    i->state = in_state::taking;
    random_bytes(&i->nonce, sizeof i->nonce);
    handover_message hello = {handover_type::hello, handover_version, n->worker_count, i->ordered, {}, node_id()};
    hello.id.tag = i->nonce;
    (void)say(i, &hello);
}

// Answered once the broker is there: the old process waits, and its connections miss nothing.
static void greeted(handover_in *i, const handover_message *m) {
    if (i->state != in_state::greeting) return;
    if (m->version != handover_version || m->text != node_id()) return over(i);
    i->ordered = m->flag;
    i->greeted = true;
}

static void refuse(handover_in *i, conn_id who, const char *why) {
    handover_message m = {handover_type::refused};
    m.id = handover_id_of(who);
    m.text = why;
    i->count.refused++;
    (void)say(i, &m);
}

static void described(handover_in *i, const handover_message *m, int fd) {
    conn_id who = handover_conn_id(m->id);
    const char *why = i->state != in_state::taking || i->on->stopping ? "this process takes none"
                      : who.worker >= i->on->worker_count             ? "there are fewer workers now"
                      : fd < 0                                        ? "it came without its socket"
                      : i->under_way.count(who.tag)                   ? "it has come already"
                                                                      : nullptr;
    if (why) {
        if (fd >= 0) close(fd);
        return refuse(i, who, why);
    }
    i->under_way[who.tag] = who;
    handover_letter *l = handover_letter_new(handover_op::install, 0, who);
    l->bytes = frame_copy(m->text);
    l->fd = fd;
    to_worker(i, who.worker, l);
}

static void forget_asks(handover_in *i, conn_id who) {
    std::erase_if(i->asks, [who](handover_letter *ask) {
        bool its = ask->who == who;
        if (its) handover_letter_free(ask);
        return its;
    });
}

static void end_conn(handover_in *i, conn_id who, handover_op op) {
    if (!i->under_way.erase(who.tag)) return;
    (op == handover_op::start ? i->count.come : i->count.dropped)++;
    forget_asks(i, who);
    to_worker(i, who.worker, handover_letter_new(op, 0, who));
}

static void release_rooms(handover_in *i) {
    std::unordered_map<std::string, kept_room> rooms;
    forget_all(i);
    rooms.swap(i->rooms);
    for (const auto &[name, r] : rooms)
        node_release(i->on, name);
}

static void over(handover_in *i) {
    if (i->state == in_state::over) return;
    i->state = in_state::over;
    std::vector<conn_id> rest;
    for (const auto &[tag, who] : i->under_way)
        rest.push_back(who);
    for (conn_id who : rest)
        end_conn(i, who, handover_op::drop);
    end_asks(i);
    release_rooms(i);
    log_info("handover: %llu connections have come from the old process",
             static_cast<unsigned long long>(i->count.come));
}

void handover_in_message(node *n, const handover_message *m, int fd) {
    handover_in *i = n->arriving;
    if (m->type == handover_type::describe) return described(i, m, fd);
    if (fd >= 0) close(fd); // none belongs to anything else
    i->heard_ms = now_of(i);
    switch (m->type) {
    case handover_type::hello:
        return greeted(i, m);
    case handover_type::rooms:
        return hold_rooms(i, m);
    case handover_type::go:
        return end_conn(i, handover_conn_id(m->id), handover_op::start);
    case handover_type::cancel:
        return end_conn(i, handover_conn_id(m->id), handover_op::drop);
    case handover_type::done:
        return over(i);
    case handover_type::carried:
        return handover_carry_told(n, m->number, static_cast<int>(m->version), m->text);
    case handover_type::order:
        return handover_node_take_order(n, m->text);
    default:
        return; // not its to say
    }
}

// ---------------------------------------------------------------- the workers' letters

static void arrived(handover_in *i, const handover_letter *l) {
    conn_id_text id = conn_id_format(l->who);
    for (const std::string &room : l->names)
        presence_enter(i->on->presence, room, id, l->user, l->info, false);
}

void handover_in_letter(node *n, handover_letter *l) {
    handover_in *i = n->arriving;
    handover_message m = {handover_type::ready};
    m.id = handover_id_of(l->who);
    switch (l->op) {
    case handover_op::ask:
        if (!i->under_way.count(l->who.tag)) break;
        i->asks.push_back(l);
        return answer_asks(i);
    case handover_op::ready:
        if (i->under_way.count(l->who.tag)) (void)say(i, &m);
        break;
    case handover_op::refused:
        if (!i->under_way.count(l->who.tag)) break;
        end_conn(i, l->who, handover_op::drop);
        refuse(i, l->who, l->why);
        break;
    case handover_op::arrived:
        arrived(i, l);
        break;
    case handover_op::overflow:
        i->count.orders_dropped++;
        break;
    default:
        break;
    }
    handover_letter_free(l);
}

// ---------------------------------------------------------------- time, and the end

void handover_in_missed(node *n) {
    handover_in *i = n->arriving;
    i->ordered = false; // who comes now is told a gap of every room without history
    i->marking = false;
    forget_all(i);
}

static void step_round(handover_in *i) {
    while (i->subscribed < i->round_rooms.size() && is_active(i, i->round_rooms[i->subscribed]))
        i->subscribed++;
    bool all = i->subscribed == i->round_rooms.size();
    if (all || now_of(i) >= i->round_ms + subscribe_ms) end_subscribing(i);
}

void handover_in_turn(node *n) {
    handover_in *i = n->arriving;
    handover_carries_turn(i->carries, n);
    if (i->state == in_state::over) return;
    uint64_t now = now_of(i);
    if (i->greeted && (n->broker->ops->ready(n->broker) || now >= i->began_ms + ready_ms)) greet(i);
    if (i->subscribing) step_round(i);
    answer_asks(i);
    if (now >= i->began_ms + handover_whole_ms + handover_answer_ms) return over(i);
    if (i->state == in_state::greeting && now >= i->began_ms + handover_answer_ms) over(i);
}

// Rooms that nobody of the old process has come back to are empty now, and the backend is told so, as after any other
// leave.
static void tell_vacated(handover_in *i) {
    node *n = i->on;
    for (const std::string &room : i->known)
        if (n->tells_occupancy && !node_room_find(n, room, hash_bytes(room)))
            occupancy_vacated(&n->occupancy, room, now_of(i));
    i->known.clear();
}

void handover_in_broken(node *n) {
    handover_in *i = n->arriving;
    if (!i->linked) return;
    i->linked = false;
    over(i);
    handover_carries_end(i->carries, n);
    tell_vacated(i);
    handover_alone(n);
}

bool handover_in_linked(const node *n) {
    return n->arriving->linked;
}

bool handover_in_shares(const node *n, view room) {
    return n->arriving->linked && n->arriving->known.count(std::string(room)) != 0;
}

// ---------------------------------------------------------------- life

void handover_in_begin(node *n, const handover_wire *wire) {
    auto *i = new handover_in{};
    n->arriving = i;
    i->on = n;
    i->wire = *wire;
    i->linked = true;
    i->carries = handover_carries_new();
    i->began_ms = i->heard_ms = now_of(i);
    presence_share(n->presence, true);
}

bool handover_in_taking(const node *n) {
    return n->arriving && n->arriving->state != in_state::over;
}

handover_in_counters handover_in_count(const node *n) {
    return n->arriving ? n->arriving->count : handover_in_counters{};
}

handover_carries *handover_in_carries(const node *n) {
    return n->arriving->carries;
}

bool handover_in_say(node *n, const handover_message *m) {
    return say(n->arriving, m);
}

void handover_in_free(node *n) {
    handover_in *i = n->arriving;
    if (!i) return;
    end_asks(i);
    forget_all(i);
    n->arriving = nullptr;
    handover_carries_free(i->carries);
    delete i;
}

} // namespace belfry
