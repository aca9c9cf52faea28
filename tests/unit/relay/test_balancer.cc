// The ring against what Debian's nginx 1.22.1 answered: the expected servers were read off a running nginx with
// `hash $http_x_key consistent` and these server lists. Then what holds for any list.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
extern "C" {
#include <cmocka.h>
}

#include "relay/balancer.h"

#include <string>

using namespace belfry;

namespace {

balancer_ring *ring;

int tear_down(void **) {
    balancer_ring_free(ring);
    ring = nullptr;
    return 0;
}

void make(const std::vector<balancer_server> &servers) {
    balancer_ring_free(ring);
    ring = balancer_ring_new(servers.data(), servers.size());
}

int pick(view key, uint64_t excluded = 0) {
    return balancer_ring_pick(ring, balancer_key_hash(key), excluded);
}

const std::vector<balancer_server> seven = {
    {"127.0.0.1:18101", 1}, {"unix:/tmp/ring/server1.sock", 2}, {"127.0.0.1:18103", 3},
    {"127.0.0.1:18104", 1}, {"unix:/tmp/ring/server4.sock", 5}, {"127.0.0.1:18106", 2},
    {"127.0.0.1:18107", 4}};

std::vector<std::string> keys() {
    std::vector<std::string> all = {"a",
                                    "b",
                                    "user-1",
                                    "user-2",
                                    "user-42",
                                    "10.0.0.1",
                                    "2001:db8::1",
                                    "session=abcdef",
                                    std::string(200, 'k'),
                                    "0",
                                    "\xc3\x83\xc2\xa4"};
    for (int i = 0; i < 20; i++)
        all.push_back("key" + std::to_string(i));
    return all;
}

void picks_are(std::vector<int> wanted, uint64_t excluded = 0) {
    const std::vector<std::string> all = keys();
    assert_int_equal(all.size(), wanted.size());
    for (size_t i = 0; i < all.size(); i++) {
        if (pick(all[i], excluded) != wanted[i]) print_message("key %s\n", all[i].c_str());
        assert_int_equal(pick(all[i], excluded), wanted[i]);
    }
}

const std::vector<int> nginx_with_seven = {4, 2, 6, 4, 5, 4, 6, 5, 2, 1, 1, 1, 2, 6, 5, 2,
                                           4, 1, 4, 4, 3, 4, 4, 6, 4, 0, 4, 4, 2, 5, 4};
// With the third removed from the list, or down: the same.
const std::vector<int> nginx_without_third = {4, 6, 6, 4, 5, 4, 6, 5, 6, 1, 1, 1, 3, 6, 5, 4,
                                              4, 1, 4, 4, 3, 4, 4, 6, 4, 0, 4, 4, 4, 5, 4};

void test_crc(void **) {
    assert_int_equal(balancer_key_hash("123456789"), 0xcbf43926); // the check value of CRC-32 (IEEE 802.3)
    assert_int_equal(balancer_key_hash(""), 0);
}

void test_as_nginx(void **) {
    make(seven);
    picks_are(nginx_with_seven);
}

void test_as_nginx_while_one_is_down(void **) {
    make(seven);
    picks_are(nginx_without_third, uint64_t{1} << 2);
}

void test_as_nginx_after_one_was_removed(void **) {
    std::vector<balancer_server> six = seven;
    six.erase(six.begin() + 2);
    std::vector<int> wanted = nginx_without_third;
    for (int &server : wanted)
        if (server > 2) server--;
    make(six);
    picks_are(wanted);
}

// A name without a port.
void test_as_nginx_without_port(void **) {
    make({{"127.0.0.1:18101", 1}, {"unix:/tmp/ring/server1.sock", 2}, {"localhost", 3}});
    picks_are({1, 2, 1, 1, 2, 0, 2, 1, 2, 2, 1, 1, 2, 2, 0, 2, 2, 1, 1, 0, 2, 2, 1, 2, 2, 0, 2, 1, 2, 1, 1});
}

void test_only_its_keys_move(void **) {
    int moved = 0;
    make(seven);
    for (int i = 0; i < 5000; i++) {
        const std::string key = "k" + std::to_string(i);
        const int before = pick(key), after = pick(key, uint64_t{1} << 4);
        if (before != 4) assert_int_equal(after, before);
        if (before == 4) moved++;
        assert_int_not_equal(after, 4);
    }
    // 5 of 18 points; the spread of a ring of 160 a weight is well within a half.
    assert_in_range(moved, 5000 * 5 / 18 / 2, 5000 * 5 / 18 * 3 / 2);
}

void test_weight_0_is_not_in_it(void **) {
    make({{"a:1", 0}, {"b:1", 1}});
    for (int i = 0; i < 100; i++)
        assert_int_equal(pick(std::to_string(i)), 1);
}

void test_nobody_left(void **) {
    make({{"a:1", 1}, {"b:1", 1}});
    assert_int_equal(pick("x", 3), -1);
    assert_int_equal(pick("x", ~uint64_t{0}), -1);
    make({});
    assert_int_equal(pick("x"), -1);
}

void test_wraps_round(void **) {
    make({{"a:1", 1}});
    assert_int_equal(balancer_ring_pick(ring, 0, 0), 0);
    assert_int_equal(balancer_ring_pick(ring, UINT32_MAX, 0), 0);
}

void test_several_of_one_name(void **) {
    make({{"a:1", 1}, {"b:1", 1}, {"a:1", 1}});
    int first = 0;
    for (int i = 0; i < 200; i++) {
        const std::string key = std::to_string(i);
        const int server = pick(key);
        assert_int_not_equal(server, 2); // behind the first of its name
        if (server == 0) assert_int_equal(pick(key, 1), 2);
        if (server == 0) first++;
    }
    assert_in_range(first, 1, 199);
}

void test_64_servers(void **) {
    std::vector<std::string> names;
    for (int i = 0; i < 70; i++)
        names.push_back("10.0.0." + std::to_string(i) + ":80");
    std::vector<balancer_server> servers;
    for (const std::string &name : names)
        servers.push_back({name, 1});
    make(servers);
    uint64_t met = 0;
    for (int i = 0; i < 5000; i++) {
        const int server = pick(std::to_string(i));
        assert_in_range(server, 0, 63);
        met |= uint64_t{1} << server;
    }
    assert_true(met == ~uint64_t{0});
    assert_int_equal(pick("x", ~(uint64_t{1} << 63)), 63);
}

} // namespace

int main() {
#define TEST(f) cmocka_unit_test_teardown(f, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_crc),
        TEST(test_as_nginx),
        TEST(test_as_nginx_while_one_is_down),
        TEST(test_as_nginx_after_one_was_removed),
        TEST(test_as_nginx_without_port),
        TEST(test_only_its_keys_move),
        TEST(test_weight_0_is_not_in_it),
        TEST(test_nobody_left),
        TEST(test_wraps_round),
        TEST(test_several_of_one_name),
        TEST(test_64_servers),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
