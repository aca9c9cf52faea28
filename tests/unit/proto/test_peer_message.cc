// proto/peer_message.cc
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
extern "C" {
#include <cmocka.h>
}

#include "json_harness.h"
#include "proto/peer_message.h"

#include <string.h>

using namespace belfry;

namespace {

error why;

bool parse(view text, peer_message *out) {
    return peer_message_parse(harness.reader, source(text), out, &why);
}

void round_trips(void **) {
    const peer_message all[] = {
        {false, "k3Fq", 17, peer_what::order, 0, "{\"op\":\"leave\"}"},
        {false, "k3Fq", 0, peer_what::receivers, 0, "12"},
        {false, "_-9z", UINT32_MAX, peer_what::carry, 0, view("\0\n{}\xff", 5)},
        {true, "k3Fq", 18, peer_what::order, 200, ""},
        {true, "k3Fq", 19, peer_what::order, 504, "late"},
    };
    for (const peer_message &m : all) {
        buffer out = {};
        peer_message_write(&m, &out);
        peer_message got;
        assert_true(parse(buffer_view(&out), &got));
        buffer_free(&out);
        assert_int_equal(got.is_answer, m.is_answer);
        assert_true(got.from == m.from);
        assert_int_equal(got.number, m.number);
        if (m.is_answer)
            assert_int_equal(got.code, m.code);
        else
            assert_int_equal(static_cast<int>(got.what), static_cast<int>(m.what));
        assert_true(got.body == m.body);
    }
}

void refusals_name_the_member(void **) {
    struct {
        const char *text, *why;
    } all[] = {
        {"", "head"},
        {"{\"v\":1}", "head"},
        {"{\"v\":2,\"from\":\"a\",\"ask\":1,\"what\":\"order\"}\n", "v: must be 1"},
        {"{\"from\":\"a\",\"ask\":1,\"what\":\"order\"}\n", "v: must be 1"},
        {"{\"v\":1,\"ask\":1,\"what\":\"order\"}\n", "from: must be a string"},
        {"{\"v\":1,\"from\":\"\",\"ask\":1,\"what\":\"order\"}\n", "from: must be 1 to 32"},
        {"{\"v\":1,\"from\":\"a:b\",\"ask\":1,\"what\":\"order\"}\n", "from: must be 1 to 32"},
        {"{\"v\":1,\"from\":\"a\",\"what\":\"order\"}\n", "ask, answer: must be one of them"},
        {"{\"v\":1,\"from\":\"a\",\"ask\":1,\"answer\":1,\"what\":\"order\",\"code\":200}\n", "ask, answer"},
        {"{\"v\":1,\"from\":\"a\",\"ask\":-1,\"what\":\"order\"}\n", "ask: must be an integer"},
        {"{\"v\":1,\"from\":\"a\",\"ask\":1,\"what\":\"dance\"}\n", "what: must be"},
        {"{\"v\":1,\"from\":\"a\",\"answer\":1}\n", "code: must be"},
        {"{\"v\":1,\"from\":\"a\",\"answer\":1,\"code\":199}\n", "code: must be"},
        {"{\"v\":1,\"from\":\"a\",\"answer\":1,\"code\":600}\n", "code: must be"},
    };
    for (auto &one : all) {
        peer_message m;
        assert_false(parse(one.text, &m));
        if (!strstr(why.text, one.why)) fail_msg("%s: %s", one.text, why.text);
    }
}

} // namespace

#define TEST(name) cmocka_unit_test_setup_teardown(name, harness_begin, harness_end)

int main() {
    const CMUnitTest tests[] = {TEST(round_trips), TEST(refusals_name_the_member)};
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
