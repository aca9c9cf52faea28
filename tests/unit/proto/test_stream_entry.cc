// Tests of proto/stream_entry.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
extern "C" {
#include <cmocka.h>
}

#include "proto/stream_entry.h"

#include <string>
#include <vector>

using namespace belfry;

namespace {

error e;

bool history(view id, const std::vector<view> &words, uint64_t *offset, view *envelope) {
    e.text[0] = 0;
    return stream_entry_history(id, words.data(), words.size(), offset, envelope, &e);
}

void test_ids(void **) {
    stream_id id;
    assert_true(stream_id_parse("1700000000123-7", &id));
    assert_true(id.ms == 1700000000123 && id.sequence == 7);
    assert_true(stream_id_parse("18446744073709551615-18446744073709551615", &id));
    assert_true(id.ms == UINT64_MAX && id.sequence == UINT64_MAX);
    assert_true(stream_id_parse("0-0", &id));
    for (view bad :
         {"", "-", "1", "1-", "-1", "1-1-1", "01-1", "1-01", "1 -1", "+1-1", "1-18446744073709551616", "a-1"})
        assert_false(stream_id_parse(bad, &id));
}

void test_history(void **) {
    uint64_t offset = 0;
    view envelope;
    assert_true(history("18-0", {"m", "{}\nx"}, &offset, &envelope));
    assert_int_equal(offset, 18);
    assert_true(envelope == "{}\nx");
    for (view id : {"0-0", "1-1", "18", "9223372036854775808-0", "x-0"}) {
        assert_false(history(id, {"m", "{}"}, &offset, &envelope));
        assert_string_equal(e.text, "history: an entry's id is not OFFSET-0");
    }
    for (const std::vector<view> &words : std::vector<std::vector<view>>{
             {}, {"m"}, {"n", "{}"}, {"m", "{}", "m", "{}"}, {"m", "{}", "x", "y"}, {"m", "{}", "x"}}) {
        assert_false(history("1-0", words, &offset, &envelope));
        assert_string_equal(e.text, "history: an entry has other fields than m");
    }
    for (view text : {"", "k3Fq 1\n{}\nx", "x"}) {
        assert_false(history("1-0", {"m", text}, &offset, &envelope));
        assert_string_equal(e.text, "history: an entry does not begin with an envelope's head");
    }
    assert_int_equal(offset, 18); // left alone
}

void test_commands(void **) {
    view command;
    const view good[] = {"trace", "command", "command", "{\"op\":1}", "more", ""};
    assert_true(stream_entry_command(good, 6, &command, &e));
    assert_true(command == "{\"op\":1}");
    assert_true(stream_entry_command(good + 2, 2, &command, &e));
    assert_false(stream_entry_command(good, 0, &command, &e));
    assert_string_equal(e.text, "it must have the field `command` once");
    assert_false(stream_entry_command(good, 2, &command, &e)); // a value of that name
    assert_false(stream_entry_command(good, 5, &command, &e));
    const view twice[] = {"command", "{}", "command", "{}"};
    assert_false(stream_entry_command(twice, 4, &command, &e));
}

} // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(test_ids),
        cmocka_unit_test(test_history),
        cmocka_unit_test(test_commands),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
