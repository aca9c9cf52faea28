// The old process's node. Main thread.
#include "relay/handover_out.h"

#include "base/clock.h"
#include "base/log.h"
#include "relay/handover_impl.h"
#include "relay/node_impl.h"
#include "relay/node_peers.h"

#include <bit>
#include <deque>
#include <unistd.h>
#include <unordered_map>

namespace belfry {

static constexpr size_t names_bytes_max = 32768; // of one message with rooms
static constexpr uint64_t round_every_ms = 200;  // for rooms that were made since the last one

enum class out_state : uint8_t {
    greeting, // for the new process's hello
    moving,
    over, // nothing moves any more; the link stays for orders
};

// A connection whose description was sent.
struct sent_conn {
    conn_id who;
    uint64_t until_ms;
};

struct handover_out {
    node *on; // borrowed
    handover_wire wire;
    out_state state;
    bool linked;
    bool ordered, told; // rooms are counted; the workers were told to begin
    bool barred;        // the fence before the first one, without a job of its own, is behind us
    uint64_t began_ms, heard_ms, moved_ms;

    // The round of rooms that is under way.
    uint64_t round, round_ms; // round_ms: when the last one ended
    bool round_open;
    std::vector<std::string> round_rooms;
    uint64_t nonce;   // of the new process's markers
    uint64_t ordinal; // as room::ordinal, of @all and @conn:

    // Publishes of clients, in the order of sending: what is settled goes from the front.
    std::deque<bool> publishes;
    uint64_t first_ticket;
    std::deque<std::pair<uint64_t, handover_letter *>> fences; // owned; each with the ticket that it waits for

    std::unordered_map<uint64_t, sent_conn> sent; // by tag
    std::vector<uint64_t> left;                   // by worker; UINT64_MAX: not known yet
    handover_out_counters count;
};

static uint64_t now_of(const handover_out *o) {
    return o->on->on->clock.monotonic_ms;
}

static void to_worker(const handover_out *o, uint32_t worker, handover_letter *l) {
    node_send(o->on, worker, &l->head);
}

static void over(handover_out *o, const char *why);

// False: it is over.
static bool say(handover_out *o, const handover_message *m, int fd = -1) {
    if (o->linked && o->wire.send(o->wire.context, m, fd)) return true;
    if (!o->linked && fd >= 0) close(fd);
    return false;
}

static bool say_of(handover_out *o, handover_type type, conn_id who) {
    handover_message m = {type};
    m.id = handover_id_of(who);
    return say(o, &m);
}

// ---------------------------------------------------------------- publishes and fences

uint64_t handover_out_published(node *n) {
    handover_out *o = n->leaving;
    o->publishes.push_back(false);
    return o->first_ticket + o->publishes.size() - 1;
}

static void answer_fences(handover_out *o) {
    while (!o->fences.empty() && o->fences.front().first <= o->first_ticket) {
        handover_letter *l = o->fences.front().second;
        o->fences.pop_front();
        l->op = handover_op::fenced;
        to_worker(o, l->head.worker, l);
    }
}

void handover_out_settled(node *n, uint64_t ticket) {
    handover_out *o = n->leaving;
    if (!o || ticket < o->first_ticket || ticket - o->first_ticket >= o->publishes.size()) return; // from before
    o->publishes[ticket - o->first_ticket] = true;
    while (!o->publishes.empty() && o->publishes.front()) {
        o->publishes.pop_front();
        o->first_ticket++;
    }
    answer_fences(o);
}

struct barrier {
    node *on; // borrowed
    uint64_t ticket;
};

static void barred(void *context, uint64_t, int64_t) {
    auto *b = static_cast<barrier *>(context);
    handover_out_settled(b->on, b->ticket);
    delete b;
}

// What was published before anybody counted is behind us when this comes back: on one link Redis answers in order. Over
// a cluster's several links it is as good as behind us.
static void bar(handover_out *o) {
    node *n = o->on;
    if (o->barred || !n->broker->ops->send_to_node) return;
    o->barred = true;
    auto *b = new barrier{n, handover_out_published(n)};
    if (!n->broker->ops->send_to_node(n->broker, node_id(), "handover", barred, b, 0)) barred(b, 0, 0);
}

// ---------------------------------------------------------------- rooms

static void tell_rooms(handover_out *o, const std::vector<std::string> &names) {
    handover_message m = {handover_type::rooms};
    m.number = o->round;
    size_t bytes = 0;
    for (const std::string &name : names) {
        if (m.names.size() == handover_names_max || bytes + name.size() > names_bytes_max) {
            if (!say(o, &m)) return;
            m.names.clear();
            bytes = 0;
        }
        m.names.push_back(name);
        bytes += name.size();
    }
    m.flag = true;
    (void)say(o, &m);
}

static void note_room(table_node *t, void *context) {
    auto *o = static_cast<handover_out *>(context);
    const node_room *r = BELFRY_CONTAINER_OF(t, node_room, node);
    if (!r->ordinal && r->active) o->round_rooms.emplace_back(node_room_name(o->on, r));
}

// Rooms that are empty, but were not told to be so yet, are the new process's to tell.
static void note_vacated(view room, void *context) {
    static_cast<std::vector<std::string> *>(context)->emplace_back(room);
}

static void begin_round(handover_out *o) {
    o->round_rooms.clear();
    table_each(&o->on->rooms, note_room, o);
    if (o->round && o->round_rooms.empty()) {
        o->round_ms = now_of(o);
        return;
    }
    o->round++;
    o->round_open = true;
    o->heard_ms = now_of(o);
    std::vector<std::string> names = o->round_rooms;
    if (o->round == 1) occupancy_each_held(&o->on->occupancy, note_vacated, &names);
    tell_rooms(o, names);
}

static void count_room(handover_out *o, const std::string &name) {
    node *n = o->on;
    node_room *r = node_room_find(n, name, hash_bytes(name));
    if (!r || !r->active || r->ordinal) return; // it is made anew, and comes with the next round
    r->ordinal = 1;
    node_tell_counted(n, r);
}

static void end_round(handover_out *o, bool counted) {
    o->round_open = false;
    o->round_ms = now_of(o);
    if (counted) {
        if (!o->ordinal) o->ordinal = 1;
        for (const std::string &name : o->round_rooms)
            count_room(o, name);
    }
    o->round_rooms.clear();
    if (o->told) return;
    o->told = true;
    o->moved_ms = now_of(o);
    for (uint32_t w = 0; w < o->on->worker_count; w++) {
        handover_letter *l = handover_letter_new(handover_op::move, 0);
        l->serial = counted;
        to_worker(o, w, l);
    }
}

void handover_out_marker(node *n, view bytes) {
    handover_out *o = n->leaving;
    if (o->state != out_state::moving || !o->round_open || !o->ordered) return;
    if (bytes == handover_marker_text(o->nonce, o->round)) end_round(o, true);
}

void handover_out_note(node *n, message *m) {
    handover_out *o = n->leaving;
    if (o->state != out_state::moving || !o->ordered) return;
    if (handover_special(m)) {
        if (o->ordinal) m->ordinal = ++o->ordinal;
        return;
    }
    node_room *r = node_room_find(n, m->room, m->room_hash);
    if (r && r->ordinal && handover_counts(r->feed != nullptr, m)) m->ordinal = ++r->ordinal;
}

// ---------------------------------------------------------------- the end

static void settle_all_fences(handover_out *o) {
    for (auto &[ticket, l] : o->fences) {
        l->op = handover_op::fenced;
        to_worker(o, l->head.worker, l);
    }
    o->fences.clear();
}

static void uncount(table_node *t, void *) {
    BELFRY_CONTAINER_OF(t, node_room, node)->ordinal = 0;
}

static void over(handover_out *o, const char *why) {
    if (o->state == out_state::over) return;
    o->state = out_state::over;
    for (const auto &[tag, s] : o->sent)
        if (!say_of(o, handover_type::cancel, s.who)) break;
    o->count.given_up += o->sent.size();
    o->sent.clear();
    handover_message done = {handover_type::done};
    (void)say(o, &done);
    settle_all_fences(o);
    table_each(&o->on->rooms, uncount, nullptr);
    for (uint32_t w = 0; o->told && w < o->on->worker_count; w++)
        to_worker(o, w, handover_letter_new(handover_op::stay, 0));
    log_info("handover: %llu connections are in the new process (%s); %llu it did not take",
             static_cast<unsigned long long>(o->count.moved), why,
             static_cast<unsigned long long>(o->count.refused + o->count.given_up));
}

void handover_out_broken(node *n) {
    handover_out *o = n->leaving;
    o->linked = false;
    over(o, "it is gone");
    handover_alone(n);
}

void handover_out_missed(node *n) {
    if (n->leaving->ordered) over(n->leaving, "the broker has lost messages meanwhile");
}

bool handover_out_linked(const node *n) {
    return n->leaving->linked;
}

// ---------------------------------------------------------------- the new process's words

static void greeted(handover_out *o, const handover_message *m) {
    if (o->state != out_state::greeting) return;
    if (m->version != handover_version) return over(o, "it speaks another version");
    if (m->text != node_id()) return over(o, "it is another node");
    o->ordered = o->ordered && m->flag;
    o->nonce = m->id.tag;
    o->state = out_state::moving;
    bar(o);
    begin_round(o);
}

static void subscribed(handover_out *o, const handover_message *m) {
    if (o->state == out_state::moving && o->round_open && !o->ordered && m->number == o->round) end_round(o, false);
}

// The description was answered: its connection, if it is still waited for.
static bool take_sent(handover_out *o, conn_id who) {
    auto at = o->sent.find(who.tag);
    if (at == o->sent.end() || !(at->second.who == who)) return false;
    o->sent.erase(at);
    o->heard_ms = now_of(o);
    return true;
}

static void stays(handover_out *o, conn_id who) {
    handover_letter *l = handover_letter_new(handover_op::stay, 0, who);
    l->serial = 1;
    to_worker(o, who.worker, l);
}

static void ready(handover_out *o, conn_id who) {
    if (!take_sent(o, who)) return;
    if (!say_of(o, handover_type::go, who)) return stays(o, who);
    o->count.moved++;
    o->moved_ms = now_of(o);
    to_worker(o, who.worker, handover_letter_new(handover_op::go, 0, who));
}

static void log_refused(const handover_message *m) {
    static log_limit limit;
    uint64_t held = 0;
    if (log_limit_pass(&limit, &held))
        log_info("handover: the new process does not take a connection: %.*s (%llu more not shown)",
                 static_cast<int>(m->text.size()), m->text.data(), static_cast<unsigned long long>(held));
}

void handover_out_message(node *n, const handover_message *m) {
    handover_out *o = n->leaving;
    conn_id who = handover_conn_id(m->id);
    switch (m->type) {
    case handover_type::hello:
        return greeted(o, m);
    case handover_type::subscribed:
        return subscribed(o, m);
    case handover_type::ready:
        return ready(o, who);
    case handover_type::refused:
        if (!take_sent(o, who)) return;
        o->count.refused++;
        log_refused(m);
        return stays(o, who);
    case handover_type::carry:
        return handover_node_carry(n, m->number, m->text);
    case handover_type::order:
        return handover_node_take_order(n, m->text);
    default:
        return; // not its to say
    }
}

// ---------------------------------------------------------------- the workers' letters

static void described(handover_out *o, handover_letter *l) {
    handover_message m = {handover_type::describe};
    m.id = handover_id_of(l->who);
    m.text = frame_view(l->bytes);
    int fd = l->fd;
    l->fd = -1;
    if (o->state != out_state::moving) {
        close(fd);
        return stays(o, l->who);
    }
    o->sent[l->who.tag] = {l->who, now_of(o) + handover_answer_ms};
    if (say(o, &m, fd)) return;
    o->sent.erase(l->who.tag);
    stays(o, l->who);
}

static void fence(handover_out *o, handover_letter *l) {
    uint64_t ticket = o->first_ticket + o->publishes.size();
    o->fences.emplace_back(ticket, l);
    answer_fences(o);
}

static void gone(handover_out *o, const handover_letter *l) {
    conn_id_text id = conn_id_format(l->who);
    for (const std::string &room : l->names)
        presence_moved(o->on->presence, room, id);
}

void handover_out_letter(node *n, handover_letter *l) {
    handover_out *o = n->leaving;
    handover_message m = {handover_type::order};
    switch (l->op) {
    case handover_op::fence:
        return fence(o, l);
    case handover_op::described:
        described(o, l);
        break;
    case handover_op::gone:
        gone(o, l);
        break;
    case handover_op::overflow:
        o->count.orders_dropped++;
        break;
    case handover_op::left:
        o->left[l->head.worker] = l->serial;
        break;
    case handover_op::order:
        m.text = frame_view(l->bytes);
        (void)say(o, &m);
        break;
    default:
        break;
    }
    handover_letter_free(l);
}

// ---------------------------------------------------------------- time

static void end_late(handover_out *o) {
    uint64_t now = now_of(o);
    std::vector<conn_id> late;
    for (const auto &[tag, s] : o->sent)
        if (s.until_ms <= now) late.push_back(s.who);
    for (conn_id who : late) {
        o->sent.erase(who.tag);
        o->count.given_up++;
        if (say_of(o, handover_type::cancel, who)) stays(o, who);
    }
}

static bool nobody_left(const handover_out *o) {
    for (uint64_t left : o->left)
        if (left) return false;
    return o->sent.empty();
}

static const char *why_over(const handover_out *o) {
    uint64_t now = now_of(o);
    if (o->on->stopping) return "this one stops";
    if (now >= o->began_ms + handover_whole_ms) return "time is up";
    if (o->state == out_state::greeting || o->round_open)
        return now >= o->heard_ms + handover_answer_ms ? "it does not answer" : nullptr;
    if (nobody_left(o)) return "all that could move";
    return now >= o->moved_ms + handover_moving_ms ? "the others are busy" : nullptr;
}

void handover_out_turn(node *n) {
    handover_out *o = n->leaving;
    if (o->state == out_state::over) return;
    end_late(o);
    if (const char *why = why_over(o)) return over(o, why);
    bool due = o->state == out_state::moving && o->ordered && !o->round_open;
    if (due && now_of(o) >= o->round_ms + round_every_ms) begin_round(o);
}

// ---------------------------------------------------------------- life

void handover_out_begin(node *n, const handover_wire *wire) {
    auto *o = new handover_out{};
    n->leaving = o;
    o->on = n;
    o->wire = *wire;
    o->linked = true;
    o->ordered = handover_ordered(n);
    o->began_ms = o->heard_ms = now_of(o);
    o->first_ticket = clock_monotonic_ns(); // above 0, and all of a handover before
    o->left.assign(n->worker_count, UINT64_MAX);
    presence_share(n->presence, true);
    handover_message m = {handover_type::hello, handover_version, n->worker_count, o->ordered, {}, node_id()};
    if (!say(o, &m)) handover_out_broken(n);
}

bool handover_out_giving(const node *n) {
    return n->leaving && n->leaving->state != out_state::over;
}

handover_out_counters handover_out_count(const node *n) {
    return n->leaving ? n->leaving->count : handover_out_counters{};
}

void handover_out_say(node *n, const handover_message *m) {
    (void)say(n->leaving, m);
}

void handover_out_free(node *n) {
    handover_out *o = n->leaving;
    if (!o) return;
    for (auto &[ticket, l] : o->fences)
        handover_letter_free(l);
    n->leaving = nullptr;
    delete o;
}

} // namespace belfry
