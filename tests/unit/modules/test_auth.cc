// Tests of modules/auth: where a token is looked for, what the client is told without one and with a bad one, when the
// backend is asked. The tokens themselves are the host's (proto/jwt, net/signing_keys).
//
// One thread.
#include "fake_host.h"

extern const struct belfry_module belfry_module_auth;

using namespace fake_host;

namespace {

const belfry_module *module = &belfry_module_auth;
std::vector<void *> scopes;

enum { mode_none, mode_backend, mode_jwt, mode_jwt_or_backend };

int finish(void **state) {
    for (void *scope : scopes) {
        module->scope_free(&host, "route", scope);
    }
    scopes.clear();
    return teardown(state);
}

std::vector<belfry_text> texts(std::initializer_list<const char *> list) {
    std::vector<belfry_text> made;
    for (const char *text : list) {
        made.push_back(belfry_text_of(text));
    }
    return made;
}

const std::vector<belfry_text> one_key = texts({"a key"});
const std::vector<belfry_text> algorithms = texts({"HS256", "RS256", "ES256", "EdDSA"});
const std::vector<belfry_text> sources = texts({"header", "cookie:session", "query:token", "subprotocol"});

// The mode with all defaults, and what `more` sets otherwise.
void *route(int mode, const std::vector<setting> &more = {}) {
    std::vector<setting> settings = {{"auth", number_value(mode)},
                                     {"jwt_key", list_value(one_key)},
                                     {"jwt_algorithms", list_value(algorithms)},
                                     {"jwt_leeway", number_value(10000)},
                                     {"token", list_value(sources)}};
    settings.insert(settings.end(), more.begin(), more.end());
    void *scope = scope_with(module, "route", "/ws", settings);
    if (scope) scopes.push_back(scope);
    return scope;
}

belfry_verdict_type handshake(const void *scope, belfry_kind kind = BELFRY_WEBSOCKET) {
    fake->taken_token.clear();
    fake->asked_backend = 0;
    if (!scope) return BELFRY_PASS; // nobody is called for a route that they made nothing of
    return module->handshake(call_of(kind, scope), &fake->verdict);
}

void authorization(const char *value) {
    fake->fields.assign(1, {"authorization", value});
}

void test_none(void **) {
    void *scope = route(mode_none);
    assert_null(scope);
    authorization("Bearer abc");
    for (belfry_kind kind : {BELFRY_WEBSOCKET, BELFRY_HTTP, BELFRY_TUNNEL}) {
        assert_int_equal(handshake(scope, kind), BELFRY_PASS);
    }
    ASSERT_TEXT(fake->taken_token, "");
    assert_int_equal(fake->asked_backend, 0);
    assert_int_equal(fake->keys, 0); // a key that nobody asks for is not loaded
}

void test_jwt(void **) {
    const std::vector<belfry_text> audiences = texts({"one", "two"});
    void *scope = route(
        mode_jwt, {{"jwt_issuer", text_value("https://issuer.example")}, {"jwt_audience", list_value(audiences)}});
    authorization("Bearer abc.def.ghi");
    assert_int_equal(handshake(scope), BELFRY_PASS);
    ASSERT_TEXT(fake->taken_token, "abc.def.ghi");
    const belfry_token_rules *rules = &fake->taken_rules;
    assert_int_equal(rules->size, sizeof *rules);
    assert_ptr_equal(rules->keys, fake);
    assert_int_equal(rules->algorithms, BELFRY_HS256 | BELFRY_RS256 | BELFRY_ES256 | BELFRY_EDDSA);
    ASSERT_TEXT(string_of(rules->issuer), "https://issuer.example");
    assert_int_equal(rules->audience_count, 2);
    ASSERT_TEXT(string_of(rules->audiences[0]), "one");
    ASSERT_TEXT(string_of(rules->audiences[1]), "two");
    assert_int_equal(rules->leeway_s, 10);
    assert_int_equal(fake->answers.size(), 0);

    fake->token_problem = "token has expired";
    assert_int_equal(handshake(scope), BELFRY_DENY);
    assert_int_equal(fake->verdict.status, 401);
    ASSERT_TEXT(reason(), "token has expired");
    ASSERT_TEXT(answered("WWW-Authenticate"), "Bearer error=\"invalid_token\"");

    fake->fields.clear();
    assert_int_equal(handshake(scope, BELFRY_TUNNEL), BELFRY_DENY);
    assert_int_equal(fake->verdict.status, 401);
    ASSERT_TEXT(reason(), "a token is needed");
    ASSERT_TEXT(answered("WWW-Authenticate"), "Bearer");
    ASSERT_TEXT(fake->taken_token, "");
    assert_int_equal(fake->asked_backend, 0);
}

void test_rules(void **) {
    const std::vector<belfry_text> some = texts({"ES256", "EdDSA"});
    authorization("Bearer t");
    assert_int_equal(
        handshake(route(mode_jwt, {{"jwt_algorithms", list_value(some)}, {"jwt_leeway", number_value(999)}})),
        BELFRY_PASS);
    assert_int_equal(fake->taken_rules.algorithms, BELFRY_ES256 | BELFRY_EDDSA);
    assert_int_equal(fake->taken_rules.leeway_s, 0);
    assert_int_equal(fake->taken_rules.audience_count, 0);
    assert_int_equal(fake->taken_rules.issuer.size, 0);
}

void test_header_forms(void **) {
    void *scope = route(mode_jwt);
    const struct {
        const char *field, *token;
    } forms[] = {{"Bearer t", "t"}, {"bearer t", "t"}, {"BEARER   t", "t"}, {"Bearer a b", "a b"}, {"Basic t", ""},
                 {"Bearer", ""},    {"Bearer ", ""},   {"Bearert", ""},     {"Bearer\tt", ""},     {"xBearer t", ""},
                 {"", ""},          {"t", ""}};
    for (const auto &form : forms) {
        authorization(form.field);
        assert_int_equal(handshake(scope), form.token[0] ? BELFRY_PASS : BELFRY_DENY);
        ASSERT_TEXT(fake->taken_token, form.token);
    }
}

// In the order of the option, and the first found counts, be it good or bad.
void test_sources(void **) {
    void *scope = route(mode_jwt);
    fake->subprotocol = "from-subprotocol";
    assert_int_equal(handshake(scope), BELFRY_PASS);
    ASSERT_TEXT(fake->taken_token, "from-subprotocol");
    fake->parameters["token"] = "from-query";
    handshake(scope);
    ASSERT_TEXT(fake->taken_token, "from-query");
    fake->cookies["session"] = "from-cookie";
    handshake(scope);
    ASSERT_TEXT(fake->taken_token, "from-cookie");
    fake->cookies["session"] = ""; // no token
    handshake(scope);
    ASSERT_TEXT(fake->taken_token, "from-query");
    authorization("Bearer from-header");
    handshake(scope);
    ASSERT_TEXT(fake->taken_token, "from-header");
    fake->token_problem = "bad";
    assert_int_equal(handshake(scope), BELFRY_DENY); // not tried with the next
    ASSERT_TEXT(fake->taken_token, "from-header");
    fake->token_problem = nullptr;
    const std::vector<belfry_text> other = texts({"query:token", "header"});
    scope = route(mode_jwt, {{"token", list_value(other)}});
    handshake(scope);
    ASSERT_TEXT(fake->taken_token, "from-query");
    fake->parameters.clear();
    fake->fields.clear();
    assert_int_equal(handshake(scope), BELFRY_DENY); // places that aren't listed aren't looked at
    const std::vector<belfry_text> cookie = texts({"cookie:other"});
    fake->cookies["other"] = "from-other";
    handshake(route(mode_jwt, {{"token", list_value(cookie)}}));
    ASSERT_TEXT(fake->taken_token, "from-other");
}

void test_two_fields(void **) {
    fake->fields = {{"Authorization", "Bearer a"}, {"Authorization", "Bearer b"}};
    for (int mode : {mode_jwt, mode_jwt_or_backend}) {
        assert_int_equal(handshake(route(mode)), BELFRY_DENY);
        assert_int_equal(fake->verdict.status, 400);
        ASSERT_TEXT(reason(), "more than one Authorization");
        ASSERT_TEXT(fake->taken_token, "");
    }
}

void test_backend(void **) {
    void *scope = route(mode_backend);
    authorization("Bearer abc"); // the backend's to judge
    fake->has_hook = true;
    for (belfry_kind kind : {BELFRY_WEBSOCKET, BELFRY_TUNNEL}) {
        assert_int_equal(handshake(scope, kind), BELFRY_WAIT);
        assert_int_equal(fake->asked_backend, 1);
        ASSERT_TEXT(fake->taken_token, "");
    }
    assert_int_equal(handshake(scope, BELFRY_HTTP), BELFRY_PASS);
    assert_int_equal(fake->asked_backend, 0);
    fake->has_hook = false; // never let in for want of somebody to ask
    assert_int_equal(handshake(scope), BELFRY_DENY);
    assert_int_equal(fake->verdict.status, 500);
    ASSERT_TEXT(reason(), "auth asks the backend, and the route has no hook");
}

void test_jwt_or_backend(void **) {
    void *scope = route(mode_jwt_or_backend);
    fake->has_hook = true;
    assert_int_equal(handshake(scope), BELFRY_WAIT);
    assert_int_equal(fake->asked_backend, 1);
    authorization("Basic abc");
    assert_int_equal(handshake(scope), BELFRY_WAIT);
    authorization("Bearer abc");
    assert_int_equal(handshake(scope), BELFRY_PASS);
    assert_int_equal(fake->asked_backend, 0);
    fake->token_problem = "bad"; // a bad token is not made good by asking elsewhere
    assert_int_equal(handshake(scope), BELFRY_DENY);
    assert_int_equal(fake->verdict.status, 401);
    assert_int_equal(fake->asked_backend, 0);
}

void test_http(void **) {
    authorization("Bearer abc");
    fake->token_problem = "bad";
    for (int mode : {mode_jwt, mode_jwt_or_backend}) {
        assert_int_equal(handshake(route(mode), BELFRY_HTTP), BELFRY_PASS); // the backend's own business
        ASSERT_TEXT(fake->taken_token, "");
        assert_int_equal(handshake(route(mode, {{"auth_http", number_value(1)}}), BELFRY_HTTP), BELFRY_DENY);
        assert_int_equal(fake->verdict.status, 401);
    }
    fake->fields.clear();
    assert_int_equal(handshake(route(mode_jwt, {{"auth_http", number_value(1)}}), BELFRY_HTTP), BELFRY_DENY);
    assert_int_equal(fake->verdict.status, 401);
    void *either = route(mode_jwt_or_backend, {{"auth_http", number_value(1)}});
    assert_int_equal(handshake(either, BELFRY_HTTP), BELFRY_PASS); // no hook for a request that it gets anyway
    assert_int_equal(fake->asked_backend, 0);
}

void test_files_for_everybody(void **) {
    for (int mode : {mode_jwt, mode_jwt_or_backend, mode_backend}) {
        void *scope = route(mode, {{"auth_http", number_value(1)}});
        fake->request.for_everybody = 1;
        assert_int_equal(handshake(scope, BELFRY_HTTP), BELFRY_PASS);
        fake->request.size = offsetof(belfry_request, for_everybody); // a Belfry that does not know of it
        assert_int_equal(handshake(scope, BELFRY_HTTP), mode == mode_jwt ? BELFRY_DENY : BELFRY_PASS);
        fake->request.size = sizeof fake->request;
    }
    assert_int_equal(fake->asked_backend, 0);
}

void test_renew(void **) {
    belfry_call *call = call_of(BELFRY_WEBSOCKET, route(mode_jwt));
    call->request = nullptr;
    call->data = belfry_text_of("next.token.text");
    assert_int_equal(module->renew(call, &fake->verdict), BELFRY_PASS);
    ASSERT_TEXT(fake->taken_token, "next.token.text");
    fake->token_problem = "token is another user's";
    assert_int_equal(module->renew(call, &fake->verdict), BELFRY_DENY);
    assert_int_equal(fake->verdict.status, 403);
    ASSERT_TEXT(reason(), "token is another user's");
    fake->taken_token.clear();
    call->route = route(mode_backend);
    assert_int_equal(module->renew(call, &fake->verdict), BELFRY_DENY);
    assert_int_equal(fake->verdict.status, 403);
    ASSERT_TEXT(fake->taken_token, "");
}

string config_error(int mode, const char *name, const belfry_value &value) {
    return route(mode, {{name, value}}) ? "fine" : fake->error;
}

string list_error(const char *name, std::initializer_list<const char *> list) {
    const std::vector<belfry_text> made = texts(list);
    return config_error(mode_jwt, name, list_value(made));
}

void test_config_errors(void **) {
    ASSERT_TEXT(list_error("jwt_key", {}), "auth: needs a jwt_key to check tokens with");
    ASSERT_TEXT(list_error("jwt_algorithms", {"HS256", "none"}),
                "jwt_algorithms: \"none\" is none of HS256, RS256, ES256, EdDSA");
    ASSERT_TEXT(list_error("jwt_algorithms", {"hs256"}),
                "jwt_algorithms: \"hs256\" is none of HS256, RS256, ES256, EdDSA");
    ASSERT_TEXT(list_error("jwt_algorithms", {}), "jwt_algorithms: needs at least one of HS256, RS256, ES256, EdDSA");
    for (const char *bad : {"", "Header", "header:x", "cookie", "cookie:", "cookie:a b", "cookie:a;b",
                            "query:", "query:a&b", "query:a=b", "subprotocol:x"}) {
        const string want = string("token: \"") + bad + "\" is none of header, cookie:NAME, query:NAME, subprotocol";
        ASSERT_TEXT(list_error("token", {bad}), want.c_str());
    }
    ASSERT_TEXT(list_error("token", {}), "token: needs at least one of header, cookie:NAME, query:NAME, subprotocol");
    ASSERT_TEXT(
        list_error("token", {"header", "header", "header", "header", "header", "header", "header", "header", "header"}),
        "token: more than 8 places");
    const std::vector<belfry_text> many(17, belfry_text_of("a"));
    ASSERT_TEXT(config_error(mode_jwt, "jwt_audience", list_value(many)), "jwt_audience: more than 16");
    ASSERT_TEXT(config_error(mode_backend, "auth_http", number_value(1)),
                "auth_http: needs auth = jwt or jwt_or_backend");
    fake->keys_problem = "key 1 is a private key: give the public one";
    assert_null(route(mode_jwt));
    ASSERT_TEXT(fake->error, "jwt_key: key 1 is a private key: give the public one");
}

} // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_none, setup, finish),
        cmocka_unit_test_setup_teardown(test_jwt, setup, finish),
        cmocka_unit_test_setup_teardown(test_rules, setup, finish),
        cmocka_unit_test_setup_teardown(test_header_forms, setup, finish),
        cmocka_unit_test_setup_teardown(test_sources, setup, finish),
        cmocka_unit_test_setup_teardown(test_two_fields, setup, finish),
        cmocka_unit_test_setup_teardown(test_backend, setup, finish),
        cmocka_unit_test_setup_teardown(test_jwt_or_backend, setup, finish),
        cmocka_unit_test_setup_teardown(test_http, setup, finish),
        cmocka_unit_test_setup_teardown(test_files_for_everybody, setup, finish),
        cmocka_unit_test_setup_teardown(test_renew, setup, finish),
        cmocka_unit_test_setup_teardown(test_config_errors, setup, finish),
    };
    return cmocka_run_group_tests_name("auth", tests, nullptr, nullptr);
}
