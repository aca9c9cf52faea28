// Tests of proto/forwarded: whom X-Forwarded-For may name, and whom not.
//
// One thread.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
extern "C" {
#include <cmocka.h>
}

#include "proto/forwarded.h"

#include <string>
#include <vector>

using namespace belfry;
using std::string;

namespace {

http1_request request;

// 10.0.0.0/8, 2001:db8:1::/48 and unix sockets are trusted in all cases.
std::vector<ip_range> trusted;

int setup(void **) {
    for (const char *text : {"10.0.0.0/8", "2001:db8:1::/48", "unix"}) {
        ip_range range;
        error e;
        if (!ip_range_parse(text, &range, &e)) return -1;
        trusted.push_back(range);
    }
    return 0;
}

int teardown(void **) {
    trusted = {};
    return 0;
}

ip address(const char *text) {
    ip out = {};
    if (view(text) != "unix" && !ip_parse(text, &out)) fail_msg("%s is no address", text);
    return out;
}

void add(view name, view value) {
    request.fields[request.field_count++] = {name, value};
}

forwarded ask(const char *peer) {
    const ip a = address(peer);
    return forwarded_client(&request, &a, trusted.data(), trusted.size());
}

// The client, for one X-Forwarded-For line.
void expect(const char *peer, view line, const char *client) {
    request = {};
    add("Host", "example.org");
    add("X-Forwarded-For", line);
    const forwarded got = ask(peer);
    if (view(ip_format(&got.client)) != client) {
        fail_msg("%s, %s: %s instead of %s", peer, string(line).c_str(), ip_format(&got.client).text, client);
    }
    assert_false(got.https_known);
}

void an_untrusted_peer_is_the_client(void **) {
    request = {};
    add("X-Forwarded-For", "198.51.100.1");
    add("X-Forwarded-Proto", "https");
    const forwarded got = ask("192.0.2.1");
    assert_string_equal(ip_format(&got.client).text, "192.0.2.1");
    assert_false(got.trusted);
    assert_false(got.https_known);
    assert_false(got.https);

    const ip peer = address("10.0.0.1"); // no ranges at all: nobody is trusted
    const forwarded none = forwarded_client(&request, &peer, nullptr, 0);
    assert_string_equal(ip_format(&none.client).text, "10.0.0.1");
    assert_false(none.trusted);
}

void without_the_field_the_peer_is_the_client(void **) {
    request = {};
    add("X-Forwarded-Fo", "198.51.100.1");
    add("Forwarded", "for=198.51.100.1;proto=https");
    const forwarded got = ask("10.0.0.1");
    assert_string_equal(ip_format(&got.client).text, "10.0.0.1");
    assert_true(got.trusted);
    assert_false(got.https_known);
}

void the_first_untrusted_from_the_right_is_the_client(void **) {
    expect("10.0.0.1", "198.51.100.1", "198.51.100.1");
    expect("10.0.0.1", "6.6.6.6, 198.51.100.1", "198.51.100.1");
    expect("10.0.0.1", "6.6.6.6, 198.51.100.1, 10.2.2.2", "198.51.100.1");
    expect("10.0.0.1", "6.6.6.6,198.51.100.1,10.2.2.2,10.3.3.3", "198.51.100.1");
    expect("10.0.0.1", "10.6.6.6, 198.51.100.1, 10.2.2.2", "198.51.100.1");
    expect("10.0.0.1", "\t198.51.100.1 \t,\t10.2.2.2 ", "198.51.100.1");
    expect("10.0.0.1", "6.6.6.6, 2001:db8::1, 2001:db8:1::5", "2001:db8::1");
    expect("2001:db8:1::1", "6.6.6.6, 198.51.100.1", "198.51.100.1");
    expect("unix", "6.6.6.6, 198.51.100.1", "198.51.100.1");
    expect("10.0.0.1", "6.6.6.6, ::ffff:198.51.100.1, ::ffff:10.0.0.2", "198.51.100.1");
}

void where_all_are_trusted_the_leftmost_is_the_client(void **) {
    expect("10.0.0.1", "10.1.1.1, 10.2.2.2", "10.1.1.1");
    expect("10.0.0.1", "", "10.0.0.1");
    expect("unix", "", "unix:");
}

void an_element_may_have_a_port(void **) {
    expect("10.0.0.1", "6.6.6.6, 198.51.100.1:5678", "198.51.100.1");
    expect("10.0.0.1", "6.6.6.6, [2001:db8::1]:80, 10.0.0.2:65535", "2001:db8::1");
    expect("10.0.0.1", "6.6.6.6, [2001:db8::1]", "2001:db8::1");
    expect("10.0.0.1", "6.6.6.6, 2001:db8::1:80", "2001:db8::1:80"); // an address, to the end
}

void garbage_ends_the_walk_at_the_last_good_address(void **) {
    for (const char *garbage : {"unknown",
                                "_hidden",
                                "198.51.100.1:",
                                "198.51.100.1:65536",
                                "198.51.100.1:x",
                                "198.51.100.1:-1",
                                "198.51.100.1:000080",
                                "[198.51.100.1]:80",
                                "[2001:db8::1]80",
                                "[2001:db8::1]:80:90",
                                "1:2:3:4:5:6:7:8:9",
                                "[::1",
                                "::",
                                "[::]:80",
                                "unix",
                                "unix:",
                                "\"198.51.100.1\"",
                                "198.51.100.1 10.0.0.9",
                                "example.org",
                                ":80",
                                "for=198.51.100.1",
                                "fe80::1%eth0",
                                "198.51.100.1;10.0.0.9"}) {
        expect("10.0.0.1", string("6.6.6.6, ") + garbage + ", 10.2.2.2", "10.2.2.2");
        expect("10.0.0.1", string("6.6.6.6, ") + garbage, "10.0.0.1");
        expect("unix", garbage, "unix:");
    }
}

void empty_elements_are_passed_over(void **) {
    expect("10.0.0.1", "6.6.6.6, 198.51.100.1,, 10.2.2.2 , ,", "198.51.100.1");
    expect("10.0.0.1", ",", "10.0.0.1");
}

void lines_are_one_list(void **) {
    request = {};
    add("X-Forwarded-For", "6.6.6.6, 7.7.7.7");
    add("Host", "example.org");
    add("x-forwarded-FOR", "198.51.100.1, 10.2.2.2");
    add("X-Forwarded-For", "10.3.3.3");
    add("X-Forwarded-For", "");
    forwarded got = ask("10.0.0.1");
    assert_string_equal(ip_format(&got.client).text, "198.51.100.1");
    request.fields[2].value = "10.2.2.2";
    got = ask("10.0.0.1");
    assert_string_equal(ip_format(&got.client).text, "7.7.7.7");
}

void elements_are_bounded(void **) {
    string line = "198.51.100.1";
    for (size_t i = 1; i < forwarded_elements_max; i++)
        line += ", 10.2.2.2";
    expect("10.0.0.1", line, "198.51.100.1"); // the 64th from the right
    expect("10.0.0.1", line + ", 10.3.3.3", "10.2.2.2");
    expect("10.0.0.1", line + ",", "10.2.2.2"); // empty ones count
}

void the_scheme_is_what_the_trusted_peer_wrote(void **) {
    const struct {
        const char *value;
        bool known, https;
    } rows[] = {
        {"https", true, true},        {"HTTPS", true, true},      {"wss", true, true},        {"http", true, false},
        {"Ws", true, false},          {"", false, false},         {"ftp", false, false},      {"https;", false, false},
        {"https, http", true, false}, {"http,https", true, true}, {"https, x", false, false}, {"https,", false, false},
    };
    for (const auto &row : rows) {
        request = {};
        add("x-forwarded-PROTO", row.value);
        forwarded got = ask("10.0.0.1");
        if (got.https_known != row.known || got.https != row.https) fail_msg("%s", row.value);
        got = ask("unix");
        assert_int_equal(got.https, row.https);
        got = ask("192.0.2.1");
        assert_false(got.https_known || got.https);
    }
    request = {};
    add("X-Forwarded-Proto", "https");
    add("X-Forwarded-Proto", "http");
    const forwarded got = ask("10.0.0.1");
    assert_true(got.https_known && !got.https);
}

} // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(an_untrusted_peer_is_the_client),
        cmocka_unit_test(without_the_field_the_peer_is_the_client),
        cmocka_unit_test(the_first_untrusted_from_the_right_is_the_client),
        cmocka_unit_test(where_all_are_trusted_the_leftmost_is_the_client),
        cmocka_unit_test(an_element_may_have_a_port),
        cmocka_unit_test(garbage_ends_the_walk_at_the_last_good_address),
        cmocka_unit_test(empty_elements_are_passed_over),
        cmocka_unit_test(lines_are_one_list),
        cmocka_unit_test(elements_are_bounded),
        cmocka_unit_test(the_scheme_is_what_the_trusted_peer_wrote),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
