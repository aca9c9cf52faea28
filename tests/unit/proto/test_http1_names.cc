// Tests of proto/http1_names: what names are known for, in any case and spelling.
//
// One thread.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
extern "C" {
#include <cmocka.h>
}

#include "proto/http1_names.h"

using namespace belfry;

namespace {

void test_traits(void **) {
    assert_int_equal(http1_name_traits("connection"), http1_name_hop | http1_name_no_trailer);
    assert_int_equal(http1_name_traits("CONNECTION"), http1_name_hop | http1_name_no_trailer);
    assert_int_equal(http1_name_traits("Proxy-Authentication-Info"), http1_name_hop | http1_name_no_trailer);
    assert_int_equal(http1_name_traits("Host"), http1_name_remade | http1_name_essential | http1_name_no_trailer);
    assert_int_equal(http1_name_traits("Trailer"), http1_name_trailer | http1_name_no_trailer);
    assert_int_equal(http1_name_traits("X-Forwarded-X"),
                     http1_name_client | http1_name_essential | http1_name_no_trailer);
    assert_int_equal(http1_name_traits("Content-Length"),
                     http1_name_hop | http1_name_essential | http1_name_no_trailer); // not by its prefix
    assert_int_equal(http1_name_traits("Content-Type"), http1_name_essential | http1_name_no_trailer);
    assert_int_equal(http1_name_traits("Sec-WebSocket-Key"),
                     http1_name_websocket | http1_name_essential | http1_name_no_trailer);
    assert_int_equal(http1_name_traits("Sec-CH-UA"), http1_name_essential | http1_name_no_trailer);
    for (const char *name : {"", "x", "accept", "user-agent", "hosts", "hos", "connections", "x-forwarded", "content",
                             "proxy-authentication-info-and-more", "my_own", "belfry"}) {
        assert_int_equal(http1_name_traits(name), 0);
    }
}

void test_respelling(void **) {
    const uint8_t respelt = http1_name_respelt;
    assert_int_equal(http1_name_traits("Keep_Alive"), http1_name_traits("Keep-Alive") | respelt);
    assert_int_equal(http1_name_traits("x-forwarded_for"), http1_name_traits("X-Forwarded-For") | respelt);
    assert_int_equal(http1_name_traits("Content_X"), http1_name_traits("Content-X") | respelt);
    assert_int_equal(http1_name_traits("X-Forwarded-My_Own"), http1_name_traits("X-Forwarded-X")); // its own '_'
    assert_int_equal(http1_name_traits("Keep.Alive"), 0);
    assert_true(http1_name_collides("A_b-C", "a-B_c"));
    assert_true(http1_name_collides("", ""));
    assert_false(http1_name_collides("a-b", "a-bc"));
    assert_false(http1_name_collides("a-b", "a.b"));
}

} // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(test_traits),
        cmocka_unit_test(test_respelling),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
