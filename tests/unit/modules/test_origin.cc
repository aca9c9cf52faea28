// Tests of modules/origin: what is let in, what is kept out, CORS.
//
// One thread.
#include "fake_host.h"

extern const struct belfry_module belfry_module_origin;

using namespace fake_host;

namespace {

const belfry_module *module = &belfry_module_origin;
void *scope;

int finish(void **state) {
    if (scope) module->scope_free(&host, "route", scope);
    scope = nullptr;
    return teardown(state);
}

// The route's list; replaces the one before.
void allow(std::initializer_list<const char *> entries) {
    std::vector<belfry_text> list;
    for (const char *entry : entries) {
        list.push_back(belfry_text_of(entry));
    }
    if (scope) module->scope_free(&host, "route", scope);
    scope = scope_with(module, "route", "/ws", {{"origin", list_value(list)}});
    if (!scope) fail_msg("%s", fake->error.c_str());
}

// Whether a WebSocket handshake with this Origin (null: without) passes.
bool passes(const char *origin, belfry_kind kind = BELFRY_WEBSOCKET) {
    fake->fields.clear();
    if (origin) fake->fields.emplace_back("Origin", origin);
    const belfry_verdict_type type = module->handshake(call_of(kind, scope), &fake->verdict);
    if (type == BELFRY_PASS) return true;
    assert_int_equal(type, BELFRY_DENY);
    assert_int_equal(fake->verdict.status, 403);
    ASSERT_TEXT(reason(), "origin not allowed");
    return false;
}

string config_error(const char *entry) {
    const std::vector<belfry_text> list = {belfry_text_of(entry)};
    void *made = scope_with(module, "route", "/ws", {{"origin", list_value(list)}});
    if (made) {
        module->scope_free(&host, "route", made);
        return "fine";
    }
    return fake->error;
}

void test_exact(void **) {
    allow({"https://app.example"});
    assert_true(passes("https://app.example"));
    assert_true(passes("https://app.example:443"));
    assert_true(passes("HTTPS://APP.EXAMPLE"));
    assert_true(passes("https://app.example", BELFRY_TUNNEL));
    for (const char *bad : {"http://app.example",
                            "https://app.example:444",
                            "https://app.example:80",
                            "https://app.example:0443",
                            "https://app.example:",
                            "https://app.example:00",
                            "https://app.example:65979",
                            "https://app.example:4 43",
                            "https://app.example.evil",
                            "https://evil-app.example",
                            "https://x.app.example",
                            "https://app.example.",
                            "https://app.exampl",
                            "https://app.example/",
                            "https://app.example/path",
                            "https://app.example?x",
                            "https://app.example#x",
                            "https://app.example\\",
                            "https://user@app.example",
                            "https://app.example@evil.example",
                            "https://evil.example/https://app.example",
                            "https://app.example, https://x",
                            "https://x, https://app.example",
                            "https://app.example https://x",
                            " https://app.example",
                            "https://app.example ",
                            "https://app.example\t",
                            "https:app.example",
                            "https:/app.example",
                            "https:///app.example",
                            "//app.example",
                            "app.example",
                            "https://",
                            "https",
                            "",
                            "null",
                            "*",
                            "https://*",
                            "https://app%2eexample",
                            "https://app.ex\xc3\xa4mple",
                            "wss://app.example",
                            "ftp://app.example",
                            "https://.app.example",
                            "https://app..example"}) {
        if (passes(bad)) fail_msg("let in: %s", bad);
    }
    assert_false(passes(nullptr));
    // A NUL, and one whose text goes on behind the view.
    fake->fields.assign(1, {"Origin", string("https://app.example\0", 20)});
    assert_int_equal(module->handshake(call_of(BELFRY_WEBSOCKET, scope), &fake->verdict), BELFRY_DENY);
}

void test_default_ports(void **) {
    allow({"http://app.example:80"});
    assert_true(passes("http://app.example"));
    assert_true(passes("http://app.example:80"));
    assert_false(passes("https://app.example"));
    assert_false(passes("https://app.example:80"));
    allow({"https://app.example:8443"});
    assert_true(passes("https://app.example:8443"));
    assert_false(passes("https://app.example"));
    // Who writes the socket's scheme means the page's.
    allow({"wss://app.example", "ws://plain.example", "wss://other.example:444"});
    assert_true(passes("https://app.example"));
    assert_true(passes("http://plain.example"));
    assert_true(passes("https://other.example:444"));
    assert_false(passes("https://plain.example"));
    assert_false(passes("wss://app.example"));
    // A scheme without a default port.
    allow({"capacitor://localhost", "chrome-extension://abcdefgh"});
    assert_true(passes("capacitor://localhost"));
    assert_true(passes("chrome-extension://abcdefgh"));
    assert_false(passes("capacitor://localhost:80"));
}

void test_hosts(void **) {
    allow({"http://[2001:db8::1]", "http://[2001:db8::2]:8080", "http://127.0.0.1:3000",
           "https://xn--bcher-kva.example", "https://under_score.example", "https://dot.example."});
    assert_true(passes("http://[2001:db8::1]"));
    assert_true(passes("http://[2001:DB8::1]:80"));
    assert_true(passes("http://[2001:db8::2]:8080"));
    assert_true(passes("http://127.0.0.1:3000"));
    assert_true(passes("https://xn--bcher-kva.example"));
    assert_true(passes("https://under_score.example"));
    assert_true(passes("https://dot.example."));
    for (const char *bad : {"http://[2001:db8::2]", "http://2001:db8::1", "http://[2001:db8::1",
                            "http://[2001:db8::1]x", "http://[2001:db8::1]x:80", "http://[", "http://[]",
                            "http://[2001:db8::1%25eth0]", "http://127.0.0.1", "http://127.0.0.1:30000",
                            "https://b\xc3\xbc"
                            "cher.example",
                            "https://dot.example", "http://[2001:db8::1]]", "http://[[2001:db8::1]"}) {
        if (passes(bad)) fail_msg("let in: %s", bad);
    }
}

void test_wildcard(void **) {
    allow({"https://*.app.example", "http://*.port.example:8080"});
    assert_true(passes("https://a.app.example"));
    assert_true(passes("https://a.b.app.example"));
    assert_true(passes("https://A.APP.EXAMPLE:443"));
    assert_true(passes("http://a.port.example:8080"));
    for (const char *bad :
         {"https://app.example", "https://evil-app.example", "https://evilapp.example", "https://.app.example",
          "https://a..app.example", "https://a.app.example.", "https://a.app.example.evil", "http://a.app.example",
          "https://a.app.example:8443", "https://*.app.example", "http://a.port.example",
          "https://evil.example/.app.example", "https://evil.example#.app.example",
          "https://evil.example:443.app.example", "https://x@a.app.example", "null", ""}) {
        if (passes(bad)) fail_msg("let in: %s", bad);
    }
    assert_false(passes(nullptr));
}

void test_same(void **) {
    allow({"same"});
    assert_true(passes("http://app.example"));
    assert_true(passes("http://APP.example:80"));
    assert_false(passes("https://app.example"));
    assert_false(passes(nullptr)); // only what is listed
    assert_false(passes("null"));
    fake->request.secure = 1;
    assert_true(passes("https://app.example"));
    assert_true(passes("https://app.example:443"));
    assert_false(passes("http://app.example"));
    assert_false(passes("https://x.app.example"));
    fake->host_name = "App.Example:443";
    assert_true(passes("https://app.example"));
    fake->host_name = "app.example:8443";
    assert_true(passes("https://app.example:8443"));
    assert_false(passes("https://app.example"));
    fake->host_name = "[2001:db8::1]:8443";
    assert_true(passes("https://[2001:db8::1]:8443"));
    for (const char *bad : {"", ":8443", "app.example:", "a b", "app.example:x", "*.example"}) {
        fake->host_name = bad;
        if (passes("https://app.example") || passes(bad)) fail_msg("let in at host %s", bad);
    }
}

// Without a word in the config: the route's own pages, and clients that are no browsers.
void test_default(void **) {
    allow({});
    assert_true(passes("http://app.example"));
    assert_true(passes(nullptr));
    for (const char *bad : {"http://evil.example", "null", "", "https://app.example"}) {
        assert_false(passes(bad));
    }
    assert_string_equal(module->options[0].default_value, "same, none");
    allow({"same", "none"});
    assert_true(passes("http://app.example"));
    assert_true(passes(nullptr));
    assert_false(passes("http://evil.example"));
}

void test_words(void **) {
    allow({"null"});
    assert_true(passes("null"));
    for (const char *bad : {"NULL", "null ", "", "http://null", "http://app.example"}) {
        assert_false(passes(bad));
    }
    assert_false(passes(nullptr));
    allow({"none"});
    assert_true(passes(nullptr));
    assert_false(passes(""));
    assert_false(passes("none"));
    allow({"any"});
    for (const char *any : {"null", "", "https://evil.example", "garbage, more"}) {
        assert_true(passes(any));
    }
    assert_true(passes(nullptr));
}

void test_two_fields(void **) {
    for (const char *list : {"https://app.example", "any"}) {
        allow({list});
        for (belfry_kind kind : {BELFRY_WEBSOCKET, BELFRY_TUNNEL, BELFRY_HTTP}) {
            fake->fields = {{"Origin", "https://app.example"}, {"origin", "https://app.example"}};
            assert_int_equal(module->handshake(call_of(kind, scope), &fake->verdict), BELFRY_DENY);
            assert_int_equal(fake->verdict.status, 403);
            ASSERT_TEXT(reason(), "more than one Origin");
        }
    }
}

void test_config_errors(void **) {
    ASSERT_TEXT(config_error("https://a.example/path"),
                "origin: \"https://a.example/path\" has a path; write https://a.example");
    ASSERT_TEXT(config_error("https://a.example/"),
                "origin: \"https://a.example/\" has a path; write https://a.example");
    ASSERT_TEXT(config_error("https://a.example:8443?q"),
                "origin: \"https://a.example:8443?q\" has a path; write https://a.example:8443");
    ASSERT_TEXT(config_error("a.example"), "origin: \"a.example\" has no scheme; write https://app.example, "
                                           "https://*.example, same, any, null or none");
    ASSERT_TEXT(config_error("https://u@a.example"),
                "origin: \"https://u@a.example\" names a user, which an Origin never does");
    ASSERT_TEXT(config_error("https://a.example:0"),
                "origin: \"https://a.example:0\" has a bad port; it is a number from 1 to 65535");
    assert_non_null(strstr(config_error("https://b\xc3\xbc"
                                        "cher.example")
                               .c_str(),
                           "has a bad host"));
    for (const char *bad :
         {"", "*", "https://*", "https://*.", "https://*.*.example", "https://a.*.example", "https://a*",
          "https://*a.example", "https://*.[::1]", "https://a.example:65536", "https://a.example:", "https://",
          "*.example", "Same", "https://.example", "https://*..example"}) {
        if (config_error(bad) == "fine") fail_msg("taken: %s", bad);
    }
    // Cut to what the host has room for, and ended.
    char error[24];
    memset(error, 'x', sizeof error);
    error[0] = 0;
    const belfry_text entry = belfry_text_of("https://a.example/path");
    const belfry_value value = {.number = 0, .rate = {}, .text = {}, .list = &entry, .list_count = 1};
    assert_null(module->scope_new(&host, "route", belfry_text_of("/"), &value, 1, error, sizeof error));
    assert_string_equal(error, "origin: \"https://a.exam");
}

// ---- plain HTTP ----

struct cors_answer {
    belfry_verdict_type type;
    string allow_origin, credentials, vary;
};

cors_answer ask(const char *origin) {
    fake->fields.clear();
    if (origin) fake->fields.emplace_back("Origin", origin);
    const belfry_verdict_type type = module->handshake(call_of(BELFRY_HTTP, scope), &fake->verdict);
    return {type, answered("Access-Control-Allow-Origin"), answered("Access-Control-Allow-Credentials"),
            answered("Vary")};
}

#define ASSERT_CORS(origin, want_origin, want_credentials, want_vary)                                                  \
    do {                                                                                                               \
        const cors_answer got = ask(origin);                                                                           \
        assert_int_equal(got.type, BELFRY_PASS);                                                                       \
        ASSERT_TEXT(got.allow_origin, want_origin);                                                                    \
        ASSERT_TEXT(got.credentials, want_credentials);                                                                \
        ASSERT_TEXT(got.vary, want_vary);                                                                              \
    } while (0)

void test_cors(void **) {
    allow({"https://app.example", "https://*.pages.example", "same", "null"});
    ASSERT_CORS("https://app.example", "https://app.example", "true", "Origin");
    ASSERT_CORS("https://x.pages.example", "https://x.pages.example", "true", "Origin");
    // Every sandboxed frame says null: no cookies for it.
    ASSERT_CORS("null", "null", "", "Origin");
    // Not refused, and not told either.
    ASSERT_CORS("https://evil.example", "", "", "Origin");
    ASSERT_CORS("https://app.example, https://x", "", "", "Origin");
    ASSERT_CORS(nullptr, "", "", "Origin");
    ASSERT_CORS("http://app.example", "", "", "Origin"); // the same: needs none
    allow({});
    ASSERT_CORS("http://app.example", "", "", "");
    ASSERT_CORS("https://evil.example", "", "", "");
    allow({"any"});
    ASSERT_CORS("https://evil.example", "*", "", "");
    ASSERT_CORS(nullptr, "*", "", "");
    // The specific entry goes before `any`, wherever it stands.
    allow({"any", "https://app.example"});
    ASSERT_CORS("https://app.example", "https://app.example", "true", "Origin");
    ASSERT_CORS("https://evil.example", "*", "", "Origin");
}

belfry_verdict_type preflight(const char *origin, const char *method, const char *headers) {
    fake->method = "OPTIONS";
    fake->fields.clear();
    fake->fields.emplace_back("Origin", origin);
    if (method) fake->fields.emplace_back("Access-Control-Request-Method", method);
    if (headers) fake->fields.emplace_back("Access-Control-Request-Headers", headers);
    return module->handshake(call_of(BELFRY_HTTP, scope), &fake->verdict);
}

void test_preflight(void **) {
    allow({"https://app.example"});
    assert_int_equal(preflight("https://app.example", "PUT", "content-type, x-one"), BELFRY_DENY);
    assert_int_equal(fake->verdict.status, 204);
    ASSERT_TEXT(answered("Access-Control-Allow-Origin"), "https://app.example");
    ASSERT_TEXT(answered("Access-Control-Allow-Credentials"), "true");
    ASSERT_TEXT(answered("Access-Control-Allow-Methods"), "PUT");
    ASSERT_TEXT(answered("Access-Control-Allow-Headers"), "content-type, x-one");
    ASSERT_TEXT(answered("Access-Control-Max-Age"), "600");
    ASSERT_TEXT(answered("Vary"), "Origin | Access-Control-Request-Method, Access-Control-Request-Headers");
    assert_int_equal(preflight("https://app.example", "DELETE", nullptr), BELFRY_DENY);
    assert_int_equal(fake->verdict.status, 204);
    ASSERT_TEXT(answered("Access-Control-Allow-Headers"), "");
    // What isn't allowed is the backend's to answer, as is an OPTIONS that is no preflight.
    assert_int_equal(preflight("https://evil.example", "PUT", nullptr), BELFRY_PASS);
    ASSERT_TEXT(answered("Access-Control-Allow-Origin"), "");
    ASSERT_TEXT(answered("Access-Control-Allow-Methods"), "");
    assert_int_equal(preflight("https://app.example", nullptr, "x"), BELFRY_PASS);
    // Nothing is echoed that isn't what it should be.
    const string long_list(1025, 'x');
    for (const auto &bad : {std::pair{"P\r\nX: y", "a"},
                            {"", "a"},
                            {"PUT, GET", "a"},
                            {"PUT", "a\r\nb"},
                            {"PUT", "a;b"},
                            {"PUT", long_list.c_str()}}) {
        assert_int_equal(preflight("https://app.example", bad.first, bad.second), BELFRY_DENY);
        assert_int_equal(fake->verdict.status, 400);
        ASSERT_TEXT(answered("Access-Control-Allow-Methods"), "");
        ASSERT_TEXT(answered("Access-Control-Allow-Headers"), "");
    }
    // A GET with the field is no preflight.
    fake->fields = {{"Origin", "https://app.example"}, {"Access-Control-Request-Method", "PUT"}};
    fake->method = "GET";
    assert_int_equal(module->handshake(call_of(BELFRY_HTTP, scope), &fake->verdict), BELFRY_PASS);
}

// ---- sessions without WebSocket ----

bool opens(belfry_kind kind, const char *origin, const char *relation) {
    fake->fields.clear();
    if (origin) fake->fields.emplace_back("Origin", origin);
    if (relation) fake->fields.emplace_back("Sec-Fetch-Site", relation);
    return module->handshake(call_of(kind, scope), &fake->verdict) == BELFRY_PASS;
}

void test_sessions(void **) {
    fake->request.secure = 1;
    fake->host_name = "app.example";
    for (belfry_kind kind : {BELFRY_EVENTS, BELFRY_CARRIED}) {
        allow({"https://app.example"});
        assert_true(opens(kind, "https://app.example", "same-origin"));
        ASSERT_TEXT(answered("Access-Control-Allow-Origin"), "https://app.example");
        assert_false(opens(kind, "https://evil.example", "same-origin")); // the field that is there counts
        assert_int_equal(fake->verdict.status, 403);
        // A page of the own site sends no Origin with a GET, but its browser says that it is one.
        assert_true(opens(kind, nullptr, "same-origin"));
        ASSERT_TEXT(answered("Access-Control-Allow-Origin"), "");
        for (const char *other : {"same-site", "cross-site", "none", "", "Same-Origin"})
            assert_false(opens(kind, nullptr, other));
        assert_false(opens(kind, nullptr, nullptr));
        allow({"same"});
        assert_true(opens(kind, nullptr, "same-origin"));
        allow({"https://other.example"}); // the own site is not in the list
        assert_false(opens(kind, nullptr, "same-origin"));
        allow({"none"}); // no browsers
        assert_true(opens(kind, nullptr, nullptr));
        assert_false(opens(kind, nullptr, "same-origin"));
        // What a page of another site causes is no request of nobody.
        allow({"same", "none"});
        assert_true(opens(kind, nullptr, "none")); // typed in
        assert_true(opens(kind, nullptr, nullptr));
        assert_false(opens(kind, nullptr, "cross-site"));
        assert_false(opens(kind, nullptr, "same-site"));
        allow({"any"});
        assert_true(opens(kind, nullptr, "same-origin"));
        assert_true(opens(kind, nullptr, "cross-site"));
        ASSERT_TEXT(answered("Access-Control-Allow-Origin"), "*");
    }
    allow({"same"});
    assert_false(opens(BELFRY_WEBSOCKET, nullptr, "same-origin")); // browsers always send Origin with a handshake
}

} // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_exact, setup, finish),
        cmocka_unit_test_setup_teardown(test_default_ports, setup, finish),
        cmocka_unit_test_setup_teardown(test_hosts, setup, finish),
        cmocka_unit_test_setup_teardown(test_wildcard, setup, finish),
        cmocka_unit_test_setup_teardown(test_same, setup, finish),
        cmocka_unit_test_setup_teardown(test_default, setup, finish),
        cmocka_unit_test_setup_teardown(test_words, setup, finish),
        cmocka_unit_test_setup_teardown(test_two_fields, setup, finish),
        cmocka_unit_test_setup_teardown(test_config_errors, setup, finish),
        cmocka_unit_test_setup_teardown(test_cors, setup, finish),
        cmocka_unit_test_setup_teardown(test_preflight, setup, finish),
        cmocka_unit_test_setup_teardown(test_sessions, setup, finish),
    };
    return cmocka_run_group_tests_name("origin", tests, nullptr, nullptr);
}
