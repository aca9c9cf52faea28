// Server lines of [upstream].
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>
extern "C" {
#include <cmocka.h>
}

#include "main/config_upstream.h"

using namespace belfry;

namespace {

server_settings parse(const char *line) {
    server_settings s;
    error e;
    if (!config_parse_server(line, &s, &e)) print_error("%s\n", e.text);
    assert_true(config_parse_server(line, &s, &e));
    return s;
}

std::string refused(const char *line) {
    server_settings s;
    error e;
    assert_false(config_parse_server(line, &s, &e));
    return e.text;
}

void a_place_is_host_and_port(void **) {
    server_settings s = parse("127.0.0.1:8000");
    assert_string_equal(s.text.c_str(), "127.0.0.1:8000");
    assert_string_equal(s.host.c_str(), "127.0.0.1");
    assert_int_equal(s.port, 8000);
    assert_int_equal(s.weight, 1);
    assert_int_equal(s.max_fails, 1);
    assert_int_equal(s.fail_timeout, 10000);
    assert_false(s.backup || s.down || s.tls || s.unix);
    s = parse("  app.example  ");
    assert_string_equal(s.host.c_str(), "app.example");
    assert_int_equal(s.port, 80);
    s = parse("http://app.example");
    assert_string_equal(s.text.c_str(), "app.example"); // as nginx would be told it
    assert_int_equal(s.port, 80);
    s = parse("https://app.example");
    assert_int_equal(s.port, 443);
    assert_true(s.tls);
    s = parse("https://[2001:db8::1]:8443");
    assert_string_equal(s.host.c_str(), "2001:db8::1");
    assert_int_equal(s.port, 8443);
    s = parse("unix:/run/app.sock");
    assert_true(s.unix);
    assert_string_equal(s.host.c_str(), "/run/app.sock");
    assert_string_equal(s.text.c_str(), "unix:/run/app.sock");
}

void parameters_follow(void **) {
    server_settings s = parse("a:1 weight=7 max_fails=3\tfail_timeout=1500ms backup down");
    assert_int_equal(s.weight, 7);
    assert_int_equal(s.max_fails, 3);
    assert_int_equal(s.fail_timeout, 1500);
    assert_true(s.backup && s.down);
}

void what_is_wrong_is_named(void **) {
    assert_string_equal(refused("").c_str(), "\"\" names no server");
    assert_string_equal(refused("a:70000").c_str(), "\"a:70000\" has a bad port: a number from 1 to 65535");
    assert_string_equal(refused("a:").c_str(), "\"a:\" has a bad port: a number from 1 to 65535");
    assert_string_equal(refused("a/b").c_str(),
                        "\"a/b\" names no host: write host:port, unix:/path or https://host:port");
    assert_string_equal(refused("u@a:1").c_str(),
                        "\"u@a:1\" names no host: write host:port, unix:/path or https://host:port");
    assert_string_equal(refused("[::1").c_str(), "\"[::1\" has a [ without its ]");
    assert_string_equal(refused("unix:run").c_str(),
                        "\"unix:run\" needs an absolute path of at most 107 bytes behind unix:");
    assert_string_equal(refused("a wieght=2").c_str(),
                        "\"wieght=2\" is unknown: weight=1 max_fails=1 fail_timeout=10s backup down");
    assert_string_equal(refused("a weight").c_str(),
                        "\"weight\" is unknown: weight=1 max_fails=1 fail_timeout=10s backup down");
    assert_true(refused("a weight=0").starts_with("weight: "));
    assert_true(refused("a fail_timeout=10").starts_with("fail_timeout: "));
}

} // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(a_place_is_host_and_port),
        cmocka_unit_test(parameters_follow),
        cmocka_unit_test(what_is_wrong_is_named),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
