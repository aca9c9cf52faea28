// Presence as the node has it: what workers say goes in, what the room is told goes out to all workers, questions are
// answered.
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>
extern "C" {
#include <cmocka.h>
}

#include "node_bench.h"
#include "relay/presence_worker.h"

using namespace node_bench;

namespace {

int begin(void **state) {
    setup(state);
    bench->settings.rooms.resize(1);
    bench->settings.rooms[0].pattern = "*";
    bench->settings.rooms[0].presence = bench->settings.rooms[0].announce = true;
    return 0;
}

void say_member(uint32_t w, letter_type type, uint32_t slot, const char *user, const char *info) {
    auto *l = new member_letter{{type}, {static_cast<uint8_t>(w), slot, 77}, "news", user, info};
    say(w, &l->head, presence_charge(l));
}

void ask(uint32_t w, int64_t id) {
    auto *l =
        new members_letter{{letter_type::members}, {static_cast<uint8_t>(w), 9, 77}, id, "news", nullptr, 0, false};
    say(w, &l->head, presence_charge(l));
}

std::string event(const char *what, uint8_t w, uint32_t slot, const char *rest) {
    return "message news {\"event\":\"" + std::string(what) + "\",\"member\":{\"conn\":\"" + id_text(w, slot) + "\"" +
           rest + "}}; ";
}

// The answer to a question, or "".
std::string heard_members(uint32_t w) {
    auto *l = static_cast<letter *>(mailbox_receive(&shard_of(w)->inbox));
    if (!l) return "";
    assert_true(l->type == letter_type::members);
    auto *m = as<members_letter>(l);
    std::string all = std::to_string(m->request_id) + " " + std::to_string(m->count) + " " +
                      (m->members ? std::string(frame_view(m->members)) : "none");
    members_letter_free(m);
    return all;
}

void a_member_is_told_to_all_workers(void **) {
    want(0, 1, "news");
    want(1, 1, "news");
    turn();
    heard(0);
    heard(1);
    say_member(1, letter_type::entered, 5, "56", "{\"n\":1}");
    say_member(1, letter_type::entered, 6, "", "");
    turn();
    std::string told = event("join", 1, 5, ",\"user\":\"56\",\"info\":{\"n\":1}") + event("join", 1, 6, "");
    assert_heard(0, told.c_str());
    assert_heard(1, told.c_str());
    assert_int_equal(shard_of(1)->outbox_bytes.load(), 0);
    say_member(1, letter_type::exited, 6, "", "");
    turn();
    assert_heard(0, "");
    assert_int_equal(presence_count(bench->node.presence).held, 1);
    assert_int_equal(shard_of(1)->outbox_bytes.load(), 0);
}

void a_question_is_answered_to_who_asked(void **) {
    say_member(0, letter_type::entered, 5, "56", "");
    turn();
    ask(1, 42);
    turn();
    std::string want = "42 1 {\"conn\":\"" + id_text(0, 5) + "\",\"user\":\"56\"}\x1e";
    assert_string_equal(heard_members(1).c_str(), want.c_str());
    assert_string_equal(heard_members(0).c_str(), "");
    assert_int_equal(shard_of(1)->outbox_bytes.load(), 0);
}

void at_the_end_nobody_waits(void **) {
    say_member(0, letter_type::entered, 5, "", "");
    ask(0, 1); // not read before the node ends: the teardown finds what is left
    node_stop(&bench->node, false);
    assert_true(node_presence_finished(&bench->node));
}

} // namespace

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, teardown)

int main() {
    const CMUnitTest tests[] = {
        TEST(a_member_is_told_to_all_workers),
        TEST(a_question_is_answered_to_who_asked),
        TEST(at_the_end_nobody_waits),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
