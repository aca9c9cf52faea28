// redis_parse_url and redis_describe: what is taken, what is refused, and that no message gives a password away.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
extern "C" {
#include <cmocka.h>
}

#include "net/redis.h"

#include <string.h>

using namespace belfry;

namespace {

void test_good(void **) {
    struct {
        const char *url, *host;
        int port;
        const char *path;
        bool tls;
        const char *user, *password;
        int database;
        const char *described;
    } cases[] = {
        {"redis://localhost", "localhost", 6379, "", false, "", "", 0, "localhost:6379/0"},
        {"redis://localhost/", "localhost", 6379, "", false, "", "", 0, "localhost:6379/0"},
        {"REDIS://10.0.0.1:7000/15", "10.0.0.1", 7000, "", false, "", "", 15, "10.0.0.1:7000/15"},
        {"rediss://[2001:db8::1]:6380/2", "2001:db8::1", 6380, "", true, "", "", 2, "[2001:db8::1]:6380/2"},
        {"redis://[::1]", "::1", 6379, "", false, "", "", 0, "[::1]:6379/0"},
        {"redis://:secret@h", "h", 6379, "", false, "", "secret", 0, "h:6379/0"},
        {"redis://user:secret@h:1", "h", 1, "", false, "user", "secret", 0, "h:1/0"},
        {"redis://user@h", "h", 6379, "", false, "user", "", 0, "h:6379/0"},
        {"redis://us%65r:s%3Ae%2fc%40%25@h/3", "h", 6379, "", false, "user", "s:e/c@%", 3, "h:6379/3"},
        {"redis://u:a:b@h", "h", 6379, "", false, "u", "a:b", 0, "h:6379/0"},
        {"redis://u:a@b@h", "h", 6379, "", false, "u", "a@b", 0, "h:6379/0"},
        {"unix:///run/redis.sock", "", 6379, "/run/redis.sock", false, "", "", 0, "unix:/run/redis.sock"},
        {"unix:///run/a%20b.sock?db=4", "", 6379, "/run/a b.sock", false, "", "", 4, "unix:/run/a b.sock"},
        {"unix://u:p%2Fw@/r.sock?db=1", "", 6379, "/r.sock", false, "u", "p/w", 1, "unix:/r.sock"},
    };
    for (const auto &c : cases) {
        redis_settings s;
        s.backoff_max_ms = 77; // not the URL's to say
        s.user = s.password = s.host = s.unix_path = "old";
        s.database = 9;
        error e;
        if (!redis_parse_url(c.url, &s, &e)) fail_msg("%s: %s", c.url, e.text);
        assert_string_equal(s.host.c_str(), c.host);
        assert_int_equal(s.port, c.port);
        assert_string_equal(s.unix_path.c_str(), c.path);
        assert_int_equal(s.tls, c.tls);
        assert_string_equal(s.user.c_str(), c.user);
        assert_string_equal(s.password.c_str(), c.password);
        assert_int_equal(s.database, c.database);
        assert_int_equal(s.backoff_max_ms, 77);
        assert_string_equal(redis_describe(&s).c_str(), c.described);
    }
}

void test_bad(void **) {
    const std::string long_host(254, 'h'), long_path(108, 'p');
    const std::string cases[] = {
        "",
        "localhost",
        "http://h",
        "redis:/h",
        "redis://",
        "redis:///0",
        "redis://:6379",
        "redis://h:",
        "redis://h:0",
        "redis://h:65536",
        "redis://h:1x",
        "redis://h:-1",
        "redis://h/x",
        "redis://h/-1",
        "redis://h/1/2",
        "redis://h/2147483648",
        "redis://h?db=1",
        "redis://h/1#x",
        "redis://::1:6379",
        "redis://[::1",
        "redis://[::1]x",
        "redis://[]",
        "redis://h%",
        "redis://h%0",
        "redis://h%zz",
        "redis://h%00x",
        "redis://u:%00@h",
        "redis://u:%4@h",
        std::string("redis://h\0x", 11),
        "redis://" + long_host,
        "unix://",
        "unix://run/redis.sock",
        "unix://host/run/redis.sock",
        "unix:///r?db=x",
        "unix:///r?database=1",
        "unix:///r?",
        "unix:///r#1",
        "unix:///r%0",
        "unix:///" + long_path,
        " redis://h",
    };
    for (const std::string &url : cases) {
        redis_settings s;
        s.host = "kept";
        s.password = "kept";
        error e;
        if (redis_parse_url(url, &s, &e)) fail_msg("taken: %s", url.c_str());
        assert_true(strlen(e.text) > 10);
        assert_string_equal(s.host.c_str(), "kept"); // nothing is changed
        assert_string_equal(s.password.c_str(), "kept");
    }
    // The longest ones that are good.
    redis_settings s;
    error e;
    assert_true(redis_parse_url("redis://" + long_host.substr(1), &s, &e));
    assert_true(redis_parse_url("unix:///" + long_path.substr(2), &s, &e));
}

// A password that should have been percent-encoded moves the borders; whatever then is the "host" or the "port" may be
// a part of it.
void test_no_message_quotes_the_password(void **) {
    for (const char *url : {"redis://user:hunter2/x@host:6379/0", "redis://:hunter2?x@host", "redis://:hunter2#x@host",
                            "redis://user:hunter2%zz@host", "redis://user:hunter2@host:port", "redis://u:p@hunter2:x",
                            "xredis://:hunter2@h", "unix://user:hunter2/run/r.sock", "unix://u:hunter2%@/r.sock",
                            "redis://host/hunter2", "redis:/:hunter2@h"}) {
        redis_settings s;
        error e;
        assert_false(redis_parse_url(url, &s, &e));
        if (strstr(e.text, "hunter2") != nullptr) fail_msg("%s", e.text);
    }
    redis_settings s;
    error e;
    assert_true(redis_parse_url("redis://user:hunter2@host", &s, &e));
    const std::string described = redis_describe(&s);
    assert_null(strstr(described.c_str(), "hunter2"));
    assert_null(strstr(described.c_str(), "user"));
}

} // namespace

int main() {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good),
        cmocka_unit_test(test_bad),
        cmocka_unit_test(test_no_message_quotes_the_password),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
