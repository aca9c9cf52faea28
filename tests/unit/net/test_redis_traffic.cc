// Commands, replies and frames of the Redis link: order, coalescing, subscriptions, bounds, pausing, freeing.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
extern "C" {
#include <cmocka.h>
}

#include "net/redis.h"
#include "redis_fixture.h"

using namespace belfry;
using namespace redis_fixture;

namespace {

void test_ready_and_command(void **) {
    start_server(free_port(), "");
    probe *p = start_ready(0, fast_settings(), false);
    assert_true(redis_ready(p->r));
    assert_true(send(p, {"SET", "key", view("a\0\r\n", 4)}, on_reply, 1));
    assert_true(send(p, {"GET", "key"}, on_reply, 2));
    assert_true(send(p, {"GET", "none"}, on_reply, 3));
    assert_true(send(p, {"NOSUCH"}, on_reply, 4));
    assert_true(send(p, {"PING"}, nullptr, 0)); // an answer that nobody wants
    assert_true(send(p, {"LRANGE", "none", "0", "-1"}, on_reply, 5));
    assert_true(send(p, {"INCR", "n"}, on_reply, 6));
    assert_true(turn_until([p] { return p->replies.size() == 6; }));
    assert_string_equal(p->replies[0].c_str(), "1 OK");
    assert_true(p->replies[1] == std::string("2 a\0\r\n", 6));
    assert_string_equal(p->replies[2].c_str(), "3 nil");
    assert_true(contains(p->replies[3], "4 -ERR unknown command"));
    assert_string_equal(p->replies[4].c_str(), "5 ");
    assert_string_equal(p->replies[5].c_str(), "6 1");
    const redis_counters c = redis_count(p->r);
    assert_int_equal(c.connects, 1);
    assert_int_equal(c.failures, 0);
    assert_int_equal(c.commands, 7);
    assert_int_equal(c.replies, 7);
    assert_true(c.bytes_in > 60 && c.bytes_out > 150);
}

void test_pipelining(void **) {
    start_server(free_port(), "");
    probe *p = start_ready(0, fast_settings(), false);
    const uint64_t writes = on->writes;
    for (uint64_t i = 0; i < 5000; i++)
        assert_true(send(p, {"INCR", "n"}, on_reply, i));
    assert_true(turn_until([p] { return p->replies.size() == 5000; }));
    for (size_t i = 0; i < 5000; i++)
        assert_string_equal(p->replies[i].c_str(), (std::to_string(i) + " " + std::to_string(i + 1)).c_str());
    assert_true(on->writes - writes <= 5); // one, but for a full socket or a PING
}

void test_subscribe(void **) {
    start_server(free_port(), "");
    probe *s = start_ready(0, fast_settings(), true), *p = start_ready(1, fast_settings(), false);
    assert_true(send(s, {"SUBSCRIBE", "a", "b"}, nullptr, 0));
    assert_true(send(s, {"PSUBSCRIBE", "p*"}, nullptr, 0));
    assert_true(send(s, {"ssubscribe", "shard"}, nullptr, 0));
    assert_true(turn_until([s] { return s->pushes.size() == 4; }));
    assert_string_equal(s->pushes[0].c_str(), "subscribe a 1");
    assert_string_equal(s->pushes[1].c_str(), "subscribe b 2");
    assert_string_equal(s->pushes[2].c_str(), "psubscribe p* 3");
    assert_string_equal(s->pushes[3].c_str(), "ssubscribe shard 1");
    for (uint64_t i = 0; i < 100; i++) {
        const std::string text = "message " + std::to_string(i);
        assert_true(send(p, {"PUBLISH", i % 2 == 0 ? "a" : "b", text}, on_reply, i));
    }
    assert_true(send(p, {"PUBLISH", "pat", "x"}, nullptr, 0));
    assert_true(send(p, {"SPUBLISH", "shard", "y"}, nullptr, 0));
    assert_true(turn_until([s] { return s->pushes.size() == 106; }));
    for (size_t i = 0; i < 100; i++)
        assert_string_equal(
            s->pushes[4 + i].c_str(),
            ("message " + std::string(i % 2 == 0 ? "a" : "b") + " message " + std::to_string(i)).c_str());
    assert_string_equal(s->pushes[104].c_str(), "pmessage p* pat x");
    assert_string_equal(s->pushes[105].c_str(), "smessage shard y");
    assert_int_equal(redis_count(s->r).pushes, 106);

    // PING in subscriber state: answered by an array, and no push.
    turn_for(900);
    assert_int_equal(s->downs, 0);
    assert_int_equal(s->pushes.size(), 106);
    assert_true(redis_count(s->r).bytes_out > 3 * strlen("*1\r\n$4\r\nPING\r\n"));

    // Bare ones, whose frames are as many as there are channels; then commands of the ordinary kind again.
    assert_true(send(s, {"UNSUBSCRIBE"}, nullptr, 0));
    assert_true(send(s, {"PUNSUBSCRIBE"}, nullptr, 0));
    assert_true(send(s, {"SUNSUBSCRIBE", "shard"}, nullptr, 0));
    assert_true(send(s, {"ECHO", "hello"}, on_reply, 9));
    assert_true(send(s, {"UNSUBSCRIBE"}, nullptr, 0)); // nil, since there is none
    assert_true(send(s, {"ECHO", "again"}, on_reply, 10));
    assert_true(turn_until([s] { return s->replies.size() == 2; }));
    assert_int_equal(s->pushes.size(), 111);
    assert_string_equal(s->pushes[110].c_str(), "unsubscribe nil 0");
    assert_string_equal(s->replies[0].c_str(), "9 hello");
    assert_string_equal(s->replies[1].c_str(), "10 again");
    turn_for(900);
    assert_int_equal(s->downs + p->downs, 0);
}

void test_reply_max(void **) {
    start_server(free_port(), "");
    redis_settings s = fast_settings();
    s.reply_max = 100000;
    probe *p = start_ready(0, s, false);
    const std::string fits(99000, 'x'), larger(101000, 'y');
    assert_true(send(p, {"ECHO", fits}, on_reply, 1));
    assert_true(send(p, {"ECHO", fits}, on_reply, 2));
    assert_true(send(p, {"ECHO", larger}, on_reply, 3));
    assert_true(turn_until([p] { return p->downs == 1; }));
    assert_string_equal(p->why.c_str(), "a reply of more than 100000 bytes");
    assert_int_equal(p->replies.size(), 3);
    assert_true(p->replies[1] == "2 " + fits);
    assert_string_equal(p->replies[2].c_str(), "3 null");
    assert_true(turn_until([p] { return p->readies == 2; }));
}

void test_pause(void **) {
    start_server(free_port(), "");
    probe *s = start_ready(0, fast_settings(), true), *p = start_ready(1, fast_settings(), false);
    assert_true(send(s, {"SUBSCRIBE", "room"}, nullptr, 0));
    assert_true(turn_until([s] { return s->pushes.size() == 1; }));
    s->pause_at = 4; // in the middle of what one read brought
    for (uint64_t i = 0; i < 1000; i++)
        assert_true(send(p, {"PUBLISH", "room", std::to_string(i)}, on_reply, i));
    assert_true(turn_until([p] { return p->replies.size() == 1000; }));
    turn_for(300);
    assert_int_equal(s->pushes.size(), 4);
    redis_pause(s->r, false);
    assert_true(turn_until([s] { return s->pushes.size() == 1001; }));
    for (size_t i = 0; i < 1000; i++)
        assert_string_equal(s->pushes[1 + i].c_str(), ("message room " + std::to_string(i)).c_str());
    assert_int_equal(s->downs, 0);
}

void test_free_in_callbacks(void **) {
    start_server(free_port(), "");
    for (const char *where : {"ready", "push", "reply"}) {
        probe *p = start(0, fast_settings(), true);
        p->free_at = where;
        p->subscribes = "room";
        if (strcmp(where, "reply") == 0) {
            p->subscribes = nullptr;
            assert_true(turn_until([p] { return p->readies == 1; }));
            assert_true(send(p, {"PING"}, on_reply, 1));
            assert_true(send(p, {"PING"}, on_reply, 2)); // not told any more
        }
        assert_true(turn_until([p] { return p->r == nullptr; }));
        turn_for(50);
        assert_true(p->replies.size() <= 1 && p->pushes.size() <= 1 && p->downs == 0);
        *p = {};
    }
    for (const char *where : {"null", "down"}) {
        if (server.pid == 0) start_server(server.port, "");
        probe *p = start_ready(0, fast_settings(), false);
        p->free_at = where;
        assert_true(send(p, {"BLPOP", "none", "0"}, on_reply, 1));
        assert_true(send(p, {"BLPOP", "none", "0"}, on_reply, 2));
        turn_for(50);
        stop_server();
        assert_true(turn_until([p] { return p->r == nullptr; }));
        turn_for(50);
        assert_int_equal(p->replies.size(), strcmp(where, "null") == 0 ? 1 : 2);
        assert_int_equal(p->downs, strcmp(where, "null") == 0 ? 0 : 1);
        *p = {};
    }
}

void test_queue_is_bounded(void **) {
    start_server(free_port(), "");
    probe *p = start_ready(0, fast_settings(), false);
    const std::string megabyte(1 << 20, 'm');
    int taken = 0;
    while (taken < 100 && send(p, {"PUBLISH", "room", megabyte}, on_reply, 0))
        taken++;
    assert_int_equal(taken, 63); // 64 MiB less what RESP adds
    assert_true(turn_until([p] { return p->replies.size() == 63; }));
    assert_true(send(p, {"PUBLISH", "room", megabyte}, on_reply, 0));
    int small = 0;
    while (small < 2000000 && send(p, {"PING"}, nullptr, 0))
        small++;
    assert_in_range(small, 1000000, 1100000);
}

} // namespace

int main() {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_ready_and_command, before_each, after_each),
        cmocka_unit_test_setup_teardown(test_pipelining, before_each, after_each),
        cmocka_unit_test_setup_teardown(test_subscribe, before_each, after_each),
        cmocka_unit_test_setup_teardown(test_reply_max, before_each, after_each),
        cmocka_unit_test_setup_teardown(test_pause, before_each, after_each),
        cmocka_unit_test_setup_teardown(test_free_in_callbacks, before_each, after_each),
        cmocka_unit_test_setup_teardown(test_queue_is_bounded, before_each, after_each),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
