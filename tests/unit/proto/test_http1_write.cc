// Tests of proto/http1_write: refusals byte for byte.
//
// One thread.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
extern "C" {
#include <cmocka.h>
}

#include "proto/handshake.h"
#include "proto/http1.h"

#include <string>

using namespace belfry;

namespace {

buffer out;

int clear(void **) {
    buffer_free(&out);
    return 0;
}

void test_error_with_extra(void **) {
    buffer_append(&out, "before");
    http1_write_error(405, "a WebSocket handshake is a GET request", "Allow: GET\r\n", false, &out);
    const std::string got(buffer_view(&out));
    assert_string_equal(
        got.c_str(), "beforeHTTP/1.1 405 Method Not Allowed\r\nConnection: close\r\nContent-Type: application/json\r\n"
                     "Content-Length: 73\r\nAllow: GET\r\n\r\n"
                     "{\"error\":{\"code\":405,\"message\":\"a WebSocket handshake is a GET request\"}}");
}

void test_error_kept_alive(void **) {
    http1_write_error(404, "no", "", true, &out);
    const std::string got(buffer_view(&out));
    assert_string_equal(got.c_str(),
                        "HTTP/1.1 404 Not Found\r\nConnection: keep-alive\r\nContent-Type: application/json\r\n"
                        "Content-Length: 37\r\n\r\n{\"error\":{\"code\":404,\"message\":\"no\"}}");
}

void test_message_cannot_break_out(void **) {
    http1_write_error(400, view("\"}\r\n\r\n\\\0\x7f\xff", 10), "", false, &out);
    const std::string got(buffer_view(&out));
    const size_t body = got.find("\r\n\r\n") + 4;
    assert_int_equal(got.find("\r\n\r\n", body), std::string::npos);
    for (size_t i = body; i < got.size(); i++) {
        assert_true(static_cast<unsigned char>(got[i]) >= 0x20);
    }
    assert_int_equal(got.find("{\"error\":{\"code\":400,\"message\":\"\\\"}\\r\\n\\r\\n\\\\\\u0000"), body);
    assert_true(got.ends_with("\xef\xbf\xbd\"}}")); // U+FFFD for the byte that is no UTF-8
}

void test_reasons(void **) {
    assert_string_equal(http1_reason(101), "Switching Protocols");
    assert_string_equal(http1_reason(414), "URI Too Long");
    assert_string_equal(http1_reason(426), "Upgrade Required");
    assert_string_equal(http1_reason(431), "Request Header Fields Too Large");
    assert_string_equal(http1_reason(299), "Unknown");
    for (int status : {400, 401, 403, 404, 405, 408, 413, 414, 421, 426, 429, 431, 500, 502, 503, 504, 505}) {
        assert_string_not_equal(http1_reason(status), "Unknown"); // what Belfry answers with
    }
}

} // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_error_with_extra, clear),
        cmocka_unit_test_teardown(test_error_kept_alive, clear),
        cmocka_unit_test_teardown(test_message_cannot_break_out, clear),
        cmocka_unit_test(test_reasons),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
