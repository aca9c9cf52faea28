// Rooms of one worker: joining, admitting, leaving, and what the node is told.
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>
extern "C" {
#include <cmocka.h>
}

#include "relay/client.h"
#include "shard_bench.h"

using namespace belfry;

namespace {

room *find(view name) {
    return room_find(the_shard(), name, hash_bytes(name));
}

join_result join(conn *c, view name, membership **out) {
    return room_join(the_shard(), c, name, out);
}

void leave(membership *m) {
    room_leave(the_shard(), m);
}

// Each member knows where it stands, and stands there.
void check_indexes(const room *r) {
    for (uint32_t i = 0; i < r->count; i++) {
        const membership *m = r->members[i].entry;
        assert_int_equal(m->index, i);
        assert_ptr_equal(m->who, r->members[i].who);
        assert_ptr_equal(m->in, r);
        assert_true(m->member);
    }
}

void add_rule(const char *pattern, int64_t max_members) {
    room_rule rule = {};
    rule.pattern = pattern;
    rule.max_members = max_members;
    bench->settings.rooms.push_back(rule);
}

void who_is_in_a_room_with_presence_is_told_to_the_node(void **) {
    add_rule("seen", 0);
    bench->settings.rooms.back().presence = true;
    add_rule("*", 0);
    conn *a = open_client(form_json).at, *b = open_client(form_json).at;
    client_of(a)->user = "56";
    client_of(a)->info = "{\"n\":1}";
    membership *m = enter(a, "seen"), *unseen = enter(a, "news"), *waiting;
    std::vector<seen_letter> all = letters();
    assert_int_equal(all.size(), 3);
    assert_true((all[1] == seen_letter{letter_type::entered, a->slot, "seen 56 {\"n\":1}"}));
    assert_true(all[2].type == letter_type::want);
    client_of(a)->info = "2";
    room_info_changed(a);
    assert_true(letters() == (std::vector<seen_letter>{{letter_type::entered, a->slot, "seen 56 2"}}));
    m->in->active = false; // who waits is no member yet
    assert_int_equal(join(b, "seen", &waiting), join_result::waiting);
    room_info_changed(b);
    leave(waiting);
    assert_true(letters().empty());
    leave(m);
    leave(unseen);
    all = letters();
    assert_true((all[0] == seen_letter{letter_type::exited, a->slot, "seen  "}));
    assert_int_equal(all.size(), 3); // and the rooms are dropped
}

void the_first_one_makes_the_node_want_the_room(void **) {
    conn *a = open_client(form_json).at, *b = open_client(form_json).at;
    membership *ma, *mb;
    assert_int_equal(join(a, "news", &ma), join_result::waiting);
    const room *r = find("news");
    assert_non_null(r);
    assert_true(letters() == (std::vector<seen_letter>{{letter_type::want, r->serial, "news"}}));
    assert_int_equal(join(b, "news", &mb), join_result::waiting);
    assert_true(letters().empty());
    assert_int_equal(r->count, 0);
    assert_int_equal(r->waiting, 2);
    assert_false(ma->member || mb->member);

    room_active(the_shard(), "news", r->serial, &nowhere, room_admit);
    assert_int_equal(r->count, 2);
    assert_int_equal(r->waiting, 0);
    assert_ptr_equal(r->members[0].who, a); // who came first is first
    check_indexes(r);
    assert_true(letters().empty());
}

void an_active_room_is_joined_at_once(void **) {
    conn *a = open_client(form_json).at, *b = open_client(form_json).at;
    enter(a, "news");
    letters();
    membership *m;
    assert_int_equal(join(b, "news", &m), join_result::joined);
    assert_false(m->member); // the caller admits it
    assert_int_equal(m->in->count, 1);
    room_admit(m);
    room_admit(m); // twice is once
    assert_int_equal(m->in->count, 2);
    assert_int_equal(m->in->waiting, 0);
    assert_true(letters().empty());
}

void the_last_one_makes_the_node_drop_the_room(void **) {
    conn *a = open_client(form_json).at, *b = open_client(form_json).at;
    membership *ma = enter(a, "news"), *mb = enter(b, "news");
    uint32_t serial = ma->in->serial;
    letters();
    leave(ma);
    assert_true(letters().empty());
    assert_non_null(find("news"));
    leave(mb);
    assert_true(letters() == (std::vector<seen_letter>{{letter_type::drop, serial, "news"}}));
    assert_null(find("news"));
    assert_int_equal(a->room_count, 0);
    assert_null(a->rooms);
}

// The node's answer to a want that was taken back meanwhile must not open the room that came after.
void an_old_answer_is_ignored(void **) {
    conn *a = open_client(form_json).at;
    membership *m;
    join(a, "news", &m);
    uint32_t old = m->in->serial;
    leave(m);
    join(a, "news", &m);
    uint32_t now = m->in->serial;
    assert_int_not_equal(old, now);
    assert_true(letters() == (std::vector<seen_letter>{{letter_type::want, old, "news"},
                                                       {letter_type::drop, old, "news"},
                                                       {letter_type::want, now, "news"}}));
    room_active(the_shard(), "news", old, &nowhere, room_admit);
    assert_false(m->member || m->in->active);
    room_active(the_shard(), "other", now, &nowhere, room_admit);
    assert_false(m->member || m->in->active);
    room_active(the_shard(), "news", now, &nowhere, room_admit);
    assert_true(m->member && m->in->active);
}

void an_answer_to_a_dropped_room_is_ignored(void **) {
    conn *a = open_client(form_json).at;
    membership *m;
    join(a, "news", &m);
    uint32_t serial = m->in->serial;
    leave(m);
    letters();
    room_active(the_shard(), "news", serial, &nowhere, room_admit);
    assert_null(find("news"));
    assert_true(letters().empty());
}

void who_is_in_is_not_put_in_again(void **) {
    conn *a = open_client(form_json).at;
    membership *first, *again = nullptr;
    join(a, "news", &first);
    assert_int_equal(join(a, "news", &again), join_result::already); // also while it waits
    assert_ptr_equal(again, first);
    room_active(the_shard(), "news", first->in->serial, &nowhere, room_admit);
    assert_int_equal(join(a, "news", &again), join_result::already);
    assert_int_equal(first->in->count, 1);
    assert_int_equal(a->room_count, 1);
    assert_int_equal(the_shard()->membership_count, 1);
}

void leaving_moves_the_last_member_into_the_gap(void **) {
    constexpr int n = 9; // more than the array's first two sizes
    membership *m[n];
    for (auto &each : m)
        each = enter(open_client(form_json).at, "news");
    room *r = m[0]->in;
    check_indexes(r);
    conn *last = m[n - 1]->who;
    leave(m[3]);
    assert_int_equal(r->count, n - 1);
    assert_ptr_equal(r->members[3].who, last);
    check_indexes(r);
    leave(m[n - 1]); // which was moved
    assert_int_equal(r->count, n - 2);
    check_indexes(r);
    leave(m[n - 2]); // the last in the array
    leave(m[0]);     // the first
    check_indexes(r);
    for (int i : {1, 2, 4, 5, 6}) {
        assert_int_equal(r->count, i == 1 ? 5 : i == 2 ? 4 : 7 - i);
        leave(m[i]);
        if (i != 6) check_indexes(r);
    }
    assert_null(find("news"));
}

void a_connections_rooms_are_its_own(void **) {
    conn *a = open_client(form_json).at, *b = open_client(form_json).at;
    membership *x = enter(a, "x"), *y = enter(a, "y"), *z = enter(a, "z");
    membership *by = enter(b, "y");
    assert_ptr_equal(room_membership(a, "y"), y);
    assert_ptr_equal(room_membership(b, "y"), by);
    assert_null(room_membership(b, "x"));
    assert_null(room_membership(a, "Y"));
    assert_int_equal(a->room_count, 3);
    leave(y); // out of the middle of the list
    assert_null(room_membership(a, "y"));
    assert_ptr_equal(room_membership(a, "x"), x);
    assert_ptr_equal(room_membership(a, "z"), z);
    assert_ptr_equal(room_membership(b, "y"), by);
    assert_int_equal(a->room_count, 2);
}

void a_closed_connection_leaves_its_rooms(void **) {
    conn *a = open_client(form_json).at, *b = open_client(form_json).at;
    enter(a, "x");
    enter(a, "y");
    enter(b, "y");
    membership *waiting;
    join(a, "z", &waiting);
    letters();
    conn_abort(a);
    assert_null(find("x"));
    assert_null(find("z"));
    assert_int_equal(find("y")->count, 1);
    assert_ptr_equal(find("y")->members[0].who, b);
    assert_int_equal(letters().size(), 2); // x and z are dropped
    turn();
    assert_int_equal(the_shard()->live, 1);
}

void max_members_counts_who_waits_too(void **) {
    add_rule("small-*", 2);
    conn *c[4];
    for (conn *&each : c)
        each = open_client(form_json).at;
    membership *m[3] = {}, *other;
    assert_int_equal(join(c[0], "small-1", &m[0]), join_result::waiting);
    assert_int_equal(join(c[1], "small-1", &m[1]), join_result::waiting);
    assert_int_equal(join(c[2], "small-1", &m[2]), join_result::full);
    assert_null(m[2]);
    assert_int_equal(c[2]->room_count, 0);
    room_active(the_shard(), "small-1", m[0]->in->serial, &nowhere, room_admit);
    assert_int_equal(join(c[2], "small-1", &m[2]), join_result::full);
    assert_int_equal(join(c[0], "small-1", &other), join_result::already); // who is in is not refused
    assert_int_equal(join(c[2], "small-2", &other), join_result::waiting); // each room for itself
    leave(m[1]);
    assert_int_equal(join(c[2], "small-1", &m[2]), join_result::joined);
    assert_int_equal(join(c[3], "small-1", &other), join_result::full);
}

void without_a_bound_all_come_in(void **) {
    add_rule("*", 0);
    for (int i = 0; i < 50; i++)
        enter(open_client(form_json).at, "big");
    assert_int_equal(find("big")->count, 50);
    check_indexes(find("big"));
}

// ---------------------------------------------------------------- callbacks

void it_leaves(membership *m) {
    leave(m);
}

void all_may_leave_inside_the_callback(void **) {
    membership *m = nullptr;
    for (int i = 0; i < 3; i++)
        join(open_client(form_json).at, "news", &m);
    uint32_t serial = m->in->serial;
    letters();
    room_active(the_shard(), "news", serial, &nowhere, it_leaves);
    assert_null(find("news"));
    assert_true(letters() == (std::vector<seen_letter>{{letter_type::drop, serial, "news"}}));
}

membership *everybody[4];

// Admission may close connections, also ones whose turn has not come.
void all_others_leave(membership *m) {
    for (membership *&each : everybody) {
        if (each && each != m) leave(each);
        if (each != m) each = nullptr;
    }
    room_admit(m);
}

void waiters_may_be_thrown_out_inside_the_callback(void **) {
    for (membership *&each : everybody)
        join(open_client(form_json).at, "news", &each);
    membership *first = everybody[0];
    room_active(the_shard(), "news", first->in->serial, &nowhere, all_others_leave);
    const room *r = find("news");
    assert_int_equal(r->count, 1);
    assert_int_equal(r->waiting, 0);
    assert_ptr_equal(r->members[0].entry, first);
    assert_true(list_empty(&r->waiters));
}

int called;
void not_yet(membership *) {
    called++;
}

void who_is_not_admitted_goes_on_waiting(void **) {
    membership *a, *b;
    join(open_client(form_json).at, "news", &a);
    join(open_client(form_json).at, "news", &b);
    called = 0;
    room_active(the_shard(), "news", a->in->serial, &nowhere, not_yet);
    assert_int_equal(called, 2);
    assert_int_equal(a->in->waiting, 2);
    assert_int_equal(a->in->count, 0);
    room_active(the_shard(), "news", a->in->serial, &nowhere, not_yet); // still in the list of those who wait
    assert_int_equal(called, 4);
    room_admit(b);
    leave(a);
    assert_int_equal(b->in->waiting, 0);
    assert_int_equal(b->in->count, 1);
    assert_ptr_equal(b->in->members[0].entry, b);
}

void who_waits_for_a_refused_room_is_told(void **) {
    conn *a = open_client(form_json).at, *b = open_client(form_json).at;
    membership *ma, *mb;
    join(a, "news", &ma);
    join(b, "news", &mb);
    uint32_t serial = ma->in->serial;
    letters();
    room_refused(the_shard(), "news", serial + 1, it_leaves); // an answer to another want
    assert_int_equal(find("news")->waiting, 2);
    room_refused(the_shard(), "news", serial, it_leaves);
    assert_null(find("news"));
    assert_int_equal(a->room_count + b->room_count, 0);
    assert_true(letters() == (std::vector<seen_letter>{{letter_type::drop, serial, "news"}}));
}

// ---------------------------------------------------------------- rights

constexpr room_verdict yes = room_verdict::yes, no = room_verdict::no, ask = room_verdict::ask;

void check_right(const conn *c, int32_t right, room_verdict join, room_verdict outside, room_verdict inside) {
    room_rule rule = {};
    rule.join = rule.publish = right;
    const char *why = nullptr;
    assert_int_equal(room_may_join(c, &rule, "news", &why), join);
    assert_true(join == yes || why);
    why = nullptr;
    assert_int_equal(room_may_publish(c, &rule, "news", false, &why), outside);
    assert_true(outside == yes || why);
    why = nullptr;
    assert_int_equal(room_may_publish(c, &rule, "news", true, &why), inside);
    assert_true(inside == yes || why);
}

void rights_are_what_the_rule_says(void **) {
    const conn *c = open_client(form_json).at;
    check_right(c, right_anyone, yes, yes, yes);
    check_right(c, right_members, no, no, yes);
    check_right(c, right_user, no, no, no);
    check_right(c, right_backend, no, no, no);
    check_right(c, right_nobody, no, no, no);
    const char *why = nullptr;
    assert_int_equal(room_may_join(c, nullptr, "news", &why), no); // without a rule: the backend's alone
    assert_non_null(why);
    assert_int_equal(room_may_publish(c, nullptr, "news", true, &why), no);
}

void a_user_has_more_rights(void **) {
    conn *c = open_client(form_json).at;
    client *who = client_of(c);
    check_right(c, right_user, no, no, no);
    who->user = "56";
    check_right(c, right_user, yes, yes, yes);
    check_right(c, right_backend, no, no, no);
    who->join = {"chat:*", "ne*"};
    check_right(c, right_backend, yes, no, no);
    who->publish = {"news"};
    check_right(c, right_backend, yes, yes, yes);
    check_right(c, right_nobody, no, no, no); // nobody is nobody
}

void where_there_is_a_hook_it_is_asked(void **) {
    conn *c = open_client(form_json).at;
    bench->way.hook = "/belfry";
    check_right(c, right_backend, ask, ask, ask);
    check_right(c, right_user, no, no, no);
    const char *why = nullptr;
    assert_int_equal(room_may_join(c, nullptr, "news", &why), ask);
    client_of(c)->join = {"news"};
    check_right(c, right_backend, yes, ask, ask);
}

} // namespace

#define with_bench(test) cmocka_unit_test_setup_teardown(test, bench_begin, bench_end)

int main() {
    const CMUnitTest tests[] = {
        with_bench(who_is_in_a_room_with_presence_is_told_to_the_node),
        with_bench(the_first_one_makes_the_node_want_the_room),
        with_bench(an_active_room_is_joined_at_once),
        with_bench(the_last_one_makes_the_node_drop_the_room),
        with_bench(an_old_answer_is_ignored),
        with_bench(an_answer_to_a_dropped_room_is_ignored),
        with_bench(who_is_in_is_not_put_in_again),
        with_bench(leaving_moves_the_last_member_into_the_gap),
        with_bench(a_connections_rooms_are_its_own),
        with_bench(a_closed_connection_leaves_its_rooms),
        with_bench(max_members_counts_who_waits_too),
        with_bench(without_a_bound_all_come_in),
        with_bench(all_may_leave_inside_the_callback),
        with_bench(waiters_may_be_thrown_out_inside_the_callback),
        with_bench(who_is_not_admitted_goes_on_waiting),
        with_bench(who_waits_for_a_refused_room_is_told),
        with_bench(rights_are_what_the_rule_says),
        with_bench(a_user_has_more_rights),
        with_bench(where_there_is_a_hook_it_is_asked),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
