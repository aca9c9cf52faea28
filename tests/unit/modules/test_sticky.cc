// Tests of modules/sticky: the key of each kind, addresses as nginx writes them, the signed cookie and its forgery.
//
// One thread.
#include "fake_host.h"

extern const struct belfry_module belfry_module_sticky;

using namespace fake_host;

namespace {

const belfry_module *module = &belfry_module_sticky;
std::vector<void *> scopes;

int begin(void **state) {
    setup(state);
    return module->load(&host, nullptr, 0) == 1 ? 0 : -1;
}

int finish(void **state) {
    for (void *scope : scopes) {
        module->scope_free(&host, "upstream", scope);
    }
    scopes.clear();
    return teardown(state);
}

void *scope_of(const char *sticky, const std::vector<belfry_text> &secrets = {}) {
    void *scope =
        scope_with(module, "upstream", "app", {{"sticky", text_value(sticky)}, {"sticky_secret", list_value(secrets)}});
    if (scope) scopes.push_back(scope);
    return scope;
}

// The key after the handshake; "" where none was set.
string key_of(const void *upstream, belfry_kind kind = BELFRY_WEBSOCKET) {
    fake->sticky_keys.clear();
    belfry_call *call = call_of(kind, nullptr);
    call->upstream = upstream;
    assert_int_equal(module->handshake(call, &fake->verdict), BELFRY_PASS);
    if (fake->sticky_keys.empty()) return "";
    assert_int_equal(fake->sticky_keys.size(), 1);
    return fake->sticky_keys[0];
}

void test_ip(void **) {
    void *scope = scope_of("ip");
    ASSERT_TEXT(key_of(scope), "203.0.113.7");
    ASSERT_TEXT(key_of(scope, BELFRY_HTTP), "203.0.113.7");
    ipv4(255, 255, 255, 255);
    ASSERT_TEXT(key_of(scope), "255.255.255.255");
    ipv4(0, 10, 100, 99);
    ASSERT_TEXT(key_of(scope), "0.10.100.99");
    const struct {
        std::initializer_list<int> groups;
        const char *text;
    } known[] = {
        {{0x2001, 0xdb8, 0, 0, 0, 0, 0, 1}, "2001:db8::1"},
        {{0x2001, 0xdb8, 0, 1, 0, 0, 0, 1}, "2001:db8:0:1::1"},
        {{0x2001, 0, 0, 1, 0, 0, 1, 1}, "2001::1:0:0:1:1"},    // the first of two equal runs
        {{0x2001, 0, 0, 1, 0, 0, 0, 1}, "2001:0:0:1::1"},      // the longer one
        {{0x2001, 0, 1, 1, 1, 1, 1, 1}, "2001:0:1:1:1:1:1:1"}, // a single group is no run
        {{0xfe80, 0, 0, 0, 0, 0, 0, 0}, "fe80::"},
        {{0, 0, 0, 0, 0, 0, 0, 1}, "::1"},
        {{0, 0, 1, 2, 3, 4, 5, 6}, "::1:2:3:4:5:6"},
        {{0xabcd, 0xef01, 0x2345, 0x6789, 0xabcd, 0xef, 0x123, 0xffff}, "abcd:ef01:2345:6789:abcd:ef:123:ffff"},
        {{1, 2, 3, 4, 5, 6, 0, 0}, "1:2:3:4:5:6::"},
        {{0, 0, 0, 0, 0, 0, 0x102, 0x304}, "::1.2.3.4"},
        {{0, 0, 0, 0, 0, 0, 0, 0x1234}, "::0.0.18.52"}, // as nginx has it
        {{0, 0, 0, 0, 0, 0, 0, 0x12}, "::12"},
        {{0x64, 0xff9b, 0, 0, 0, 0, 0x102, 0x304}, "64:ff9b::102:304"},
    };
    for (const auto &address : known) {
        ipv6(address.groups);
        ASSERT_TEXT(key_of(scope), address.text);
    }
    ipv6({0, 0, 0, 0, 0, 0, 0, 0});
    ASSERT_TEXT(key_of(scope), "unix:");
}

void test_values(void **) {
    fake->cookies = {{"session", "s1"}, {"empty", ""}};
    fake->fields = {{"X-Tenant", "t1"}, {"X-Tenant", "t2"}};
    fake->parameters = {{"doc", "d 1"}};
    ASSERT_TEXT(key_of(scope_of("cookie:session")), "s1");
    ASSERT_TEXT(key_of(scope_of("cookie:other")), "");
    ASSERT_TEXT(key_of(scope_of("cookie:empty")), "");
    ASSERT_TEXT(key_of(scope_of("header:x-tenant")), "t1");
    ASSERT_TEXT(key_of(scope_of("header:x-none")), "");
    ASSERT_TEXT(key_of(scope_of("query:doc")), "d 1");
    ASSERT_TEXT(key_of(scope_of("query:x")), "");
    ASSERT_TEXT(key_of(nullptr), ""); // no upstream, or sticky = none
    assert_null(scope_of("none"));
    ASSERT_TEXT(fake->error, "");
    assert_null(scope_of(""));
    ASSERT_TEXT(fake->error, "");
    assert_int_equal(fake->answers.size(), 0);
}

void test_long_values(void **) {
    void *scope = scope_of("cookie:token");
    fake->cookies["token"] = string(255, 'a');
    assert_true(key_of(scope) == string(255, 'a'));
    fake->cookies["token"] = string(256, 'a');
    const string one = key_of(scope);
    assert_int_equal(one.size(), 64);
    assert_true(one == key_of(scope));
    fake->cookies["token"] = string(255, 'a') + "b"; // what tells two tokens apart may be at their end
    assert_true(one != key_of(scope));
}

void test_user(void **) {
    void *scope = scope_of("user");
    fake->call.user = {};
    ASSERT_TEXT(key_of(scope), "");
    assert_int_equal(module->admitted(&fake->call, &fake->verdict), BELFRY_PASS);
    assert_int_equal(fake->sticky_keys.size(), 0);
    fake->call.user = belfry_text_of("56");
    assert_int_equal(module->admitted(&fake->call, &fake->verdict), BELFRY_PASS);
    assert_int_equal(fake->sticky_keys.size(), 1);
    ASSERT_TEXT(fake->sticky_keys[0], "56");
    // Other kinds are not overridden by it.
    fake->sticky_keys.clear();
    fake->call.upstream = scope_of("ip");
    module->admitted(&fake->call, &fake->verdict);
    fake->call.upstream = nullptr;
    module->admitted(&fake->call, &fake->verdict);
    assert_int_equal(fake->sticky_keys.size(), 0);
}

void test_conn(void **) {
    void *scope = scope_of("conn");
    const string one = key_of(scope), two = key_of(scope);
    assert_int_equal(one.size(), 16);
    assert_true(one != two);
    assert_int_equal(one.find_first_not_of("0123456789abcdef"), string::npos);
}

// ---- cookie:NAME issue ----

const char *const secret_one = "0123456789abcdef";
const char *const secret_two = "fedcba9876543210";

// What Set-Cookie gave, without its attributes.
string issued(const char *name) {
    const string field = answered("Set-Cookie");
    const string prefix = string(name) + "=";
    assert_int_equal(field.compare(0, prefix.size(), prefix), 0);
    return field.substr(prefix.size(), field.find(';') - prefix.size());
}

void test_issue(void **) {
    void *scope = scope_of("cookie:belfry issue", {belfry_text_of(secret_one)});
    const string key = key_of(scope);
    const string cookie = issued("belfry");
    assert_true(key == cookie); // so that nginx's hash $cookie_belfry goes to the same server
    assert_int_equal(cookie.size(), 49);
    assert_int_equal(cookie[16], '.');
    uint8_t digest[32];
    char hex[33];
    host_hmac(belfry_text_of(secret_one), text_of(cookie.substr(0, 16)), digest);
    for (int i = 0; i < 16; i++) {
        snprintf(hex + 2 * i, 3, "%02x", digest[i]);
    }
    ASSERT_TEXT(cookie.substr(17), hex);
    ASSERT_TEXT(answered("Set-Cookie"), ("belfry=" + cookie + "; Path=/; HttpOnly; SameSite=Lax").c_str());
    // It comes back: the same key, no new cookie.
    fake->cookies["belfry"] = cookie;
    assert_true(key_of(scope) == cookie);
    assert_int_equal(fake->answers.size(), 0);
    assert_true(key_of(scope, BELFRY_HTTP) == cookie);
    // Over TLS the cookie is for TLS alone; each client gets another.
    fake->cookies.clear();
    fake->request.secure = 1;
    assert_true(key_of(scope, BELFRY_HTTP) != cookie);
    assert_non_null(strstr(answered("Set-Cookie").c_str(), "; HttpOnly; SameSite=Lax; Secure"));
}

void test_forgery(void **) {
    void *scope = scope_of("cookie:belfry issue", {belfry_text_of(secret_one)});
    const string good = key_of(scope);
    std::vector<string> forged = {"",
                                  "x",
                                  ".",
                                  good + "0",
                                  good.substr(0, 48),
                                  good.substr(0, 17),
                                  good.substr(0, 16),
                                  "." + good.substr(17),
                                  string(49, '0'),
                                  string(8000, 'a'),
                                  good + good};
    for (size_t i = 0; i < good.size(); i++) { // each byte counts
        string other = good;
        other[i] = other[i] == '0' ? '1' : '0';
        forged.push_back(other);
    }
    string upper = good;
    for (char &c : upper) {
        if (c >= 'a') c = static_cast<char>(c - 0x20);
    }
    forged.push_back(upper);
    forged.push_back(good.substr(0, 17) + string(32, '\0'));
    for (const string &text : forged) {
        fake->cookies["belfry"] = text;
        const string key = key_of(scope);
        if (key == text) fail_msg("taken: %s", text.c_str());
        assert_true(key == issued("belfry")); // a new one in its place
        assert_int_equal(key.size(), 49);
    }
    // One that another secret signed.
    fake->cookies["belfry"] = good;
    assert_true(key_of(scope_of("cookie:belfry issue", {belfry_text_of(secret_two)})) != good);
}

void test_secrets(void **) {
    void *first = scope_of("cookie:b issue", {belfry_text_of(secret_one)});
    void *both = scope_of("cookie:b issue", {belfry_text_of(secret_two), belfry_text_of(secret_one)});
    void *second = scope_of("cookie:b issue", {belfry_text_of(secret_two)});
    const string old_cookie = key_of(first);
    fake->cookies["b"] = old_cookie;
    assert_true(key_of(both) == old_cookie); // verified by the second
    fake->cookies.clear();
    const string next = key_of(both); // signed by the first
    fake->cookies["b"] = next;
    assert_true(key_of(second) == next);
    assert_true(key_of(first) != next);
    // Without one: the process's own, the same for all, another after the next start.
    void *none = scope_of("cookie:b issue");
    fake->cookies.clear();
    const string own = key_of(none);
    fake->cookies["b"] = own;
    assert_true(key_of(scope_of("cookie:b issue")) == own);
    module->load(&host, nullptr, 0);
    assert_true(key_of(none) != own);
}

void test_config_errors(void **) {
    for (const char *bad : {"foo", "cookie", "cookie:", "cookie:a b", "cookie:a;b", "cookie: issue", "cookie:x  issues",
                            "cookie:a=b", "header:", "header:a:b", "header:a issue", "query:", "query:a&b", "ip issue",
                            "IP", "user:x", "cookie:issue issue issue"}) {
        assert_null(scope_of(bad));
        const string want = string("sticky: \"") + bad +
                            "\" is none of none, ip, cookie:NAME, cookie:NAME issue, "
                            "header:NAME, query:NAME, user, conn";
        ASSERT_TEXT(fake->error, want.c_str());
    }
    assert_null(scope_of(("cookie:" + string(101, 'c')).c_str()));
    assert_non_null(scope_of(("cookie:" + string(100, 'c') + "   issue").c_str()));
    fake->request.secure = 1;
    key_of(scopes.back()); // the longest field whole
    assert_non_null(strstr(answered("Set-Cookie").c_str(), "; Secure"));
    assert_non_null(scope_of("cookie:issue"));
    assert_null(scope_of("cookie:b issue", {belfry_text_of(secret_one), belfry_text_of("0123456789abcde")}));
    ASSERT_TEXT(fake->error, "sticky_secret: needs 16 bytes or more");
}

} // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_ip, begin, finish),
        cmocka_unit_test_setup_teardown(test_values, begin, finish),
        cmocka_unit_test_setup_teardown(test_long_values, begin, finish),
        cmocka_unit_test_setup_teardown(test_user, begin, finish),
        cmocka_unit_test_setup_teardown(test_conn, begin, finish),
        cmocka_unit_test_setup_teardown(test_issue, begin, finish),
        cmocka_unit_test_setup_teardown(test_forgery, begin, finish),
        cmocka_unit_test_setup_teardown(test_secrets, begin, finish),
        cmocka_unit_test_setup_teardown(test_config_errors, begin, finish),
    };
    return cmocka_run_group_tests_name("sticky", tests, nullptr, nullptr);
}
