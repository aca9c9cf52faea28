// The Redis broker against a real redis-server: what it subscribes, what comes in, what becomes of its publishes, and
// what it says when the links break or Redis refuses.
#include "broker_redis_bench.h"

using namespace broker_redis_bench;

namespace {

// ---- subscriptions ----

void test_what_is_always_subscribed(void **) {
    begin("");
    for (const char *channel : {"b:command", "b:room:@all", "b:message:@all"})
        assert_string_equal(subscribers(channel).c_str(), "1");
    assert_string_equal(ask({"PUBSUB", "NUMPAT"}).c_str(), "2");
    std::string own = "b:room:@conn:" + std::string(view(conn_id_format({1, 2, 3})));
    assert_string_equal(ask({"PUBLISH", own, "you"}).c_str(), "1");
    assert_true(saw(own.substr(7) + "=you "));
    assert_string_equal(ask({"PUBLISH", "b:command", "{}"}).c_str(), "1");
    assert_true(saw("command {} "));
    assert_int_equal(tested->count.reconnects, 0);
}

void test_a_turns_changes_are_one_command(void **) {
    begin("");
    int in = calls("subscribe"), out = calls("unsubscribe");
    subscribe("a");
    subscribe("b");
    unsubscribe("b");
    subscribe("b");
    subscribe("c");
    unsubscribe("c");
    assert_string_equal(events_seen.c_str(), ""); // nothing is promised before Redis has said so
    assert_true(saw("+a +b "));
    settle();
    assert_int_equal(calls("subscribe"), in + 1);
    assert_string_equal(subscribers("b:room:b").c_str(), "1");
    assert_string_equal(subscribers("b:message:b").c_str(), "1");
    assert_string_equal(subscribers("b:room:c").c_str(), "0");
    assert_int_equal(tested->count.subscriptions, 2);

    unsubscribe("a"); // and wanted again before anything was sent
    subscribe("a");
    assert_string_equal(events_seen.c_str(), "+a ");
    settle();
    assert_int_equal(calls("subscribe"), in + 1);
    assert_int_equal(calls("unsubscribe"), out);
    unsubscribe("a");
    unsubscribe("b");
    settle();
    assert_int_equal(calls("unsubscribe"), out + 1);
    assert_string_equal(subscribers("b:message:a").c_str(), "0");
}

void test_a_change_of_mind_while_a_confirmation_is_under_way(void **) {
    begin("");
    subscribe("a");
    tested->ops->turn(tested); // sent
    unsubscribe("a");
    settle();
    assert_string_equal(events_seen.c_str(), "");
    assert_string_equal(subscribers("b:room:a").c_str(), "0");
    subscribe("a");
    assert_true(saw("+a "));
    unsubscribe("a");
    tested->ops->turn(tested);
    subscribe("a");
    assert_string_equal(events_seen.c_str(), "");
    assert_true(saw("+a "));
    settle();
    assert_string_equal(subscribers("b:room:a").c_str(), "1");
}

// ---- messages ----

void test_a_copy_comes_back_with_its_job(void **) {
    begin("");
    subscribe("news");
    assert_true(saw("+news "));
    publish_job *job = publish_job_new(on_done, nullptr);
    assert_true(publish("news", "hello", job, true));
    publish_job_settle(job, 0, true);
    assert_int_equal(done_calls, 0);
    assert_true(saw("news=hello from {\"conn\":\"x\"} "));
    assert_true(until([] { return done_calls == 1; }));
    assert_true(job_came);
    assert_int_equal(done_receivers, 5);
    assert_false(done_failed);

    job = publish_job_new(on_done, nullptr); // nobody of this node is to get it
    assert_true(publish("news", "away", job, false));
    publish_job_settle(job, 0, true);
    assert_true(saw("news=away "));
    assert_false(job_came);
    assert_true(until([] { return done_calls == 2; }));
    assert_int_equal(done_receivers, 0);
    assert_int_equal(tested->count.published, 2);
}

void test_messages_of_others(void **) {
    begin("");
    subscribe("news");
    assert_true(saw("+news "));
    ask({"PUBLISH", "b:room:news", "raw\nbytes"});
    assert_true(saw("news=raw\nbytes "));
    // Another node's first publish, and one of ours that is on its way with the same number.
    publish_job *job = publish_job_new(on_done, nullptr);
    assert_true(publish("nobody", "x", job, true));
    publish_job_settle(job, 0, true);
    ask({"PUBLISH", "b:message:news",
         R"({"v":1,"node":"other-node","seq":1,"kind":"json","time":5})"
         "\n[1]"});
    assert_true(saw("news=[1] "));
    assert_false(job_came);
    assert_int_equal(done_calls, 0);
}

void test_bad_messages_are_counted(void **) {
    begin("");
    subscribe("news");
    assert_true(saw("+news "));
    std::string large(1000, 'x');
    ask({"PUBLISH", "b:room:news", large + "x"});
    ask({"PUBLISH", "b:message:news", "nonsense"});
    ask({"PUBLISH", "b:message:@all", "{\"v\":2}\n"});
    ask({"PUBLISH", "b:room:news", large});
    assert_true(saw("news=xxx"));
    assert_int_equal(tested->count.received, 4);
    assert_int_equal(tested->count.oversized, 1);
    assert_int_equal(tested->count.malformed, 3); // the oversized one too
    assert_true(contains(log_text(), "a message on b:room:news was dropped"));
}

void test_paused(void **) {
    begin("");
    tested->ops->pause(tested, true);
    ask({"PUBLISH", "b:room:@all", "later"});
    settle();
    assert_string_equal(events_seen.c_str(), "");
    tested->ops->pause(tested, false);
    assert_true(saw("@all=later "));
}

// ---- what goes wrong ----

void test_a_killed_subscriber(void **) {
    begin("");
    subscribe("news");
    subscribe("left");
    assert_true(saw("+news +left "));
    publish_job *job = publish_job_new(on_done, nullptr);
    assert_true(publish("elsewhere", "x", job, true)); // a copy that never comes
    publish_job_settle(job, 0, true);
    settle();
    assert_int_equal(done_calls, 0);
    assert_string_equal(ask({"CLIENT", "KILL", "TYPE", "pubsub"}).c_str(), "1");
    assert_true(until([] { return !events_seen.empty(); }));
    assert_string_equal(events_seen.c_str(), "down ");
    assert_int_equal(done_calls, 1); // it was published
    assert_false(done_failed);
    assert_false(tested->ops->ready(tested));
    job = publish_job_new(on_done, nullptr);
    assert_false(publish("news", "x", job, true));
    assert_int_equal(job->awaiting, 1);
    publish_job_settle(job, 0, false);
    unsubscribe("left");
    subscribe("new"); // let in at once; the gap is told later
    assert_string_equal(events_seen.c_str(), "down +new ");
    assert_true(saw("up,missed "));
    assert_int_equal(tested->count.reconnects, 1);
    assert_string_equal(subscribers("b:message:new").c_str(), "1");
    assert_string_equal(subscribers("b:room:left").c_str(), "0");
    ask({"PUBLISH", "b:room:news", "again"});
    assert_true(saw("news=again "));
    ask({"CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"}); // the publisher: the gap was told, it is not told again
    assert_true(saw("down up "));
}

void test_a_killed_publisher(void **) {
    begin("");
    assert_string_equal(ask({"CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"}).c_str(), "1");
    assert_true(saw("down up ")); // nothing was missed
    assert_true(publish("@all", "x", nullptr, false));
    assert_true(saw("@all=x "));
}

constexpr char narrow_acl[] = "user default on nopass ~* +@all resetchannels &b:command &b:room:@all &b:message:@all "
                              "&b:room:fine &b:message:fine";

void test_a_refused_pattern_does_not_keep_it_down(void **) {
    begin("user default on nopass ~* +@all resetchannels &b:*"); // literally, no pattern of one connection's
    assert_true(contains(log_text(), "Redis refused the pattern of this node's connections"));
    assert_string_equal(ask({"PUBSUB", "NUMPAT"}).c_str(), "0");
    subscribe("a");
    assert_true(saw("+a "));
}

void test_a_refused_room_is_tried_again(void **) {
    begin(narrow_acl);
    subscribe("secret");
    subscribe("given up");
    assert_true(until([] { return events_seen.size() >= strlen("!secret !given up "); }));
    assert_true(contains(events_seen, "!secret "));
    assert_true(contains(events_seen, "!given up "));
    events_seen.clear();
    unsubscribe("given up");
    assert_true(tested->ops->ready(tested)); // publishing goes on
    assert_string_equal(ask({"ACL", "SETUSER", "default", "&b:room:secret", "&b:message:secret"}).c_str(), "OK");
    assert_true(saw("+secret "));
    assert_string_equal(subscribers("b:room:secret").c_str(), "1");
    ask({"PUBLISH", "b:room:secret", "x"});
    assert_true(saw("secret=x "));
    assert_true(contains(log_text(), "Redis refused a subscription"));
}

// One batch holds both, and Redis does not say which it refuses; then each is asked for by itself. After a new
// connection the members of the refused one are still there, and nobody else waits for them.
void test_a_refused_room_takes_no_other_along(void **) {
    begin(narrow_acl);
    subscribe("fine");
    subscribe("secret");
    assert_true(until([] { return contains(events_seen, "!fine "); }));
    assert_true(until([] { return contains(events_seen, "+fine "); }));
    assert_string_equal(ask({"CLIENT", "KILL", "TYPE", "pubsub"}).c_str(), "1");
    assert_true(until([] { return contains(events_seen, "up,missed "); }));
    assert_true(until([] { return subscribers("b:room:fine") == "1"; }));
    assert_true(publish("@all", "x", nullptr, false));
}

} // namespace

#define with_redis(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main() {
    const CMUnitTest tests[] = {
        with_redis(test_what_is_always_subscribed),
        with_redis(test_a_turns_changes_are_one_command),
        with_redis(test_a_change_of_mind_while_a_confirmation_is_under_way),
        with_redis(test_a_copy_comes_back_with_its_job),
        with_redis(test_messages_of_others),
        with_redis(test_bad_messages_are_counted),
        with_redis(test_paused),
        with_redis(test_a_killed_subscriber),
        with_redis(test_a_killed_publisher),
        with_redis(test_a_refused_pattern_does_not_keep_it_down),
        with_redis(test_a_refused_room_is_tried_again),
        with_redis(test_a_refused_room_takes_no_other_along),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
