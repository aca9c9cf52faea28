// Ids that were published: found for five minutes, room by room, and so many of them.
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>
extern "C" {
#include <cmocka.h>
}

#include "relay/idempotency.h"

#include <string>

using namespace belfry;

namespace {

constexpr uint64_t start_ms = 5000;
idempotency *ids;

int setup(void **) {
    ids = new idempotency{};
    idempotency_init(ids);
    return 0;
}
int teardown(void **) {
    idempotency_destroy(ids);
    delete ids;
    return 0;
}

void note(view room, view id, uint64_t offset, uint64_t now_ms = start_ms) {
    position at;
    assert_true(position_set(&at, "abcd", offset));
    idempotency_note(ids, room, id, &at, now_ms);
}

void test_an_id_is_found_with_its_position(void **) {
    assert_null(idempotency_find(ids, "a", "x", start_ms));
    note("a", "x", 7);
    const position *found = idempotency_find(ids, "a", "x", start_ms);
    assert_non_null(found);
    assert_int_equal(found->offset, 7);
    assert_true(position_epoch(found) == "abcd");
}

void test_ids_are_the_rooms(void **) {
    note("a", "bc", 7);
    assert_null(idempotency_find(ids, "b", "bc", start_ms));
    assert_null(idempotency_find(ids, "ab", "c", start_ms));
    assert_null(idempotency_find(ids, "a", "b", start_ms));
}

void test_five_minutes(void **) {
    note("a", "x", 7);
    note("a", "y", 8, start_ms + 1000);
    assert_non_null(idempotency_find(ids, "a", "x", start_ms + idempotency_ms - 1));
    assert_null(idempotency_find(ids, "a", "x", start_ms + idempotency_ms));
    assert_non_null(idempotency_find(ids, "a", "y", start_ms + idempotency_ms));
    assert_int_equal(ids->ids.count, 1);
    note("a", "x", 9, start_ms + idempotency_ms);
    assert_int_equal(idempotency_find(ids, "a", "x", start_ms + idempotency_ms + 1)->offset, 9);
    assert_int_equal(ids->evicted, 0);
}

void test_so_many(void **) {
    for (size_t i = 0; i < idempotency_max + 3; i++)
        note("a", std::to_string(i), i);
    assert_int_equal(ids->ids.count, idempotency_max);
    assert_int_equal(ids->evicted, 3);
    assert_null(idempotency_find(ids, "a", "2", start_ms));
    assert_non_null(idempotency_find(ids, "a", "3", start_ms));
}

} // namespace

#define with_ids(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main() {
    const struct CMUnitTest tests[] = {
        with_ids(test_an_id_is_found_with_its_position),
        with_ids(test_ids_are_the_rooms),
        with_ids(test_five_minutes),
        with_ids(test_so_many),
    };
    return cmocka_run_group_tests_name("idempotency", tests, nullptr, nullptr);
}
