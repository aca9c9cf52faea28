// What the tests of the node share: a node with two workers whose threads are not started. The test is both workers:
// what it tells the node goes through their outboxes, what the node tells them is read from their inboxes. The broker
// is the memory one, behind a table of functions that notes what the node asks of it. One bench at a time, in `bench`.
#pragma once

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>
extern "C" {
#include <cmocka.h>
}

#include "relay/adoption.h"
#include "relay/node.h"

#include <limits.h>
#include <string>
#include <unistd.h>
#include <utility>

namespace node_bench {

using namespace belfry;

inline constexpr uint32_t workers = 2;

struct bench_state {
    loop *on;
    struct node node;
    relay_settings settings;
    broker_settings broker;
    const broker_ops *memory;
    std::string asked;         // of the broker
    bool silent;               // it confirms no subscription
    bool away;                 // it is not ready
    uint32_t members[workers]; // what a worker says of any room
    // Of jobs and queries, whose `done` was called.
    int done_calls;
    uint64_t receivers;
    bool failed, duplicate;
    position at;
};

inline bench_state *bench;

// ---- the broker ----

inline void noted_subscribe(broker *b, view room) {
    bench->asked += "+" + std::string(room) + " ";
    if (!bench->silent) bench->memory->subscribe(b, room);
}
inline void noted_unsubscribe(broker *b, view room) {
    bench->asked += "-" + std::string(room) + " ";
    bench->memory->unsubscribe(b, room);
}
inline bool noted_publish(broker *b, message *m, publish_job *job, bool local) {
    bench->asked += (local ? "local:" : "publish:") + std::string(m->room) + " ";
    return !bench->away && bench->memory->publish(b, m, job, local);
}
inline bool noted_read(broker *b, view room, uint64_t after, uint32_t limit, uint64_t tag) {
    return bench->memory->read(b, room, after, limit, tag);
}
inline void noted_turn(broker *) {}
void noted_pause(broker *, bool paused) {
    bench->asked += paused ? "pause " : "resume ";
}
inline bool noted_ready(const broker *) {
    return !bench->away;
}
inline void noted_free(broker *b) {
    bench->memory->free(b);
}
inline constexpr broker_ops noted = {noted_subscribe, noted_unsubscribe, noted_publish, noted_read,  nullptr,
                                     nullptr,         noted_turn,        noted_pause,   noted_ready, noted_free};

inline std::string asked() {
    return std::exchange(bench->asked, "");
}

// ---- the workers ----

inline shard *shard_of(uint32_t w) {
    return &bench->node.workers[w].shard;
}

inline void say(uint32_t w, letter *l, int64_t charge) {
    l->worker = static_cast<uint8_t>(w);
    shard_of(w)->outbox_bytes += charge;
    mailbox_send(&shard_of(w)->outbox, l);
}
inline void say_room(uint32_t w, letter_type type, uint32_t serial, const char *room) {
    say(w, &(new room_letter{{type}, serial, room})->head, letter_charge);
}
inline void want(uint32_t w, uint32_t serial, const char *room) {
    say_room(w, letter_type::want, serial, room);
}
inline void drop(uint32_t w, uint32_t serial, const char *room) {
    say_room(w, letter_type::drop, serial, room);
}

inline message *make_message(view room, view payload) {
    frame *source = frame_copy(payload);
    message_parts parts = {room, source, frame_view(source), payload_kind::text, view(), 1};
    message *m = message_new(&parts);
    frame_unref(source);
    return m;
}

// As a connection's in slot `id`, which wants its answer where `id` is not 0.
inline void say_publish(uint32_t w, view room, view payload, uint32_t id) {
    conn_id sender = {static_cast<uint8_t>(w), id, 1};
    auto *l = new publish_letter{{letter_type::publish}, make_message(room, payload), sender, id != 0, id};
    say(w, &l->head, static_cast<int64_t>(payload.size()) + letter_charge);
}

// " @OFFSET" in a room with history.
inline std::string hear_place(const position *at) {
    return position_none(at) ? "" : " @" + std::to_string(at->offset);
}

inline void hear_message(uint32_t w, message *m, std::string *heard) {
    *heard += "message " + std::string(m->room) + " " + std::string(m->payload) + hear_place(&m->at) + "; ";
    m->receivers += bench->members[w];
    bool last = --m->pending == 0;
    if (last) message_landed(m);
    if (last && m->job)
        mailbox_send(&shard_of(w)->outbox, &m->head);
    else
        message_unref(m);
}

inline void hear_room(const char *what, room_letter *r, std::string *heard) {
    *heard += std::string(what) + " " + std::to_string(r->serial) + " " + r->room + hear_place(&r->at) + "; ";
    delete r;
}

inline void hear_join_answer(join_answer_letter *a, std::string *heard) {
    *heard += "joined " + std::to_string(a->number) + (a->recovered ? " yes" : " no");
    for (message *m : a->replay) {
        *heard += " " + std::string(m->payload);
        message_unref(m);
    }
    *heard += hear_place(&a->at) + "; ";
    delete a;
}

inline void hear_order(order_letter *o, std::string *heard) {
    const char *ops[] = {"join", "leave", "disconnect"};
    *heard += ops[static_cast<int>(o->op)];
    *heard += o->all ? " all" : o->by_room ? " members" : " slot " + std::to_string(o->conn.slot);
    if (!o->room.empty()) *heard += " room " + o->room;
    if (o->code) *heard += " code " + std::to_string(o->code) + " " + o->reason;
    *heard += "; ";
    delete o;
}

inline void hear_query(uint32_t w, query *q, std::string *heard) {
    *heard += "query " + q->room + "; ";
    q->parts[w].count = bench->members[w];
    if (--q->pending == 0) mailbox_send(&shard_of(w)->outbox, &q->head);
}

template <typename T> T *as(letter *l) {
    return reinterpret_cast<T *>(l);
}

inline void hear_one(uint32_t w, letter *l, std::string *heard) {
    switch (l->type) {
    case letter_type::broadcast:
        return hear_message(w, as<message>(l), heard);
    case letter_type::active:
        return hear_room("active", as<room_letter>(l), heard);
    case letter_type::refused:
        return hear_room("refused", as<room_letter>(l), heard);
    case letter_type::room_gap:
        return hear_room("gap", as<room_letter>(l), heard);
    case letter_type::join_answer:
        return hear_join_answer(as<join_answer_letter>(l), heard);
    case letter_type::order:
        return hear_order(as<order_letter>(l), heard);
    case letter_type::query:
        return hear_query(w, as<query>(l), heard);
    case letter_type::answer:
        *heard += "answer " + std::to_string(as<answer_letter>(l)->request_id) + " " +
                  std::to_string(as<answer_letter>(l)->code) + hear_place(&as<answer_letter>(l)->at) +
                  (as<answer_letter>(l)->duplicate ? " duplicate" : "") + "; ";
        delete as<answer_letter>(l);
        return;
    case letter_type::adopt:
        *heard += "adopt; ";
        delete as<adopt_letter>(l);
        return;
    case letter_type::fence:
        *heard += "fence; ";
        delete as<fence_letter>(l);
        return;
    default:
        *heard += l->type == letter_type::gap       ? "gap; "
                  : l->type == letter_type::drain   ? "drain; "
                  : l->type == letter_type::overdue ? "overdue; "
                  : l->type == letter_type::stop    ? "stop; "
                  : l->type == letter_type::kill    ? "kill; "
                                                    : "?; ";
        delete l;
    }
}

// What the node told the worker since the last call: all of it, or so many letters.
inline std::string heard(uint32_t w, int most = INT_MAX) {
    std::string all;
    for (; most; most--) {
        auto *l = static_cast<letter *>(mailbox_receive(&shard_of(w)->inbox));
        if (!l) break;
        hear_one(w, l, &all);
    }
    return all;
}

inline void turn() {
    loop_turn(bench->on, false);
    node_turn(&bench->node);
}

// ---- life ----

inline int setup(void **) {
    alarm(60);
    node_id_init();
    bench = new bench_state{};
    bench->on = loop_new();
    bench->settings.rooms = {{"log", right_anyone, right_anyone, 0, 4, 60000}};
    bench->broker.history_memory = 1 << 20;
    node_init(&bench->node, bench->on, &bench->settings, &bench->broker, workers);
    bench->memory = bench->node.broker->ops;
    bench->node.broker->ops = &noted;
    return 0;
}

inline int teardown(void **) {
    node_join(&bench->node);
    node_destroy(&bench->node);
    loop_free(bench->on);
    delete bench;
    alarm(0);
    return message_bytes_in_flight() != 0;
}

inline void on_done(publish_job *job, void *) {
    bench->done_calls++;
    bench->receivers = job->receivers;
    bench->failed = job->failed;
    bench->duplicate = job->duplicate;
    bench->at = job->at;
}

inline bool publish(view room, view payload, publish_job *job) {
    frame *source = frame_copy(payload);
    message_parts parts = {room, source, frame_view(source), payload_kind::text};
    bool sent = node_publish(&bench->node, &parts, job);
    frame_unref(source);
    return sent;
}

inline std::string id_text(uint8_t worker, uint32_t slot) {
    return std::string(view(conn_id_format({worker, slot, 77})));
}

} // namespace node_bench

// For the test's line in the report, so macros.
#define assert_heard(w, text) assert_string_equal(heard(w).c_str(), text)
#define assert_asked(text) assert_string_equal(asked().c_str(), text)
