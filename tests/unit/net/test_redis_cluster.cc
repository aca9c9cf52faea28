// A cluster's answers that a real one gives too rarely for a test: MOVED in circles, ASK, TRYAGAIN for a while and for
// ever, a map that contradicts itself; and sharded subscriptions that are refused or let go. The servers are scripts.
#include "base/hash.h"
#include "net/redis_cluster.h"
#include "net/redis_reply.h"
#include "net/redis_shards.h"
#include "redis_fixture.h"

#include <map>

using namespace belfry;
using namespace redis_fixture;

namespace {

// ---- a server that answers by script ----

struct fake_client {
    int fd;
    redis_reader *reader;
};

struct fake_node {
    int fd = -1;
    uint16_t port = 0;
    std::vector<fake_client> clients;
    std::vector<std::string> seen;                          // commands, words joined; not PING
    std::map<std::string, std::vector<std::string>> script; // by command: answers in order, the last one for ever
    std::map<std::string, size_t> times;
};
fake_node nodes[2];
std::string slots_answer; // to CLUSTER SLOTS, of each node

std::string bulk(const std::string &s) {
    return "$" + std::to_string(s.size()) + "\r\n" + s + "\r\n";
}

std::string range(int first, int last, uint16_t port) {
    return "*3\r\n:" + std::to_string(first) + "\r\n:" + std::to_string(last) + "\r\n*3\r\n" + bulk("127.0.0.1") + ":" +
           std::to_string(port) + "\r\n" + bulk("id");
}

void open_node(fake_node *n) {
    n->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    struct sockaddr_in a = {};
    socklen_t size = sizeof a;
    a.sin_family = AF_INET;
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(bind(n->fd, reinterpret_cast<struct sockaddr *>(&a), size), 0);
    assert_int_equal(listen(n->fd, 8), 0);
    assert_int_equal(getsockname(n->fd, reinterpret_cast<struct sockaddr *>(&a), &size), 0);
    n->port = ntohs(a.sin_port);
}

void close_node(fake_node *n) {
    for (fake_client &c : n->clients) {
        close(c.fd);
        redis_reader_free(c.reader);
    }
    close(n->fd);
    *n = {};
}

void say(fake_client *c, const std::string &bytes) {
    if (!bytes.empty()) assert_int_equal(write(c->fd, bytes.data(), bytes.size()), bytes.size());
}

std::string answer(fake_node *n, const std::string &command) {
    if (command == "PING") return "+PONG\r\n";
    n->seen.push_back(command);
    if (command == "CLUSTER SLOTS") return slots_answer;
    auto at = n->script.find(command);
    if (at == n->script.end()) return "+OK\r\n";
    const size_t i = n->times[command]++;
    return at->second[i < at->second.size() ? i : at->second.size() - 1];
}

void node_turn(fake_node *n) {
    if (n->fd < 0) return;
    const int fd = accept4(n->fd, nullptr, nullptr, SOCK_NONBLOCK);
    if (fd >= 0) n->clients.push_back({fd, redis_reader_new(1 << 20)});
    for (size_t i = 0; i < n->clients.size(); i++) {
        char bytes[4096];
        const ssize_t got = read(n->clients[i].fd, bytes, sizeof bytes);
        if (got > 0) redis_reader_feed(n->clients[i].reader, view(bytes, static_cast<size_t>(got)));
        const redis_value *v = nullptr;
        error e;
        while (redis_reader_next(n->clients[i].reader, &v, &e) == redis_next::value)
            say(&n->clients[i], answer(n, text_of(v)));
    }
}

template <typename F> bool until(F done, int ms = patience_ms) {
    return turn_until(
        [&] {
            for (fake_node &n : nodes)
                node_turn(&n);
            return done();
        },
        ms);
}

size_t seen(const fake_node *n, const std::string &command) {
    size_t count = 0;
    for (const std::string &s : n->seen)
        count += s == command;
    return count;
}

// ---- the cluster under test ----

redis_cluster *cluster;
redis_shards *shards;
int readies, downs, moves;
std::vector<std::string> replies, told;

void on_cluster_ready(void *) {
    readies++;
}
void on_cluster_down(const char *, void *) {
    downs++;
}
void on_cluster_moved(void *) {
    moves++;
    if (shards) redis_shards_moved(shards);
}

void on_cluster_reply(redis *, const redis_value *reply, void *, uint64_t tag) {
    replies.push_back(std::to_string(tag) + " " + text_of(reply));
}

bool send(std::vector<view> words, uint64_t tag) {
    return redis_cluster_command(cluster, words[1], static_cast<int>(words.size()), words.data(), on_cluster_reply,
                                 nullptr, tag);
}

void start_cluster() {
    static const redis_cluster_events events = {on_cluster_ready, on_cluster_down, on_cluster_moved};
    redis_settings s = fast_settings();
    s.ping_interval_ms = 60000;
    s.port = nodes[0].port;
    cluster = redis_cluster_new(on, &s, &events, nullptr);
    assert_false(send({"GET", "early"}, 99));
    assert_true(until([] { return readies == 1; }));
}

std::string moved_to(const fake_node *n, view key) {
    return "-MOVED " + std::to_string(cluster_slot(key)) + " 127.0.0.1:" + std::to_string(n->port) + "\r\n";
}

int before_each_cluster(void **state) {
    for (fake_node &n : nodes)
        open_node(&n);
    slots_answer = "*1\r\n" + range(0, 16383, nodes[0].port);
    readies = downs = moves = 0;
    replies.clear();
    told.clear();
    return before_each(state);
}

int after_each_cluster(void **state) {
    redis_shards_free(shards);
    redis_cluster_free(cluster);
    shards = nullptr;
    cluster = nullptr;
    for (fake_node &n : nodes)
        close_node(&n);
    return after_each(state);
}

void test_moved_and_ask(void **) {
    start_cluster();
    assert_int_equal(seen(&nodes[0], "CLUSTER SLOTS"), 1);
    nodes[0].script["GET a"] = {moved_to(&nodes[1], "a")};
    nodes[1].script["GET a"] = {"$1\r\n1\r\n"};
    assert_true(send({"GET", "a"}, 1));
    assert_true(until([] { return replies.size() == 1; }));
    assert_string_equal(replies[0].c_str(), "1 1");
    // Known from here on.
    assert_true(send({"GET", "a"}, 2));
    assert_true(until([] { return replies.size() == 2; }));
    assert_int_equal(seen(&nodes[0], "GET a"), 1);
    assert_int_equal(seen(&nodes[1], "GET a"), 2);

    // ASK holds for one command; ASKING stands directly before it.
    nodes[0].script["GET b"] = {
        "-ASK " + std::to_string(cluster_slot("b")) + " :" + std::to_string(nodes[1].port) + "\r\n", "$1\r\n3\r\n"};
    nodes[1].script["GET b"] = {"$1\r\n2\r\n"};
    assert_true(send({"GET", "b"}, 3));
    assert_true(until([] { return replies.size() == 3; }));
    assert_string_equal(replies[2].c_str(), "3 2");
    const size_t n = nodes[1].seen.size();
    assert_string_equal(nodes[1].seen[n - 2].c_str(), "ASKING");
    assert_string_equal(nodes[1].seen[n - 1].c_str(), "GET b");
    assert_true(send({"GET", "b"}, 4));
    assert_true(until([] { return replies.size() == 4; }));
    assert_string_equal(replies[3].c_str(), "4 3");
    assert_int_equal(redis_cluster_count(cluster).redirects, 2);
    assert_int_equal(downs, 0);
}

void test_circles_end(void **) {
    start_cluster();
    nodes[0].script["GET a"] = {moved_to(&nodes[1], "a")};
    nodes[1].script["GET a"] = {moved_to(&nodes[0], "a")};
    assert_true(send({"GET", "a"}, 1));
    assert_true(until([] { return replies.size() == 1; }));
    assert_true(contains(replies[0], "1 -MOVED"));
    assert_int_equal(redis_cluster_count(cluster).redirects, 5);
    assert_int_equal(seen(&nodes[0], "GET a") + seen(&nodes[1], "GET a"), 6);
    // Not once for each of them: the map is asked for at most once a second.
    assert_in_range(seen(&nodes[0], "CLUSTER SLOTS") + seen(&nodes[1], "CLUSTER SLOTS"), 1, 2);
    // What no advice can be read from is an error like others.
    nodes[0].script["GET c"] = {"-MOVED 99999 h:1\r\n"};
    assert_true(send({"GET", "c"}, 2));
    assert_true(until([] { return replies.size() == 2; }));
    assert_string_equal(replies[1].c_str(), "2 -MOVED 99999 h:1");
}

void test_try_again(void **) {
    start_cluster();
    nodes[0].script["GET a"] = {"-TRYAGAIN later\r\n", "-CLUSTERDOWN so\r\n", "-TRYAGAIN later\r\n", "$1\r\n1\r\n"};
    assert_true(send({"GET", "a"}, 1));
    assert_true(until([] { return replies.size() == 1; }));
    assert_string_equal(replies[0].c_str(), "1 1");
    assert_int_equal(redis_cluster_count(cluster).retries, 3);

    nodes[0].script["GET b"] = {"-CLUSTERDOWN for ever\r\n"};
    assert_true(send({"GET", "b"}, 3));
    assert_true(until([] { return replies.size() == 2; }));
    assert_true(replies[1] == "3 null" || replies[1] == "3 -CLUSTERDOWN for ever");
    assert_in_range(seen(&nodes[0], "GET b"), 5, 40); // backs off
}

void test_lost_link_and_end(void **) {
    start_cluster();
    nodes[0].script["GET a"] = {""}; // no answer
    assert_true(send({"GET", "a"}, 1));
    assert_true(until([] { return seen(&nodes[0], "GET a") == 1; }));
    for (fake_client &c : nodes[0].clients)
        shutdown(c.fd, SHUT_RDWR);
    assert_true(until([] { return downs == 1; }));
    assert_string_equal(replies[0].c_str(), "1 null");
    assert_false(redis_cluster_ready(cluster));
    assert_false(send({"GET", "a"}, 2));
    assert_true(until([] { return readies == 2; }));
    assert_true(send({"GET", "a"}, 3));
    redis_cluster_free(cluster);
    cluster = nullptr;
    assert_int_equal(replies.size(), 2);
    assert_string_equal(replies[1].c_str(), "3 null");
}

void test_maps(void **) {
    // Not all slots, and one with two owners: not ready by either.
    slots_answer = "*1\r\n" + range(0, 16382, nodes[0].port);
    static const redis_cluster_events events = {on_cluster_ready, on_cluster_down, on_cluster_moved};
    redis_settings s = fast_settings();
    s.port = nodes[0].port;
    cluster = redis_cluster_new(on, &s, &events, nullptr);
    assert_true(until([] { return moves == 1; }));
    slots_answer = "*2\r\n" + range(0, 16383, nodes[0].port) + range(16383, 16383, nodes[1].port);
    assert_true(until([] { return log_text().find("slot 16383 with two owners") != std::string::npos; }));
    assert_int_equal(readies, 0);
    slots_answer = "*2\r\n" + range(0, 99, nodes[0].port) + range(100, 16383, nodes[1].port);
    assert_true(until([] { return readies == 1; }));
    assert_int_equal(redis_cluster_owner(cluster, 99)->port, nodes[0].port);
    redis_cluster_place place = {cluster, false, 100, 0};
    std::string host;
    uint16_t port = 0;
    assert_true(redis_cluster_where(&place, &host, &port));
    assert_int_equal(port, nodes[1].port);
    place.anywhere = true;
    uint16_t other = 0;
    assert_true(redis_cluster_where(&place, &host, &port) && redis_cluster_where(&place, &host, &other));
    assert_int_not_equal(port, other);
}

// ---- sharded subscriptions ----

void on_confirmed(view channel, bool in, void *) {
    told.push_back((in ? "in " : "out ") + std::string(channel));
}
void on_shard_refused(view channel, view, void *) {
    told.push_back("refused " + std::string(channel));
}
void on_missed(view channel, void *) {
    told.push_back("missed " + std::string(channel));
}
void on_shards_down(const char *, void *) {
    told.push_back("down");
}
void on_whole(void *) {
    told.push_back("whole");
}
void on_message(redis *, const redis_value *frame, void *) {
    told.push_back(text_of(frame));
}

std::string frame(const char *what, const std::string &channel) {
    return "*3\r\n" + bulk(what) + bulk(channel) + ":1\r\n";
}

void start_shards() {
    static const redis_shards_events events = {on_confirmed,   on_shard_refused, on_missed,
                                               on_shards_down, on_whole,         on_message};
    start_cluster();
    redis_settings s = fast_settings();
    s.ping_interval_ms = 60000;
    shards = redis_shards_new(on, &s, cluster, &events, nullptr);
    for (fake_node &n : nodes)
        for (const char *name : {"a", "b"}) {
            n.script[std::string("SSUBSCRIBE ") + name] = {frame("ssubscribe", name)};
            n.script[std::string("SUNSUBSCRIBE ") + name] = {frame("sunsubscribe", name)};
        }
}

bool was_told(size_t count) {
    return until([count] { return told.size() >= count; });
}

void test_shards_in_and_out(void **) {
    start_shards();
    nodes[0].script["SSUBSCRIBE c"] = {"-NOPERM no\r\n"};
    for (const char *name : {"a", "c", "b"})
        redis_shards_subscribe(shards, name);
    assert_true(was_told(3));
    assert_string_equal(told[0].c_str(), "in a");
    assert_string_equal(told[1].c_str(), "refused c");
    assert_string_equal(told[2].c_str(), "in b");
    redis_shards_subscribe(shards, "a"); // at once
    assert_string_equal(told[3].c_str(), "in a");
    redis_shards_unsubscribe(shards, "b");
    assert_true(was_told(5));
    assert_string_equal(told[4].c_str(), "out b");
    for (fake_client &c : nodes[0].clients)
        say(&c, "*3\r\n" + bulk("smessage") + bulk("a") + bulk("hello"));
    assert_true(was_told(6));
    assert_string_equal(told[5].c_str(), "smessage a hello");
    assert_true(redis_shards_whole(shards));
}

void test_shards_let_go(void **) {
    start_shards();
    redis_shards_subscribe(shards, "a");
    redis_shards_subscribe(shards, "b");
    assert_true(was_told(2));
    // The slot of a has moved: the old owner lets go, says MOVED to a new try, and the new one takes it.
    nodes[0].script["SSUBSCRIBE a"] = {moved_to(&nodes[1], "a")};
    nodes[0].times.clear();
    const int slot = cluster_slot("a");
    slots_answer = "*3\r\n" + range(0, slot - 1, nodes[0].port) + range(slot, slot, nodes[1].port) +
                   range(slot + 1, 16383, nodes[0].port);
    say(&nodes[0].clients.back(), frame("sunsubscribe", "a"));
    assert_true(was_told(3));
    assert_string_equal(told[2].c_str(), "missed a");
    assert_int_equal(seen(&nodes[1], "SSUBSCRIBE a"), 1);
    assert_int_equal(seen(&nodes[0], "SSUBSCRIBE b"), 1); // b stays where it is

    // The map alone tells that b has moved: it leaves there and comes here.
    slots_answer = "*1\r\n" + range(0, 16383, nodes[1].port);
    redis_cluster_refresh(cluster);
    assert_true(was_told(4));
    assert_string_equal(told[3].c_str(), "missed b");
    assert_int_equal(seen(&nodes[0], "SUNSUBSCRIBE b"), 1);
    assert_int_equal(seen(&nodes[1], "SSUBSCRIBE b"), 1);
    assert_int_equal(downs, 0);

    // The link breaks: down, both missed, whole.
    for (fake_client &c : nodes[1].clients)
        shutdown(c.fd, SHUT_RDWR);
    assert_true(was_told(8));
    assert_string_equal(told[4].c_str(), "down");
    assert_true(told[5].starts_with("missed ") && told[6].starts_with("missed ") && told[5] != told[6]);
    assert_string_equal(told[7].c_str(), "whole");
}

} // namespace

int main() {
    hash_init(1);
#define with_nodes(f) cmocka_unit_test_setup_teardown(f, before_each_cluster, after_each_cluster)
    const CMUnitTest tests[] = {
        with_nodes(test_moved_and_ask),     with_nodes(test_circles_end), with_nodes(test_try_again),
        with_nodes(test_lost_link_and_end), with_nodes(test_maps),        with_nodes(test_shards_in_and_out),
        with_nodes(test_shards_let_go),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
