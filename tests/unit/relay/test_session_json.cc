// The JSON protocol, contracts section 4: what each object of a client is answered, by the bytes at its socket.
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>
extern "C" {
#include <cmocka.h>
}

#include "relay/admission.h"
#include "relay/session_json_members.h"
#include "shard_bench.h"

using namespace belfry;

namespace {

constexpr unsigned char text = 0x81, binary = 0x82, close_frame = 0x88;

int begin(void **state) {
    bench_begin(state);
    bench->settings.rooms = {{"closed-*", right_backend, right_backend, 0},
                             {"staff-*", right_anyone, right_members, 0},
                             {"users-*", right_user, right_nobody, 0},
                             {"single", right_anyone, right_anyone, 1},
                             {"*", right_anyone, right_anyone, 0}};
    return 0;
}

void say(const test_client &c, const std::string &object) {
    send_bytes(c, client_frame(text, object));
}
std::string object(const std::string &content) {
    return server_frame(text, content);
}
std::string failure(const std::string &id, const std::string &code, const std::string &why) {
    return object("{\"type\":\"error\"," + (id.empty() ? "" : "\"id\":" + id + ",") + "\"code\":" + code +
                  ",\"message\":\"" + why + "\"}");
}
void assert_answer(const test_client &c, const std::string &asked, const std::string &answer) {
    say(c, asked);
    assert_bytes(received(c), answer);
}
std::string closing(uint16_t code, const std::string &reason) {
    return server_frame(close_frame, std::string{static_cast<char>(code >> 8), static_cast<char>(code)} + reason);
}
// The broker's answer to the last want.
void settle(void (*answer)(shard *, view, uint32_t, void (*)(membership *)), void (*then)(membership *)) {
    std::vector<seen_letter> all = letters();
    assert_int_equal(all.size(), 1);
    assert_true(all[0].type == letter_type::want);
    answer(the_shard(), all[0].room, all[0].serial, then);
    turn();
}
void become_active() {
    settle([](shard *s, view room, uint32_t serial,
              void (*then)(membership *)) { room_active(s, room, serial, &nowhere, then); },
           admission_room_active);
}

// ---------------------------------------------------------------- join

void a_join_is_answered_when_the_broker_delivers(void **) {
    test_client c = open_client(form_json), quiet = open_client(form_json);
    assert_answer(c, "{\"type\":\"join\",\"id\":7,\"room\":\"news\"}", "");
    assert_answer(quiet, "{\"type\":\"join\",\"room\":\"news\"}", "");
    become_active();
    assert_bytes(received(c), object("{\"type\":\"ok\",\"id\":7,\"room\":\"news\"}"));
    assert_bytes(received(quiet), "");
    deliver(make_message("news", "1", payload_kind::any));
    turn();
    assert_bytes(received(c), json_message("news", "1"));
    assert_bytes(received(quiet), json_message("news", "1"));
}

void a_join_of_an_active_room_is_answered_at_once(void **) {
    test_client first = open_client(form_raw), c = open_client(form_json);
    enter(first.at, "a\"b");
    const std::string asked = "{\"type\":\"join\",\"id\":-1,\"room\":\"a\\\"b\"}";
    const std::string ok = object("{\"type\":\"ok\",\"id\":-1,\"room\":\"a\\\"b\"}");
    assert_answer(c, asked, ok);
    assert_answer(c, asked, ok); // again: it is in already
    assert_answer(c, "{\"type\":\"join\",\"room\":\"a\\\"b\"}", "");
    assert_int_equal(c.at->room_count, 1);
}

void a_join_that_names_since_is_not_recovered(void **) {
    test_client c = open_client(form_json);
    const std::string asked = "{\"type\":\"join\",\"id\":1,\"room\":\"news\",\"since\":{\"epoch\":\"e\",\"offset\":3}}";
    const std::string answer = object("{\"type\":\"ok\",\"id\":1,\"room\":\"news\",\"recovered\":false}");
    assert_answer(c, asked, "");
    become_active();
    assert_bytes(received(c), answer);
    assert_answer(c, asked, answer); // also where it is in already
}

void joins_are_refused(void **) {
    bench->way.max_rooms = 2;
    test_client other = open_client(form_raw), c = open_client(form_json);
    enter(other.at, "single");
    enter(c.at, "first");
    letters();
    auto join = [](const std::string &room) { return "{\"type\":\"join\",\"id\":1,\"room\":\"" + room + "\"}"; };
    assert_answer(c, join("@all"), failure("1", "403", "not allowed to join @all: names with @ are reserved"));
    assert_answer(c, join("closed-x"), failure("1", "403", "not allowed to join closed-x: only the backend may"));
    assert_answer(c, join("users-x"), failure("1", "403", "not allowed to join users-x: needs an authenticated user"));
    assert_answer(c, join("single"), failure("1", "409", "full: single"));
    assert_answer(c, join(""), failure("1", "400", "room: a room name may not be empty"));
    assert_answer(c, join("a b"), failure("1", "400", "room: a room name may not contain white space"));
    assert_answer(c, "{\"type\":\"join\"}", failure("", "400", "room: \\\"room\\\" is missing"));
    assert_answer(c, join("second"), "");
    assert_answer(c, join("second"), failure("1", "409", "already joining second"));
    assert_answer(c, join("third"), failure("1", "429", "too many rooms on this connection"));
    assert_int_equal(c.at->room_count, 2);
    assert_int_equal(letters().size(), 1);
}

void a_pending_join_that_the_broker_refuses_is_an_error(void **) {
    test_client c = open_client(form_json), quiet = open_client(form_json);
    say(c, "{\"type\":\"join\",\"id\":1,\"room\":\"news\"}");
    say(quiet, "{\"type\":\"join\",\"room\":\"news\"}");
    settle(room_refused, admission_room_refused);
    assert_bytes(received(c), failure("1", "503", "not joined news: the broker can't subscribe to it now, try again"));
    assert_bytes(received(quiet), "");
    assert_int_equal(the_shard()->membership_count, 0);
    assert_int_equal(the_shard()->rooms.count, 0);
    assert_true(c.at->open);
}

// ---------------------------------------------------------------- leave

void a_leave_is_answered(void **) {
    test_client c = open_client(form_json);
    enter(c.at, "news");
    enter(c.at, "more");
    assert_answer(c, "{\"type\":\"leave\",\"id\":1,\"room\":\"news\"}", object("{\"type\":\"ok\",\"id\":1}"));
    assert_answer(c, "{\"type\":\"leave\",\"id\":2,\"room\":\"news\"}", failure("2", "404", "not in news"));
    assert_answer(c, "{\"type\":\"leave\",\"room\":\"more\"}", "");
    assert_answer(c, "{\"type\":\"leave\",\"id\":3}", failure("3", "400", "room: \\\"room\\\" is missing"));
    deliver(make_message("news", "1", payload_kind::any));
    turn();
    assert_bytes(received(c), "");
    assert_int_equal(the_shard()->rooms.count, 0);
}

// Each request with an id is answered: the join that came to nothing, then the leave.
void a_leave_answers_the_join_that_it_undoes(void **) {
    test_client c = open_client(form_json);
    say(c, "{\"type\":\"join\",\"id\":1,\"room\":\"news\"}");
    assert_answer(c, "{\"type\":\"leave\",\"id\":2,\"room\":\"news\"}",
                  failure("1", "409", "not joined news: left before the join was complete") +
                      object("{\"type\":\"ok\",\"id\":2}"));
    std::vector<seen_letter> all = letters();
    assert_int_equal(all.size(), 2);
    assert_true(all[1].type == letter_type::drop);
    room_active(the_shard(), "news", all[0].serial, &nowhere, admission_room_active);
    turn();
    assert_bytes(received(c), "");
    assert_int_equal(c.at->room_count, 0);
}

// ---------------------------------------------------------------- publish

void a_publish_goes_to_the_node_verbatim(void **) {
    test_client c = open_client(form_json);
    assert_answer(c, "{\"type\":\"publish\",\"id\":5,\"room\":\"news\",\"data\": {\"a\" : [1, 2]} }", "");
    say(c, "{\"type\":\"publish\",\"room\":\"news\",\"echo\":false}");
    assert_int_equal(letters().size(), 2);
    const seen_publish &one = bench->publishes[0], &two = bench->publishes[1];
    conn_id_text id = conn_id_format(conn_id_of(c.at));
    assert_bytes(one.room, "news");
    assert_bytes(one.payload, "{\"a\" : [1, 2]}");
    assert_bytes(one.from, "{\"conn\":\"" + std::string(view(id)) + "\"}");
    assert_true(one.kind == payload_kind::json);
    assert_int_equal(one.except_count, 0);
    assert_true(one.wants_answer);
    assert_int_equal(one.request_id, 5);
    assert_bytes(two.payload, "null");
    assert_int_equal(two.except_count, 1); // itself
    assert_false(two.wants_answer);
}

void the_nodes_answer_to_a_publish_is_passed_on(void **) {
    test_client c = open_client(form_json);
    answer_letter first = {{letter_type::answer}, {}, 5, 0}, second = {{letter_type::answer}, {}, 6, 503};
    c.at->session->published(c.at, &first);
    c.at->session->published(c.at, &second);
    turn();
    assert_bytes(received(c), object("{\"type\":\"ok\",\"id\":5}") +
                                  failure("6", "503", "the broker is out of reach or did not confirm it, try again"));
}

void publishes_are_refused(void **) {
    test_client c = open_client(form_json);
    auto publish = [](const std::string &room) {
        return "{\"type\":\"publish\",\"id\":1,\"room\":\"" + room + "\",\"data\":1}";
    };
    const std::string no = "not allowed to publish in ";
    assert_answer(c, publish("@all"), failure("1", "403", no + "@all: names with @ are reserved"));
    assert_answer(c, publish("closed-x"), failure("1", "403", no + "closed-x: only the backend may"));
    assert_answer(c, publish("users-x"), failure("1", "403", no + "users-x: nobody may"));
    assert_answer(c, publish("staff-x"), failure("1", "403", no + "staff-x: only members may"));
    say(c, "{\"type\":\"join\",\"room\":\"staff-x\"}");
    assert_answer(c, publish("staff-x"), failure("1", "403", no + "staff-x: only members may")); // not in yet
    become_active();
    assert_answer(c, publish("staff-x"), "");
    assert_int_equal(letters().size(), 1);
    assert_bytes(bench->publishes[0].room, "staff-x");
}

// ---------------------------------------------------------------- the others

void a_ping_is_answered(void **) {
    test_client c = open_client(form_json);
    assert_answer(c, "{\"type\":\"ping\",\"id\":9}", object("{\"type\":\"pong\",\"id\":9}"));
    assert_answer(c, " {\"type\":\"ping\"} ", object("{\"type\":\"pong\"}"));
}

void what_this_server_does_not_do_is_501(void **) {
    test_client c = open_client(form_json);
    assert_answer(c, "{\"type\":\"call\",\"id\":1,\"method\":\"m\"}",
                  failure("1", "501", "call: this server asks no backend"));
    assert_answer(c, "{\"type\":\"auth\",\"id\":2,\"token\":\"t\"}",
                  failure("2", "501", "auth: this server checks no tokens"));
}

// ---------------------------------------------------------------- members

void members_may_ask_who_is_in_a_room_with_presence(void **) {
    test_client c = open_client(form_json);
    bench->settings.rooms[4].presence = true;
    const std::string ask = "{\"type\":\"members\",\"id\":6,\"room\":\"news\"}";
    assert_answer(c, "{\"type\":\"members\",\"room\":\"news\"}", failure("", "400", "members: \\\"id\\\" is missing"));
    assert_answer(c, "{\"type\":\"members\",\"id\":6}", failure("6", "400", "room: \\\"room\\\" is missing"));
    assert_answer(c, ask, failure("6", "403", "members: only members may ask who is in news"));
    enter(c.at, "news");
    enter(c.at, "staff-1");
    letters();
    assert_answer(c, "{\"type\":\"members\",\"id\":7,\"room\":\"staff-1\"}",
                  failure("7", "404", "members: presence is off for staff-1"));
    assert_answer(c, ask, "");
    assert_true(letters() == (std::vector<seen_letter>{{letter_type::members, 6, "news"}}));

    frame *found = frame_copy("{\"conn\":\"a\"}\x1e{\"conn\":\"b\"}\x1e");
    members_letter answer = {{letter_type::members}, conn_id_of(c.at), 6, "", found, 2, false};
    json_members_told(c.at, &answer);
    turn();
    frame_unref(found);
    assert_bytes(received(c), object("{\"type\":\"ok\",\"id\":6,\"members\":[{\"conn\":\"a\"},{\"conn\":\"b\"}],"
                                     "\"count\":2}"));
    answer.members = nullptr; // it could not be read
    json_members_told(c.at, &answer);
    turn();
    assert_bytes(received(c), failure("6", "503", "members: not known now, try again"));
}

void as_many_members_are_listed_as_the_queue_takes(void **) {
    test_client c = open_client(form_json);
    const std::string one = "{\"conn\":\"" + std::string(300, 'x') + "\"}";
    frame *found = frame_copy(one + "\x1e" + one + "\x1e" + one + "\x1e");
    members_letter answer = {{letter_type::members}, conn_id_of(c.at), 6, "", found, 3, false};
    conn_set_send_queue(c.at, 1400); // three are more than half of it
    json_members_told(c.at, &answer);
    turn();
    frame_unref(found);
    assert_bytes(received(c), object("{\"type\":\"ok\",\"id\":6,\"members\":[" + one + "," + one +
                                     "],\"count\":3,\"truncated\":true}"));
}

void an_unknown_type_is_quoted_in_part(void **) {
    test_client c = open_client(form_json);
    assert_answer(c, "{\"type\":\"dance\",\"id\":1}", failure("1", "400", "unknown type \\\"dance\\\""));
    assert_answer(c, "{\"type\":\"" + std::string(70, 'x') + "\"}",
                  failure("", "400", "unknown type \\\"" + std::string(64, 'x') + "\\\""));
}

void a_bad_member_is_400_and_no_end(void **) {
    test_client c = open_client(form_json);
    assert_answer(c, "{\"type\":\"join\",\"id\":1,\"room\":2}",
                  failure("1", "400", "room: must be a string of valid Unicode"));
    assert_answer(c, "{\"type\":\"ping\",\"id\":\"x\"}", failure("", "400", "id: must be an integer"));
    assert_answer(c, "{\"type\":\"publish\",\"id\":1,\"room\":\"r\",\"echo\":1}",
                  failure("1", "400", "echo: must be true or false"));
    assert_true(c.at->open);
}

void binary_is_closed_with_1003(void **) {
    test_client c = open_client(form_json);
    send_bytes(c, client_frame(binary, "{\"type\":\"ping\"}"));
    assert_bytes(received(c), closing(1003, "the JSON protocol takes text frames"));
    assert_int_equal(closed_with(1003), 1);
    assert_answer(c, "{\"type\":\"ping\"}", "");
}

void what_is_no_object_is_closed_with_4400(void **) {
    test_client no_type = open_client(form_json);
    assert_answer(no_type, "{\"type\":1}", closing(4400, "not a protocol object: type: must be a string"));
    for (const char *bad : {"", "[]", "{\"type\":\"ping\"", "{\"type\":\"ping\"}x", "null"}) {
        test_client c = open_client(form_json);
        say(c, bad);
        std::string got = received(c), begins = "not a protocol object: ";
        assert_true(got.size() > 4 + begins.size() && got.size() <= 4 + 120);
        assert_bytes(got.substr(0, 1), "\x88");
        assert_bytes(got.substr(2, 2 + begins.size()), "\x11\x30" + begins); // 4400
        assert_false(c.at->open);
    }
    assert_int_equal(closed_with(4400), 6);
}

// ---------------------------------------------------------------- what the server says by itself

void the_welcome_names_the_first_rooms(void **) {
    bench->way.ping_interval = 25999;
    test_client c = open_client(form_json);
    enter(c.at, "news");
    c.at->session->opened(c.at);
    turn();
    conn_id_text id = conn_id_format(conn_id_of(c.at));
    assert_bytes(received(c), object("{\"type\":\"welcome\",\"conn\":\"" + std::string(view(id)) +
                                     "\",\"ping\":25,\"rooms\":{\"news\":{}}}"));
}

void removals_and_goodbyes_are_told(void **) {
    test_client c = open_client(form_json);
    c.at->session->removed(c.at, "news", "kicked");
    c.at->session->bye(c.at, 4503, "restarting", true, 1234);
    c.at->session->bye(c.at, 4403, "", false, 0);
    turn();
    assert_bytes(received(c), object("{\"type\":\"removed\",\"room\":\"news\",\"reason\":\"kicked\"}") +
                                  object("{\"type\":\"bye\",\"code\":4503,\"reason\":\"restarting\","
                                         "\"reconnect\":true,\"after_ms\":1234}") +
                                  object("{\"type\":\"bye\",\"code\":4403,\"reason\":\"\",\"reconnect\":false,"
                                         "\"after_ms\":0}"));
}

} // namespace

#define with_bench(test) cmocka_unit_test_setup_teardown(test, begin, bench_end)

int main() {
    const CMUnitTest tests[] = {
        with_bench(a_join_is_answered_when_the_broker_delivers),
        with_bench(a_join_of_an_active_room_is_answered_at_once),
        with_bench(a_join_that_names_since_is_not_recovered),
        with_bench(joins_are_refused),
        with_bench(a_pending_join_that_the_broker_refuses_is_an_error),
        with_bench(a_leave_is_answered),
        with_bench(a_leave_answers_the_join_that_it_undoes),
        with_bench(a_publish_goes_to_the_node_verbatim),
        with_bench(the_nodes_answer_to_a_publish_is_passed_on),
        with_bench(publishes_are_refused),
        with_bench(a_ping_is_answered),
        with_bench(what_this_server_does_not_do_is_501),
        with_bench(members_may_ask_who_is_in_a_room_with_presence),
        with_bench(as_many_members_are_listed_as_the_queue_takes),
        with_bench(an_unknown_type_is_quoted_in_part),
        with_bench(a_bad_member_is_400_and_no_end),
        with_bench(binary_is_closed_with_1003),
        with_bench(what_is_no_object_is_closed_with_4400),
        with_bench(the_welcome_names_the_first_rooms),
        with_bench(removals_and_goodbyes_are_told),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
