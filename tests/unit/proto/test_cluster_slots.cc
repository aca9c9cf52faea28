// Tests of proto/cluster_slots: slots against what Redis says, hash tags, maps that are refused, redirections.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

extern "C" {
#include <cmocka.h>
}

#include "proto/cluster_slots.h"

using namespace belfry;

namespace {

// The values are CLUSTER KEYSLOT's of redis-server 7.0; 12739 is the specification's own (0x31c3 of "123456789").
void slots_are_those_of_redis(void **) {
    static const struct {
        view key;
        uint16_t slot;
    } cases[] = {
        {"123456789", 12739},     {"", 0},
        {"foo", 12182},           {"bar", 5061},
        {"belfry:commands", 512}, {"r\xc3\xa9union", 11816},
        {view("a\0b", 3), 8383},
    };
    for (const auto &c : cases)
        if (cluster_slot(c.key) != c.slot) fail_msg("%s: %u, not %u", c.key.data(), cluster_slot(c.key), c.slot);
}

void a_tag_is_what_counts(void **) {
    assert_int_equal(cluster_slot("{user1000}.following"), cluster_slot("user1000"));
    assert_int_equal(cluster_slot("{user1000}.following"), 3443);
    assert_int_equal(cluster_slot("foo{bar}{zap}"), cluster_slot("bar"));
    assert_int_equal(cluster_slot("foo{{bar}}zap"), cluster_slot("{bar"));
    assert_int_equal(cluster_slot("foo{}{bar}"), 8363); // an empty tag is none
    assert_int_equal(cluster_slot("foo}{bar"), 7624);
    assert_int_equal(cluster_slot("}a{b}"), cluster_slot("b"));
}

cluster_map map;
error why;

bool add(int64_t first, int64_t last, view host, int64_t port) {
    why = {};
    const bool good = cluster_map_add(&map, first, last, host, port, "10.0.0.9", &why);
    assert_int_equal(good, why.text[0] == '\0');
    return good;
}

void maps(void **) {
    cluster_map_clear(&map);
    assert_int_equal(map.owner[0], cluster_nobody);
    assert_true(add(0, 5460, "10.0.0.1", 6379));
    assert_true(add(5461, 5461, "fd00::1", 6379));
    assert_true(add(5462, 16382, "", 65535));
    assert_false(cluster_map_complete(&map));
    assert_true(add(16383, 16383, "10.0.0.1", 6379));
    assert_true(cluster_map_complete(&map));
    assert_int_equal(map.nodes.size(), 3);
    assert_int_equal(map.owner[5460], 0);
    assert_int_equal(map.owner[5461], 1);
    assert_int_equal(map.owner[16383], 0);
    assert_string_equal(map.nodes[2].host.c_str(), "10.0.0.9");

    const cluster_node other = {"10.0.0.4", 7000};
    assert_true(cluster_map_move(&map, 5460, &other));
    assert_int_equal(map.owner[5460], 3);
    assert_int_equal(map.owner[5459], 0);
    assert_int_equal(map.covered, cluster_slot_count);
    cluster_map_clear(&map);
    assert_true(cluster_map_move(&map, 7, &other));
    assert_int_equal(map.covered, 1);
}

void maps_that_cannot_be(void **) {
    cluster_map_clear(&map);
    assert_false(add(-1, 5, "h", 1));
    assert_false(add(6, 5, "h", 1));
    assert_false(add(0, 16384, "h", 1));
    assert_false(add(0, 5, "h", 0));
    assert_false(add(0, 5, "h", 65536));
    assert_false(add(0, 5, "h", INT64_MIN));
    for (view host : {view("a b"), view("a\nb"), view("?"), view("\x1b[1m"), view("a\0", 2), view("h\xc3\xa9")})
        assert_false(add(0, 5, host, 1));
    assert_false(add(0, 5, std::string(254, 'a'), 1));
    assert_int_equal(map.covered, 0);
    assert_true(add(0, 5, std::string(253, 'a'), 1));
    assert_false(add(5, 6, "h", 1));
    assert_string_equal(why.text, "slot 5 with two owners");

    cluster_map_clear(&map);
    for (int64_t i = 0; i < static_cast<int64_t>(cluster_nodes_max); i++)
        assert_true(add(i, i, "h", i + 1));
    assert_false(add(100, 100, "h", 100));
    const cluster_node more = {"more", 1}, known = {"h", 1};
    assert_false(cluster_map_move(&map, 3, &more));
    assert_int_equal(map.owner[3], 3);
    assert_true(cluster_map_move(&map, 3, &known));
    assert_int_equal(map.owner[3], 0);
}

void redirections(void **) {
    cluster_redirect r = cluster_advice_of("MOVED 3999 127.0.0.1:6381", "asked");
    assert_true(r.advice == cluster_advice::moved);
    assert_int_equal(r.slot, 3999);
    assert_string_equal(r.node.host.c_str(), "127.0.0.1");
    assert_int_equal(r.node.port, 6381);
    r = cluster_advice_of("ASK 0 fd00::1:2:6381", "asked");
    assert_true(r.advice == cluster_advice::ask);
    assert_int_equal(r.slot, 0);
    assert_string_equal(r.node.host.c_str(), "fd00::1:2");
    r = cluster_advice_of("MOVED 16383 :6381", "asked");
    assert_true(r.advice == cluster_advice::moved);
    assert_string_equal(r.node.host.c_str(), "asked");
    for (view text : {"TRYAGAIN Multiple keys request during rehashing of slot", "CLUSTERDOWN The cluster is down",
                      "CLUSTERDOWN Hash slot not served", "MASTERDOWN Link with MASTER is down", "LOADING", "TRYAGAIN"})
        assert_true(cluster_advice_of(text, "").advice == cluster_advice::try_again);
    for (view text : {"",
                      "MOVED",
                      "MOVED ",
                      "MOVED 1",
                      "MOVED 1 h",
                      "MOVED 1 h:",
                      "MOVED 1 h:0",
                      "MOVED 1 h:65536",
                      "MOVED 16384 h:1",
                      "MOVED -1 h:1",
                      "MOVED h:1",
                      "MOVED 1 h :1",
                      "MOVED 1 ?:1",
                      "MOVED  1 h:1",
                      "MOVED 1 h:1 ",
                      "moved 1 h:1",
                      "ERR MOVED 1 h:1",
                      "MOVEDX 1 h:1",
                      "TRYAGAINX",
                      "NOSCRIPT No",
                      "CROSSSLOT Keys in request don't hash to the same slot",
                      "MOVED 1:2 3"})
        if (cluster_advice_of(text, "asked").advice != cluster_advice::none) fail_msg("taken: %s", text.data());
    assert_true(cluster_advice_of("MOVED 1 :6381", "").advice == cluster_advice::none);
}

} // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(slots_are_those_of_redis), cmocka_unit_test(a_tag_is_what_counts), cmocka_unit_test(maps),
        cmocka_unit_test(maps_that_cannot_be),      cmocka_unit_test(redirections),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
