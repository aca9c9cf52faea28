// Tests of proto/proxy_header: every case runs with each prefix of its bytes, and bytes of the next protocol behind.
//
// One thread.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
extern "C" {
#include <cmocka.h>
}

#include "proto/proxy_header.h"

#include <string.h>
#include <string>

using namespace belfry;
using std::string;

namespace {

const string signature("\r\n\r\n\0\r\nQUIT\n", 12);
const string ipv4_block("\xc0\x00\x02\x01\xc6\x33\x64\x07\xc8\x22\x01\xbb", 12); // 192.0.2.1:51234 to 198.51.100.7:443
const string
    ipv6_block("\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x02\x00\x50\x01\xbb",
               36); // 2001:db8::1 port 80

proxy_header header;
const char *why;

// The result for the whole; the result for each prefix must fit to it: a header is complete with its last byte, and
// what once failed stays failed. The heap copies end where the bytes end, so that AddressSanitizer sees a read behind.
proxy_header_result parse(const string &bytes) {
    why = "";
    const proxy_header_result whole = proxy_header_parse(bytes, &header, &why);
    const size_t size = whole == proxy_header_result::complete ? header.size : bytes.size();
    bool failed = false;
    for (size_t n = 0; n < size; n++) {
        char *piece = new char[n + 1] + 1;
        memcpy(piece, bytes.data(), n);
        proxy_header unused;
        const char *unused_why;
        const proxy_header_result result = proxy_header_parse(view(piece, n), &unused, &unused_why);
        delete[](piece - 1);
        if (result == proxy_header_result::complete) fail_msg("complete after %zu of %zu bytes", n, size);
        if (failed && result != proxy_header_result::failed) fail_msg("mended by byte %zu", n);
        failed = result == proxy_header_result::failed;
    }
    if (failed && whole != proxy_header_result::failed) fail_msg("a prefix failed, the whole did not");
    return whole;
}

void expect_client(const string &bytes, uint8_t family, const char *source, uint16_t port) {
    for (const char *next : {"", "GET / HTTP/1.1\r\n", "\r\n", "\x16\x03\x01"}) {
        if (parse(bytes + next) != proxy_header_result::complete) fail_msg("%s: %s", bytes.c_str(), why);
        assert_int_equal(header.size, bytes.size());
        assert_false(header.local);
        assert_int_equal(header.family, family);
        assert_string_equal(ip_format(&header.source).text, source);
        assert_int_equal(header.port, port);
    }
}

void expect_local(const string &bytes) {
    memset(&header, 0x5a, sizeof header);
    if (parse(bytes + "GET /") != proxy_header_result::complete) fail_msg("%s: %s", bytes.c_str(), why);
    assert_int_equal(header.size, bytes.size());
    assert_true(header.local);
    assert_int_equal(header.family, 0);
    assert_true(ip_is_none(&header.source));
    assert_int_equal(header.port, 0);
}

void expect_failed(const string &bytes, const char *reason) {
    if (parse(bytes) != proxy_header_result::failed) fail_msg("not refused: %s", bytes.c_str());
    if (strstr(why, reason) == nullptr) fail_msg("%s: unexpected reason: %s", bytes.c_str(), why);
}

void expect_incomplete(const string &bytes) {
    if (parse(bytes) != proxy_header_result::incomplete) fail_msg("not incomplete: %s (%s)", bytes.c_str(), why);
}

// A version 2 header: the two bytes behind the signature, then the length of `block`, then the block.
string v2(int command, int family, const string &block) {
    string out = signature;
    out += static_cast<char>(command);
    out += static_cast<char>(family);
    out += static_cast<char>(block.size() >> 8);
    out += static_cast<char>(block.size());
    return out + block;
}

string tlv(int type, const string &value) {
    string out(1, static_cast<char>(type));
    out += static_cast<char>(value.size() >> 8);
    out += static_cast<char>(value.size());
    return out + value;
}

void v1_names_the_client(void **) {
    expect_client("PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n", 4, "192.168.0.1", 56324);
    expect_client("PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n", 4, "255.255.255.255", 65535);
    expect_client("PROXY TCP4 192.0.2.1 0.0.0.0 0 0\r\n", 4, "192.0.2.1", 0);
    expect_client("PROXY TCP6 2001:DB8::1 2001:db8::2 80 443\r\n", 6, "2001:db8::1", 80);
    expect_client("PROXY TCP6 2001:db8::1 :: 80 443\r\n", 6, "2001:db8::1", 80);
    expect_client("PROXY TCP6 ::ffff:192.0.2.1 ::1 80 443\r\n", 6, "192.0.2.1", 80);
    expect_client(
        "PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n", 6,
        "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", 65535);
}

void v1_unknown_is_local(void **) {
    expect_local("PROXY UNKNOWN\r\n");
    expect_local("PROXY UNKNOWN \r\n");
    expect_local("PROXY UNKNOWN anything  at all\r\n");
    expect_local("PROXY UNKNOWN TCP4 192.0.2.1 192.0.2.2 1 2\r\n");
    expect_local("PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 "
                 "65535\r\n");
    expect_local("PROXY UNKNOWN " + string(107 - 16, 'x') + "\r\n");
}

void v1_is_read_strictly(void **) {
    for (const char *bad : {"TCP4 1.2.3.4 5.6.7.8 1\r\n",
                            "TCP4 1.2.3.4 5.6.7.8 1 2 \r\n",
                            "TCP4 1.2.3.4 5.6.7.8 1 2 3\r\n",
                            "TCP4 1.2.3.4  5.6.7.8 1 2\r\n",
                            "TCP4  1.2.3.4 5.6.7.8 1 2\r\n",
                            "TCP4 1.2.3.4 5.6.7.8  2\r\n",
                            "TCP4 1.2.3.4 5.6.7.8 1  2\r\n",
                            "TCP4 1.2.3.4 5.6.7.8 01 2\r\n",
                            "TCP4 1.2.3.4 5.6.7.8 1 00\r\n",
                            "TCP4 1.2.3.4 5.6.7.8 65536 2\r\n",
                            "TCP4 1.2.3.4 5.6.7.8 1 65536\r\n",
                            "TCP4 1.2.3.4 5.6.7.8 +1 2\r\n",
                            "TCP4 1.2.3.4 5.6.7.8 1 2x\r\n",
                            "TCP4 1.2.3.04 5.6.7.8 1 2\r\n",
                            "TCP4 1.2.3.4 5.6.7.256 1 2\r\n",
                            "TCP4 1.2.3 5.6.7.8 1 2\r\n",
                            "TCP4 ::1 ::2 1 2\r\n",
                            "TCP4 1.2.3.4 ::1 1 2\r\n",
                            "TCP4 1.2.3.4 :: 1 2\r\n",
                            "TCP6 1.2.3.4 5.6.7.8 1 2\r\n",
                            "TCP6 ::1 5.6.7.8 1 2\r\n",
                            "TCP6 [::1] ::2 1 2\r\n",
                            "TCP6 :: ::2 1 2\r\n",
                            "TCP6 fe80::1%eth0 ::2 1 2\r\n",
                            "TCP4\r\n",
                            "TCP4 \r\n"}) {
        expect_failed(string("PROXY ") + bad, "two addresses");
    }
    for (const char *bad :
         {"\r\n", " TCP4 1.2.3.4 5.6.7.8 1 2\r\n", "TCP5 1.2.3.4 5.6.7.8 1 2\r\n", "tcp4 1.2.3.4 5.6.7.8 1 2\r\n",
          "UDP4 1.2.3.4 5.6.7.8 1 2\r\n", "UNKNOWNX\r\n", "UNKNOW\r\n", "unknown\r\n"}) {
        expect_failed(string("PROXY ") + bad, "not TCP4, TCP6 or UNKNOWN");
    }
}

void v1_lines_end_in_crlf_in_time(void **) {
    expect_failed("PROXY TCP4 1.2.3.4 5.6.7.8 1 2\n", "a byte in the line");
    expect_failed("PROXY TCP4 1.2.3.4 5.6.7.8 1 2\rGET", "a byte in the line");
    expect_failed("PROXY UNKNOWN\nGET / HTTP/1.1\r\n", "a byte in the line");
    expect_failed("PROXY UNKNOWN\r\r\n", "a byte in the line");
    expect_failed("PROXY UNKNOWN\t\r\n", "a byte in the line");
    expect_failed(string("PROXY UNKNOWN \0\r\n", 17), "a byte in the line");
    expect_failed("PROXY UNKNOWN \xff\r\n", "a byte in the line");
    expect_failed("PROXY UNKNOWN " + string(107 - 15, 'x') + "\r\n", "too long"); // 108 bytes
    expect_failed("PROXY UNKNOWN " + string(500, 'x'), "too long");
    expect_incomplete("PROXY UNKNOWN " + string(106 - 14, 'x'));
    expect_failed("PROXY UNKNOWN " + string(107 - 14, 'x'), "too long");
    expect_incomplete("PROXY UNKNOWN\r");
    expect_incomplete("P");
    expect_incomplete("");
}

void other_protocols_fail_with_the_first_byte_that_shows_it(void **) {
    for (const char *bad : {"G", "GET / HTTP/1.1\r\n", "\x16\x03\x01", "PO", "PROXY\t", "PROXY\r\n", "proxy ", "\n",
                            "\r\nG", "\r\n\r\nx", "PROXYTCP4"}) {
        expect_failed(bad, "does not begin with");
    }
    string almost = signature;
    almost[11] = '\r';
    expect_failed(almost, "does not begin with");
    expect_incomplete(signature);
}

void v2_names_the_client(void **) {
    expect_client(v2(0x21, 0x11, ipv4_block), 4, "192.0.2.1", 51234);
    expect_client(v2(0x21, 0x21, ipv6_block), 6, "2001:db8::1", 80);
    string mapped = ipv6_block;
    mapped.replace(0, 16, string("\0\0\0\0\0\0\0\0\0\0\xff\xff\xc0\x00\x02\x01", 16));
    expect_client(v2(0x21, 0x21, mapped), 6, "192.0.2.1", 80);
    mapped.replace(0, 16, string(16, '\0'));
    expect_failed(v2(0x21, 0x21, mapped), "nobody's");
}

void v2_without_a_client_is_local(void **) {
    expect_local(v2(0x20, 0x00, ""));
    expect_local(v2(0x20, 0x11, ipv4_block));
    expect_local(v2(0x20, 0x11, ""));        // LOCAL ignores family and block,
    expect_local(v2(0x20, 0xff, "garbage")); // whatever they are
    expect_local(v2(0x21, 0x00, ""));
    expect_local(v2(0x21, 0x00, "garbage"));
    expect_local(v2(0x21, 0x10, ipv4_block)); // transport unspecified
    expect_local(v2(0x21, 0x01, ipv4_block)); // family unspecified
    expect_local(v2(0x21, 0x12, ipv4_block)); // datagrams
    expect_local(v2(0x21, 0x22, ipv6_block));
    expect_local(v2(0x21, 0x31, string(216, 'u')));
    expect_local(v2(0x21, 0x32, string(216, '\0') + tlv(4, "x")));
}

void v2_unknown_values_are_refused_at_their_byte(void **) {
    for (int command : {0x11, 0x31, 0x01, 0x22, 0x2f, 0xf1}) {
        expect_failed(v2(command, 0x11, ipv4_block).substr(0, 13), "version or command");
        expect_failed(v2(command, 0x11, ipv4_block), "version or command");
    }
    for (int family : {0x41, 0xf1, 0x13, 0x1f, 0x03, 0x40}) {
        expect_failed(v2(0x21, family, ipv4_block).substr(0, 14), "family or transport");
        expect_failed(v2(0x21, family, ipv4_block), "family or transport");
    }
}

void v2_lengths_are_bounded(void **) {
    expect_failed(v2(0x21, 0x11, ipv4_block.substr(0, 11)), "addresses end behind");
    expect_failed(v2(0x21, 0x11, ""), "addresses end behind");
    expect_failed(v2(0x21, 0x21, ipv6_block.substr(0, 35)), "addresses end behind");
    expect_failed(v2(0x21, 0x21, ipv4_block), "addresses end behind");
    expect_failed(v2(0x21, 0x31, string(215, 'u')), "addresses end behind");
    // The longest, and one byte more: refused before the block is there.
    expect_client(v2(0x21, 0x11, ipv4_block + tlv(4, string(536 - 15, 'x'))), 4, "192.0.2.1", 51234);
    expect_local(v2(0x20, 0x00, string(536, 'x')));
    expect_failed(v2(0x21, 0x11, ipv4_block + tlv(4, string(537 - 15, 'x'))).substr(0, 16), "too long");
    expect_failed(v2(0x20, 0x00, string(537, 'x')).substr(0, 16), "too long");
    expect_incomplete(v2(0x21, 0x11, ipv4_block).substr(0, 27));
    assert_int_equal(proxy_header_max, 552);
}

void v2_tlvs_end_with_the_header(void **) {
    expect_client(v2(0x21, 0x11, ipv4_block + tlv(2, "example.org") + tlv(0x20, "\x01") + tlv(0xe0, "")), 4,
                  "192.0.2.1", 51234);
    expect_failed(v2(0x21, 0x11, ipv4_block + "\x04"), "TLV");
    expect_failed(v2(0x21, 0x11, ipv4_block + string("\x04\0", 2)), "TLV");
    expect_failed(v2(0x21, 0x11, ipv4_block + string("\x04\0\x01", 3)), "TLV");
    expect_failed(v2(0x21, 0x11, ipv4_block + string("\x04\xff\xff", 3)), "TLV");
    expect_failed(v2(0x21, 0x11, ipv4_block + tlv(4, "pad") + string("\x04\0\x04pad", 6)), "TLV");
    // What follows the header is no part of its last TLV.
    expect_failed(v2(0x21, 0x11, ipv4_block + string("\x04\0\x04pad", 6)) + "more", "TLV");
}

// The sum was made by another implementation, one that gives e3069283 for "123456789".
void v2_checksum_is_verified(void **) {
    const string sum("\xda\x37\x05\xef", 4);
    const string sound = v2(0x21, 0x11, ipv4_block + tlv(4, "pad!") + tlv(3, sum));
    expect_client(sound, 4, "192.0.2.1", 51234);
    for (size_t i = 16; i < sound.size(); i++) {
        string altered = sound;
        altered[i] ^= 0x40;
        const bool a_tlv_head = (i >= 28 && i < 31) || (i >= 35 && i < 38); // may hide the sum, or end elsewhere
        if (!a_tlv_head) expect_failed(altered, "checksum");
    }
    expect_failed(v2(0x21, 0x11, ipv4_block + tlv(3, "\xda\x37\x05")), "checksum");
    expect_failed(v2(0x21, 0x11, ipv4_block + tlv(3, "")), "checksum");
    expect_failed(v2(0x21, 0x11, ipv4_block + tlv(3, string(4, '\0'))), "checksum");
    expect_failed(v2(0x21, 0x31, string(216, 'u') + tlv(3, sum)), "checksum");
}

} // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(v1_names_the_client),
        cmocka_unit_test(v1_unknown_is_local),
        cmocka_unit_test(v1_is_read_strictly),
        cmocka_unit_test(v1_lines_end_in_crlf_in_time),
        cmocka_unit_test(other_protocols_fail_with_the_first_byte_that_shows_it),
        cmocka_unit_test(v2_names_the_client),
        cmocka_unit_test(v2_without_a_client_is_local),
        cmocka_unit_test(v2_unknown_values_are_refused_at_their_byte),
        cmocka_unit_test(v2_lengths_are_bounded),
        cmocka_unit_test(v2_tlvs_end_with_the_header),
        cmocka_unit_test(v2_checksum_is_verified),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
