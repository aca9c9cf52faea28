// Tests of proto/cursor.
//
// One thread.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
extern "C" {
#include <cmocka.h>
}

#include "proto/cursor.h"

#include <string>

using namespace belfry;
using std::string;

namespace {

struct bench {
    buffer out, names;
    cursor found;
};

int setup(void **state) {
    *state = new bench{};
    return 0;
}

int teardown(void **state) {
    auto *b = static_cast<bench *>(*state);
    buffer_free(&b->out);
    buffer_free(&b->names);
    delete b;
    return 0;
}

position at(view epoch, uint64_t offset) {
    position p;
    assert_true(position_set(&p, epoch, offset));
    return p;
}

void test_written_and_read(void **state) {
    auto *b = static_cast<bench *>(*state);
    position first = at("k3Fq", 17), second = at("Zz_-0123", 18446744073709551615u);
    assert_true(cursor_add(&b->out, 0, &first, "chat:42"));
    assert_true(cursor_add(&b->out, 1, &second, "a,b:c%/\u00e9"));
    assert_string_equal(string(buffer_view(&b->out)).c_str(),
                        "k3Fq:17:chat%3A42,Zz_-0123:18446744073709551615:a%2Cb%3Ac%25%2F%C3%A9");
    assert_true(cursor_parse(buffer_view(&b->out), &b->found, &b->names));
    assert_int_equal(b->found.count, 2);
    assert_true(b->found.rooms[0].room == "chat:42");
    assert_true(b->found.rooms[1].room == "a,b:c%/\u00e9");
    assert_true(position_same_epoch(&b->found.rooms[1].at, &second));
    assert_true(b->found.rooms[1].at.offset == UINT64_MAX);
}

void test_no_more_rooms_than_fit(void **state) {
    auto *b = static_cast<bench *>(*state);
    position p = at("e", 1);
    size_t count = 0;
    while (cursor_add(&b->out, count, &p, "room" + std::to_string(count)))
        count++;
    assert_int_equal(count, cursor_rooms_max);
    assert_true(cursor_parse(buffer_view(&b->out), &b->found, &b->names));
    assert_int_equal(b->found.count, cursor_rooms_max);
    string one_more = string(buffer_view(&b->out)) + ",e:1:x";
    assert_false(cursor_parse(one_more, &b->found, &b->names));
}

void test_no_more_bytes_than_fit(void **state) {
    auto *b = static_cast<bench *>(*state);
    position p = at("e", 1);
    size_t count = 0;
    while (cursor_add(&b->out, count, &p, string(1, static_cast<char>('a' + count)) + string(250, ':')))
        count++;
    assert_int_equal(count, 4); // 755 characters each, and commas
    assert_true(b->out.size <= cursor_size_max);
    assert_true(cursor_parse(buffer_view(&b->out), &b->found, &b->names));
    assert_int_equal(b->found.count, 4);
    assert_false(cursor_add(&b->out, 4, &p, string(256, 'a'))); // no room's name
    assert_true(cursor_add(&b->out, 4, &p, "z"));               // what is smaller still fits
    assert_false(cursor_parse("e:1:" + string(cursor_size_max, 'a'), &b->found, &b->names));
}

void test_what_is_no_event_id(void **state) {
    auto *b = static_cast<bench *>(*state);
    for (const char *text : {"",
                             ",",
                             "17",
                             "k3Fq:17",
                             "k3Fq:17:",
                             ":17:chat",
                             "k3Fq::chat",
                             "k3Fq:x:chat",
                             "k3Fq:-1:chat",
                             "k3Fq:017:chat",
                             "k3Fq:+1:chat",
                             "k3Fq:18446744073709551616:chat",
                             "123456789:1:chat",
                             "k3!q:17:chat",
                             "k3Fq:17:%4",
                             "k3Fq:17:%zz",
                             "k3Fq:17:a%20b",
                             "k3Fq:17:%00",
                             "k3Fq:17:%ff",
                             "k3Fq:17:@user",
                             "k3Fq:17:%40all",
                             "k3Fq:17:chat,",
                             ",k3Fq:17:chat",
                             "k3Fq:17:chat,,k3Fq:17:b",
                             "k3Fq:17:chat,k3Fq:18:chat",
                             "k3Fq:17:chat,k3Fq:18:%63hat",
                             "k3Fq:17:chat k3Fq:18:b"})
        assert_false(cursor_parse(text, &b->found, &b->names));
    assert_true(cursor_parse("k3Fq:0:%63hat", &b->found, &b->names));
    assert_true(b->found.rooms[0].room == "chat" && b->found.rooms[0].at.offset == 0);
    assert_true(cursor_parse("k3Fq:1:a+b", &b->found, &b->names));
    assert_true(b->found.rooms[0].room == "a+b");
}

void test_names_of_sessions(void **) {
    session_name n;
    assert_true(session_name_parse("c_7Qx2.AbC-_9", &n));
    assert_true(n.conn == "c_7Qx2" && n.key == "AbC-_9");
    for (const char *text : {"", ".", "c_7Qx2", "c_7Qx2.", ".key", "c_7Qx2.k.", "c_7Qx2.k.y", "c 7.k", "c_7.k\xff",
                             "c_7.k=", "c_7.123456789012345678901234567890123"})
        assert_false(session_name_parse(text, &n));
    assert_true(session_name_parse("c.12345678901234567890123456789012", &n));
}

void test_poll_cursors(void **state) {
    auto *b = static_cast<bench *>(*state);
    poll_cursor c = {{"c_7Qx2", "key"}, 12}, found;
    poll_cursor_write(&b->out, &c);
    assert_string_equal(string(buffer_view(&b->out)).c_str(), "c_7Qx2.key.12");
    assert_true(poll_cursor_parse(buffer_view(&b->out), &found));
    assert_true(found.of.conn == "c_7Qx2" && found.of.key == "key" && found.sequence == 12);
    for (const char *text :
         {"", "12", "c.12", "c.k.", "c.k.012", "c.k.-1", "c.k.1.", "c.k.18446744073709551616", "c..1"})
        assert_false(poll_cursor_parse(text, &found));
}

} // namespace

int main() {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_written_and_read, setup, teardown),
        cmocka_unit_test_setup_teardown(test_no_more_rooms_than_fit, setup, teardown),
        cmocka_unit_test_setup_teardown(test_no_more_bytes_than_fit, setup, teardown),
        cmocka_unit_test_setup_teardown(test_what_is_no_event_id, setup, teardown),
        cmocka_unit_test(test_names_of_sessions),
        cmocka_unit_test_setup_teardown(test_poll_cursors, setup, teardown),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
