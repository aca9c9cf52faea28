// Connection ids: their form, the way back, and what is none of this node's.
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>
extern "C" {
#include <cmocka.h>
}

#include "relay/conn_id.h"

#include <string.h>
#include <string>

using namespace belfry;

namespace {

constexpr char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

int setup(void **) {
    node_id_init();
    return 0;
}

void an_id_is_c_and_twenty_characters_of_base64url(void **) {
    conn_id_text text = conn_id_format({63, 0xffffff, 0xffffffffffffffff});
    view id = text;
    assert_int_equal(id.size(), 22);
    assert_true(id.starts_with("c_"));
    assert_int_equal(id.substr(2).find_first_not_of(alphabet), view::npos);
    // Worker 63, then ones: base64url of 3f ff ff ff ff ff ff ff ff ff ff ff.
    assert_memory_equal(text.text + 6, "P_______________", 16);
}

void the_nodes_characters_come_first(void **) {
    conn_id_text text = conn_id_format({0, 0, 0});
    assert_int_equal(node_id().size(), 4);
    assert_memory_equal(text.text + 2, node_id().data(), 4);
    assert_memory_equal(text.text + 6, "AAAAAAAAAAAAAAAA", 16);
}

void each_process_draws_its_own_node_id(void **) {
    std::string before(node_id());
    bool changed = false;
    for (int i = 0; i < 4; i++) { // four equal draws of 24 bits: 2^-72
        node_id_init();
        changed = changed || view(before) != node_id();
    }
    assert_true(changed);
}

void what_was_formatted_is_parsed_back(void **) {
    const conn_id ids[] = {{0, 0, 0},
                           {1, 2, 3},
                           {255, 0xffffff, UINT64_MAX},
                           {0, 1, uint64_t{1} << 63},
                           {7, 0x010203, 0x0405060708090a0b},
                           {128, 0x800000, 0x00ff00ff00ff00ff}};
    for (const conn_id &id : ids) {
        conn_id back = {9, 9, 9};
        assert_true(conn_id_parse(conn_id_format(id), &back));
        assert_true(back == id);
    }
}

// A guess that is off by one character names another connection or none, never the same one.
void every_character_counts(void **) {
    const conn_id id = {7, 0x010203, 0x0405060708090a0b};
    for (size_t at = 2; at < conn_id_size; at++) {
        for (const char *c = alphabet; *c; c++) {
            conn_id_text text = conn_id_format(id);
            if (text.text[at] == *c) continue;
            text.text[at] = *c;
            conn_id back;
            if (at < 2 + node_id_size)
                assert_false(conn_id_parse(text, &back)); // another node's
            else
                assert_true(conn_id_parse(text, &back) && !(back == id));
        }
    }
}

void what_is_no_id_is_refused(void **) {
    conn_id_text text = conn_id_format({1, 2, 3});
    std::string good(text.text, conn_id_size);
    conn_id out;
    assert_true(conn_id_parse(good, &out));
    assert_false(conn_id_parse("", &out));
    assert_false(conn_id_parse("c_", &out));
    assert_false(conn_id_parse(good.substr(0, 21), &out));
    assert_false(conn_id_parse(good + "A", &out));
    assert_false(conn_id_parse(good + " ", &out));
    assert_false(conn_id_parse("C_" + good.substr(2), &out));
    assert_false(conn_id_parse("c-" + good.substr(2), &out));
    for (int c = 0; c < 256; c++) {
        if (c && strchr(alphabet, c)) continue;
        for (size_t at : {size_t{2}, size_t{10}, size_t{21}}) {
            std::string bad = good;
            bad[at] = static_cast<char>(c);
            assert_false(conn_id_parse(bad, &out));
        }
    }
}

} // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(an_id_is_c_and_twenty_characters_of_base64url),
        cmocka_unit_test(the_nodes_characters_come_first),
        cmocka_unit_test(each_process_draws_its_own_node_id),
        cmocka_unit_test(what_was_formatted_is_parsed_back),
        cmocka_unit_test(every_character_counts),
        cmocka_unit_test(what_is_no_id_is_refused),
    };
    return cmocka_run_group_tests(tests, setup, nullptr);
}
