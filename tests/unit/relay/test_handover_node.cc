// relay/handover_out.cc and handover_in.cc: the node's halves. The test is the other process, the workers, and Redis.
#include "node_bench.h"

#include "relay/handover_impl.h"
#include "relay/handover_in.h"
#include "relay/handover_out.h"
#include "relay/node_impl.h"

using namespace belfry;
using namespace node_bench;

namespace {

// ---- Redis ----

std::string sent_to_us; // on the node's own channel
void (*sent_reply)(void *context, uint64_t tag, int64_t nodes);
void *sent_context;

bool note_sent(broker *, view, view bytes, void (*reply)(void *context, uint64_t tag, int64_t nodes), void *context,
               uint64_t) {
    sent_to_us = bytes;
    if (reply) {
        if (sent_reply) sent_reply(sent_context, 0, 1);
        sent_reply = reply;
        sent_context = context;
    }
    return true;
}
bool always(const broker *) {
    return true;
}
broker_ops ordered;

void come(view room, view payload) {
    node_deliver(&bench->node, make_message(room, payload));
}

// ---- the other process ----

struct said {
    handover_type type;
    uint64_t number;
    bool flag;
    handover_id id;
    std::string text;
    std::vector<std::string> names;
};
std::vector<said> told;
bool link_works;

bool take(void *, const handover_message *m, int fd) {
    if (fd >= 0) close(fd);
    if (!link_works) return false;
    told.push_back({m->type, m->number, m->flag, m->id, std::string(m->text), {m->names.begin(), m->names.end()}});
    return true;
}
const handover_wire wire = {take, nullptr};

// What it was told of that type last; null: nothing.
const said *heard_of(handover_type type) {
    for (size_t i = told.size(); i--;)
        if (told[i].type == type) return &told[i];
    return nullptr;
}

handover_message hello(uint64_t nonce) {
    handover_message m = {handover_type::hello, handover_version, workers, true, {}, node_id()};
    m.id.tag = nonce;
    return m;
}

void out_says(handover_type type, conn_id who) {
    handover_message m = {type};
    m.id = handover_id_of(who);
    handover_out_message(&bench->node, &m);
}

void later(uint64_t ms) {
    bench->on->clock.monotonic_ms += ms;
    handover_node_turn(&bench->node);
}

// ---- the workers ----

// The next letter of a handover to that worker; others are heard. Null: there is none.
handover_letter *next(uint32_t w) {
    while (auto *l = static_cast<letter *>(mailbox_receive(&shard_of(w)->inbox))) {
        if (l->type == letter_type::handover) return reinterpret_cast<handover_letter *>(l);
        if (l->type == letter_type::counted || l->type == letter_type::active) {
            delete reinterpret_cast<room_letter *>(l);
            continue;
        }
        std::string ignored;
        hear_one(w, l, &ignored);
    }
    return nullptr;
}

// What it is, in a word; freed.
std::string next_op(uint32_t w) {
    handover_letter *l = next(w);
    if (!l) return "";
    static const char *names[] = {"move", "fenced", "go",      "stay",    "fence",  "described",
                                  "left", "gone",   "order",   "install", "told",   "start",
                                  "drop", "ask",    "arrived", "ready",   "refused"};
    std::string name = names[static_cast<int>(l->op)];
    if (l->op == handover_op::move || l->op == handover_op::stay) name += " " + std::to_string(l->serial);
    for (message *m : l->replay)
        name += " " + std::string(m->payload);
    for (const std::string &gap : l->names)
        name += " gap:" + gap;
    handover_letter_free(l);
    return name;
}

void letter_from(uint32_t w, handover_op op, conn_id who = {}, uint64_t serial = 0) {
    handover_letter *l = handover_letter_new(op, static_cast<uint8_t>(w), who);
    l->serial = serial;
    if (op == handover_op::described) l->bytes = frame_copy("description");
    if (op == handover_op::described) l->fd = dup(0);
    mailbox_send(&shard_of(w)->outbox, &l->head);
    turn();
}

void ask_from(uint32_t w, conn_id who, const std::vector<handover_seen> &seen) {
    handover_letter *l = handover_letter_new(handover_op::ask, static_cast<uint8_t>(w), who);
    l->seen = seen;
    mailbox_send(&shard_of(w)->outbox, &l->head);
    turn();
}

int begin(void **state) {
    if (setup(state) != 0) return -1;
    told.clear();
    sent_to_us.clear();
    sent_reply = nullptr;
    link_works = true;
    ordered = noted;
    ordered.send_to_node = note_sent;
    ordered.in_order = always;
    bench->node.broker->ops = &ordered;
    return 0;
}

int end(void **state) {
    for (uint32_t w = 0; w < workers; w++)
        while (handover_letter *l = next(w))
            handover_letter_free(l);
    if (sent_reply) sent_reply(sent_context, 0, 1);
    return teardown(state);
}

const conn_id who = {0, 5, 77};

// ---------------------------------------------------------------- out

// As far as the marker: both workers may let connections go.
void out_begins(uint64_t nonce) {
    want(0, 1, "a");
    want(1, 1, "log");
    turn();
    handover_out_begin(&bench->node, &wire);
    assert_true(handover_out_giving(&bench->node) && heard_of(handover_type::hello)->flag);
    handover_message m = hello(nonce);
    handover_out_message(&bench->node, &m);
    const said *rooms = heard_of(handover_type::rooms);
    assert_true(rooms && rooms->flag && rooms->number == 1 && rooms->names.size() == 2);
}

void messages_are_numbered_from_the_marker_on(void **) {
    out_begins(0xabc);
    come("a", "before");
    assert_false(handover_node_marker(&bench->node, "{\"v\":1}"));
    assert_true(handover_node_marker(&bench->node, handover_marker_text(0xabd, 1))); // another's, or an older one
    come("a", "still before");
    assert_true(handover_node_marker(&bench->node, handover_marker_text(0xabc, 1)));
    message *m[4];
    const char *rooms[] = {"a", "a", "@all", "b"};
    for (int i = 0; i < 4; i++) {
        m[i] = message_ref(make_message(rooms[i], "x"));
        node_deliver(&bench->node, m[i]);
    }
    assert_int_equal(m[0]->ordinal, 2);
    assert_int_equal(m[1]->ordinal, 3);
    assert_int_equal(m[2]->ordinal, 2);
    assert_int_equal(m[3]->ordinal, 0); // nobody is in it
    for (message *one : m)
        message_unref(one);
    assert_string_equal(next_op(0).c_str(), "move 1");
    want(0, 2, "b"); // a room that comes later is counted from the next round on
    turn();
    later(250);
    const said *round = heard_of(handover_type::rooms);
    assert_true(round->number == 2 && round->names == std::vector<std::string>({"b"}));
    assert_true(handover_node_marker(&bench->node, handover_marker_text(0xabc, 2)));
    assert_int_equal(node_room_find(&bench->node, "b", hash_bytes("b"))->ordinal, 1);
}

void a_connection_goes(void **) {
    out_begins(1);
    (void)handover_node_marker(&bench->node, handover_marker_text(1, 1));
    assert_string_equal(next_op(0).c_str(), "move 1");
    letter_from(0, handover_op::described, who);
    assert_string_equal(heard_of(handover_type::describe)->text.c_str(), "description");
    assert_null(heard_of(handover_type::go));
    out_says(handover_type::ready, who);
    assert_non_null(heard_of(handover_type::go));
    assert_string_equal(next_op(0).c_str(), "go");
    assert_int_equal(handover_out_count(&bench->node).moved, 1);
    out_says(handover_type::ready, who); // twice is once
    assert_string_equal(next_op(0).c_str(), "");
}

void a_connection_that_is_refused_stays(void **) {
    out_begins(1);
    (void)handover_node_marker(&bench->node, handover_marker_text(1, 1));
    (void)next_op(0);
    letter_from(0, handover_op::described, who);
    out_says(handover_type::refused, who);
    assert_string_equal(next_op(0).c_str(), "stay 1");
    assert_int_equal(handover_out_count(&bench->node).refused, 1);
}

void who_is_not_answered_stays_too(void **) {
    out_begins(1);
    (void)handover_node_marker(&bench->node, handover_marker_text(1, 1));
    (void)next_op(0);
    letter_from(0, handover_op::described, who);
    later(handover_answer_ms);
    assert_non_null(heard_of(handover_type::cancel));
    assert_string_equal(next_op(0).c_str(), "stay 1");
    out_says(handover_type::ready, who); // too late: it is ours
    assert_null(heard_of(handover_type::go));
}

void a_link_that_breaks(void **) {
    out_begins(1);
    (void)handover_node_marker(&bench->node, handover_marker_text(1, 1));
    (void)next_op(0);
    letter_from(0, handover_op::described, who);
    link_works = false;
    out_says(handover_type::ready, who);
    assert_string_equal(next_op(0).c_str(), "stay 1"); // `go` could not be said
    handover_out_broken(&bench->node);
    assert_string_equal(next_op(0).c_str(), "stay 0");
    assert_false(handover_out_giving(&bench->node) || handover_node_sibling(&bench->node));
}

void another_version_or_node(void **) {
    for (int i = 0; i < 2; i++) {
        handover_out_begin(&bench->node, &wire);
        handover_message m = hello(1);
        if (i == 0) m.version++;
        if (i == 1) m.text = "else";
        handover_out_message(&bench->node, &m);
        assert_false(handover_out_giving(&bench->node));
        assert_non_null(heard_of(handover_type::done));
        assert_string_equal(next_op(0).c_str(), ""); // the workers never heard of it
        handover_out_free(&bench->node);
    }
}

void each_step_has_an_end(void **) {
    handover_out_begin(&bench->node, &wire);
    later(handover_answer_ms - 1);
    assert_true(handover_out_giving(&bench->node));
    later(1); // no hello
    assert_false(handover_out_giving(&bench->node));
    handover_out_free(&bench->node);
    out_begins(1);
    later(handover_answer_ms); // no marker
    assert_false(handover_out_giving(&bench->node));
    handover_out_free(&bench->node);
    told.clear();
    handover_out_begin(&bench->node, &wire);
    handover_message m = hello(2);
    handover_out_message(&bench->node, &m);
    (void)handover_node_marker(&bench->node, handover_marker_text(2, 1));
    for (uint32_t w = 0; w < workers; w++) {
        handover_letter *l = handover_letter_new(handover_op::left, static_cast<uint8_t>(w));
        l->serial = w;
        handover_out_letter(&bench->node, l);
    }
    assert_true(handover_out_giving(&bench->node));
    later(handover_moving_ms); // one that stays busy
    assert_false(handover_out_giving(&bench->node));
}

void it_is_over_when_nobody_is_left(void **) {
    out_begins(1);
    (void)handover_node_marker(&bench->node, handover_marker_text(1, 1));
    letter_from(0, handover_op::left, {}, 0);
    assert_true(handover_out_giving(&bench->node));
    letter_from(1, handover_op::left, {}, 0);
    later(1);
    assert_false(handover_out_giving(&bench->node));
}

void fences_wait_for_what_was_published(void **) {
    out_begins(1);
    assert_string_equal(sent_to_us.c_str(), "handover"); // what was sent before anybody counted is behind its answer
    letter_from(0, handover_op::fence, {}, 1);
    (void)handover_node_marker(&bench->node, handover_marker_text(1, 1));
    assert_string_equal(next_op(0).c_str(), "move 1");
    assert_string_equal(next_op(0).c_str(), "");
    sent_reply(sent_context, 0, 1);
    sent_reply = nullptr;
    assert_string_equal(next_op(0).c_str(), "fenced");
    say_publish(0, "a", "x", 9); // the memory broker settles it at once: answered before the fence
    letter_from(0, handover_op::fence, {}, 2);
    assert_heard(0, "message a x; answer 9 0; ?; ");
}

void lost_messages_end_it(void **) {
    out_begins(1);
    (void)handover_node_marker(&bench->node, handover_marker_text(1, 1));
    bench->node.broker->events->down(&bench->node, "gone");
    assert_false(handover_out_giving(&bench->node));
    assert_int_equal(node_room_find(&bench->node, "a", hash_bytes("a"))->ordinal, 0);
}

// ---------------------------------------------------------------- in

void in_says(handover_type type, handover_message m = {}) {
    m.type = type;
    handover_in_message(&bench->node, &m, -1);
}

// As far as the marker.
uint64_t in_begins(const std::vector<view> &rooms) {
    handover_in_begin(&bench->node, &wire);
    handover_message m = hello(0);
    in_says(handover_type::hello, m);
    later(1);
    const said *h = heard_of(handover_type::hello);
    assert_true(h && h->flag && h->id.tag != 0);
    m = {handover_type::rooms};
    m.number = 1;
    m.flag = true;
    m.names = rooms;
    in_says(handover_type::rooms, m);
    later(1);
    return h->id.tag;
}

void describe() {
    handover_message m = {handover_type::describe};
    m.id = handover_id_of(who);
    m.text = "description";
    handover_in_message(&bench->node, &m, dup(0));
    handover_letter *l = next(0);
    assert_true(l && l->op == handover_op::install && l->fd >= 0 && frame_view(l->bytes) == "description");
    handover_letter_free(l);
}

void what_was_missed_is_told(void **) {
    in_begins({"a", "b", "log"});
    assert_asked("+a +b +log ");
    come("a", "before");
    assert_true(handover_node_marker(&bench->node, sent_to_us));
    for (const char *payload : {"1", "2", "3"})
        come("a", payload);
    come("b", "4");
    come("@all", "5");
    come("@conn:" + id_text(0, 5), "6");
    come("@conn:" + id_text(0, 6), "another's");
    describe();
    ask_from(0, who, {{"a", 2, false}, {"b", 2, false}, {"log", 1, true}, {"c", 1, false}, {"", 1, false}});
    assert_string_equal(next_op(0).c_str(), "told 2 3 5 6 gap:c");
    letter_from(0, handover_op::ready, who);
    assert_int_equal(heard_of(handover_type::ready)->id.tag, who.tag);
    handover_message m = {};
    m.id = handover_id_of(who);
    in_says(handover_type::go, m);
    assert_string_equal(next_op(0).c_str(), "start");
    assert_int_equal(handover_in_count(&bench->node).come, 1);
    assert_int_equal(handover_in_count(&bench->node).gaps, 1);
}

// The old process has delivered what is still to come here: not told before it is, and not twice.
void who_is_ahead_waits(void **) {
    in_begins({"a"});
    (void)handover_node_marker(&bench->node, sent_to_us);
    come("a", "1");
    describe();
    ask_from(0, who, {{"a", 3, false}, {"", 1, false}});
    assert_string_equal(next_op(0).c_str(), "");
    come("a", "2");
    later(1);
    assert_string_equal(next_op(0).c_str(), "told");
    come("a", "3");
}

void rooms_of_later_rounds(void **) {
    const uint64_t nonce = in_begins({"a"});
    (void)handover_node_marker(&bench->node, sent_to_us);
    come("b", "before");
    handover_message m = {handover_type::rooms};
    m.number = 2;
    m.flag = true;
    m.names = {"b"};
    in_says(handover_type::rooms, m);
    later(1);
    assert_string_equal(sent_to_us.c_str(), handover_marker_text(nonce, 2).c_str());
    come("a", "1");
    come("b", "before, too");
    (void)handover_node_marker(&bench->node, sent_to_us);
    come("b", "2");
    describe();
    ask_from(0, who, {{"a", 1, false}, {"b", 1, false}, {"", 1, false}});
    assert_string_equal(next_op(0).c_str(), "told 1 2");
}

void messages_without_a_place_in_rooms_that_keep_some(void **) {
    in_begins({"log"});
    (void)handover_node_marker(&bench->node, sent_to_us);
    come("log", "1");
    come("log", "2");
    std::vector<message *> kept;
    handover_in_kept(&bench->node, "log", 2, &kept);
    assert_int_equal(kept.size(), 1);
    assert_true(kept[0]->payload == "2");
    message_unref(kept[0]);
}

void lost_messages_are_told(void **) {
    in_begins({"a"});
    (void)handover_node_marker(&bench->node, sent_to_us);
    come("a", "1");
    bench->node.broker->events->up(&bench->node, true);
    describe();
    ask_from(0, who, {{"a", 1, false}, {"", 1, false}});
    assert_string_equal(next_op(0).c_str(), "told gap:a");
}

void rooms_are_held_until_it_is_done(void **) {
    in_begins({"a", "b"});
    want(1, 7, "a");
    turn();
    (void)asked();
    in_says(handover_type::done);
    assert_false(handover_in_taking(&bench->node));
    assert_asked("-b ");
    drop(1, 7, "a");
    turn();
    assert_asked("-a ");
}

// The other process's rooms are no news, until it has gone: then it is for us to say which of them are empty.
void occupancy_is_told_by_one(void **) {
    bench->node.tells_occupancy = true;
    in_begins({"a", "b"});
    in_says(handover_type::done);
    want(1, 1, "a");
    drop(1, 1, "a");
    want(1, 2, "new");
    turn();
    assert_heard(0, "?; "); // occupied: `new` alone
    handover_in_broken(&bench->node);
    later(1);
    occupancy_turn(&bench->node.occupancy, bench->on->clock.monotonic_ms + occupancy_hold_ms);
    assert_heard(0, "?; ?; "); // vacated: a and b
}

void a_connection_is_dropped(void **) {
    in_begins({});
    (void)handover_node_marker(&bench->node, sent_to_us);
    describe();
    handover_message m = {};
    m.id = handover_id_of(who);
    in_says(handover_type::cancel, m);
    assert_string_equal(next_op(0).c_str(), "drop");
    describe();
    handover_in_broken(&bench->node); // the old one is gone, and with it the connection
    assert_string_equal(next_op(0).c_str(), "drop");
    assert_int_equal(handover_in_count(&bench->node).dropped, 2);
}

void who_does_not_fit(void **) {
    in_begins({});
    handover_message m = {handover_type::describe};
    m.id = {workers, 1, 1};
    m.text = "x";
    handover_in_message(&bench->node, &m, dup(0));
    assert_non_null(strstr(heard_of(handover_type::refused)->text.c_str(), "workers"));
    m.id.worker = 0;
    handover_in_message(&bench->node, &m, -1);
    assert_non_null(strstr(heard_of(handover_type::refused)->text.c_str(), "socket"));
    assert_int_equal(handover_in_count(&bench->node).refused, 2);
}

} // namespace

int main() {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(messages_are_numbered_from_the_marker_on, begin, end),
        cmocka_unit_test_setup_teardown(a_connection_goes, begin, end),
        cmocka_unit_test_setup_teardown(a_connection_that_is_refused_stays, begin, end),
        cmocka_unit_test_setup_teardown(who_is_not_answered_stays_too, begin, end),
        cmocka_unit_test_setup_teardown(a_link_that_breaks, begin, end),
        cmocka_unit_test_setup_teardown(another_version_or_node, begin, end),
        cmocka_unit_test_setup_teardown(each_step_has_an_end, begin, end),
        cmocka_unit_test_setup_teardown(it_is_over_when_nobody_is_left, begin, end),
        cmocka_unit_test_setup_teardown(fences_wait_for_what_was_published, begin, end),
        cmocka_unit_test_setup_teardown(lost_messages_end_it, begin, end),
        cmocka_unit_test_setup_teardown(what_was_missed_is_told, begin, end),
        cmocka_unit_test_setup_teardown(who_is_ahead_waits, begin, end),
        cmocka_unit_test_setup_teardown(rooms_of_later_rounds, begin, end),
        cmocka_unit_test_setup_teardown(messages_without_a_place_in_rooms_that_keep_some, begin, end),
        cmocka_unit_test_setup_teardown(lost_messages_are_told, begin, end),
        cmocka_unit_test_setup_teardown(rooms_are_held_until_it_is_done, begin, end),
        cmocka_unit_test_setup_teardown(occupancy_is_told_by_one, begin, end),
        cmocka_unit_test_setup_teardown(a_connection_is_dropped, begin, end),
        cmocka_unit_test_setup_teardown(who_does_not_fit, begin, end),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
