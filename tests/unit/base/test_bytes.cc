// Unit tests of base/bytes: buffers, comparisons, numbers, base64 (RFC 4648 section 10).
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
extern "C" {
#include <cmocka.h>
}

#include "base/bytes.h"
#include "expect_fatal.h"

#include <stdlib.h>
#include <string>

namespace belfry {
namespace {

buffer b;

int start_empty(void **) {
    b = {};
    return 0;
}

int give_back(void **) {
    buffer_free(&b);
    return 0;
}

void assert_view(view got, view wanted) {
    assert_int_equal(got.size(), wanted.size());
    if (!wanted.empty()) assert_memory_equal(got.data(), wanted.data(), wanted.size());
}

void a_new_buffer_is_an_empty_view(void **) {
    assert_view(buffer_view(&b), "");
    buffer_append(&b, view());
    assert_null(b.data); // nothing was allocated for nothing
    buffer_consume(&b, 0);
    buffer_clear(&b);
    buffer_free(&b);
    buffer_free(&b);
}

void appends_bytes_of_all_kinds(void **) {
    buffer_append(&b, view("a\0b", 3));
    buffer_append_char(&b, '|');
    buffer_append_uint(&b, 0);
    buffer_append_char(&b, '|');
    buffer_append_uint(&b, UINT64_MAX);
    buffer_append_char(&b, '|');
    buffer_append_int(&b, INT64_MIN);
    buffer_append_char(&b, '|');
    buffer_append_int(&b, 17);
    assert_view(buffer_view(&b), view("a\0b|0|18446744073709551615|-9223372036854775808|17", 50));
}

void grows_and_keeps_what_it_holds(void **) {
    std::string wanted;
    for (unsigned i = 0; i < 5000; i++) {
        buffer_append_uint(&b, i);
        wanted += std::to_string(i);
        assert_true(b.capacity >= b.size);
    }
    assert_view(buffer_view(&b), wanted);
    assert_true(b.capacity < 2 * wanted.size() + 64);
}

void a_reservation_is_enough(void **) {
    buffer_append(&b, "xy");
    buffer_reserve(&b, 1000);
    char *data = b.data;
    buffer_append(&b, std::string(1000, 'z'));
    assert_ptr_equal(b.data, data);
    assert_int_equal(b.size, 1002);
}

void printf_of_every_length_around_the_capacity(void **) {
    // From an empty buffer, so that each length meets a capacity that is just too small, just right, and roomy.
    for (int size = 0; size < 200; size++) {
        buffer_printf(&b, "<%*s>", size, "");
        assert_int_equal(b.size, size + 2);
        assert_int_equal(b.data[0], '<');
        assert_int_equal(b.data[b.size - 1], '>');
        size_t capacity = b.capacity;
        buffer_printf(&b, "%.*s", static_cast<int>(capacity - b.size), std::string(capacity, 'x').c_str());
        assert_int_equal(b.size, capacity); // one less fits before vsnprintf's NUL: the last 'x' must not be lost
        assert_int_equal(b.data[capacity - 1], capacity > static_cast<size_t>(size) + 2 ? 'x' : '>');
        buffer_free(&b);
    }
}

void consumes_from_the_front(void **) {
    buffer_append(&b, "GET / HTTP/1.1");
    buffer_consume(&b, 4);
    assert_view(buffer_view(&b), "/ HTTP/1.1");
    buffer_consume(&b, 10);
    assert_view(buffer_view(&b), "");
}

void clearing_keeps_the_memory(void **) {
    buffer_append(&b, "something");
    size_t capacity = b.capacity;
    buffer_clear(&b);
    assert_int_equal(b.size, 0);
    assert_int_equal(b.capacity, capacity);
    assert_non_null(b.data);
}

void impossible_sizes_are_fatal(void **) {
    assert_true(expect_fatal(
        [] {
            buffer small = {};
            buffer_append(&small, "ab");
            buffer_consume(&small, 3);
        },
        "buffer_consume: 3 of 2 bytes"));
    assert_true(expect_fatal(
        [] {
            buffer small = {};
            buffer_append(&small, "ab");
            buffer_reserve(&small, SIZE_MAX);
        },
        "a buffer of 2 and 18446744073709551615 more bytes"));
}

void compares_secrets(void **) {
    assert_true(bytes_equal_constant_time("", ""));
    assert_true(bytes_equal_constant_time("token", "token"));
    assert_false(bytes_equal_constant_time("token", "tokem"));
    assert_false(bytes_equal_constant_time("token", "Token"));
    assert_false(bytes_equal_constant_time("token", "toke"));
    assert_false(bytes_equal_constant_time("toke", "token"));
    assert_false(bytes_equal_constant_time(view("a\0b", 3), view("a\0c", 3)));
    // Two differences that would cancel out in a sum or an exclusive or.
    assert_false(bytes_equal_constant_time("ab", "ba"));
    assert_false(bytes_equal_constant_time("\x01\x01", "\x02\x02"));
}

void compares_without_case_in_ascii_alone(void **) {
    assert_true(bytes_equal_nocase("Sec-WebSocket-Key", "sec-websocket-KEY"));
    assert_true(bytes_equal_nocase("", ""));
    assert_false(bytes_equal_nocase("host", "hos"));
    assert_false(bytes_equal_nocase("host", "hose"));
    // Neighbours of the letters that differ by the case bit only.
    assert_false(bytes_equal_nocase("@", "`"));
    assert_false(bytes_equal_nocase("[", "{"));
    assert_false(bytes_equal_nocase("\xc4", "\xe4"));
}

void trims_spaces_and_tabs(void **) {
    assert_view(bytes_trim(" \t a b \t"), "a b");
    assert_view(bytes_trim("a"), "a");
    assert_view(bytes_trim(" \t "), "");
    assert_view(bytes_trim(""), "");
    assert_view(bytes_trim("\na\r"), "\na\r"); // line ends are not white space of a field
}

void parses_decimal_numbers(void **) {
    uint64_t n = 7;
    assert_true(bytes_parse_uint("0", &n));
    assert_int_equal(n, 0);
    assert_true(bytes_parse_uint("18446744073709551615", &n));
    assert_true(n == UINT64_MAX);
    assert_true(bytes_parse_uint("00000000000000000042", &n));
    assert_int_equal(n, 42);
    n = 7;
    const char *wrong[] = {"",
                           "18446744073709551616",
                           "99999999999999999999",
                           "000000000000000000001",
                           "-1",
                           "+1",
                           " 1",
                           "1 ",
                           "1a",
                           "0x10",
                           "1.",
                           "\xb2"};
    for (const char *text : wrong) {
        assert_false(bytes_parse_uint(text, &n));
        assert_int_equal(n, 7);
    }
    assert_false(bytes_parse_uint(view("1\0", 2), &n));
}

struct base64_case {
    const char *plain, *coded, *url;
};

constexpr base64_case base64_cases[] = {
    {"", "", ""},
    {"f", "Zg==", "Zg"},
    {"fo", "Zm8=", "Zm8"},
    {"foo", "Zm9v", "Zm9v"},
    {"foob", "Zm9vYg==", "Zm9vYg"},
    {"fooba", "Zm9vYmE=", "Zm9vYmE"},
    {"foobar", "Zm9vYmFy", "Zm9vYmFy"},
    {"\xfb\xef\xbe\xff\xff\xff", "++++////", "----____"},
};

void base64_as_the_rfc_has_it(void **) {
    for (const base64_case &c : base64_cases) {
        // Exactly the room the header promises to be enough, so that a sanitizer sees a byte too many.
        size_t room = 4 * ((strlen(c.plain) + 2) / 3);
        char *out = static_cast<char *>(malloc(room ? room : 1));
        assert_view(view(out, base64_encode(c.plain, out)), c.coded);
        assert_view(view(out, base64url_encode(c.plain, out)), c.url);
        free(out);
        out = static_cast<char *>(malloc(room ? room / 4 * 3 : 1));
        size_t size = 99;
        assert_true(base64_decode(c.coded, out, &size));
        assert_view(view(out, size), c.plain);
        free(out);
        size_t url_room = strlen(c.url) * 3 / 4;
        out = static_cast<char *>(malloc(url_room ? url_room : 1));
        size = 99;
        assert_true(base64url_decode(c.url, out, &size));
        assert_view(view(out, size), c.plain);
        free(out);
    }
}

void base64_of_all_bytes_and_lengths_comes_back(void **) {
    unsigned char plain[256];
    for (unsigned i = 0; i < sizeof plain; i++)
        plain[i] = static_cast<unsigned char>(i * 167 + 13);
    for (size_t n = 0; n <= sizeof plain; n++) {
        view in(reinterpret_cast<char *>(plain), n);
        char coded[4 * ((sizeof plain + 2) / 3)], back[sizeof coded];
        size_t size = 0;
        assert_true(base64_decode(view(coded, base64_encode(in, coded)), back, &size));
        assert_view(view(back, size), in);
        size = 0;
        assert_true(base64url_decode(view(coded, base64url_encode(in, coded)), back, &size));
        assert_view(view(back, size), in);
    }
}

void base64_is_strict(void **) {
    const char *wrong[] = {"Z",    "Zg",       "Zg=",      "Zm9",    "Zg===",   "====",   "=",
                           "Z===", "Zh==",     "Zm9=",     "Zg==\n", "Zg ==",   "Zm9v\n", "Zm 9",
                           "Z=g=", "Zg==Zg==", "Zm8=Zm9v", "-_-_",   "Zm9\xff", " Zm9",   "Zm9vZg=a",
                           "=Zm9", "Zm9v====", "AB==",     "AAB=",   "A.B=",    "Zm\t9",  "Zg=\n"};
    char out[64];
    size_t size = 0;
    for (const char *text : wrong) {
        if (base64_decode(text, out, &size)) fail_msg("%s was taken for base64", text);
    }
    assert_false(base64_decode(view("Zm9\0", 4), out, &size));
}

void base64url_is_strict(void **) {
    // A lone character, padding, the other alphabet, white space, unused bits that are not zero, no characters at all.
    const char *wrong[] = {"A",      "AAAAA", "Z",    "Zm9vZ", "Zg==", "Zm8=", "=",  "Zm9v=",   "++++",    "////",
                           "Zm9v\n", " Zm9",  "Zm 9", "Zh",    "Zm9",  "AB",   "A.", "Zm9\xff", "Zm9v===="};
    char out[64];
    size_t size = 99;
    for (const char *text : wrong) {
        if (base64url_decode(text, out, &size)) fail_msg("%s was taken for base64url", text);
    }
    assert_false(base64url_decode(view("Zm9\0", 4), out, &size));
    assert_false(base64url_decode(view("Zg\0\0", 4), out, &size));
    assert_int_equal(size, 99); // untouched
}

void base64url_by_its_characters_alone(void **) {
    const char *alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    assert_true(bytes_are_base64url(""));
    assert_true(bytes_are_base64url(alphabet));
    assert_true(bytes_are_base64url("A")); // no length or unused bits are looked at
    for (int c = 0; c < 256; c++) {
        bool fine = c != 0 && strchr(alphabet, c);
        for (size_t at = 0; at < 3; at++) {
            char text[] = {'a', 'a', 'a'};
            text[at] = static_cast<char>(c);
            if (bytes_are_base64url(view(text, sizeof text)) != fine) fail_msg("byte %d at %zu", c, at);
        }
    }
}

} // namespace
} // namespace belfry

int main() {
    using namespace belfry;
    const CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_new_buffer_is_an_empty_view, start_empty, give_back),
        cmocka_unit_test_setup_teardown(appends_bytes_of_all_kinds, start_empty, give_back),
        cmocka_unit_test_setup_teardown(grows_and_keeps_what_it_holds, start_empty, give_back),
        cmocka_unit_test_setup_teardown(a_reservation_is_enough, start_empty, give_back),
        cmocka_unit_test_setup_teardown(printf_of_every_length_around_the_capacity, start_empty, give_back),
        cmocka_unit_test_setup_teardown(consumes_from_the_front, start_empty, give_back),
        cmocka_unit_test_setup_teardown(clearing_keeps_the_memory, start_empty, give_back),
        cmocka_unit_test(impossible_sizes_are_fatal),
        cmocka_unit_test(compares_secrets),
        cmocka_unit_test(compares_without_case_in_ascii_alone),
        cmocka_unit_test(trims_spaces_and_tabs),
        cmocka_unit_test(parses_decimal_numbers),
        cmocka_unit_test(base64_as_the_rfc_has_it),
        cmocka_unit_test(base64_of_all_bytes_and_lengths_comes_back),
        cmocka_unit_test(base64_is_strict),
        cmocka_unit_test(base64url_is_strict),
        cmocka_unit_test(base64url_by_its_characters_alone),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
