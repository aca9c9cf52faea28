// The browser client's path and its answers, byte by byte but for the file itself.
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>
extern "C" {
#include <cmocka.h>
}

#include "relay/client_js.h"

#include <string>

using namespace belfry;

namespace {

bool named(const std::string &route_path, view path, bool on = true) {
    route r = {};
    r.path = route_path;
    r.client_js = on;
    return client_js_named(&r, path);
}

void it_stands_under_its_route(void **) {
    assert_true(named("/", "/belfry.js"));
    assert_true(named("/ws", "/ws/belfry.js"));
    assert_true(named("/ws/", "/ws/belfry.js"));
    assert_false(named("/ws", "/ws/belfry.js", false));
    assert_false(named("/ws", "/ws"));
    assert_false(named("/ws", "/wsbelfry.js"));
    assert_false(named("/ws", "/ws/belfry.js/"));
    assert_false(named("/ws", "/ws/belfry.js/x"));
    assert_false(named("/ws", "/ws/x/belfry.js"));
    assert_false(named("/ws", "/ws/Belfry.js"));
    assert_false(named("/ws", "/belfry.js"));
    assert_false(named("/", "//belfry.js"));
}

// The answer to a request with these field lines; empty: none was written.
std::string answer(const std::string &method, const std::string &lines = "", bool keep_alive = true) {
    std::string head = method + " /belfry.js HTTP/1.1\r\nHost: a\r\n" + lines + "\r\n";
    http1_scan scan = {};
    http1_request q;
    const char *why = "";
    assert_true(http1_parse_request(head, &scan, &q, &why) == http1_result::complete);
    buffer out = {};
    bool written = client_js_write(&q, keep_alive, &out);
    std::string all(buffer_view(&out));
    buffer_free(&out);
    assert_int_equal(written, !all.empty());
    return all;
}

std::string head_of(const std::string &whole) {
    return whole.substr(0, whole.find("\r\n\r\n") + 4);
}

std::string etag() {
    std::string head = head_of(answer("HEAD"));
    size_t at = head.find("ETag: ") + 6;
    return head.substr(at, head.find("\r\n", at) - at);
}

void a_get_gets_the_file(void **) {
    std::string whole = answer("GET"), head = head_of(whole), file = whole.substr(head.size());
    assert_true(file.starts_with("// belfry.js: "));
    assert_true(file.find("export class Belfry") != std::string::npos);
    assert_true(file.ends_with("}\n"));
    std::string expected =
        "HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nContent-Type: text/javascript; charset=utf-8\r\n"
        "Content-Length: " +
        std::to_string(file.size()) + "\r\nETag: " + etag() +
        "\r\nCache-Control: public, max-age=3600\r\nAccess-Control-Allow-Origin: *\r\n"
        "Cross-Origin-Resource-Policy: cross-origin\r\nX-Content-Type-Options: nosniff\r\n\r\n";
    assert_string_equal(head.c_str(), expected.c_str());
    assert_string_equal(answer("HEAD").c_str(), expected.c_str());
    assert_true(answer("GET", "", false).find("\r\nConnection: close\r\n") != std::string::npos);
}

void who_has_it_gets_304(void **) {
    std::string tag = etag();
    assert_int_equal(tag.size(), 18);
    std::string expected = "HTTP/1.1 304 Not Modified\r\nConnection: keep-alive\r\nETag: " + tag +
                           "\r\nCache-Control: public, max-age=3600\r\nAccess-Control-Allow-Origin: *\r\n"
                           "Cross-Origin-Resource-Policy: cross-origin\r\nX-Content-Type-Options: nosniff\r\n\r\n";
    for (const std::string &value : {tag, "W/" + tag, "\"other\", " + tag, std::string("*")}) {
        assert_string_equal(answer("GET", "If-None-Match: " + value + "\r\n").c_str(), expected.c_str());
        assert_string_equal(answer("HEAD", "If-None-Match: " + value + "\r\n").c_str(), expected.c_str());
    }
    for (const std::string &value : {std::string("\"other\""), tag.substr(1, 16), std::string("")})
        assert_true(answer("GET", "If-None-Match: " + value + "\r\n").starts_with("HTTP/1.1 200 "));
}

void it_is_read_only(void **) {
    for (const char *method : {"POST", "PUT", "DELETE", "OPTIONS", "get"})
        assert_string_equal(answer(method).c_str(), "");
}

} // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(it_stands_under_its_route),
        cmocka_unit_test(a_get_gets_the_file),
        cmocka_unit_test(who_has_it_gets_304),
        cmocka_unit_test(it_is_read_only),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
