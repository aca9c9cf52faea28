// The command stream against a real redis-server: what it takes, what it acknowledges, how much at a time.
#include "broker_redis_bench.h"
#include "relay/command_stream.h"

using namespace broker_redis_bench;

namespace {

command_stream *stream;
std::vector<std::pair<uint64_t, std::string>> carried; // ticket, command
bool is_busy;

void carry(void *, frame *source, uint64_t ticket) {
    carried.emplace_back(ticket, frame_view(source));
    for (size_t i = 0; i < frame_padding; i++)
        assert_int_equal(source->data[source->size + i], 0);
}
bool busy(const void *) {
    return is_busy;
}
constexpr command_stream_events stream_events = {carry, busy};

void begin_stream() {
    begin("");
    carried.clear();
    is_busy = false;
    broker_settings s = {};
    s.prefix = "b:";
    s.max_message = 1000;
    s.redis = fast_settings(); // blocks for 100 ms at most
    s.redis.ping_timeout_ms = 5000;
    stream = command_stream_new(tested, &s, &stream_events, nullptr);
}

int end_stream(void **state) {
    if (stream) command_stream_stop(stream);
    if (tested) tested->ops->free(tested);
    tested = nullptr;
    command_stream_free(stream);
    stream = nullptr;
    return teardown(state);
}

template <typename F> bool until_stream(F done) {
    return until([&done] {
        command_stream_turn(stream);
        return done();
    });
}

// The stream goes on by itself for a while.
void let_it_run() {
    until_stream([end = clock_monotonic_ns() + 300000000] { return clock_monotonic_ns() > end; });
}

void add(const std::string &text) {
    ask({"XADD", "b:commands", "*", "command", text});
}

std::string waiting() {
    return ask({"XLEN", "b:commands"}) + " " + ask({"XPENDING", "b:commands", "belfry"}).substr(0, 1);
}

void test_done_is_deleted(void **) {
    begin_stream();
    add("one");
    add("two");
    assert_true(until_stream([] { return carried.size() == 2; }));
    assert_string_equal(carried[0].second.c_str(), "one");
    assert_string_equal(carried[1].second.c_str(), "two");
    let_it_run();
    assert_string_equal(waiting().c_str(), "2 2"); // neither is answered yet
    command_stream_settle(stream, carried[1].first, command_outcome::done, nullptr);
    let_it_run();
    assert_string_equal(waiting().c_str(), "1 1");
    command_stream_settle(stream, carried[0].first, command_outcome::malformed, "nonsense");
    command_stream_settle(stream, carried[0].first, command_outcome::done, nullptr); // once is enough
    let_it_run();
    assert_string_equal(waiting().c_str(), "0 0");
    const command_stream_counters *n = command_stream_count(stream);
    assert_int_equal(n->done, 1);
    assert_int_equal(n->malformed, 1);
    assert_true(contains(log_text(), "an entry was dropped: nonsense"));
}

void test_what_fails_stays(void **) {
    begin_stream();
    add("one");
    assert_true(until_stream([] { return carried.size() == 1; }));
    command_stream_settle(stream, carried[0].first, command_outcome::again, nullptr);
    let_it_run();
    assert_string_equal(waiting().c_str(), "1 1");
    assert_int_equal(carried.size(), 1); // not at once
    assert_int_equal(command_stream_count(stream)->again, 1);
}

void test_bounds(void **) {
    begin_stream();
    is_busy = true;
    for (int i = 0; i < 400; i++)
        add("x");
    let_it_run();
    assert_int_equal(carried.size(), 0);
    is_busy = false;
    assert_true(until_stream([] { return carried.size() == command_stream_under_way; }));
    let_it_run();
    assert_int_equal(carried.size(), command_stream_under_way);
    for (size_t i = 0; i < 64; i++)
        command_stream_settle(stream, carried[i].first, command_outcome::done, nullptr);
    assert_true(until_stream([] { return carried.size() == command_stream_under_way + 64; }));
    add(std::string(1000 * 2 + 65536 + 1, 'x'));
    for (size_t i = 64; i < carried.size(); i++)
        command_stream_settle(stream, carried[i].first, command_outcome::done, nullptr);
    assert_true(until_stream([] { return command_stream_count(stream)->malformed == 1; }));
}

void test_an_outage(void **) {
    begin_stream();
    add("one");
    assert_true(until_stream([] { return carried.size() == 1; }));
    ask({"CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"});
    command_stream_settle(stream, carried[0].first, command_outcome::done, nullptr);
    add("two");
    assert_true(until_stream([] { return carried.size() == 2; }));
    command_stream_settle(stream, carried[1].first, command_outcome::done, nullptr);
    assert_true(until_stream([] { return waiting() == "0 0"; })); // what was done meanwhile is acknowledged
    assert_int_equal(carried.size(), 2);
}

void test_another_key_of_that_name(void **) {
    begin_stream();
    ask({"DEL", "b:commands"});
    ask({"SET", "b:commands", "x"});
    assert_true(until_stream([] { return log_text().find("command stream: Redis ") != std::string::npos; }));
    assert_true(contains(log_text(), "WRONGTYPE"));
    assert_true(tested->ops->ready(tested));
}

// Commands may be settled behind the broker's end.
void test_the_end(void **) {
    begin_stream();
    add("one");
    assert_true(until_stream([] { return carried.size() == 1; }));
    command_stream_stop(stream);
    tested->ops->free(tested);
    tested = nullptr;
    command_stream_settle(stream, carried[0].first, command_outcome::done, nullptr);
    command_stream_turn(stream);
}

} // namespace

#define with_redis(test) cmocka_unit_test_setup_teardown(test, setup, end_stream)

int main() {
    const CMUnitTest tests[] = {
        with_redis(test_done_is_deleted), with_redis(test_what_fails_stays),         with_redis(test_bounds),
        with_redis(test_an_outage),       with_redis(test_another_key_of_that_name), with_redis(test_the_end),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
