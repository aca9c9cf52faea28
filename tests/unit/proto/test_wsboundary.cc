// Frame boundaries in a stream that passes (RFC 6455 section 5.2).
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>
extern "C" {
#include <cmocka.h>
}

#include "proto/wsboundary.h"

#include <string>

using namespace belfry;

static ws_boundary boundary;

static int begin(void **) {
    boundary = {};
    return 0;
}
static int end(void **) {
    ws_boundary_free(&boundary);
    return 0;
}

// A server's frame with its length in the shortest form.
static std::string frame(unsigned char first, size_t n, char fill = 'x') {
    std::string f(1, static_cast<char>(first));
    int bytes = n < 126 ? 0 : n < 65536 ? 2 : 8;
    f += static_cast<char>(bytes == 0 ? n : bytes == 2 ? 126 : 127);
    while (bytes--)
        f += static_cast<char>(n >> (8 * bytes));
    return f + std::string(n, fill);
}

// What passes of these bytes.
static std::string pass(view bytes) {
    ws_passed p = ws_boundary_pass(&boundary, bytes);
    std::string out(p.first);
    out += p.second;
    ws_boundary_release(&boundary);
    return out;
}

static void test_whole_frames_pass_at_once(void **) {
    std::string three = frame(0x81, 5) + frame(0x02, 300) + frame(0x80, 0);
    ws_passed p = ws_boundary_pass(&boundary, three);
    assert_true(p.first.empty());
    assert_ptr_equal(p.second.data(), three.data()); // no copy
    assert_int_equal(p.second.size(), three.size());
    assert_true(ws_boundary_between(&boundary));
    assert_null(boundary.held.data);
}

static void test_a_short_frame_is_held_until_it_is_whole(void **) {
    std::string first = frame(0x81, 3), second = frame(0x82, 200, 'y'), third = frame(0x81, 1);
    std::string all = first + second + third;
    size_t cut = first.size() + 100;
    assert_true(pass(all.substr(0, cut)) == first);
    assert_true(ws_boundary_between(&boundary));
    assert_true(pass("") == "");
    assert_true(pass(all.substr(cut, 50)) == "");
    assert_true(pass(all.substr(cut + 50)) == second + third);
    assert_null(boundary.held.data);
}

static void test_every_cut(void **) {
    std::string all = frame(0x01, 4) + frame(0x89, 125) + frame(0x80, 126, 'z') + frame(0x8a, 0) + frame(0x82, 70000);
    for (size_t cut = 0; cut <= all.size(); cut += cut < 300 ? 1 : 997) {
        std::string got = pass(view(all).substr(0, cut));
        assert_true(got.size() <= cut && all.starts_with(got));
        got += pass(view(all).substr(cut));
        assert_true(got == all);
        assert_true(ws_boundary_between(&boundary));
    }
}

static void test_byte_by_byte_ends_between_frames(void **) {
    std::string f = frame(0x82, 400), all = f + f, got;
    for (size_t i = 0; i < all.size(); i++) {
        got += pass(view(all).substr(i, 1));
        assert_int_equal(got.size(), (i + 1) / f.size() * f.size());
        assert_true(ws_boundary_between(&boundary));
    }
    assert_true(got == all);
}

static void test_a_long_frame_passes_as_it_comes(void **) {
    std::string f = frame(0x82, ws_held_max - 4), longer = frame(0x82, ws_held_max - 3);
    assert_int_equal(f.size(), ws_held_max);
    assert_true(pass(view(f).substr(0, f.size() - 1)) == "");
    assert_true(pass(view(f).substr(f.size() - 1)) == f);
    assert_true(pass(view(longer).substr(0, 100)) == longer.substr(0, 100));
    assert_false(ws_boundary_between(&boundary));
    assert_true(pass(view(longer).substr(100)) == longer.substr(100));
    assert_true(ws_boundary_between(&boundary));
    // Held for its header's sake, then seen to be long.
    assert_true(pass(view(longer).substr(0, 3)) == "");
    assert_true(pass(view(longer).substr(3, 7)) == longer.substr(0, 10));
    assert_false(ws_boundary_between(&boundary));
    assert_true(pass(view(longer).substr(10)) == longer.substr(10));
}

static void test_what_is_held_and_a_new_beginning(void **) {
    std::string a = frame(0x81, 20, 'a'), b = frame(0x81, 20, 'b'), c = frame(0x81, 20, 'c');
    assert_true(pass(a.substr(0, 9)) == "");
    assert_true(pass(a.substr(9) + b + c.substr(0, 5)) == a + b);
    assert_true(pass(c.substr(5)) == c);
}

static void test_nothing_behind_a_close(void **) {
    std::string close = frame(0x88, 2, '\x03'), text = frame(0x81, 2);
    assert_true(pass(text + close.substr(0, 1)) == text);
    assert_false(boundary.closed);
    assert_true(pass(close.substr(1) + text) == close);
    assert_true(boundary.closed);
    assert_true(pass(text) == "");
    ws_boundary_free(&boundary);
    assert_true(pass(text + close + text.substr(0, 1)) == text + close);
    assert_true(boundary.closed);
    assert_null(boundary.held.data);
}

static void test_what_no_server_may_send(void **) {
    const std::string bad[] = {
        std::string("\x81\x85", 2) + "maskxxxxx",      // masked
        frame(0x83, 2),                                // reserved opcodes
        frame(0x8b, 2),                                //
        frame(0x09, 2),                                // a fragmented Ping
        frame(0x89, 126),                              // a long one
        std::string("\x82\x7f\x80\0\0\0\0\0\0\0", 10), // 2^63 bytes
    };
    std::string good = frame(0xc1, 4); // RSV1: an extension's
    for (const std::string &b : bad) {
        for (size_t cut = 0; cut < 3; cut++) {
            std::string got = pass(good + b.substr(0, cut));
            got += pass(b.substr(cut) + good);
            assert_true(got == good);
            assert_non_null(boundary.why);
            assert_true(ws_boundary_between(&boundary));
            assert_true(pass(good) == "");
            ws_boundary_free(&boundary);
        }
    }
}

int main() {
#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)
    const struct CMUnitTest tests[] = {
        TEST(test_whole_frames_pass_at_once),
        TEST(test_a_short_frame_is_held_until_it_is_whole),
        TEST(test_every_cut),
        TEST(test_byte_by_byte_ends_between_frames),
        TEST(test_a_long_frame_passes_as_it_comes),
        TEST(test_what_is_held_and_a_new_beginning),
        TEST(test_nothing_behind_a_close),
        TEST(test_what_no_server_may_send),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
