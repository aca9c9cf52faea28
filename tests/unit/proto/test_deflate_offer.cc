// Tests of proto/deflate_offer: what RFC 7692 sections 5 and 7.1 say of offers, each as the fields that a client sends
// and the bytes that it gets.
//
// One thread.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
extern "C" {
#include <cmocka.h>
}

#include "proto/deflate_offer.h"

#include <string>

using namespace belfry;
using std::string;

namespace {

string held; // what `request` points into
http1_request request;
buffer out;

int clear(void **) {
    buffer_free(&out);
    return 0;
}

const string name = "Sec-WebSocket-Extensions: ";
const string agreed = name + "permessage-deflate; server_no_context_takeover; client_no_context_takeover";

string answer_to_fields(const string &fields) {
    held = "GET / HTTP/1.1\r\nHost: a\r\n" + fields + "\r\n";
    http1_scan scan = {};
    const char *why = "";
    if (http1_parse_request(held, &scan, &request, &why) != http1_result::complete)
        fail_msg("not even HTTP (%s): %s", why, held.c_str());
    deflate_agreement a = deflate_offer_choose(&request);
    buffer_clear(&out);
    deflate_offer_answer(&a, &out);
    if (!a.agreed) assert_int_equal(a.server_bits, 0);
    return string(buffer_view(&out));
}

// bits: what is to be answered as server_max_window_bits; 0: nothing.
void accepted(const string &offer, int bits = 0) {
    string want = agreed + (bits ? "; server_max_window_bits=" + std::to_string(bits) : "") + "\r\n";
    string got = answer_to_fields(name + offer + "\r\n");
    if (got != want) fail_msg("%s was answered \"%s\"", offer.c_str(), got.c_str());
}

// The offer alone gets nothing, and in a list the next one is looked at.
void declined(const string &offer) {
    string got = answer_to_fields(name + offer + "\r\n");
    if (!got.empty()) fail_msg("%s was answered \"%s\"", offer.c_str(), got.c_str());
    accepted(offer + ", permessage-deflate; server_max_window_bits=11", 11);
    accepted("other, " + offer + ",permessage-deflate");
}

void no_offer_no_answer(void **) {
    assert_string_equal(answer_to_fields("").c_str(), "");
    for (const char *value : {"x-webkit-deflate-frame", "permessage-bzip2", "permessage-deflat", "permessage-deflate2",
                              "Permessage-Deflate", "a; permessage-deflate"})
        assert_string_equal(answer_to_fields(name + value + "\r\n").c_str(), "");
}

// What Chromium and Firefox, and Python's websockets send.
void offers_of_browsers_and_libraries(void **) {
    accepted("permessage-deflate");
    accepted("permessage-deflate; client_max_window_bits");
    accepted("permessage-deflate; server_max_window_bits=12; client_max_window_bits=12", 12);
    accepted("x-webkit-deflate-frame, permessage-deflate; client_max_window_bits");
}

// 7.1.1: no value may be there.
void takeover_parameters(void **) {
    accepted("permessage-deflate; server_no_context_takeover");
    accepted("permessage-deflate; client_no_context_takeover");
    accepted("permessage-deflate; client_no_context_takeover; server_no_context_takeover");
    for (const string side : {"server", "client"})
        for (const char *value : {"=1", "=true", "=\"x\"", "=15"})
            declined("permessage-deflate; " + side + "_no_context_takeover" + value);
}

// 7.1.2.1: 8 to 15, without leading zeros; the answer has the same.
void server_window(void **) {
    for (int bits = 8; bits <= 15; bits++) {
        accepted("permessage-deflate; server_max_window_bits=" + std::to_string(bits), bits);
        accepted("permessage-deflate; server_max_window_bits=\"" + std::to_string(bits) + "\"", bits);
    }
    accepted("permessage-deflate; server_max_window_bits=\"\\1\\0\"", 10);
    declined("permessage-deflate; server_max_window_bits"); // an offer must say how many
    for (const char *value : {"0",
                              "1",
                              "7",
                              "16",
                              "100",
                              "256",
                              "08",
                              "015",
                              "009",
                              "8a",
                              "a",
                              "0x8",
                              "+8",
                              "-8",
                              "8.0",
                              "4294967304",
                              "18446744073709551624",
                              "\"16\"",
                              "\"\\0\\8\"",
                              "\"\\1\\00\""})
        declined(string("permessage-deflate; server_max_window_bits=") + value);
}

// 7.1.2.2: a value may be there, and must be a good one. It is never answered: any window can be inflated.
void client_window(void **) {
    accepted("permessage-deflate; client_max_window_bits");
    for (int bits = 8; bits <= 15; bits++)
        accepted("permessage-deflate; client_max_window_bits=" + std::to_string(bits));
    for (const char *value : {"7", "16", "08", "a", "\"16\"", "1000"})
        declined(string("permessage-deflate; client_max_window_bits=") + value);
}

// 7.1: "one or more unknown", "more than once".
void unknown_and_doubled_parameters(void **) {
    for (const char *parameter : {"x", "x=1", "server_max_window_bit=8", "Server_No_Context_Takeover",
                                  "client_max_window_bits2", "mem_level=9"})
        declined(string("permessage-deflate; ") + parameter);
    for (const char *parameter : {"server_no_context_takeover", "client_no_context_takeover",
                                  "server_max_window_bits=10", "client_max_window_bits", "client_max_window_bits=10"}) {
        declined(string("permessage-deflate; ") + parameter + "; " + parameter);
        declined(string("permessage-deflate; ") + parameter + "; client_max_window_bits; client_max_window_bits=9");
    }
    declined("permessage-deflate; server_max_window_bits=10; server_max_window_bits=11");
    // What is wrong with one offer is not held against the next: also what was seen in it.
    accepted("permessage-deflate; client_max_window_bits; x, permessage-deflate; client_max_window_bits");
    // A parameter is known beside this extension's name alone.
    accepted("other; x; x, permessage-deflate");
}

// Section 5.1: the order is the client's preference, over all fields.
void the_first_that_is_good(void **) {
    accepted("permessage-deflate; server_max_window_bits=9, permessage-deflate", 9);
    accepted("permessage-deflate, permessage-deflate; server_max_window_bits=9");
    accepted("permessage-deflate; server_max_window_bits=7, permessage-deflate; server_max_window_bits=10", 10);
    assert_string_equal(answer_to_fields(name + "other\r\n" + name + "permessage-deflate; x\r\n" + name +
                                         "permessage-deflate; server_max_window_bits=13, permessage-deflate\r\n")
                            .c_str(),
                        (agreed + "; server_max_window_bits=13\r\n").c_str());
    // A good one behind which the list breaks: the handshake is refused, nobody agrees to anything.
    assert_string_equal(answer_to_fields(name + "permessage-deflate, \r\n" + name + "a b\r\n").c_str(), "");
}

// The offers of Autobahn|Testsuite's cases 12.* and 13.1 to 13.7, as autobahn writes them; in its older versions those
// with 9 bits had 8.
void offers_of_autobahn(void **) {
    const string offer = "permessage-deflate; client_no_context_takeover; client_max_window_bits";
    accepted(offer);
    accepted(offer + "; server_no_context_takeover");
    for (int bits : {8, 9, 15}) {
        string window = "; server_max_window_bits=" + std::to_string(bits);
        accepted(offer + window, bits);
        accepted(offer + "; server_no_context_takeover" + window, bits);
        accepted(offer + "; server_no_context_takeover" + window + ", " + offer + "; server_no_context_takeover, " +
                     offer,
                 bits);
    }
}

// As much as a head may hold, in one pass.
void long_lists(void **) {
    string list;
    while (list.size() < 12000)
        list += "permessage-deflate;x,";
    accepted(list + "permessage-deflate");
    string parameters = "permessage-deflate";
    while (parameters.size() < 12000)
        parameters += ";client_max_window_bits";
    declined(parameters);
}

} // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test_teardown(no_offer_no_answer, clear),
        cmocka_unit_test_teardown(offers_of_browsers_and_libraries, clear),
        cmocka_unit_test_teardown(takeover_parameters, clear),
        cmocka_unit_test_teardown(server_window, clear),
        cmocka_unit_test_teardown(client_window, clear),
        cmocka_unit_test_teardown(unknown_and_doubled_parameters, clear),
        cmocka_unit_test_teardown(the_first_that_is_good, clear),
        cmocka_unit_test_teardown(offers_of_autobahn, clear),
        cmocka_unit_test_teardown(long_lists, clear),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
