// relay/peers.cc: two nodes that talk over a wire which the test holds in its hands.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
extern "C" {
#include <cmocka.h>
}

#include "base/clock.h"
#include "relay/conn_id.h"
#include "relay/peers.h"

#include <string.h>
#include <vector>

using namespace belfry;

namespace {

struct sent_bytes {
    std::string node, bytes;
    void (*sent)(void *, uint64_t, int64_t);
    void *context;
    uint64_t tag;
};

std::vector<sent_bytes> wire;
bool away;

bool send_to_node(broker *, view node, view bytes, void (*sent)(void *, uint64_t, int64_t), void *context,
                  uint64_t tag) {
    if (away) return false;
    wire.push_back({std::string(node), std::string(bytes), sent, context, tag});
    return true;
}

broker_ops wired() {
    broker_ops o = {};
    o.send_to_node = send_to_node;
    return o;
}

const broker_ops ops = wired();
constexpr broker_ops alone = {};
broker over = {&ops, nullptr, nullptr, {}};

struct told {
    int code = 0, times = 0;
    std::string body;
};

void done(void *context, int code, view body) {
    auto *t = static_cast<told *>(context);
    t->code = code;
    t->times++;
    t->body = body;
}

std::string heard;
peers_return heard_from;

void ask(void *, const peers_return *to, peer_what what, view body) {
    heard += std::to_string(static_cast<int>(what)) + ":" + std::string(body) + " ";
    heard_from = *to;
}

json_reader *reader;
peers *p;

// Who still waits is told while its `told` lives.
void end_all() {
    peers_turn(p, UINT64_MAX);
}

int setup(void **) {
    over.ops = &ops;
    wire.clear();
    heard.clear();
    away = false;
    reader = json_reader_new();
    p = peers_new(&over, reader, ask, nullptr);
    return 0;
}

int teardown(void **) {
    if (p) peers_free(p);
    json_reader_free(reader);
    return 0;
}

std::string answer_to(uint64_t number, view from, int code, view body) {
    buffer out = {};
    peer_message m = {true, from, number, peer_what::order, code, body};
    peer_message_write(&m, &out);
    std::string text(buffer_view(&out));
    buffer_free(&out);
    return text;
}

void an_answer_reaches_who_asked(void **) {
    told one, other;
    peers_ask(p, "Zz09", peer_what::order, "first", done, &one);
    peers_ask(p, "Yy08", peer_what::carry, "second", done, &other);
    assert_int_equal(wire.size(), 2);
    assert_string_equal(wire[0].node.c_str(), "Zz09");
    std::string head = "{\"v\":1,\"from\":\"" + std::string(node_id()) + "\",\"ask\":1,\"what\":\"order\"}\nfirst";
    assert_string_equal(wire[0].bytes.c_str(), head.c_str());
    peers_incoming(p, answer_to(2, "Yy08", 409, "no"));
    assert_int_equal(other.code, 409);
    assert_string_equal(other.body.c_str(), "no");
    assert_int_equal(one.times, 0);
    peers_incoming(p, answer_to(1, "Zz09", 200, ""));
    assert_int_equal(one.code, 200);
    peers_incoming(p, answer_to(1, "Zz09", 500, "")); // a second time
    assert_int_equal(one.times, 1);
    assert_int_equal(peers_count(p).late, 1);
    assert_int_equal(peers_under_way(p), 0);
}

void another_nodes_answer_does_not_count(void **) {
    told one;
    peers_ask(p, "Zz09", peer_what::order, "x", done, &one);
    peers_incoming(p, answer_to(1, "Evil", 200, ""));
    assert_int_equal(one.times, 0);
    assert_int_equal(peers_count(p).late, 1);
    end_all();
}

void nobody_there_is_404_at_once(void **) {
    told one, known, unknown;
    peers_ask(p, "gone", peer_what::order, "x", done, &one);
    wire[0].sent(wire[0].context, wire[0].tag, 0);
    assert_int_equal(one.code, 404);
    peers_ask(p, "here", peer_what::order, "x", done, &known);
    wire[1].sent(wire[1].context, wire[1].tag, 1);
    assert_int_equal(known.times, 0);
    peers_ask(p, "here", peer_what::order, "x", done, &unknown);
    wire[2].sent(wire[2].context, wire[2].tag, -1); // a cluster does not know
    assert_int_equal(unknown.times, 0);
    over.ops = &alone;
    told single;
    peers_ask(p, "here", peer_what::order, "x", done, &single);
    assert_int_equal(single.code, 404);
    over.ops = &ops;
    end_all();
}

void what_can_not_be_sent_is_503(void **) {
    told one, big;
    away = true;
    peers_ask(p, "Zz09", peer_what::order, "x", done, &one);
    assert_int_equal(one.code, 503);
    assert_int_equal(one.times, 1);
    away = false;
    std::string body(peers_body_max + 1, 'x');
    peers_ask(p, "Zz09", peer_what::order, body, done, &big);
    assert_int_equal(big.code, 503);
    assert_int_equal(peers_count(p).refused, 2);
    assert_int_equal(peers_under_way(p), 0);
}

void silence_ends_in_504(void **) {
    told one;
    peers_ask(p, "Zz09", peer_what::order, "x", done, &one);
    uint64_t now = clock_monotonic_ns() / 1000000;
    peers_turn(p, now + peers_timeout_ms - 1000);
    assert_int_equal(one.times, 0);
    peers_turn(p, now + peers_timeout_ms + 1000);
    assert_int_equal(one.code, 504);
    assert_int_equal(peers_count(p).timed_out, 1);
    told poll;
    peers_ask(p, "Zz09", peer_what::carry, "x", done, &poll);
    now = clock_monotonic_ns() / 1000000;
    peers_turn(p, now + peers_carry_timeout_ms - 1000);
    assert_int_equal(poll.times, 0);
    peers_turn(p, now + peers_carry_timeout_ms + 1000);
    assert_int_equal(poll.code, 504);
}

void a_question_is_heard_and_answered(void **) {
    peers_incoming(p, "{\"v\":1,\"from\":\"Zz09\",\"ask\":7,\"what\":\"carry\"}\nplease");
    assert_string_equal(heard.c_str(), "2:please ");
    peers_answer(p, &heard_from, 201, "done");
    assert_int_equal(wire.size(), 1);
    assert_string_equal(wire[0].node.c_str(), "Zz09");
    std::string text = "{\"v\":1,\"from\":\"" + std::string(node_id()) + "\",\"answer\":7,\"code\":201}\ndone";
    assert_string_equal(wire[0].bytes.c_str(), text.c_str());
    std::string large(peers_body_max + 1, 'x');
    peers_answer(p, &heard_from, 200, large);
    assert_non_null(strstr(wire[1].bytes.c_str(), "\"code\":500"));
}

void rubbish_is_counted(void **) {
    for (view bytes :
         {view(""), view("x\ny"), view("{}\n"), view("{\"v\":1,\"from\":\"a b\",\"ask\":1,\"what\":\"order\"}\n")})
        peers_incoming(p, bytes);
    assert_int_equal(peers_count(p).malformed, 4);
    assert_string_equal(heard.c_str(), "");
}

void the_end_answers_everybody(void **) {
    told one;
    peers_ask(p, "Zz09", peer_what::order, "x", done, &one);
    peers_free(p);
    p = nullptr;
    assert_int_equal(one.code, 503);
}

} // namespace

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main() {
    hash_init(1);
    node_id_init();
    const CMUnitTest tests[] = {
        TEST(an_answer_reaches_who_asked), TEST(another_nodes_answer_does_not_count),
        TEST(nobody_there_is_404_at_once), TEST(what_can_not_be_sent_is_503),
        TEST(silence_ends_in_504),         TEST(a_question_is_heard_and_answered),
        TEST(rubbish_is_counted),          TEST(the_end_answers_everybody),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
