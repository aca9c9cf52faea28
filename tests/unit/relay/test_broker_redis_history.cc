// Histories of the Redis broker against a real redis-server: what the scripts write, what comes live, what is read, and
// what becomes of a publish whose id was there before, of lost scripts and of somebody else's bytes.
#include "broker_redis_bench.h"

using namespace broker_redis_bench;

namespace {

// Publishes for the room's history and waits for the outcome.
bool keep(const char *room, view payload, view id = {}, uint32_t history = 5) {
    int before = done_calls;
    publish_job *job = publish_job_new(on_done, nullptr);
    message_parts parts = {};
    parts.room = room;
    parts.id = id;
    bool sent = publish(parts, payload, job, false, history);
    publish_job_settle(job, 0, sent);
    assert_true(until([before] { return done_calls > before; }));
    return sent && !done_failed;
}

bool read(const char *room, uint64_t after, uint32_t limit) {
    if (!tested->ops->read(tested, room, after, limit, 77)) return false;
    return saw("page " + std::string(room) + " ") && page_seen.tag == 77 && page_seen.after == after;
}

std::string messages() {
    std::string all;
    for (const std::string &m : page_messages)
        all += m + " ";
    return all;
}

void test_offsets(void **) {
    begin("");
    subscribe("news");
    assert_true(saw("+news "));
    assert_true(keep("news", "one"));
    assert_int_equal(done_at.offset, 1);
    assert_int_equal(position_epoch(&done_at).size(), 8);
    struct position first = done_at;
    assert_true(saw("news#1=one "));
    assert_true(keep("news", "two"));
    assert_int_equal(done_at.offset, 2);
    assert_true(position_same_epoch(&done_at, &first));
    assert_true(saw("news#2=two "));
    assert_true(keep("other", "x"));
    assert_int_equal(done_at.offset, 1);
    assert_false(position_same_epoch(&done_at, &first));
    assert_string_equal(ask({"XLEN", "b:history:{news}"}).c_str(), "2");
    int64_t ttl = atoll(ask({"PTTL", "b:history:{news}"}).c_str());
    assert_true(ttl > 50000 && ttl <= 60000);
    ttl = atoll(ask({"PTTL", "b:history:meta:{news}"}).c_str());
    assert_true(ttl > 86400000 && ttl <= 86460000);
    assert_true(publish("news", "aside", nullptr, false)); // not kept
    assert_true(saw("news=aside "));
    assert_int_equal(tested->count.published, 4);
}

void test_reading(void **) {
    begin("");
    assert_true(read("news", 0, 10)); // nothing there: it gets its epoch
    assert_true(page_seen.whole && !page_seen.failed && page_seen.count == 0 && page_seen.top.offset == 0);
    struct position empty = page_seen.top;
    assert_int_equal(position_epoch(&empty).size(), 8);
    for (const char *text : {"a", "b", "c"})
        assert_true(keep("news", text));
    assert_true(position_same_epoch(&done_at, &empty)); // and keeps it
    assert_true(read("news", 1, 10));
    assert_true(page_seen.whole);
    assert_string_equal(messages().c_str(), "2=b 3=c ");
    assert_int_equal(page_seen.top.offset, 3);
    assert_true(read("news", 0, 2)); // the newest
    assert_false(page_seen.whole);
    assert_string_equal(messages().c_str(), "2=b 3=c ");
    assert_true(read("news", 3, 10));
    assert_true(page_seen.whole && page_seen.count == 0);
    assert_true(read("news", 1, 0)); // where it is, alone
    assert_true(page_seen.count == 0 && page_seen.top.offset == 3);
    for (uint64_t beyond : {uint64_t{4}, UINT64_MAX}) {
        assert_true(read("news", beyond, 10));
        assert_true(!page_seen.whole && !page_seen.failed && page_seen.count == 0);
    }
    assert_int_equal(tested->count.history_reads, 7);
}

void test_trimming(void **) {
    begin("");
    for (int i = 1; i <= 40; i++)
        assert_true(keep("news", "x", {}, 32));
    int64_t length = atoll(ask({"XLEN", "b:history:{news}"}).c_str());
    assert_true(length >= 32 && length <= 36); // an eighth more at most
    assert_true(read("news", 0, 32));
    assert_false(page_seen.whole);
    assert_int_equal(page_seen.count, 32);
    assert_true(read("news", 8, 32));
    assert_true(page_seen.whole);
}

// Larger than one answer may be: the newest come, and it is said that there were more.
void test_large_histories(void **) {
    begin("");
    std::string large(1000, 'x');
    view script = "for i = 1, 20000 do redis.call('XADD', KEYS[1], i .. '-0', 'm', ARGV[1]) end "
                  "redis.call('HSET', KEYS[2], 'e', 'abcd', 'o', 20000)";
    std::string text = R"({"v":1,"node":"a","seq":1,"kind":"text","time":1})"
                       "\n" +
                       large;
    ask({"EVAL", script, "2", "b:history:{big}", "b:history:meta:{big}", text});
    assert_true(read("big", 0, 20000));
    assert_false(page_seen.whole);
    assert_true(page_seen.count > 7000 && page_seen.count < 9000);
    assert_int_equal(page_seen.top.offset, 20000);
}

void test_ids(void **) {
    begin("");
    subscribe("news");
    assert_true(saw("+news "));
    assert_true(keep("news", "one", "order-77"));
    struct position first = done_at;
    assert_true(saw("news#1=one "));
    assert_true(keep("news", "two", "order-77"));
    assert_true(done_duplicate);
    assert_int_equal(done_at.offset, 1);
    assert_true(position_same_epoch(&done_at, &first));
    done_duplicate = false;
    assert_true(keep("news", "three", "order-78"));
    assert_false(done_duplicate);
    assert_int_equal(done_at.offset, 2);
    assert_true(saw("news#2=three ")); // nothing of the duplicate
    int64_t ttl = atoll(ask({"PTTL", "b:history:id:{news}:order-77"}).c_str());
    assert_true(ttl > 290000 && ttl <= 300000);
    assert_int_equal(tested->count.duplicates, 1);
    // Without history the id alone counts.
    assert_true(keep("plain", "one", "id", 0));
    assert_true(position_none(&done_at) && !done_duplicate);
    assert_true(keep("plain", "one", "id", 0));
    assert_true(position_none(&done_at) && done_duplicate);
    assert_string_equal(ask({"EXISTS", "b:history:{plain}", "b:history:meta:{plain}"}).c_str(), "0");
}

// Whoever waits for the members of this node waits for no copy of a duplicate.
void test_a_duplicate_has_no_copy(void **) {
    begin("");
    assert_true(keep("news", "one", "x"));
    publish_job *job = publish_job_new(on_done, nullptr);
    message_parts parts = {};
    parts.room = "news";
    parts.id = "x";
    assert_true(publish(parts, "one", job, true, 5));
    publish_job_settle(job, 0, true);
    assert_true(turn_until([] { // without the sweep of copies that never came
        loop_turn(on, false);
        return done_calls == 2;
    }));
    assert_true(done_duplicate && done_receivers == 0);
}

void test_a_copy_of_a_kept_message_has_its_job(void **) {
    begin("");
    subscribe("news");
    assert_true(saw("+news "));
    publish_job *job = publish_job_new(on_done, nullptr);
    message_parts parts = {};
    parts.room = "news";
    assert_true(publish(parts, "hello", job, true, 5));
    publish_job_settle(job, 0, true);
    assert_true(until([] { return done_calls == 1; }));
    assert_true(job_came);
    assert_int_equal(done_receivers, 5);
    assert_int_equal(done_at.offset, 1);
}

void test_what_travels_with_a_message(void **) {
    begin("");
    subscribe("news");
    assert_true(saw("+news "));
    message_parts parts = {};
    parts.room = "news";
    parts.key = "price";
    assert_true(publish(parts, "hello", nullptr, false, 5));
    assert_true(saw("news#1=hello key price "));
    assert_true(read("news", 0, 5));
    assert_string_equal(messages().c_str(), "1=hello ");
    std::string head = R"({"v":1,"node":"abcd","seq":9,"kind":"json","what":"member","ack":true,"time":5})"
                       "\n";
    ask({"PUBLISH", "b:message:news", "k3Fq 7\n" + head + R"({"event":"join"})"});
    assert_true(saw(R"(news#7={"event":"join"} (member) asked by abcd )"));
}

void test_lost_scripts(void **) {
    begin("");
    settle(); // until their hashes are known scripts are sent whole
    assert_true(keep("news", "one"));
    assert_int_equal(calls("eval"), 0); // by its hash
    assert_string_equal(ask({"SCRIPT", "FLUSH"}).c_str(), "OK");
    assert_true(keep("news", "two"));
    assert_int_equal(done_at.offset, 2);
    assert_int_equal(calls("eval"), 1);
    assert_true(keep("news", "three"));
    assert_int_equal(calls("eval"), 1); // EVAL has loaded it
    assert_true(read("news", 0, 5));
    assert_string_equal(messages().c_str(), "1=one 2=two 3=three ");
}

void test_an_emptied_database(void **) {
    begin("");
    assert_true(keep("news", "one"));
    struct position before = done_at;
    ask({"FLUSHALL"});
    assert_true(keep("news", "two"));
    assert_int_equal(done_at.offset, 1);
    assert_false(position_same_epoch(&done_at, &before));
    ask({"DEL", "b:history:meta:{news}"}); // evicted, though the messages are not
    assert_true(read("news", 0, 5));
    assert_true(page_seen.count == 0 && page_seen.top.offset == 0);
    assert_true(keep("news", "three"));
    assert_int_equal(done_at.offset, 1);
}

void test_renewing(void **) {
    begin("");
    assert_true(keep("news", "one"));
    struct position before = done_at, other = {};
    assert_true(position_set(&other, "abcd", 1));
    tested->ops->renew(tested, "news", &other);
    assert_true(read("news", 0, 5));
    assert_true(position_same_epoch(&page_seen.top, &before)); // it was not that one
    tested->ops->renew(tested, "news", &before);
    assert_true(read("news", 0, 5));
    assert_false(position_same_epoch(&page_seen.top, &before));
    assert_int_equal(page_seen.top.offset, 1);
    assert_string_equal(messages().c_str(), "1=one ");
    assert_true(keep("news", "two"));
    assert_int_equal(done_at.offset, 2);
    assert_true(position_same_epoch(&done_at, &page_seen.top));
}

void test_somebody_elses_entries(void **) {
    begin("");
    for (const char *text : {"a", "b"})
        assert_true(keep("news", text));
    ask({"HINCRBY", "b:history:meta:{news}", "o", "1"});
    ask({"XADD", "b:history:{news}", "3-0", "m", "{}\nbad"});
    assert_true(keep("news", "d"));
    assert_true(read("news", 0, 10));
    assert_true(!page_seen.whole && !page_seen.failed);
    assert_string_equal(messages().c_str(), "4=d "); // what is behind it
    assert_int_equal(tested->count.malformed, 1);
    assert_true(contains(log_text(), "the history of news holds something else"));
    ask({"DEL", "b:history:{odd}"});
    ask({"SET", "b:history:{odd}", "x"});
    ask({"HSET", "b:history:meta:{odd}", "e", "abcd", "o", "3"});
    assert_true(read("odd", 0, 10));
    assert_true(page_seen.failed);
    assert_false(keep("odd", "x"));
    assert_int_equal(tested->count.malformed, 2);
    ask({"HSET", "b:history:meta:{bad}", "e", "not an epoch", "o", "3"});
    assert_true(read("bad", 0, 10));
    assert_true(page_seen.failed);
    assert_true(keep("news", "e")); // the link lives
    assert_true(keep("news", "f"));
    ask({"XDEL", "b:history:{news}", "5-0"});
    assert_true(read("news", 3, 10));
    assert_true(!page_seen.whole && !page_seen.failed);
    assert_string_equal(messages().c_str(), "6=f "); // behind the hole
}

void test_backends_use_the_script(void **) {
    begin("");
    subscribe("news");
    assert_true(saw("+news "));
    std::string text(redis_script_text(redis_script::publish));
    std::vector<view> words = {
        "EVAL",   text, "2", "b:history:{news}", "b:history:meta:{news}", "b:message:news", "", "\xff{", "10", "60000",
        "300000", "",   "0"};
    std::string answer = ask(words);
    assert_int_equal(answer.size(), strlen("12345678 1 0 1")); // one subscriber
    assert_string_equal(answer.c_str() + 8, " 1 0 1");
    assert_true(saw("news#1=\xff{ "));
    assert_true(keep("news", "two"));
    assert_int_equal(done_at.offset, 2);
    assert_true(read("news", 0, 5));
    assert_string_equal(messages().c_str(), "1=\xff{ 2=two ");
}

void test_outages(void **) {
    begin("");
    assert_true(keep("news", "one"));
    ask({"CLIENT", "PAUSE", "10000", "WRITE"}); // scripts wait
    for (int i = 0; i < 100; i++)
        assert_true(tested->ops->read(tested, "news", 0, 5, 1));
    publish_job *job = publish_job_new(on_done, nullptr);
    message_parts parts = {};
    parts.room = "news";
    assert_true(publish(parts, "two", job, true, 5));
    publish_job_settle(job, 0, true);
    events_seen.clear();
    ask({"CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"});
    assert_true(until([] { return done_calls == 2; }));
    assert_true(done_failed);
    size_t pages = 0;
    for (size_t at = 0; (at = events_seen.find("page news ", at)) != std::string::npos; at++)
        pages++;
    assert_int_equal(pages, 100); // each is answered, those that waited, too
    assert_true(page_seen.failed);
    assert_int_equal(tested->count.history_reads, 64);
    if (!tested->ops->ready(tested)) assert_false(tested->ops->read(tested, "news", 0, 5, 1));
}

void test_words_for_one_node(void **) {
    begin("");
    static int64_t nodes = 0;
    static uint64_t tag = 0;
    auto sent = [](void *, uint64_t with, int64_t n) {
        nodes = n;
        tag = with;
    };
    assert_true(tested->ops->send_to_node(tested, node_id(), "hello", sent, nullptr, 5));
    assert_true(saw("peer hello "));
    assert_true(until([] { return tag == 5; }));
    assert_int_equal(nodes, 1);
    assert_true(tested->ops->send_to_node(tested, "none", "hello", sent, nullptr, 6));
    assert_true(until([] { return tag == 6; }));
    assert_int_equal(nodes, 0);
}

void test_hash_tags(void **) {
    assert_string_equal(broker_redis_tag("a").c_str(), "{a}");
    assert_string_equal(broker_redis_tag("a}b").c_str(), "{a}b}");
    assert_string_equal(broker_redis_tag("}b").c_str(), "{ }}b"); // "{}..." would be no tag
    begin("");
    assert_true(keep("}odd", "x", "id"));
    assert_true(read("}odd", 0, 5));
    assert_string_equal(messages().c_str(), "1=x ");
}

// Who waits for an answer gets none when the broker ends, and nothing of it is left.
void test_the_end(void **) {
    begin("");
    ask({"CLIENT", "PAUSE", "10000", "WRITE"});
    publish_job *job = publish_job_new(on_done, nullptr);
    message_parts parts = {};
    parts.room = "news";
    assert_true(publish(parts, "x", job, true, 5));
    publish_job_settle(job, 0, true);
    for (int i = 0; i < 100; i++)
        assert_true(tested->ops->read(tested, "news", 0, 5, 1));
    tested->ops->free(tested);
    tested = nullptr;
    assert_int_equal(done_calls, 1);
    assert_true(done_failed);
    assert_string_equal(events_seen.c_str(), "");
}

} // namespace

#define with_redis(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main() {
    const CMUnitTest tests[] = {
        with_redis(test_offsets),
        with_redis(test_reading),
        with_redis(test_trimming),
        with_redis(test_large_histories),
        with_redis(test_ids),
        with_redis(test_a_duplicate_has_no_copy),
        with_redis(test_a_copy_of_a_kept_message_has_its_job),
        with_redis(test_what_travels_with_a_message),
        with_redis(test_lost_scripts),
        with_redis(test_an_emptied_database),
        with_redis(test_renewing),
        with_redis(test_somebody_elses_entries),
        with_redis(test_backends_use_the_script),
        with_redis(test_outages),
        with_redis(test_words_for_one_node),
        with_redis(test_hash_tags),
        with_redis(test_the_end),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
