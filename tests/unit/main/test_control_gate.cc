// Unit tests of main/control_gate: tokens in both places, origins.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
extern "C" {
#include <cmocka.h>
}

#include "main/control_gate.h"

#include <string>

namespace belfry {
namespace {

http1_request parse(const std::string &text) {
    static http1_request request;
    http1_scan scan = {};
    const char *why = "";
    if (http1_parse_request(text, &scan, &request, &why) != http1_result::complete) fail_msg("%s", why);
    return request;
}

bool token_fits(const char *fields, view token = "s3cret!") {
    std::string text = std::string("GET /v1/live HTTP/1.1\r\nHost: h\r\n") + fields + "\r\n";
    http1_request q = parse(text);
    return control_gate_token(&q, token);
}

bool origin_fits(const char *fields) {
    std::string text = std::string("GET / HTTP/1.1\r\nHost: belfry.example:9191\r\n") + fields + "\r\n";
    http1_request q = parse(text);
    return control_gate_origin(&q);
}

void a_bearer_token(void **) {
    assert_true(token_fits("Authorization: Bearer s3cret!\r\n"));
    assert_true(token_fits("authorization: bearer s3cret!\r\n"));
    assert_false(token_fits("Authorization: Bearer s3cret\r\n"));
    assert_false(token_fits("Authorization: Bearer s3cret!!\r\n"));
    assert_false(token_fits("Authorization: Basic s3cret!\r\n"));
    assert_false(token_fits("Authorization: Bearer s3cret!\r\nAuthorization: Bearer s3cret!\r\n"));
    assert_false(token_fits("Authorization: Bearer\r\n"));
    assert_false(token_fits(""));
}

void no_token_fits_none(void **) {
    assert_false(token_fits("Authorization: Bearer \r\n", ""));
    assert_false(token_fits("", ""));
    assert_false(
        token_fits("Connection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Protocol: belfry.token.\r\n", ""));
}

#define UPGRADE "Connection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Protocol: "
void a_token_among_the_subprotocols(void **) {
    assert_true(token_fits(UPGRADE "belfry.live, belfry.token.czNjcmV0IQ\r\n"));
    assert_true(token_fits(UPGRADE "belfry.token.czNjcmV0IQ\r\n"));
    assert_false(token_fits(UPGRADE "belfry.token.s3cret\r\n"));
    assert_false(token_fits(UPGRADE "belfry.token.czNjcmV0IQ==\r\n")); // no padding, and no token character
    assert_false(token_fits(UPGRADE "belfry.token.czNjcmV0\r\n"));
    assert_false(token_fits(UPGRADE "belfry.live\r\n"));
    assert_false(token_fits("Sec-WebSocket-Protocol: belfry.token.czNjcmV0IQ\r\n")); // of a fetch, maybe
}

void a_page_of_our_own(void **) {
    assert_true(origin_fits(""));
    assert_true(origin_fits("Origin: http://belfry.example:9191\r\n"));
    assert_true(origin_fits("Origin: https://BELFRY.example:9191\r\n"));
    assert_true(origin_fits("Origin: https://ops.example\r\nX-Forwarded-Host: ops.example\r\n"));
}

void a_page_of_another_site(void **) {
    assert_false(origin_fits("Origin: http://belfry.example\r\n"));
    assert_false(origin_fits("Origin: http://belfry.example:91911\r\n"));
    assert_false(origin_fits("Origin: http://evil.example\r\n"));
    assert_false(origin_fits("Origin: null\r\n"));
    assert_false(origin_fits("Origin: http://belfry.example:9191\r\nOrigin: http://evil.example\r\n"));
    assert_false(origin_fits("Origin: https://evil.example\r\nX-Forwarded-Host: ops.example\r\n"));
}

} // namespace
} // namespace belfry

int main() {
    using namespace belfry;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_bearer_token),
        cmocka_unit_test(no_token_fits_none),
        cmocka_unit_test(a_token_among_the_subprotocols),
        cmocka_unit_test(a_page_of_our_own),
        cmocka_unit_test(a_page_of_another_site),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
