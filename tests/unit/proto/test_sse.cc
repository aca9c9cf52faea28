// Tests of proto/sse.
//
// One thread.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
extern "C" {
#include <cmocka.h>
}

#include "proto/sse.h"

#include <string>

using namespace belfry;
using std::string;

namespace {

string taken(buffer *b) {
    string text(b->data, b->size);
    buffer_free(b);
    return text;
}

string event(view name, view data) {
    buffer out = {};
    sse_write_event(&out, name, data);
    return taken(&out);
}

void test_one_line(void **) {
    assert_string_equal(event("", "hello").c_str(), "data: hello\n\n");
    assert_string_equal(event("", " led by a space").c_str(), "data:  led by a space\n\n");
    assert_string_equal(event("", "").c_str(), "data: \n\n");
    assert_string_equal(event("binary", "AAE=").c_str(), "event: binary\ndata: AAE=\n\n");
}

void test_every_line_end_makes_a_line(void **) {
    const struct {
        view data;
        const char *want;
    } cases[] = {
        {"a\nb", "data: a\ndata: b\n\n"},
        {"a\rb", "data: a\ndata: b\n\n"},
        {"a\r\nb", "data: a\ndata: b\n\n"},
        {"a\n\rb", "data: a\ndata: \ndata: b\n\n"},
        {"a\n", "data: a\ndata: \n\n"},
        {"\n", "data: \ndata: \n\n"},
        {"\r\n\r\n", "data: \ndata: \ndata: \n\n"},
        {"a\r", "data: a\ndata: \n\n"},
        {"id: 7\nretry: 1\n\ndata: no", "data: id: 7\ndata: retry: 1\ndata: \ndata: data: no\n\n"},
    };
    for (const auto &c : cases)
        assert_string_equal(event("", c.data).c_str(), c.want);
}

void test_nul_is_a_byte_like_any(void **) {
    assert_true(event("", view("a\0b", 3)) == string("data: a\0b\n\n", 11));
}

void test_blocks_that_are_no_events(void **) {
    buffer out = {};
    sse_write_retry(&out, 2000);
    sse_write_id(&out, "k3Fq:17:chat%3A42");
    sse_write_id(&out, "");
    sse_write_comment(&out, "");
    sse_write_comment(&out, " alive");
    assert_string_equal(taken(&out).c_str(), "retry: 2000\n\nid: k3Fq:17:chat%3A42\n\nid: \n\n:\n\n: alive\n\n");
}

} // namespace

int main() {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_line),
        cmocka_unit_test(test_every_line_end_makes_a_line),
        cmocka_unit_test(test_nul_is_a_byte_like_any),
        cmocka_unit_test(test_blocks_that_are_no_events),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
