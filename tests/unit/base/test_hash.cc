// Unit tests of base/hash: SipHash against published vectors, randomness, the table.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
extern "C" {
#include <cmocka.h>
}

#include "base/hash.h"
#include "expect_fatal.h"

#include <pthread.h>
#include <stdlib.h>
#include <string>

namespace belfry {
namespace {

// For the key 00 01 .. 0f and the n bytes 00 01 .. n-1: the vectors of the reference implementation.
constexpr uint64_t siphash_2_4[64] = {
    0x726fdb47dd0e0e31, 0x74f839c593dc67fd, 0x0d6c8009d9a94f5a, 0x85676696d7fb7e2d, 0xcf2794e0277187b7,
    0x18765564cd99a68d, 0xcbc9466e58fee3ce, 0xab0200f58b01d137, 0x93f5f5799a932462, 0x9e0082df0ba9e4b0,
    0x7a5dbbc594ddb9f3, 0xf4b32f46226bada7, 0x751e8fbc860ee5fb, 0x14ea5627c0843d90, 0xf723ca908e7af2ee,
    0xa129ca6149be45e5, 0x3f2acc7f57c29bdb, 0x699ae9f52cbe4794, 0x4bc1b3f0968dd39c, 0xbb6dc91da77961bd,
    0xbed65cf21aa2ee98, 0xd0f2cbb02e3b67c7, 0x93536795e3a33e88, 0xa80c038ccd5ccec8, 0xb8ad50c6f649af94,
    0xbce192de8a85b8ea, 0x17d835b85bbb15f3, 0x2f2e6163076bcfad, 0xde4daaaca71dc9a5, 0xa6a2506687956571,
    0xad87a3535c49ef28, 0x32d892fad841c342, 0x7127512f72f27cce, 0xa7f32346f95978e3, 0x12e0b01abb051238,
    0x15e034d40fa197ae, 0x314dffbe0815a3b4, 0x027990f029623981, 0xcadcd4e59ef40c4d, 0x9abfd8766a33735c,
    0x0e3ea96b5304a7d0, 0xad0c42d6fc585992, 0x187306c89bc215a9, 0xd4a60abcf3792b95, 0xf935451de4f21df2,
    0xa9538f0419755787, 0xdb9acddff56ca510, 0xd06c98cd5c0975eb, 0xe612a3cb9ecba951, 0xc766e62cfcadaf96,
    0xee64435a9752fe72, 0xa192d576b245165a, 0x0a8787bf8ecb74b2, 0x81b3e73d20b49b6f, 0x7fa8220ba3b2ecea,
    0x245731c13ca42499, 0xb78dbfaf3a8d83bd, 0xea1ad565322a1a0b, 0x60e61c23a3795013, 0x6606d7e446282b93,
    0x6ca4ecb15c5f91e1, 0x9f626da15c9625f3, 0xe51b38608ef25f57, 0x958a324ceb064572,
};

// The same key and input with one and three rounds.
constexpr uint64_t siphash_1_3[64] = {
    0xabac0158050fc4dc, 0xc9f49bf37d57ca93, 0x82cb9b024dc7d44d, 0x8bf80ab8e7ddf7fb, 0xcf75576088d38328,
    0xdef9d52f49533b67, 0xc50d2b50c59f22a7, 0xd3927d989bb11140, 0x369095118d299a8e, 0x25a48eb36c063de4,
    0x79de85ee92ff097f, 0x70c118c1f94dc352, 0x78a384b157b4d9a2, 0x306f760c1229ffa7, 0x605aa111c0f95d34,
    0xd320d86d2a519956, 0xcc4fdd1a7d908b66, 0x9cf2689063dbd80c, 0x8ffc389cb473e63e, 0xf21f9de58d297d1c,
    0xc0dc2f46a6cce040, 0xb992abfe2b45f844, 0x7ffe7b9ba320872e, 0x525a0e7fdae6c123, 0xf464aeb267349c8c,
    0x45cd5928705b0979, 0x3a3e35e3ca9913a5, 0xa91dc74e4ade3b35, 0xfb0bed02ef6cd00d, 0x88d93cb44ab1e1f4,
    0x540f11d643c5e663, 0x2370dd1f8c21d1bc, 0x81157b6c16a7b60d, 0x4d54b9e57a8ff9bf, 0x759f12781f2a753e,
    0xcea1a3bebf186b91, 0x2cf508d3ada26206, 0xb6101c2da3c33057, 0xb3f47496ae3a36a1, 0x626b57547b108392,
    0xc1d2363299e41531, 0x667cc1923f1ad944, 0x65704ffec8138825, 0x24f280d1c28949a6, 0xc2ca1cedfaf8876b,
    0xc2164bfc9f042196, 0xa16e9c9368b1d623, 0x49fb169c8b5114fd, 0x9f3143f8df074c46, 0xc6fdaf2412cc86b3,
    0x7eaf49d10a52098f, 0x1cf313559d292f9a, 0xc44a30dda2f41f12, 0x36fae98943a71ed0, 0x318fb34c73f0bce6,
    0xa27abf3670a7e980, 0xb4bcc0db243c6d75, 0x23f8d852fdb71513, 0x8f035f4da67d8a08, 0xd89cd0e5b7e8f148,
    0xf6f4e6bcf7a644ee, 0xaec59ad80f1837f2, 0xc3b2f6154b6694e0, 0x9d199062b7bbb3a8,
};

void siphash_gives_the_published_values(void **) {
    uint8_t key[16];
    char input[64];
    for (size_t i = 0; i < sizeof key; i++)
        key[i] = static_cast<uint8_t>(i);
    for (size_t n = 0; n < 64; n++) {
        input[n] = static_cast<char>(n);
        assert_true(hash_siphash(key, 2, 4, view(input, n)) == siphash_2_4[n]);
        assert_true(hash_siphash(key, 1, 3, view(input, n)) == siphash_1_3[n]);
    }
    // The paper's appendix A.
    assert_true(hash_siphash(key, 2, 4, view(input, 15)) == 0xa129ca6149be45e5);
}

void siphash_takes_its_length_modulo_256(void **) {
    // Zeroes of different lengths that differ in nothing but the length byte, or by 256.
    uint8_t key[16] = {1};
    std::string zeroes(600, 0);
    assert_true(hash_siphash(key, 1, 3, view(zeroes.data(), 8)) != hash_siphash(key, 1, 3, view(zeroes.data(), 9)));
    assert_true(hash_siphash(key, 1, 3, view(zeroes.data(), 256)) != hash_siphash(key, 1, 3, view(zeroes.data(), 512)));
    // Unaligned input gives the same as aligned.
    std::string text = "xthe quick brown fox jumps";
    assert_true(hash_siphash(key, 1, 3, view(text).substr(1)) == hash_siphash(key, 1, 3, "the quick brown fox jumps"));
}

void a_fixed_seed_fixes_the_hash(void **) {
    hash_init(7);
    uint64_t of_seven = hash_bytes("room");
    assert_true(of_seven == hash_bytes("room"));
    assert_true(of_seven != hash_bytes("rooms"));
    hash_init(8);
    assert_true(of_seven != hash_bytes("room"));
    hash_init(7);
    assert_true(of_seven == hash_bytes("room"));
    // It is SipHash-1-3 under the key that the seed makes.
    uint8_t key[16] = {7, 0, 0, 0, 0, 0, 0, 0, 0xf8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
    assert_true(of_seven == hash_siphash(key, 1, 3, "room"));
}

void without_a_seed_the_key_is_drawn(void **) {
    hash_init(0);
    uint64_t first = hash_bytes("room");
    hash_init(0);
    assert_true(first != hash_bytes("room"));
}

void random_bytes_fill_all_and_no_more(void **) {
    unsigned char seen[1002] = {0}, drawn[1002];
    for (int round = 0; round < 20; round++) {
        memset(drawn, 0, sizeof drawn);
        random_bytes(drawn + 1, 1000);
        assert_int_equal(drawn[0], 0);
        assert_int_equal(drawn[1001], 0);
        for (size_t i = 0; i < sizeof drawn; i++)
            seen[i] |= drawn[i];
    }
    for (size_t i = 1; i <= 1000; i++)
        assert_int_not_equal(seen[i], 0); // 256^-20 each
    random_bytes(nullptr, 0);
}

void random_below_is_uniform(void **) {
    unsigned counts[6] = {0};
    for (int i = 0; i < 60000; i++) {
        uint32_t n = random_below(6);
        assert_true(n < 6);
        counts[n]++;
    }
    for (unsigned count : counts)
        assert_in_range(count, 10000 - 600, 10000 + 600); // 6.5 standard deviations
    for (int i = 0; i < 100; i++)
        assert_int_equal(random_below(1), 0);
    // 2^32 mod 3 * 2^30 is 2^30: without refusal the lower third would come twice as often as it should.
    unsigned low = 0;
    for (int i = 0; i < 60000; i++)
        low += random_below(3u << 30) % 3 == 0;
    assert_in_range(low, 20000 - 800, 20000 + 800);
}

void *draw(void *out) {
    for (int i = 0; i < 4; i++)
        static_cast<uint32_t *>(out)[i] = random_below(UINT32_MAX);
    return nullptr;
}

void random_fill_fills_all_and_no_more(void **) {
    for (size_t n = 0; n < 20; n++) {
        uint8_t seen[20] = {};
        for (int round = 0; round < 100; round++) { // a byte that stays 0 by chance: 2^-800
            uint8_t out[21] = {};
            random_fill(out, n);
            for (size_t i = 0; i < 20; i++)
                seen[i] |= out[i];
            assert_int_equal(out[n], 0);
        }
        for (size_t i = 0; i < n; i++)
            assert_int_not_equal(seen[i], 0);
    }
}

void threads_draw_differently(void **) {
    uint32_t drawn[2][4];
    pthread_t threads[2];
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&threads[i], nullptr, draw, drawn[i]), 0);
    for (pthread_t thread : threads)
        pthread_join(thread, nullptr);
    assert_memory_not_equal(drawn[0], drawn[1], sizeof drawn[0]);
}

struct item {
    table_node node;
    std::string key;
};

item *item_of(table_node *node) {
    return reinterpret_cast<item *>(node); // the node stands first
}

bool item_equal(const table_node *node, view key) {
    return reinterpret_cast<const item *>(node)->key == key;
}

table t;
item *items; // owned by the fixture
constexpr size_t item_count = 5000;

int make_items(void **) {
    hash_init(42);
    table_init(&t);
    items = new item[item_count];
    for (size_t i = 0; i < item_count; i++)
        items[i].key = "room:" + std::to_string(i);
    return 0;
}

int free_items(void **) {
    table_destroy(&t);
    delete[] items;
    return 0;
}

void insert(size_t first, size_t end) {
    for (size_t i = first; i < end; i++)
        table_insert(&t, &items[i].node, hash_bytes(items[i].key));
}

table_node *find(view key) {
    return table_find(&t, hash_bytes(key), key, item_equal);
}

void finds_what_was_inserted_and_nothing_else(void **) {
    assert_null(find("room:0"));
    insert(0, item_count);
    assert_int_equal(t.count, item_count);
    for (size_t i = 0; i < item_count; i++)
        assert_ptr_equal(find(items[i].key), &items[i].node);
    assert_null(find("room:5000"));
    assert_null(find(""));
    for (size_t i = 0; i < item_count; i += 2)
        table_remove(&t, &items[i].node);
    assert_int_equal(t.count, item_count / 2);
    for (size_t i = 0; i < item_count; i++)
        assert_ptr_equal(find(items[i].key), i % 2 ? &items[i].node : nullptr);
}

void equal_hashes_are_told_apart_by_the_key(void **) {
    for (size_t i = 0; i < 5; i++)
        table_insert(&t, &items[i].node, 99);
    for (size_t i = 0; i < 5; i++)
        assert_ptr_equal(table_find(&t, 99, items[i].key, item_equal), &items[i].node);
    // The first, the last and the middle of a chain.
    for (size_t i : {size_t{4}, size_t{0}, size_t{2}}) {
        table_remove(&t, &items[i].node);
        assert_null(table_find(&t, 99, items[i].key, item_equal));
    }
    for (size_t i : {size_t{1}, size_t{3}})
        assert_non_null(table_find(&t, 99, items[i].key, item_equal));
    // Another hash in the same bucket is not even compared.
    assert_null(table_find(&t, 99 + 16, items[1].key, item_equal));
}

void grows_at_load_one_and_shrinks_at_an_eighth(void **) {
    assert_int_equal(table_bytes(&t), 16 * sizeof(void *));
    insert(0, 16);
    assert_int_equal(t.mask, 15);
    insert(16, 17);
    assert_int_equal(t.mask, 31);
    insert(17, 4096);
    assert_int_equal(t.mask, 4095);
    assert_int_equal(table_bytes(&t), 4096 * sizeof(void *));
    for (size_t i = 4095; i >= 512; i--)
        table_remove(&t, &items[i].node);
    assert_int_equal(t.mask, 4095); // 512 left: an eighth
    table_remove(&t, &items[511].node);
    assert_int_equal(t.mask, 2047);
    for (size_t i = 0; i < 511; i++)
        assert_ptr_equal(find(items[i].key), &items[i].node);
    for (size_t i = 0; i < 511; i++)
        table_remove(&t, &items[i].node);
    assert_int_equal(t.mask, 15);
    assert_int_equal(t.count, 0);
}

struct walk {
    size_t met;
    unsigned char *seen; // borrowed: one for each item
};

void meet(table_node *node, void *context) {
    walk *w = static_cast<walk *>(context);
    w->met++;
    w->seen[item_of(node) - items]++;
}

void walks_over_each_once(void **) {
    static unsigned char seen[item_count];
    insert(0, item_count);
    memset(seen, 0, sizeof seen);
    walk w = {0, seen};
    table_each(&t, meet, &w);
    assert_int_equal(w.met, item_count);
    for (unsigned char times : seen)
        assert_int_equal(times, 1);
}

void remove_and_spoil(table_node *node, void *context) {
    walk *w = static_cast<walk *>(context);
    w->met++;
    if (item_of(node) - items < 100) return;
    table_remove(&t, node);
    memset(node, 0xee, sizeof *node); // as if freed: the walk must not look at it again
}

void a_walk_may_remove_what_it_meets(void **) {
    insert(0, item_count);
    walk w = {0, nullptr};
    table_each(&t, remove_and_spoil, &w);
    assert_int_equal(w.met, item_count); // shrinking under way would make it miss some
    assert_int_equal(t.count, 100);
    assert_true(t.mask < 1024); // it was made up for
    for (size_t i = 0; i < 100; i++)
        assert_ptr_equal(find(items[i].key), &items[i].node);
    insert(100, 200); // and inserting is possible again
    assert_int_equal(t.count, 200);
}

void walk_within_and_remove(table_node *node, void *context) {
    walk *w = static_cast<walk *>(context);
    table_each(
        &t, [](table_node *, void *inner) { static_cast<walk *>(inner)->met++; }, w);
    table_remove(&t, node); // the inner walk's end must not have let the table shrink under the outer one
}

void walks_may_be_nested(void **) {
    insert(0, 300);
    walk w = {0, nullptr};
    table_each(&t, walk_within_and_remove, &w);
    assert_int_equal(w.met, 300 * 301 / 2);
    assert_int_equal(t.count, 0);
    assert_int_equal(t.mask, 15);
    assert_false(t.walking);
}

void misuse_is_fatal(void **) {
    assert_true(expect_fatal(
        [] {
            insert(0, 1);
            table_each(
                &t, [](table_node *, void *) { insert(1, 2); }, nullptr);
        },
        "table_insert during table_each"));
    assert_true(expect_fatal(
        [] {
            items[0].node.hash = 0;
            table_remove(&t, &items[0].node);
        },
        "not in the table"));
}

} // namespace
} // namespace belfry

int main() {
    using namespace belfry;
    const CMUnitTest tests[] = {
        cmocka_unit_test(siphash_gives_the_published_values),
        cmocka_unit_test(siphash_takes_its_length_modulo_256),
        cmocka_unit_test(a_fixed_seed_fixes_the_hash),
        cmocka_unit_test(without_a_seed_the_key_is_drawn),
        cmocka_unit_test(random_bytes_fill_all_and_no_more),
        cmocka_unit_test(random_below_is_uniform),
        cmocka_unit_test(random_fill_fills_all_and_no_more),
        cmocka_unit_test(threads_draw_differently),
        cmocka_unit_test_setup_teardown(finds_what_was_inserted_and_nothing_else, make_items, free_items),
        cmocka_unit_test_setup_teardown(equal_hashes_are_told_apart_by_the_key, make_items, free_items),
        cmocka_unit_test_setup_teardown(grows_at_load_one_and_shrinks_at_an_eighth, make_items, free_items),
        cmocka_unit_test_setup_teardown(walks_over_each_once, make_items, free_items),
        cmocka_unit_test_setup_teardown(a_walk_may_remove_what_it_meets, make_items, free_items),
        cmocka_unit_test_setup_teardown(walks_may_be_nested, make_items, free_items),
        cmocka_unit_test_setup_teardown(misuse_is_fatal, make_items, free_items),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
