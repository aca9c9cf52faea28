// Presence in one process and over a store that answers late or not at all: what the room is told, what who asks is
// told, and what is written again.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
extern "C" {
#include <cmocka.h>
}

#include "relay/presence_room.h"

#include <string>

using namespace belfry;

namespace {

relay_settings settings;
json_reader *reader;
presence *of;
std::string told;    // what rooms were
std::string answers; // what askers were
uint64_t now;
bool deaf; // announcements go nowhere

// A store that notes what it is asked, and answers when the test says so.
struct noted_store {
    presence_store head;
    std::string asked;
    presence_room *writing, *knowing, *reading;
    bool knows; // what was asked of `knowing`
    bool ready, refuses;
};
noted_store *store;

bool announce(void *, view room, view event) {
    if (deaf) return false;
    told += std::string(room) + " " + std::string(event) + "\n";
    return true;
}
const presence_events events = {announce};

std::string conn(int n) {
    char text[conn_id_size + 1];
    snprintf(text, sizeof text, "c_%020d", n);
    return text;
}

void enter(int n, const char *user = "", const char *info = "", const char *room = "a") {
    presence_enter(of, room, conn(n), user, info);
}
void leave(int n, const char *room = "a") {
    presence_exit(of, room, conn(n));
}
void turn(uint64_t ms = 0) {
    now += ms;
    presence_turn(of, now);
}

// "join 1 56" for a join of connection 1 of the user 56; the members' JSON is looked at in one test alone.
std::string short_told() {
    std::string out;
    for (size_t at = 0; at < told.size();) {
        std::string line = told.substr(at, told.find('\n', at) - at);
        at += line.size() + 1;
        out += line.find("\"join\"") != std::string::npos ? "+" : "-";
        out += std::to_string(std::stoi(line.substr(line.find("c_") + 2, 20)));
        if (line.find("node_lost") != std::string::npos) out += "!";
        out += " ";
    }
    told.clear();
    return out;
}

void answer(const presence_asker *a, const presence_page *page) {
    answers += std::to_string(a->request_id) + ":";
    if (!page) {
        answers += "none ";
        return;
    }
    std::string members(frame_view(page->members));
    size_t listed = 0;
    for (char c : members)
        listed += c == presence_separator;
    answers += std::to_string(listed) + "/" + std::to_string(page->count) + (page->truncated ? "+ " : " ");
}

void ask(int64_t id, const char *room = "a") {
    presence_asker a = {answer, nullptr, {}, id};
    presence_ask(of, room, &a);
}

#define assert_told(text) assert_string_equal(short_told().c_str(), text)
#define assert_answers(text) (assert_string_equal(answers.c_str(), text), answers.clear())
#define assert_asked(text) (assert_string_equal(store->asked.c_str(), text), store->asked.clear())

int begin(void **) {
    hash_init(1);
    now = 1000;
    deaf = false;
    reader = json_reader_new();
    settings.rooms = {{}, {}};
    settings.rooms[0].pattern = "quiet";
    settings.rooms[0].presence = true;
    settings.rooms[1].pattern = "*";
    settings.rooms[1].presence = settings.rooms[1].announce = true;
    of = presence_new(&settings, reader, &events, nullptr);
    turn();
    return 0;
}

int end(void **) {
    presence_free(of);
    json_reader_free(reader);
    for (std::string *s : {&told, &answers})
        std::string().swap(*s);
    std::vector<room_rule>().swap(settings.rooms);
    return 0;
}

// ---------------------------------------------------------------- the store of the tests

noted_store *noted(presence_store *s) {
    return reinterpret_cast<noted_store *>(s);
}
bool store_write(presence_store *s, presence_room *r) {
    static const char *const what[] = {"drop", "list", "hold"};
    if (noted(s)->refuses) return false;
    for (const presence_entry *e : r->sent)
        noted(s)->asked += what[e->sent] + std::to_string(std::stoi(std::string(presence_conn(e).substr(2)))) + " ";
    noted(s)->writing = r;
    return true;
}
bool store_know(presence_store *s, presence_room *r, bool known) {
    noted(s)->asked += known ? "know " : "forget ";
    noted(s)->knowing = r;
    noted(s)->knows = known;
    return true;
}
bool store_read(presence_store *s, presence_room *r) {
    noted(s)->asked += "read ";
    noted(s)->reading = r;
    return true;
}
void store_turn(presence_store *, uint64_t) {}
void store_resync(presence_store *s) {
    noted(s)->asked += "resync ";
}
bool store_ready(const presence_store *s) {
    return reinterpret_cast<const noted_store *>(s)->ready;
}
bool store_idle(const presence_store *) {
    return true;
}
size_t store_bytes(const presence_store *) {
    return 0;
}
void store_free(presence_store *s) {
    delete noted(s);
}
const presence_store_ops store_ops = {store_write, store_know, store_read,  store_turn, store_resync,
                                      store_ready, store_idle, store_bytes, store_free};

int begin_noted(void **state) {
    begin(state);
    store = new noted_store{};
    store->head = {&store_ops, of};
    store->ready = true;
    of->store->ops->free(of->store);
    of->store = &store->head;
    return 0;
}

// `crossed`: "1" and "0" for each entry of the batch; null: it failed.
void written(const char *crossed) {
    uint8_t values[presence_batch_max] = {};
    for (size_t i = 0; crossed && crossed[i]; i++)
        values[i] = crossed[i] == '1';
    presence_written(of, store->writing, crossed ? values : nullptr);
}
void known(bool fine = true) {
    presence_known(of, store->knowing, fine, store->knows);
}
void read_done(uint64_t count) {
    frame *f = frame_copy("{}\x1e");
    presence_page page = {f, count, count > 1};
    presence_read(of, store->reading, &page);
    frame_unref(f);
}

// A first member, listed.
void one_listed(int n, const char *user = "") {
    enter(n, user);
    turn();
    known();
    turn();
    written("1");
    store->asked.clear();
    told.clear();
}

// ---------------------------------------------------------------- one process

void joins_and_leaves_are_told(void **) {
    enter(1, "56", "{\"name\":\"Ann\"}");
    enter(2);
    assert_string_equal(told.c_str(), "");
    turn();
    assert_string_equal(
        told.c_str(), "a {\"event\":\"join\",\"member\":{\"conn\":\"c_00000000000000000001\",\"user\":\"56\",\"info\":"
                      "{\"name\":\"Ann\"}}}\n"
                      "a {\"event\":\"join\",\"member\":{\"conn\":\"c_00000000000000000002\"}}\n");
    told.clear();
    leave(1);
    turn(2999);
    assert_told("");
    turn(1);
    assert_string_equal(
        told.c_str(), "a {\"event\":\"leave\",\"member\":{\"conn\":\"c_00000000000000000001\",\"user\":\"56\",\"info\":"
                      "{\"name\":\"Ann\"}}}\n");
}

void a_reload_is_no_news(void **) {
    enter(1, "56");
    turn();
    assert_told("+1 ");
    leave(1);
    turn(2000);
    ask(1);
    turn();
    assert_answers("1:0/0 "); // it is off the list at once
    enter(2, "56");
    turn(10000);
    assert_told("");
    ask(2);
    turn(100);
    assert_answers("2:1/1 ");
    leave(2);
    turn(3000);
    assert_told("-2 ");
}

void without_a_user_each_counts_for_itself(void **) {
    enter(1);
    turn();
    leave(1);
    turn(100);
    enter(2);
    turn();
    assert_told("+1 +2 ");
    turn(3000);
    assert_told("-1 ");
    leave(2);
    turn(100);
    enter(2); // the same connection is in it again
    turn(10000);
    assert_told("");
}

void the_first_and_the_last_of_a_user(void **) {
    enter(1, "56");
    enter(2, "56");
    enter(3, "57");
    turn();
    assert_told("+1 +3 ");
    leave(1);
    turn(3000);
    assert_told("");
    enter(4, "56", "", "b"); // another room is another matter
    turn();
    assert_told("+4 ");
    leave(2);
    turn(3000);
    assert_told("-2 ");
    ask(1);
    turn();
    assert_answers("1:1/1 ");
}

void info_can_change(void **) {
    std::string members;
    presence_asker a = {[](const presence_asker *asker, const presence_page *page) {
                            *static_cast<std::string *>(asker->context) = frame_view(page->members);
                        },
                        &members,
                        {},
                        1};
    enter(1, "56");
    turn();
    enter(1, "56", "{\"n\":1}");
    turn();
    assert_told("+1 ");
    presence_ask(of, "a", &a);
    turn();
    assert_string_equal(members.c_str(),
                        "{\"conn\":\"c_00000000000000000001\",\"user\":\"56\",\"info\":{\"n\":1}}\x1e");
}

void a_quiet_room_is_told_nothing(void **) {
    enter(1, "56", "", "quiet");
    turn();
    leave(1, "quiet");
    turn();
    assert_told("");
    assert_int_equal(presence_count(of).held, 0);
    assert_int_equal(presence_count(of).rooms, 0);
}

void a_long_list_is_cut(void **) {
    for (int i = 0; i < 1001; i++)
        enter(i);
    ask(1);
    turn();
    assert_answers("1:1000/1001+ ");
    leave(5);
    ask(2);
    turn(100);
    assert_answers("2:1000/1000 ");
}

void held_leaves_are_bounded(void **) {
    for (int i = 0; i <= static_cast<int>(presence_held_max); i++)
        enter(i);
    while (!list_empty(&of->dirty))
        turn();
    told.clear();
    for (int i = 0; i <= static_cast<int>(presence_held_max); i++)
        leave(i);
    turn();
    assert_told("-0 ");
    assert_int_equal(presence_count(of).held, presence_held_max);
    assert_int_equal(presence_count(of).held_over, 1);
}

void one_read_answers_who_asks_within_100_ms(void **) {
    enter(1);
    ask(1);
    turn();
    ask(2);
    turn(99);
    ask(3);
    assert_answers("1:1/1 2:1/1 3:1/1 ");
    assert_int_equal(presence_count(of).reads, 1);
    turn(1);
    ask(4);
    turn();
    assert_answers("4:1/1 ");
    enter(2); // who has just come finds itself in the list, but nobody reads more often
    ask(5);
    turn(99);
    assert_answers("");
    turn(1);
    assert_answers("5:2/2 ");
    assert_int_equal(presence_count(of).reads, 3);
}

void an_empty_room_is_known_and_forgotten(void **) {
    ask(1, "nobody");
    turn();
    assert_answers("1:0/0 ");
    turn(100);
    turn();
    assert_int_equal(presence_count(of).rooms, 0);
}

void nothing_is_left(void **) {
    size_t before = presence_count(of).bytes;
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < 3000; i++)
            enter(i, std::to_string(i % 700).c_str(), "{\"some\":\"info\"}");
        turn();
        for (int i = 0; i < 3000; i++)
            leave(i);
        for (int i = 0; i < 40; i++)
            turn(3000);
        assert_int_equal(presence_count(of).members, 0);
        assert_int_equal(presence_count(of).rooms, 0);
        assert_int_equal(presence_count(of).held, 0);
        assert_true(presence_idle(of));
        if (round == 0) before = presence_count(of).bytes;
    }
    assert_int_equal(presence_count(of).bytes, before);
}

// A user each, with info of 24 bytes. What malloc takes for itself is in tests/budget.
void a_member_takes_250_bytes(void **) {
    const size_t members = 20000;
    for (size_t i = 0; i < members; i++)
        enter(static_cast<int>(i), ("user" + std::to_string(i)).c_str(), "{\"name\":\"Somebody Else\"}",
              ("room" + std::to_string(i % 100)).c_str());
    do
        turn();
    while (presence_busy(of));
    assert_int_equal(presence_count(of).members, members);
    assert_in_range(presence_count(of).bytes / members, 150, 250);
}

void what_goes_nowhere_is_counted(void **) {
    deaf = true;
    enter(1);
    turn();
    assert_int_equal(presence_count(of).announce_failures, 1);
    assert_int_equal(presence_count(of).announced, 0);
}

void at_the_end_nothing_is_held_back(void **) {
    enter(1);
    enter(2);
    turn();
    leave(1);
    turn();
    presence_stop(of);
    leave(2);
    assert_false(presence_idle(of));
    turn();
    assert_told("+1 +2 -2 -1 ");
    assert_true(presence_idle(of));
}

// ---------------------------------------------------------------- a store that takes its time

void the_room_is_known_before_its_members_are(void **) {
    enter(1, "56");
    turn();
    assert_asked("know ");
    enter(2, "56");
    turn();
    assert_asked("");
    known();
    turn();
    assert_asked("list1 list2 ");
    assert_told("");
    written("10");
    assert_told("+1 ");
}

void one_batch_of_a_room_is_under_way(void **) {
    one_listed(1, "56");
    leave(1);
    turn();
    assert_asked("hold1 ");
    enter(2, "56");
    turn(3000); // the hold is over, too
    assert_asked("");
    written("0");
    turn();
    assert_asked("list2 drop1 ");
    written("00"); // as Redis says: the user was there all the time
    assert_told("");
    leave(2);
    turn();
    written("0");
    turn(3000);
    assert_asked("hold2 drop2 ");
    written("1");
    assert_told("-2 ");
    turn();
    assert_asked("forget ");
    known();
    assert_int_equal(presence_count(of).rooms, 0);
}

void who_was_never_written_is_forgotten(void **) {
    store->ready = false;
    for (int i = 0; i < 1000; i++) {
        enter(i);
        leave(i);
        turn(3000);
    }
    store->ready = true;
    turn();
    assert_asked("know ");
    known();
    turn();
    assert_asked("forget ");
    known();
    assert_int_equal(presence_count(of).rooms, 0);
    assert_told("");
}

void what_fails_is_written_again(void **) {
    one_listed(1, "56");
    enter(2, "57");
    turn();
    assert_asked("list2 ");
    written(nullptr);
    turn(999);
    assert_asked("");
    turn(1);
    assert_asked("list2 ");
    written("1");
    assert_told("+2 ");
    assert_int_equal(presence_count(of).write_failures, 1);
    leave(2);
    turn();
    written(nullptr); // whether it is held there is not known
    turn(3000);
    assert_asked("hold2 drop2 ");
    written("1");
    assert_told("-2 ");
}

void a_refused_write_is_tried_again(void **) {
    one_listed(1);
    store->refuses = true;
    enter(2);
    turn();
    turn(1000);
    assert_int_equal(presence_count(of).write_failures, 2);
    store->refuses = false;
    turn(1000);
    assert_asked("list2 ");
}

void after_a_loss_all_is_written_again(void **) {
    one_listed(1, "56");
    enter(2, "57");
    turn();
    written("1");
    leave(2);
    turn();
    written("0");
    store->asked.clear();
    told.clear();
    presence_resync(of, false);
    turn();
    assert_asked("resync know ");
    known();
    turn();
    assert_asked("list1 hold2 ");
    written("10"); // Redis has never heard of 56 now, but the room has
    assert_told("");
    presence_resync_room(of, "nobody");
    presence_resync_room(of, "a");
    turn();
    known();
    turn();
    assert_asked("know list1 hold2 ");
    written("00");
    presence_resync(of, true); // the room was told that they are gone
    turn();
    known();
    turn();
    written("10");
    assert_told("+1 ");
}

void what_others_left_is_taken_out(void **) {
    presence_found(of, "a", conn(7), "56", "{\"n\":1}", false, true);
    presence_found(of, "a", conn(8), "57", "", true, true);
    presence_found(of, "a", conn(9), "58", "", false, false);
    assert_int_equal(of->foreign, 3);
    turn();
    assert_asked("drop7 drop8 drop9 "); // without telling the store that this node has members there
    written("111");
    assert_string_equal(
        told.c_str(),
        "a {\"event\":\"leave\",\"member\":{\"conn\":\"c_00000000000000000007\",\"user\":\"56\",\"info\":{"
        "\"n\":1}},\"cause\":\"node_lost\"}\n"
        "a {\"event\":\"leave\",\"member\":{\"conn\":\"c_00000000000000000008\",\"user\":\"57\"}}\n");
    assert_int_equal(of->foreign, 0);
    assert_int_equal(presence_count(of).rooms, 0);
}

void ones_own_are_not_taken_out(void **) {
    one_listed(1);
    presence_found(of, "a", conn(1), "", "", false, false);
    turn();
    assert_asked("");
    assert_int_equal(of->foreign, 0);
}

void a_read_waits_for_what_was_done_before(void **) {
    enter(1);
    ask(1);
    turn();
    assert_asked("know ");
    known();
    turn();
    assert_asked("list1 read ");
    written("1");
    ask(2);
    read_done(1);
    assert_answers("1:1/1 2:1/1 ");
    turn(100);
    ask(3);
    turn();
    assert_asked("read ");
    enter(2);
    ask(4); // may have been read before 2 was written
    read_done(1);
    assert_answers("3:1/1 ");
    turn();
    written("1");
    turn(100);
    assert_asked("list2 read ");
    read_done(2);
    assert_answers("4:1/2+ ");
}

void nobody_waits_for_ever(void **) {
    ask(1);
    turn();
    assert_asked("read ");
    turn(2999);
    assert_answers("");
    turn(1);
    assert_answers("1:none ");
    read_done(1); // late
    assert_answers("");
    store->ready = false;
    ask(2);
    assert_answers("2:none ");
    store->ready = true;
    turn(100);
    ask(3);
    presence_settle(of);
    assert_answers("3:none ");
    assert_int_equal(presence_count(of).asks_refused, 3);
    turn(100);
    assert_int_equal(presence_count(of).rooms, 0);
}

void who_asks_is_bounded(void **) {
    for (size_t i = 0; i < presence_waiting_max; i++)
        ask(0);
    ask(1);
    assert_answers("1:none ");
    turn();
    read_done(0);
    answers.clear();
    assert_int_equal(of->waiting, 0);
}

} // namespace

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)
#define NOTED(name) cmocka_unit_test_setup_teardown(name, begin_noted, end)

int main() {
    const CMUnitTest tests[] = {
        TEST(joins_and_leaves_are_told),
        TEST(a_reload_is_no_news),
        TEST(without_a_user_each_counts_for_itself),
        TEST(the_first_and_the_last_of_a_user),
        TEST(info_can_change),
        TEST(a_quiet_room_is_told_nothing),
        TEST(a_long_list_is_cut),
        TEST(held_leaves_are_bounded),
        TEST(one_read_answers_who_asks_within_100_ms),
        TEST(an_empty_room_is_known_and_forgotten),
        TEST(nothing_is_left),
        TEST(a_member_takes_250_bytes),
        TEST(what_goes_nowhere_is_counted),
        TEST(at_the_end_nothing_is_held_back),
        NOTED(the_room_is_known_before_its_members_are),
        NOTED(one_batch_of_a_room_is_under_way),
        NOTED(who_was_never_written_is_forgotten),
        NOTED(what_fails_is_written_again),
        NOTED(a_refused_write_is_tried_again),
        NOTED(after_a_loss_all_is_written_again),
        NOTED(what_others_left_is_taken_out),
        NOTED(ones_own_are_not_taken_out),
        NOTED(a_read_waits_for_what_was_done_before),
        NOTED(nobody_waits_for_ever),
        NOTED(who_asks_is_bounded),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
