// proto/peer_carry.cc
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
extern "C" {
#include <cmocka.h>
}

#include "json_harness.h"
#include "proto/peer_carry.h"

#include <string.h>
#include <string>

using namespace belfry;

namespace {

error why;

bool parse(view text, peer_carry *out) {
    return peer_carry_parse(harness.reader, source(text), out, &why);
}

void round_trips(void **) {
    const peer_carry all[] = {
        {true, "c_AAAAAAAAAAAAAAAAAAAA.key", "56", 3, ""},
        {false, "c_1", "", 0, view("\0\n\xff", 3)},
        {false, "c_\"1\"", "a \\ \xe2\x82\xac", 0, "{\"type\":\"ping\"}"},
    };
    for (const peer_carry &c : all) {
        buffer out = {};
        peer_carry_write(&c, &out);
        peer_carry got;
        assert_true(parse(buffer_view(&out), &got));
        buffer_free(&out);
        assert_int_equal(got.poll, c.poll);
        assert_true(got.session == c.session && got.user == c.user && got.body == c.body);
        assert_int_equal(got.sequence, c.sequence);
    }
}

void refusals_name_the_member(void **) {
    struct {
        const char *text, *why;
    } all[] = {
        {"{\"op\":\"poll\",\"session\":\"c\"}", "head"},
        {"[]\n", "JSON"},
        {"{\"session\":\"c\"}\n", "op: must be"},
        {"{\"op\":\"call\",\"session\":\"c\"}\n", "op: must be"},
        {"{\"op\":\"poll\"}\n", "session: is missing"},
        {"{\"op\":\"poll\",\"session\":7}\n", "session: must be"},
        {"{\"op\":\"poll\",\"session\":\"c\",\"user\":7}\n", "user: must be"},
        {"{\"op\":\"poll\",\"session\":\"c\",\"sequence\":1.5}\n", "sequence: must be"},
    };
    for (auto &one : all) {
        peer_carry c;
        assert_false(parse(one.text, &c));
        if (!strstr(why.text, one.why)) fail_msg("%s: %s", one.text, why.text);
    }
    std::string large = "{\"op\":\"poll\",\"session\":\"" + std::string(peer_carry_session_max + 1, 'x') + "\"}\n";
    peer_carry c;
    assert_false(parse(large, &c));
}

} // namespace

#define TEST(name) cmocka_unit_test_setup_teardown(name, harness_begin, harness_end)

int main() {
    const CMUnitTest tests[] = {TEST(round_trips), TEST(refusals_name_the_member)};
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
