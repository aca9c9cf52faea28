// What a master leaves to the next binary: there and back, and every way of being cut off.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
extern "C" {
#include <cmocka.h>
}

#include "main/upgrade_state.h"

#include <limits.h>

using namespace belfry;
using namespace std::string_literals;

namespace {

upgrade_state example() {
    upgrade_state s = {};
    s.generation = 7, s.crashes = 3, s.backoff_ms = 400;
    s.pid_file = "/run/belfry/pid", s.log_target = "stderr", s.log_level = "2", s.log_json = "1";
    s.inherited = {{false, "public", "", {3}}};
    s.orphans = {{true, "", "unix:/run/belfry/control.sock", {}}};
    s.workers = {{1234, 9, false, true, 7, 987654321, "abcd", {{false, "public", "127.0.0.1:0", {10, 11}}}},
                 {1200, 8, true, false, 6, 1, "", {}}};
    return s;
}

void assert_same(const std::vector<kept_address> *a, const std::vector<kept_address> *b) {
    assert_int_equal(a->size(), b->size());
    for (size_t i = 0; i < a->size(); i++) {
        assert_int_equal((*a)[i].control, (*b)[i].control);
        assert_string_equal((*a)[i].listener.c_str(), (*b)[i].listener.c_str());
        assert_string_equal((*a)[i].written.c_str(), (*b)[i].written.c_str());
        assert_true((*a)[i].fds == (*b)[i].fds);
    }
}

void there_and_back(void **) {
    upgrade_state in = example(), out;
    assert_true(upgrade_state_decode(upgrade_state_encode(&in), &out));
    assert_int_equal(out.generation, 7);
    assert_int_equal(out.crashes, 3);
    assert_int_equal(out.backoff_ms, 400);
    assert_string_equal(out.pid_file.c_str(), "/run/belfry/pid");
    assert_string_equal(out.log_target.c_str(), "stderr");
    assert_string_equal(out.log_level.c_str(), "2");
    assert_string_equal(out.log_json.c_str(), "1");
    assert_same(&out.inherited, &in.inherited);
    assert_same(&out.orphans, &in.orphans);
    assert_int_equal(out.workers.size(), 2);
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(out.workers[i].pid, in.workers[i].pid);
        assert_int_equal(out.workers[i].channel, in.workers[i].channel);
        assert_int_equal(out.workers[i].retired, in.workers[i].retired);
        assert_int_equal(out.workers[i].stopping, in.workers[i].stopping);
        assert_int_equal(out.workers[i].generation, in.workers[i].generation);
        assert_int_equal(out.workers[i].started_ms, in.workers[i].started_ms);
        assert_string_equal(out.workers[i].node.c_str(), in.workers[i].node.c_str());
        assert_same(&out.workers[i].kept, &in.workers[i].kept);
    }
}

void any_bytes_in_texts(void **) {
    upgrade_state in = example(), out;
    in.pid_file = "a:1,b\n3:x"s + '\0' + "y";
    in.workers[0].node = "5:,,,"s;
    assert_true(upgrade_state_decode(upgrade_state_encode(&in), &out));
    assert_true(out.pid_file == in.pid_file);
    assert_true(out.workers[0].node == in.workers[0].node);
}

void cut_off_anywhere(void **) {
    upgrade_state in = example(), out;
    std::string bytes = upgrade_state_encode(&in);
    for (size_t size = 0; size < bytes.size(); size++)
        assert_false(upgrade_state_decode(view(bytes).substr(0, size), &out));
    assert_false(upgrade_state_decode(bytes + "0:,", &out));
}

void one_byte_wrong(void **) {
    upgrade_state in = example(), out;
    std::string bytes = upgrade_state_encode(&in);
    for (size_t i = 0; i < bytes.size(); i++) {
        std::string wrong = bytes;
        wrong[i] = '\xff'; // within a text it goes unseen
        (void)upgrade_state_decode(wrong, &out);
        wrong[i] = '9';
        (void)upgrade_state_decode(wrong, &out);
    }
    std::string another = bytes;
    size_t at = another.find(",1:1,");
    assert_true(at != std::string::npos);
    another[at + 3] = '2'; // the form
    assert_false(upgrade_state_decode(another, &out));
    assert_false(upgrade_state_decode("18446744073709551615:x,", &out));
    assert_false(upgrade_state_decode("99999999999:x,", &out));
}

std::vector<int> seen;

void descriptors(void **) {
    upgrade_state s = example();
    s.orphans[0].fds = {12};
    seen.clear();
    upgrade_state_descriptors(&s, [](int fd) { seen.push_back(fd); });
    assert_true(seen == (std::vector<int>{3, 12, 9, 10, 11, 8}));
    s.workers[0].channel = uint64_t{INT_MAX} + 1;
    upgrade_state out;
    assert_false(upgrade_state_decode(upgrade_state_encode(&s), &out));
}

} // namespace

int main() {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(there_and_back), cmocka_unit_test(any_bytes_in_texts), cmocka_unit_test(cut_off_anywhere),
        cmocka_unit_test(one_byte_wrong), cmocka_unit_test(descriptors),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
