// The memory broker's store: offsets and epochs, what is read, what goes because of count, budget, time and bounds, and
// what a kept message costs.
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>
extern "C" {
#include <cmocka.h>
}

#include "proto/json.h"
#include "relay/history.h"

#include <malloc.h>
#include <string>

using namespace belfry;

namespace {

constexpr uint64_t start_ms = 5000000;
history *h;

int setup(void **) {
    h = new history{};
    history_init(h, 1 << 20, start_ms);
    return 0;
}
int teardown(void **) {
    history_destroy(h);
    uint64_t left = h->count.messages;
    delete h;
    return left != 0;
}

message *make(view room, view payload, uint32_t keep, int64_t ttl_ms = 60000) {
    frame *source = frame_copy(payload);
    message_parts parts = {room, source, frame_view(source), payload_kind::json};
    message *m = message_new(&parts);
    m->keep = keep;
    m->keep_ttl_ms = ttl_ms;
    frame_unref(source);
    return m;
}

// Its offset.
uint64_t keep(view room, view payload, uint32_t count, uint64_t now_ms = start_ms, int64_t ttl_ms = 60000) {
    message *m = make(room, payload, count, ttl_ms);
    history_keep(h, m, now_ms);
    uint64_t offset = m->at.offset;
    message_unref(m);
    return offset;
}

// "OFFSET=PAYLOAD ..." and whether that is all.
std::string read(view room, uint64_t after, uint32_t limit = 1000) {
    history_slice s = history_read(h, room, after, limit, start_ms);
    std::string all;
    for (size_t i = 0; i < s.count; i++)
        all += std::to_string(s.messages[i]->at.offset) + "=" + std::string(s.messages[i]->payload) + " ";
    return all + (s.whole ? "whole" : "part");
}
position top(view room) {
    return history_read(h, room, 0, 0, start_ms).top;
}

#define assert_read(got, want) assert_string_equal((got).c_str(), want)

void test_offsets_count_in_one_epoch(void **) {
    assert_int_equal(keep("a", "1", 10), 1);
    position first = top("a");
    assert_int_equal(position_epoch(&first).size(), history_epoch_size);
    position checked;
    assert_true(position_set(&checked, position_epoch(&first), 1)); // characters that an epoch may have
    assert_int_equal(keep("a", "2", 10), 2);
    assert_int_equal(keep("b", "1", 10), 1);
    position second = top("a"), other = top("b");
    assert_true(position_same_epoch(&first, &second));
    assert_false(position_same_epoch(&first, &other));
    assert_int_equal(second.offset, 2);
}

void test_reading(void **) {
    for (int i = 1; i <= 4; i++)
        keep("a", std::to_string(i), 10);
    assert_read(read("a", 0), "1=1 2=2 3=3 4=4 whole");
    assert_read(read("a", 2), "3=3 4=4 whole");
    assert_read(read("a", 4), "whole");
    assert_read(read("a", 5), "part"); // from the future
    assert_read(read("a", UINT64_MAX), "part");
    assert_read(read("a", 0, 2), "3=3 4=4 part"); // the newest
    assert_read(read("a", 0, 0), "part");
    assert_read(read("a", 4, 0), "whole");
}

void test_only_so_many_are_kept(void **) {
    for (int i = 1; i <= 9; i++)
        keep("a", std::to_string(i), 3);
    assert_read(read("a", 0), "7=7 8=8 9=9 part");
    assert_read(read("a", 6), "7=7 8=8 9=9 whole");
    assert_int_equal(h->count.messages, 3);
    assert_int_equal(h->count.evicted, 0);
    keep("a", "10", 1); // the rule has changed
    assert_read(read("a", 0), "10=10 part");
}

void test_a_room_gets_its_epoch_when_it_is_read(void **) {
    position before = top("a");
    assert_false(position_none(&before));
    assert_int_equal(before.offset, 0);
    assert_read(read("a", 0), "whole");
    keep("a", "1", 10);
    position after = top("a");
    assert_true(position_same_epoch(&before, &after));
    assert_int_equal(h->count.places, 0);
}

void test_messages_go_after_the_last_ones_time(void **) {
    keep("a", "1", 10, start_ms, 10000);
    keep("a", "2", 10, start_ms + 9000, 10000);
    keep("b", "1", 10, start_ms, 5000);
    history_turn(h, start_ms + 5200);
    assert_read(read("b", 0), "part");
    assert_read(read("a", 0), "1=1 2=2 whole");
    history_turn(h, start_ms + 18900);
    assert_read(read("a", 0), "1=1 2=2 whole"); // 10 s after the last, not the first
    history_turn(h, start_ms + 19200);
    assert_read(read("a", 0), "part");
    assert_int_equal(h->count.expired, 3);
    assert_int_equal(h->count.bytes, 0);
    assert_int_equal(h->count.rooms, 0);
    assert_int_equal(h->count.places, 2);
    assert_int_equal(keep("a", "3", 10), 3); // the place stays
    assert_read(read("a", 2), "3=3 whole");
}

void test_long_times_are_waited_for(void **) {
    const uint64_t day = 24 * 3600 * 1000;
    keep("a", "1", 10, start_ms, static_cast<int64_t>(day));
    for (uint64_t passed = 0; passed + 600000 < day; passed += 600000)
        history_turn(h, start_ms + passed);
    assert_read(read("a", 0), "1=1 whole");
    history_turn(h, start_ms + day + 60000);
    history_turn(h, start_ms + day + 120000);
    assert_read(read("a", 0), "part");
}

void test_places_are_kept_for_a_day(void **) {
    position first = top("a");
    history_turn(h, start_ms + history_place_ms - 1);
    assert_int_equal(h->count.places, 1);
    history_turn(h, start_ms + history_place_ms);
    assert_int_equal(h->count.places, 0);
    position second = top("a");
    assert_false(position_same_epoch(&first, &second));
}

void test_places_are_bounded(void **) {
    keep("kept", "1", 10);
    for (size_t i = 0; i < history_places_max + 10; i++)
        (void)top("room-" + std::to_string(i));
    assert_int_equal(h->count.places, history_places_max);
    assert_int_equal(h->rooms.count, history_places_max + 1);
    assert_null(history_place(h, "room-9")); // the oldest went
    assert_non_null(history_place(h, "room-10"));
    assert_non_null(history_place(h, "kept"));
}

void test_the_budget_takes_the_quietest_room_first(void **) {
    std::string big(10000, 'x');
    keep("quiet", big, 10);
    keep("quiet", big, 10);
    keep("busy", big, 1000);
    while (h->count.evicted == 0)
        keep("busy", big, 1000);
    assert_true(h->count.bytes <= h->budget);
    assert_read(read("quiet", 1), ("2=" + big + " whole").c_str()); // its first went, the second is next
    assert_true(read("busy", 0).ends_with(" whole"));
    while (h->count.evicted == 1)
        keep("busy", big, 1000);
    assert_read(read("quiet", 1), "part");
    assert_int_equal(top("quiet").offset, 2);
    assert_int_equal(h->count.rooms, 1);
    for (int i = 0; i < 200; i++) {
        keep("busy", big, 1000);
        assert_true(h->count.bytes <= h->budget);
    }
}

void test_a_message_above_the_budget_is_not_kept(void **) {
    keep("a", "1", 10);
    assert_int_equal(keep("a", std::string(1 << 20, 'x'), 10), 2);
    assert_read(read("a", 0), "part"); // none: a hole would be worse
    assert_int_equal(h->count.bytes, 0);
    assert_int_equal(keep("a", "3", 10), 3);
    assert_read(read("a", 2), "3=3 whole");
}

// The form that members get is made after it was kept, and may be larger than thought.
// Who joins reads it in a form of its own, long after the next message has come.
void test_forms_that_joiners_have_made_are_charged(void **) {
    json_reader *reader = json_reader_new();
    buffer scratch = {};
    for (int i = 0; i < 2; i++)
        assert_true(keep("a", "\"" + std::string(4000, 'x') + "\"", 10) != 0);
    const uint64_t before = h->count.bytes;
    const history_slice s = history_read(h, "a", 0, 10, start_ms);
    assert_int_equal(s.count, 2);
    assert_int_equal(h->count.bytes, before);
    for (size_t i = 0; i < s.count; i++)
        for (wire_form form : {form_json, form_sse_json, form_raw})
            (void)message_form(s.messages[i], form, reader, &scratch, nullptr);
    json_reader_free(reader);
    buffer_free(&scratch);
    assert_read(read("a", 1, 0), "part");
    assert_int_equal(h->count.bytes, before); // nothing was read
    assert_int_equal(history_read(h, "a", 0, 10, start_ms).count, 2);
    assert_in_range(h->count.bytes, before + 4 * 4000, before + 4 * 4000 + 2000);
    h->budget = before;
    assert_int_equal(keep("b", "1", 10), 1); // and make room
    assert_true(h->count.bytes <= h->budget && h->count.evicted != 0);
}

void test_a_message_is_charged_with_its_forms(void **) {
    json_reader *reader = json_reader_new();
    buffer scratch = {};
    message *m = make("a", std::string(1000, '"'), 10); // twice as long as a JSON string
    m->kind = payload_kind::text;
    history_keep(h, m, start_ms);
    uint64_t first = h->count.bytes;
    (void)message_form(m, form_json, reader, &scratch, nullptr);
    message_unref(m);
    keep("a", "2", 10);
    uint64_t both = h->count.bytes;
    keep("b", "2", 10);
    uint64_t second = h->count.bytes - both; // with its room
    assert_true(both > first + second + 500);
    buffer_free(&scratch);
    json_reader_free(reader);
}

// Beside the payload itself, which is there twice: as it came, and in the form that the members got.
// A reload: those rooms keep nothing any more, what comes later is of another epoch.
void test_rooms_are_forgotten(void **) {
    for (view room : {"a", "b", "c"})
        keep(room, "1", 10);
    const position place = top("place"), b = top("b");
    history_forget(
        h, [](void *, view room) { return room == "b"; }, nullptr);
    assert_int_equal(h->count.rooms, 1);
    assert_int_equal(h->count.messages, 1);
    assert_int_equal(h->count.places, 0);
    assert_int_equal(h->rooms.count, 1);
    assert_read(read("b", 0), "1=1 whole");
    const position again = top("place"), same = top("b");
    assert_false(position_same_epoch(&place, &again));
    assert_true(position_same_epoch(&b, &same));
    assert_int_equal(keep("a", "2", 10), 1);
    history_turn(h, start_ms + 60100); // the others' time is over: nothing of them is left to end
    assert_int_equal(h->count.messages, 0);
    history_forget(
        h, [](void *, view) { return false; }, nullptr);
    assert_int_equal(h->count.bytes, 0);
    assert_int_equal(h->rooms.count, 0);
}

void test_what_a_message_costs(void **) {
    constexpr size_t count = 10000;
    json_reader *reader = json_reader_new();
    buffer scratch = {};
    std::string payload(100, '7');
    history_destroy(h);
    history_init(h, 64 << 20, start_ms);
    size_t before = mallinfo2().uordblks;
    for (size_t i = 0; i < count; i++) {
        message *m = make("room:of:a:usual:length", payload, 100);
        m->time_ms = 1700000000123;
        history_keep(h, m, start_ms);
        (void)message_form(m, form_json, reader, &scratch, nullptr);
        message_unref(m);
    }
    for (size_t i = 0; i < count; i++) {
        message *m = make("room-" + std::to_string(i), payload, 100);
        m->time_ms = 1700000000123;
        history_keep(h, m, start_ms);
        (void)message_form(m, form_json, reader, &scratch, nullptr);
        message_unref(m);
    }
    size_t used = mallinfo2().uordblks - before;
    assert_int_equal(h->count.messages, 100 + count);
    size_t each = used / (100 + count);
    print_message("a message of 100 bytes that is kept takes %zu bytes in a room of its own, it is charged %zu\n", each,
                  static_cast<size_t>(h->count.bytes / h->count.messages));
    if (used != 0) { // mallinfo2 knows nothing of a sanitizer's allocator
        assert_true(each < 1200);
        assert_true(h->count.bytes > used * 8 / 10 &&
                    h->count.bytes < used * 13 / 10); // what is charged is what it takes
    }
    buffer_free(&scratch);
    json_reader_free(reader);
}

} // namespace

#define with_history(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main() {
    const struct CMUnitTest tests[] = {
        with_history(test_offsets_count_in_one_epoch),
        with_history(test_reading),
        with_history(test_only_so_many_are_kept),
        with_history(test_a_room_gets_its_epoch_when_it_is_read),
        with_history(test_messages_go_after_the_last_ones_time),
        with_history(test_long_times_are_waited_for),
        with_history(test_places_are_kept_for_a_day),
        with_history(test_places_are_bounded),
        with_history(test_the_budget_takes_the_quietest_room_first),
        with_history(test_a_message_above_the_budget_is_not_kept),
        with_history(test_a_message_is_charged_with_its_forms),
        with_history(test_forms_that_joiners_have_made_are_charged),
        with_history(test_rooms_are_forgotten),
        with_history(test_what_a_message_costs),
    };
    return cmocka_run_group_tests_name("history", tests, nullptr, nullptr);
}
