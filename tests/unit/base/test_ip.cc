// Tests of base/ip: text both ways, one value for both families, keys, ranges.
//
// One thread.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
extern "C" {
#include <cmocka.h>
}

#include "base/ip.h"

#include <string.h>
#include <string>

using namespace belfry;

namespace {

ip parse(view text) {
    ip out;
    if (!ip_parse(text, &out)) fail_msg("%s was refused", std::string(text).c_str());
    return out;
}

ip_range range(const char *text) {
    ip_range out;
    error e;
    if (!ip_range_parse(text, &out, &e)) fail_msg("%s", e.text);
    return out;
}

bool holds(const char *range_text, const char *address) {
    const ip_range r = range(range_text);
    const ip a = strcmp(address, "unix") == 0 ? ip{} : parse(address);
    return ip_in_ranges(&a, &r, 1);
}

void text_reads_and_prints(void **) {
    const struct {
        const char *text, *printed;
    } rows[] = {
        {"192.0.2.1", "192.0.2.1"},
        {"0.0.0.0", "0.0.0.0"},
        {"255.255.255.255", "255.255.255.255"},
        {"::1", "::1"},
        {"[::1]", "::1"},
        {"2001:DB8:0:0:0:0:0:1", "2001:db8::1"},
        {"[2001:db8::]", "2001:db8::"},
        {"ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe"},
        {"::ffff:192.0.2.1", "192.0.2.1"},
        {"[::FFFF:c000:0201]", "192.0.2.1"},
        {"0000:0000:0000:0000:0000:ffff:255.255.255.255", "255.255.255.255"},
        {"::192.0.2.1", "::192.0.2.1"}, // IPv4-compatible: IPv6, for all its looks
    };
    for (const auto &row : rows) {
        const ip a = parse(row.text);
        assert_string_equal(ip_format(&a).text, row.printed);
        const ip again = parse(ip_format(&a));
        assert_true(ip_equal(&a, &again));
    }
    const ip none = {};
    assert_string_equal(ip_format(&none).text, "unix:");
}

void what_is_no_address_is_refused(void **) {
    for (const char *bad : {"",
                            " ",
                            "1.2.3",
                            "1.2.3.4.5",
                            "1.2.3.256",
                            "1.2.3.04",
                            "01.2.3.4",
                            "0x7f.0.0.1",
                            "2130706433",
                            "1.2.3.4 ",
                            " 1.2.3.4",
                            "1.2.3.4:80",
                            "[1.2.3.4]",
                            "[::1]:80",
                            "[::1",
                            "::1]",
                            "[]",
                            "[",
                            "[[::1]]",
                            "::1%lo",
                            "fe80::1%1",
                            "1::2::3",
                            "1:2:3:4:5:6:7:8:9",
                            "12345::",
                            "localhost",
                            "unknown",
                            "unix:",
                            "::", // nobody's, and would mean none
                            "0:0:0:0:0:0:0:0",
                            "[::]",
                            "10.0.0.0/8",
                            "00000:0000:0000:0000:0000:0000:ffff:255.255.255.255"}) {
        ip out;
        memset(&out, 0x5a, sizeof out);
        const ip before = out;
        if (ip_parse(bad, &out)) fail_msg("%s was taken", bad);
        assert_true(ip_equal(&out, &before));
    }
    ip out;
    assert_false(ip_parse(view("1.2.3.4\0", 8), &out));
    assert_false(ip_parse(view("1.2.3.4\0.5", 10), &out));
    assert_false(ip_parse(view("::1\0", 4), &out));
    const view long_one("192.0.2.17", 9); // what is behind the view is not the view's
    const ip a = parse(long_one);
    assert_string_equal(ip_format(&a).text, "192.0.2.1");
}

void both_families_are_one_value(void **) {
    const uint8_t four[4] = {192, 0, 2, 1};
    const uint8_t sixteen[16] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 1};
    const ip a = ip_from_ipv4(four), b = ip_from_ipv6(sixteen), c = parse("192.0.2.1"), six = parse("2001:db8::1");
    assert_memory_equal(a.bytes, sixteen, 16);
    assert_true(ip_equal(&a, &b) && ip_equal(&a, &c));
    assert_false(ip_equal(&a, &six));
    assert_true(ip_is_v4(&a));
    assert_false(ip_is_v4(&six));
    const ip none = {};
    assert_true(ip_is_none(&none));
    assert_false(ip_is_v4(&none));
    const ip zero = parse("0.0.0.0");
    assert_false(ip_is_none(&zero));
}

void ranges_hold_what_they_say(void **) {
    const struct {
        const char *range, *in, *out;
    } rows[] = {
        {"10.0.0.0/8", "10.255.255.255", "11.0.0.0"},
        {"10.0.0.0/8", "10.0.0.0", "9.255.255.255"},
        {"192.168.4.0/23", "192.168.5.255", "192.168.6.0"},
        {"192.0.2.1", "192.0.2.1", "192.0.2.0"},
        {"192.0.2.1/32", "192.0.2.1", "192.0.2.2"},
        {"192.0.2.128/25", "192.0.2.128", "192.0.2.127"},
        {"0.0.0.0/0", "255.255.255.255", "::1"},
        {"10.0.0.0/8", "::ffff:10.1.2.3", "a00::"},
        {"::1", "::1", "::2"},
        {"[::1]", "::1", "unix"},
        {"::1/128", "::1", "::3"},
        {"2001:db8::/32", "2001:db8:ffff::1", "2001:db9::"},
        {"2001:db8::/33", "2001:db8:7fff::1", "2001:db8:8000::1"},
        {"fe80::/10", "febf::1", "fec0::1"},
        {"::/0", "ffff::", "1.2.3.4"}, // IPv6 alone
        {"::/0", "::1", "unix"},
        {"::/64", "::1", "1.2.3.4"},
        {"::/127", "::1", "unix"},
        {"0.0.0.0/0", "1.2.3.4", "unix"},
        {"unix", "unix", "::1"},
        {"unix", "unix", "0.0.0.0"},
    };
    for (const auto &row : rows) {
        if (!holds(row.range, row.in)) fail_msg("%s lacks %s", row.range, row.in);
        if (holds(row.range, row.out)) fail_msg("%s has %s", row.range, row.out);
    }
    const ip_range several[] = {range("10.0.0.0/8"), range("unix"), range("2001:db8::/32")};
    const ip none = {}, last = parse("2001:db8::9"), outside = parse("192.0.2.1");
    assert_true(ip_in_ranges(&none, several, 3));
    assert_true(ip_in_ranges(&last, several, 3));
    assert_false(ip_in_ranges(&last, several, 2));
    assert_false(ip_in_ranges(&outside, several, 3));
    assert_false(ip_in_ranges(&none, nullptr, 0));
    assert_int_equal(several[0].bits, 104);
}

void what_is_no_range_is_refused_with_a_reason(void **) {
    const struct {
        const char *text, *reason;
    } rows[] = {
        {"10.0.0.1/8", "the network is 10.0.0.0/8"},
        {"192.168.5.0/23", "the network is 192.168.4.0/23"},
        {"1.2.3.4/0", "the network is 0.0.0.0/0"},
        {"2001:db8::1/32", "the network is 2001:db8::/32"},
        {"2001:db8:8000::/32", "the network is 2001:db8::/32"},
        {"::1/64", "the network is ::/64"},
        {"1::/0", "the network is ::/0"},
        {"10.0.0.0/33", "0 to 32"},
        {"10.0.0.0/", "0 to 32"},
        {"10.0.0.0/-1", "0 to 32"},
        {"10.0.0.0/8 ", "0 to 32"},
        {"10.0.0.0/0008", "0 to 32"},
        {"10.0.0.0/255.0.0.0", "0 to 32"},
        {"10.0.0.0/8/8", "0 to 32"},
        {"::/129", "0 to 128"},
        {"::1/256", "0 to 128"},
        {"::/128", "nobody's"},
        {"::", "nobody's"},
        {"::ffff:10.0.0.0/104", "as 10.0.0.0/8"},
        {"::ffff:10.0.0.1", "as 10.0.0.0/8"},
        {"", "write 10.0.0.0/8"},
        {"/8", "write 10.0.0.0/8"},
        {"10/8", "write 10.0.0.0/8"},
        {"example.com", "write 10.0.0.0/8"},
        {"fe80::%eth0/64", "write 10.0.0.0/8"},
        {"unix:", "write 10.0.0.0/8"},
        {"unix/8", "write 10.0.0.0/8"},
        {"10.0.0.0:80", "write 10.0.0.0/8"},
    };
    for (const auto &row : rows) {
        ip_range out;
        error e;
        if (ip_range_parse(row.text, &out, &e)) fail_msg("%s was taken", row.text);
        if (strstr(e.text, row.reason) == nullptr) fail_msg("%s: unexpected reason: %s", row.text, e.text);
        assert_non_null(strstr(e.text, row.text));
    }
}

} // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(text_reads_and_prints),
        cmocka_unit_test(what_is_no_address_is_refused),
        cmocka_unit_test(both_families_are_one_value),
        cmocka_unit_test(ranges_hold_what_they_say),
        cmocka_unit_test(what_is_no_range_is_refused_with_a_reason),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
