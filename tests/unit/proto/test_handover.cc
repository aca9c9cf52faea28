// proto/handover.cc
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
extern "C" {
#include <cmocka.h>
}

#include "proto/handover.h"

#include <string.h>
#include <string>

using namespace belfry;

namespace {

handover_conn full_conn() {
    handover_conn c = {};
    c.id = {3, 0xabcdef, 0x0123456789abcdef};
    c.path = "/ws";
    c.host = "a.example";
    c.listener = "public";
    c.raw = true;
    c.deflate = 2;
    memset(c.address, 7, sizeof c.address);
    c.opened_ms = 1;
    c.heard_ms = 1000;
    c.spoke_ms = 200000;
    c.pinged_ms = UINT64_MAX;
    c.ping_waiting = c.published = true;
    c.parser.remaining = 70000;
    c.parser.mask = 0x11223344;
    c.parser.opcode = ws_text;
    c.parser.utf8 = 5;
    c.parser.in_frame = 1;
    c.parser.compressed = true;
    c.parser.fragments = 3;
    c.message_received = 5;
    c.rest = view("\x89\0", 2);
    c.message = "hello";
    c.rooms = {{"news", 17, false, {}}, {"kept:1", 1, true, {}}, {"@user:56", 0, false, {}}};
    (void)position_set(&c.rooms[1].at, "k3Fq", 99);
    c.ordinal = 4;
    c.frames = {{handover_frame_kind::message, 0, 77, "rest of a frame"},
                {handover_frame_kind::gap, 1, 0, "gap"},
                {handover_frame_kind::answer, handover_room_none, 1, "pong"},
                {handover_frame_kind::message, handover_room_all, 0, "all"}};
    c.begun = true;
    c.pong = "p";
    c.slow = true;
    c.slow_dropped = 5;
    c.slow_replaced = 6;
    c.known = true;
    c.user = "56";
    c.info = "{\"name\":\"A\"}";
    c.state = "[1]";
    c.sticky = "key";
    c.has_sticky = true;
    c.expired = true;
    memset(c.client_address, 9, sizeof c.client_address);
    c.expires_ms = 123456789;
    c.join = {"a:*", "b"};
    c.publish = {"c:*"};
    c.token_join = 1;
    c.modules = {{"rate_limit", "1", view("\0\1\2", 3), true}, {"origin", "1", "", true}};
    c.recorded = true;
    c.messages_in = 1;
    c.bytes_out = 1 << 30;
    c.record_user = "56";
    c.request_id = "r1";
    c.upstream = "app";
    return c;
}

std::string described(const handover_conn *c) {
    buffer out = {};
    handover_describe(c, &out);
    std::string bytes(buffer_view(&out));
    buffer_free(&out);
    return bytes;
}

bool parses(const std::string &bytes) {
    handover_conn c;
    const char *why = nullptr;
    bool fine = handover_parse(bytes, &c, &why);
    if (!fine) assert_non_null(why);
    return fine;
}

void a_connection_round_trips(void **) {
    handover_conn c = full_conn(), got;
    const std::string bytes = described(&c);
    const char *why = nullptr;
    assert_true(handover_parse(bytes, &got, &why));
    assert_true(described(&got) == bytes);
    assert_true(got.id.worker == 3 && got.id.slot == 0xabcdef && got.id.tag == 0x0123456789abcdef);
    assert_true(got.path == "/ws" && got.host == "a.example" && got.listener == "public");
    assert_true(got.raw && got.deflate == 2 && got.ping_waiting && got.published);
    assert_true(got.pinged_ms == UINT64_MAX && got.spoke_ms == 200000);
    assert_true(got.parser.remaining == 70000 && got.parser.mask == 0x11223344 && got.parser.utf8 == 5);
    assert_true(got.parser.compressed && got.parser.in_frame && !got.parser.final && got.parser.fragments == 3);
    assert_true(got.rest == view("\x89\0", 2) && got.message == "hello" && got.message_received == 5);
    assert_int_equal(got.rooms.size(), 3);
    assert_true(got.rooms[0].ordinal == 17 && !got.rooms[0].history && position_none(&got.rooms[0].at));
    assert_true(got.rooms[1].history && position_epoch(&got.rooms[1].at) == "k3Fq" && got.rooms[1].at.offset == 99);
    assert_true(got.begun && got.frames.size() == 4 && got.frames[0].key == 77);
    assert_true(got.frames[0].bytes == "rest of a frame" && got.frames[3].room == handover_room_all);
    assert_true(got.pong == "p" && got.slow && got.slow_dropped == 5 && got.slow_replaced == 6);
    assert_true(got.known && got.user == "56" && got.state == "[1]" && got.sticky == "key" && got.expired);
    assert_true(got.join.size() == 2 && got.join[0] == "a:*" && got.token_join == 1 && got.expires_ms == 123456789);
    assert_true(got.modules.size() == 2 && got.modules[0].state == view("\0\1\2", 3) && got.modules[1].called);
    assert_true(got.recorded && got.bytes_out == 1 << 30 && got.request_id == "r1" && got.upstream == "app");
}

void nothing_but_what_it_has_to_be(void **) {
    handover_conn c = {};
    c.path = "/";
    const std::string bytes = described(&c);
    assert_true(parses(bytes));
    assert_in_range(bytes.size(), 1, 100); // an idle, unknown one is small
}

// Wherever it is cut, it is none; nor with a byte more.
void cut_short(void **) {
    handover_conn c = full_conn();
    const std::string bytes = described(&c);
    for (size_t n = 0; n < bytes.size(); n++)
        assert_false(parses(bytes.substr(0, n)));
    assert_false(parses(bytes + '\0'));
}

void another_version(void **) {
    handover_conn c = full_conn(), got;
    std::string bytes = described(&c);
    bytes[0] = static_cast<char>(handover_version + 1);
    const char *why = nullptr;
    assert_false(handover_parse(bytes, &got, &why));
    assert_non_null(strstr(why, "version"));
}

template <typename F> void refused(F change) {
    handover_conn c = full_conn();
    change(&c);
    assert_false(parses(described(&c)));
}

void states_that_can_not_be(void **) {
    refused([](handover_conn *c) { c->parser.opcode = ws_continuation; });
    refused([](handover_conn *c) { c->parser.opcode = ws_ping; });
    refused([](handover_conn *c) { c->parser.in_frame = 0; });
    refused([](handover_conn *c) { c->parser.remaining = uint64_t{1} << 63; });
    refused([](handover_conn *c) { c->parser.utf8 = 0xff; });
    refused([](handover_conn *c) { c->deflate = 0; }); // inside a compressed message
    refused([](handover_conn *c) { c->message = "hell"; });
    refused([](handover_conn *c) { c->deflate = 3; });
    refused([](handover_conn *c) { c->id.slot = 1 << 24; });
    refused([](handover_conn *c) { c->id.worker = 64; });
    refused([](handover_conn *c) { c->frames.clear(); }); // of which the first is begun?
    refused([](handover_conn *c) { c->frames[0].bytes = ""; });
    refused([](handover_conn *c) { c->frames[0].room = 3; });
    refused([](handover_conn *c) { c->frames[0].key = 1; }); // a gap's mark
    refused([](handover_conn *c) { c->frames[2].room = 0; });
    refused([](handover_conn *c) { c->rooms[0].name = "@all"; });
    refused([](handover_conn *c) { c->rooms[0].name = "a b"; });
    refused([](handover_conn *c) { c->rooms[0].at.offset = 5; }); // of no epoch
    refused([](handover_conn *c) { c->token_join = 3; });
}

void lists_that_promise_too_much(void **) {
    handover_conn c = {};
    std::string bytes = described(&c);
    // The count of rooms, which are none: behind the head, where the texts are empty.
    const size_t at = 1 + 10 + 3 + 2 + 16 + 4 + 2;
    assert_int_equal(bytes[at], 0);
    assert_false(parses(bytes.substr(0, at) + "\xff\xff\x3f" + bytes.substr(at + 1)));
}

void messages_round_trip(void **) {
    handover_message all[3] = {{handover_type::hello, handover_version, 4, true, {}, "k3Fq"},
                               {handover_type::rooms},
                               {handover_type::describe}};
    all[0].id.tag = 99;
    all[1].number = 2;
    all[1].names = {"a", "@user:7", "\xe2\x82\xac"};
    all[2].id = {1, 2, 3};
    all[2].text = view("\0\1", 2);
    for (const handover_message &m : all) {
        buffer out = {};
        handover_message got;
        handover_write(&m, &out);
        assert_true(handover_read(buffer_view(&out), &got));
        assert_true(got.type == m.type && got.version == m.version && got.number == m.number && got.flag == m.flag);
        assert_true(got.id.worker == m.id.worker && got.id.slot == m.id.slot && got.id.tag == m.id.tag);
        assert_true(got.text == m.text && got.names == m.names);
        for (size_t n = 0; n < out.size; n++) {
            handover_message cut;
            assert_false(handover_read(view(out.data, n), &cut));
        }
        out.data[0] = static_cast<char>(handover_type::type_count);
        assert_false(handover_read(buffer_view(&out), &got));
        buffer_free(&out);
    }
}

void a_bad_room_name_in_a_message(void **) {
    handover_message m = {handover_type::rooms}, got;
    buffer out = {};
    m.names = {"a\nb"};
    handover_write(&m, &out);
    assert_false(handover_read(buffer_view(&out), &got));
    buffer_free(&out);
}

void orders_round_trip(void **) {
    const handover_order o = {2, true, false, true, true, 4403, {1, 2, 3}, "news", "56", "why not"};
    buffer out = {};
    handover_order got;
    handover_order_write(&o, &out);
    assert_true(handover_order_read(buffer_view(&out), &got));
    assert_true(got.op == 2 && got.by_room && !got.by_user && got.all && got.reconnect && got.code == 4403);
    assert_true(got.conn.tag == 3 && got.room == "news" && got.user == "56" && got.reason == "why not");
    for (size_t n = 0; n < out.size; n++)
        assert_false(handover_order_read(view(out.data, n), &got));
    out.data[0] = 4;
    assert_false(handover_order_read(buffer_view(&out), &got));
    buffer_free(&out);
}

} // namespace

int main() {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_connection_round_trips),
        cmocka_unit_test(nothing_but_what_it_has_to_be),
        cmocka_unit_test(cut_short),
        cmocka_unit_test(another_version),
        cmocka_unit_test(states_that_can_not_be),
        cmocka_unit_test(lists_that_promise_too_much),
        cmocka_unit_test(messages_round_trip),
        cmocka_unit_test(a_bad_room_name_in_a_message),
        cmocka_unit_test(orders_round_trip),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
