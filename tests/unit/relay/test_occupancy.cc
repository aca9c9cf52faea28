// Rooms that come and go: what the backend hears of it, and when.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
extern "C" {
#include <cmocka.h>
}

#include "relay/occupancy.h"

#include <string>

using namespace belfry;

namespace {

occupancy of;
std::string told;

void tell(void *, bool occupied, view room) {
    told += (occupied ? "+" : "-") + std::string(room) + " ";
}

int begin(void **) {
    told.clear();
    hash_init(1);
    occupancy_init(&of, tell, nullptr);
    return 0;
}

int end(void **) {
    occupancy_destroy(&of);
    std::string().swap(told);
    return 0;
}

void assert_told(const char *want) {
    assert_string_equal(told.c_str(), want);
    told.clear();
}

void vacated_is_held_back(void **) {
    occupancy_occupied(&of, "a");
    assert_told("+a ");
    occupancy_vacated(&of, "a", 1000);
    occupancy_vacated(&of, "b", 1500);
    occupancy_turn(&of, 3999);
    assert_told("");
    occupancy_turn(&of, 4000);
    assert_told("-a ");
    occupancy_turn(&of, 9000);
    assert_told("-b ");
}

void who_comes_back_in_time_is_no_news(void **) {
    occupancy_vacated(&of, "a", 1000);
    occupancy_occupied(&of, "a");
    occupancy_turn(&of, 9000);
    assert_told("");
    occupancy_vacated(&of, "a", 9000); // held back anew
    occupancy_turn(&of, 11999);
    assert_told("");
    occupancy_turn(&of, 12000);
    occupancy_occupied(&of, "a");
    assert_told("-a +a ");
}

void own_rooms_are_no_news(void **) {
    occupancy_occupied(&of, "@user:1");
    occupancy_vacated(&of, "@user:1", 0);
    occupancy_turn(&of, 9000);
    assert_told("");
}

void what_is_held_back_is_bounded(void **) {
    for (size_t i = 0; i < occupancy_held_max; i++)
        occupancy_vacated(&of, std::to_string(i), 0);
    assert_told("");
    occupancy_vacated(&of, "more", 0);
    assert_told("-0 ");
    assert_int_equal(of.held.count, occupancy_held_max);
}

} // namespace

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main() {
    const CMUnitTest tests[] = {
        TEST(vacated_is_held_back),
        TEST(who_comes_back_in_time_is_no_news),
        TEST(own_rooms_are_no_news),
        TEST(what_is_held_back_is_bounded),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
