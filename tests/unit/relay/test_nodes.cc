// Leases of nodes, against a Redis of a few lines whose clock is the test's.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
extern "C" {
#include <cmocka.h>
}

#include "relay/nodes.h"

#include <map>
#include <set>
#include <string.h>
#include <string>
#include <vector>

using namespace belfry;

namespace {

struct fake_redis {
    std::map<std::string, uint64_t> keys; // when they end
    std::set<std::string> all;            // the set p:nodes
    std::vector<std::string> asked;
    bool away;   // nothing can be sent
    bool silent; // what is sent gets no answer: the link breaks
    bool wrong;  // it is an error
};

fake_redis *server;
uint64_t now;
std::string told;

bool there(const std::string &key) {
    auto at = server->keys.find(key);
    return at != server->keys.end() && at->second > now;
}

redis_value number(int64_t n) {
    return {redis_type::integer, n, {}, 0, nullptr};
}

redis_value carry_out(const std::vector<std::string> &w, std::vector<redis_value> *elements) {
    if (w[0] == "PEXPIRE" || w[0] == "EXISTS" || w[0] == "DEL") {
        bool was = there(w[1]);
        if (w[0] == "PEXPIRE" && was) server->keys[w[1]] = now + std::stoull(w[2]);
        if (w[0] == "DEL") server->keys.erase(w[1]);
        return number(was);
    }
    if (w[0] == "SADD") return number(server->all.insert(w[2]).second);
    if (w[0] == "SREM") return number(static_cast<int64_t>(server->all.erase(w[2])));
    if (w[0] == "SMEMBERS") {
        for (const std::string &id : server->all)
            elements->push_back({redis_type::text, 0, id, 0, nullptr});
        return {redis_type::array, 0, {}, elements->size(), elements->data()};
    }
    assert_string_equal(w[0].c_str(), "SET");
    bool only_new = w[3] == "NX";
    if (only_new && there(w[1])) return {redis_type::nil, 0, {}, 0, nullptr};
    server->keys[w[1]] = now + std::stoull(w.back());
    return {redis_type::status, 0, "OK", 0, nullptr};
}

bool send(broker *, view key, int argc, const view *argv, redis_reply reply, void *context, uint64_t tag) {
    if (server->away) return false;
    std::vector<std::string> words;
    for (int i = 0; i < argc; i++)
        words.emplace_back(argv[i]);
    assert_true(key == words[1]);
    server->asked.push_back(words[0]);
    std::vector<redis_value> elements;
    redis_value v = carry_out(words, &elements);
    if (server->wrong) v = {redis_type::error, 0, "ERR no", 0, nullptr};
    reply(nullptr, server->silent ? nullptr : &v, context, tag);
    return true;
}

bool ready(const broker *) {
    return !server->away;
}
broker_ops ops;
broker over;

// A node under test, and what it says.
struct subject {
    nodes *of;
    const char *name;
};
subject a, b;

void say(void *context, const char *what, view id) {
    told += std::string(static_cast<subject *>(context)->name) + what + std::string(id) + " ";
}
const nodes_events events = {[](void *c, view id) { say(c, "+", id); }, [](void *c, view id) { say(c, "-", id); },
                             [](void *c, view id) { say(c, "!", id); },
                             [](void *c, bool lost) { say(c, lost ? " was lost" : " is back", ""); }};

void start(subject *s, const char *name, const char *id) {
    s->name = name;
    s->of = nodes_new(&over, send, "p:", id, &events, s);
}

void stop(subject *s) {
    if (s->of) nodes_free(s->of);
    s->of = nullptr;
}

// Time goes by; who runs has its turns.
void run(uint64_t ms, bool with_a = true, bool with_b = true) {
    for (uint64_t end = now + ms; now < end;) {
        now += 100;
        if (with_a && a.of) nodes_turn(a.of, now);
        if (with_b && b.of) nodes_turn(b.of, now);
    }
}

#define assert_told(text) (assert_string_equal(told.c_str(), text), told.clear())

int begin(void **) {
    server = new fake_redis{};
    now = 5000;
    ops.ready = ready;
    over.ops = &ops;
    a = b = {};
    return 0;
}

int end(void **) {
    stop(&a);
    stop(&b);
    delete server;
    std::string().swap(told);
    return 0;
}

void two_nodes_see_each_other(void **) {
    start(&a, "a", "AAAA");
    run(100);
    assert_told("");
    assert_true(there("p:node:AAAA"));
    start(&b, "b", "BBBB");
    run(4000);
    assert_told("b+AAAA a+BBBB ");
    run(60000);
    assert_told("");
    assert_int_equal(nodes_count(a.of), 1);
    assert_true(nodes_alive(a.of, "BBBB"));
    assert_false(nodes_alive(a.of, "AAAA"));
    std::string seen;
    nodes_each(
        a.of, [](view id, void *out) { *static_cast<std::string *>(out) += id; }, &seen);
    assert_string_equal(seen.c_str(), "BBBB");
}

void a_dead_node_is_tidied_up_behind_by_one(void **) {
    subject c = {};
    start(&a, "a", "AAAA");
    start(&b, "b", "BBBB");
    start(&c, "c", "CCCC");
    for (int i = 0; i < 10; i++) {
        nodes_turn(c.of, now);
        run(2000);
    }
    nodes_turn(c.of, now);
    stop(&c);
    told.clear();
    run(9000);
    assert_told("");
    run(3100); // within 12.1 s
    assert_told("a-CCCC a!CCCC b-CCCC ");
    run(20000); // not again, and by nobody else, while the task is fresh
    assert_told("");
    nodes_tidied(a.of, "CCCC");
    assert_int_equal(server->all.count("CCCC"), 0);
    run(60000);
    assert_told("");
    assert_int_equal(nodes_count_of(a.of).lost, 1);
    assert_int_equal(nodes_count_of(b.of).lost, 0);
}

void who_does_not_finish_is_relieved(void **) {
    start(&a, "a", "AAAA");
    start(&b, "b", "BBBB");
    server->all.insert("DEAD");
    run(12000);
    assert_told("b+AAAA a+BBBB a!DEAD ");
    stop(&a);
    server->all.erase("AAAA");
    run(33000);
    assert_told("b-AAAA b!DEAD ");
}

void nobody_is_lost_before_a_lease_has_gone_by(void **) {
    server->all.insert("DEAD"); // as it is after a start, or an outage
    start(&a, "a", "AAAA");
    run(9900);
    assert_told("");
    run(2200);
    assert_told("a!DEAD ");
    nodes_tidied(a.of, "DEAD");
    server->all.insert("GONE");
    server->away = true;
    run(5000);
    server->away = false;
    nodes_up(a.of);
    run(9900);
    assert_told("");
    server->silent = true; // one question without an answer is enough
    run(2000);
    server->silent = false;
    run(9900);
    assert_told("");
    run(4000);
    assert_told("a!GONE ");
}

void who_was_asleep_learns_that_it_was_lost(void **) {
    start(&a, "a", "AAAA");
    start(&b, "b", "BBBB");
    run(12000);
    told.clear();
    run(15000, true, false);
    assert_told("a-BBBB a!BBBB ");
    nodes_tidied(a.of, "BBBB");
    run(4100);
    assert_told("b was lost a+BBBB ");
    run(60000);
    assert_told("");
}

void a_redis_that_forgot_all_is_told_again(void **) {
    start(&a, "a", "AAAA");
    start(&b, "b", "BBBB");
    run(12000);
    told.clear();
    server->keys.clear();
    server->all.clear();
    run(2000);
    assert_string_equal(told.substr(0, 10).c_str(), "a is back "); // b may be missed for a moment
    assert_non_null(strstr(told.c_str(), "b is back "));
    assert_null(strstr(told.c_str(), "!"));
    told.clear();
    run(60000);
    assert_true(nodes_alive(a.of, "BBBB") && nodes_alive(b.of, "AAAA"));
    assert_null(strstr(told.c_str(), "!"));
}

void who_leaves_in_order_is_not_lost(void **) {
    start(&a, "a", "AAAA");
    start(&b, "b", "BBBB");
    run(12000);
    told.clear();
    assert_false(nodes_has_left(b.of));
    nodes_leave(b.of);
    assert_true(nodes_has_left(b.of));
    assert_false(there("p:node:BBBB"));
    run(60000); // it does nothing any more
    assert_told("a-BBBB ");
    assert_int_equal(nodes_count(a.of), 0);
}

void who_leaves_without_redis_has_left(void **) {
    start(&a, "a", "AAAA");
    server->away = true;
    nodes_leave(a.of);
    assert_true(nodes_has_left(a.of));
}

void what_is_no_node_is_passed_over(void **) {
    start(&a, "a", "AAAA");
    for (const char *id : {"", "BBB", "BBBBB", "BB B", "BB*B",
                           "B\xff\xff"
                           "B"})
        server->all.insert(id);
    run(60000);
    assert_told("");
    for (size_t i = 0; i < nodes_max + 500; i++) {
        char id[8];
        snprintf(id, sizeof id, "%04zu", i);
        server->all.insert(id);
        server->keys[std::string("p:node:") + id] = now + 100000;
    }
    run(4000);
    assert_int_equal(nodes_count(a.of), nodes_max);
}

void errors_are_no_answers(void **) {
    server->all.insert("DEAD");
    start(&a, "a", "AAAA");
    server->wrong = true;
    run(60000);
    assert_told("");
    assert_int_equal(nodes_count_of(a.of).looks, 0);
}

} // namespace

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main() {
    const CMUnitTest tests[] = {
        TEST(two_nodes_see_each_other),
        TEST(a_dead_node_is_tidied_up_behind_by_one),
        TEST(who_does_not_finish_is_relieved),
        TEST(nobody_is_lost_before_a_lease_has_gone_by),
        TEST(who_was_asleep_learns_that_it_was_lost),
        TEST(a_redis_that_forgot_all_is_told_again),
        TEST(who_leaves_in_order_is_not_lost),
        TEST(who_leaves_without_redis_has_left),
        TEST(what_is_no_node_is_passed_over),
        TEST(errors_are_no_answers),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
