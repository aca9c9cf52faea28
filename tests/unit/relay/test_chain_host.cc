// Unit tests of what Belfry offers to modules: the request's parts, the answer's fields, who the client is, tokens.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
extern "C" {
#include <cmocka.h>
}

#include "chain_bench.h"
#include "proto/hmac.h"

using namespace belfry;

namespace {

// A module whose hooks are the test's.
void (*body)(const struct belfry_call *call, const struct belfry_host *h);

enum belfry_verdict_type run_body(const struct belfry_call *call, struct belfry_verdict *) {
    body(call, call->host);
    return BELFRY_PASS;
}

const struct belfry_module probe = {
    .size = sizeof(struct belfry_module),
    .abi = BELFRY_ABI,
    .name = "probe",
    .version = "",
    .options = nullptr,
    .option_count = 0,
    .conn_size = 0,
    .load = nullptr,
    .unload = nullptr,
    .scope_new = nullptr,
    .scope_free = nullptr,
    .worker_new = nullptr,
    .worker_free = nullptr,
    .handshake = run_body,
    .admitted = run_body,
    .message = run_body,
    .publish = run_body,
    .renew = run_body,
    .close = nullptr,
};

chain_verdict v;

// Runs `what` as the handshake of a request with these fields.
exchange *at_handshake(const std::string &fields,
                       void (*what)(const struct belfry_call *, const struct belfry_host *)) {
    body = what;
    exchange *x = begin_exchange(connect_client(), fields);
    assert_true(chain_handshake(x, &v) == chain_result::pass);
    return x;
}

int setup(void **) {
    bench_begin(nullptr);
    use_modules({&probe});
    return 0;
}

std::string got;
void note(int found, struct belfry_text t) {
    got += found ? "<" + str(t) + ">" : "-";
}

void fields_cookies_and_parameters(void **) {
    got.clear();
    at_handshake("X-Key: one\r\nx-key:\t two \r\nCookie: a=1; b=2; sid=\"s p\"\r\nCookie: b=3\r\n",
                 [](const struct belfry_call *call, const struct belfry_host *h) {
                     struct belfry_text t;
                     note(h->field(call, "X-KEY", 0, &t), t);
                     note(h->field(call, "x-key", 1, &t), t);
                     note(h->field(call, "x-key", 2, &t), t);
                     note(h->cookie(call, text("a"), &t), t);
                     note(h->cookie(call, text("b"), &t), t); // two of them
                     note(h->cookie(call, text("none"), &t), t);
                     struct belfry_text other;
                     note(h->query(call, text("token"), &t), t); // the first one
                     note(h->query(call, text("x"), &other), other);
                     note(1, t); // still there
                     note(h->query(call, text("y"), &t), t);
                     note(h->subprotocol(call, "belfry.", &t), t);
                 });
    assert_string_equal(got.c_str(), "<one><two>-<1>--<a+b c><1><a+b c>--");
}

void subprotocols_by_prefix(void **) {
    got.clear();
    body = [](const struct belfry_call *call, const struct belfry_host *h) {
        struct belfry_text t;
        note(h->subprotocol(call, "belfry.token.", &t), t);
        note(h->subprotocol(call, "none.", &t), t);
    };
    exchange *x = begin_exchange(connect_client(), "");
    x->hello.protocol_count = 2;
    x->hello.protocols[0] = "belfry.json";
    x->hello.protocols[1] = "belfry.token.abc";
    assert_true(chain_handshake(x, &v) == chain_result::pass);
    assert_string_equal(got.c_str(), "<abc>-");
}

void answer_fields_cannot_break_the_answer(void **) {
    exchange *x = at_handshake("", [](const struct belfry_call *call, const struct belfry_host *h) {
        auto add = [&](struct belfry_text name, struct belfry_text value) {
            return h->answer_field(call, name, value);
        };
        assert_true(add(text("Set-Cookie"), text(" a=b; HttpOnly ")));
        assert_true(add(text("X-Utf8"), text("\xc3\xa9\ttab")));
        for (const char *bad : {"a\r\nX: y", "a\nb", "a\rb", "\x01", "\x7f"})
            assert_false(add(text("X"), text(bad)));
        assert_false(add(text("X"), {"a\0b", 3}));
        for (const char *bad :
             {"", "a b", "a:", "X\r\nY", "Connection", "content-length", "TRANSFER-ENCODING", "Upgrade",
              "Sec-WebSocket-Accept", "sec-websocket-protocol", "Content-Type", "Retry-After"})
            assert_false(add(text(bad), text("x")));
        std::string much(chain_fields_max, 'x');
        assert_false(add(text("X"), {much.data(), much.size()}));
    });
    assert_string_equal(std::string(buffer_view(&x->fields)).c_str(),
                        "Set-Cookie: a=b; HttpOnly\r\nX-Utf8: \xc3\xa9\ttab\r\n");
}

void who_the_client_is(void **) {
    exchange *x = at_handshake("", [](const struct belfry_call *call, const struct belfry_host *h) {
        assert_true(h->set_user(call, text("ann")));
        assert_int_equal(call->user.size, 0); // as it was when the call began
        std::string longest(249, 'u'), longer(250, 'u');
        assert_false(h->set_user(call, {longer.data(), longer.size()}));
        for (const char *bad : {"", "a b", "a\n", "\xff"})
            assert_false(h->set_user(call, text(bad)));
        assert_true(h->set_info(call, text("{\"name\":\"Ann\"}")));
        std::string large = "\"" + std::string(4096, 'x') + "\"";
        for (const char *bad : {"", "{", "{\"a\":1}x", "'a'", large.c_str()})
            assert_false(h->set_info(call, text(bad)));
        h->set_expiry(call, 60);
        h->set_sticky_key(call, text("key"));
        assert_true(h->allow(call, 0, text("chat:*")));
        assert_true(h->allow(call, 1, text("chat:1")));
        for (const char *bad : {"", "@all", "@user:*", "a b"})
            assert_false(h->allow(call, 0, text(bad)));
        for (int i = 1; i < 64; i++)
            assert_true(h->allow(call, 0, text("r")));
        assert_false(h->allow(call, 0, text("one more")));
        assert_false(h->ask_backend(call));
    });
    conn *c = x->on;
    assert_string_equal(c->client->user.c_str(), "ann");
    assert_string_equal(c->client->info.c_str(), "{\"name\":\"Ann\"}");
    assert_int_equal(c->client->expires_ms, bench->now_ms + 60000);
    assert_string_equal(std::string(exchange_sticky(x)).c_str(), "key");
    assert_true(x->has_sticky);
    assert_true(client_may_join(c, "chat:7"));
    assert_false(client_may_join(c, "@user:ann"));
    assert_true(client_may_publish(c, "chat:1"));
    assert_false(client_may_publish(c, "chat:7"));
    buffer out = {};
    client_write_from(c, &out);
    std::string from(buffer_view(&out));
    buffer_free(&out);
    std::string id(view(conn_id_format(conn_id_of(c))));
    assert_string_equal(from.c_str(),
                        ("{\"conn\":\"" + id + "\",\"user\":\"ann\",\"info\":{\"name\":\"Ann\"}}").c_str());
    bench->has_backend = true;
    body = [](const struct belfry_call *call, const struct belfry_host *h) {
        assert_false(h->ask_backend(call)); // in the handshake hook alone
        assert_string_equal(str(call->user).c_str(), "ann");
        h->set_user(call, text("ben"));
        assert_string_equal(str(call->user).c_str(), "ann"); // the text stays until the hook returns
    };
    assert_true(chain_admitted(x, &v) == chain_result::pass);
    assert_string_equal(std::string(client_user(c)).c_str(), "ben");
}

void nobody_is_kept_for_nothing(void **) {
    exchange *x = at_handshake("", [](const struct belfry_call *call, const struct belfry_host *h) {
        h->set_expiry(call, 0);
        h->set_sticky_key(call, text("key"));
    });
    assert_null(x->on->client);
    assert_false(client_may_join(x->on, "chat:7"));
    assert_int_equal(client_user(x->on).size(), 0);
}

void at_another_moment_nothing_happens(void **) {
    exchange *x = at_handshake("Cookie: a=1\r\n", [](const struct belfry_call *, const struct belfry_host *) {});
    conn *c = x->on;
    body = [](const struct belfry_call *call, const struct belfry_host *h) {
        struct belfry_text t;
        assert_false(h->field(call, "cookie", 0, &t));
        assert_false(h->cookie(call, text("a"), &t));
        assert_false(h->query(call, text("x"), &t));
        assert_false(h->subprotocol(call, "b", &t));
        assert_false(h->answer_field(call, text("X"), text("y")));
        assert_false(h->ask_backend(call));
        h->set_sticky_key(call, text("key"));
        assert_false(h->set_user(call, text("ann")));
        assert_false(h->set_info(call, text("1")));
        assert_false(h->allow(call, 0, text("r")));
        h->set_expiry(call, 60);
    };
    bench->has_backend = true;
    assert_true(chain_message(c, "x", false, &v, &bench_waiter) == chain_result::pass);
    assert_true(chain_publish(c, "r", nullptr, "x", &v) == chain_result::pass);
    assert_int_equal(bench->asked, 0);
    assert_false(x->has_sticky);
    assert_null(c->client);
}

void a_renewal_names_nobody_anew(void **) {
    exchange *x = at_handshake(
        "", [](const struct belfry_call *call, const struct belfry_host *h) { h->set_user(call, text("ann")); });
    body = [](const struct belfry_call *call, const struct belfry_host *h) {
        assert_false(h->set_user(call, text("ben")));
        assert_true(h->set_user(call, text("ann")));
        assert_true(h->allow(call, 0, text("r")));
    };
    assert_true(chain_renew(x->on, "x", &v) == chain_result::pass);
    assert_string_equal(std::string(client_user(x->on)).c_str(), "ann");
    assert_true(client_may_join(x->on, "r"));
}

// ---------------------------------------------------------------- tokens

constexpr char secret[] = "0123456789abcdef0123456789abcdef";
struct belfry_keys *keys;
std::string token, other_token;
const char *why;

std::string encoded(view bytes) {
    std::string out(4 * ((bytes.size() + 2) / 3) + 4, 0);
    out.resize(base64url_encode(bytes, out.data()));
    return out;
}

std::string make_token(const std::string &claims) {
    std::string head = encoded("{\"alg\":\"HS256\"}") + "." + encoded(claims);
    uint8_t mac[32];
    hmac_sha256(secret, head, mac);
    return head + "." + encoded(view(reinterpret_cast<char *>(mac), sizeof mac));
}

void take(const struct belfry_call *call, const struct belfry_host *h, const std::string &t) {
    struct belfry_token_rules rules = {};
    rules.size = sizeof rules;
    rules.keys = keys;
    rules.algorithms = BELFRY_HS256;
    why = h->take_token(call, &rules, {t.data(), t.size()});
}

int setup_keys(void **) {
    setup(nullptr);
    char wrong[200] = "";
    struct belfry_text t = {secret, sizeof secret - 1};
    keys = chain_host()->keys_load(&t, 1, wrong, sizeof wrong);
    return keys ? 0 : 1;
}

int teardown_keys(void **) {
    int left = bench_end(nullptr);
    chain_host()->keys_free(keys);
    return left;
}

void a_token_says_who_somebody_is(void **) {
    bench->s->loop->clock.wall_ms = 1700000000000;
    token = make_token("{\"sub\":\"ann\",\"exp\":1700000060,\"info\":{\"n\":1},\"rooms\":[\"chat:*\"]}");
    exchange *x = at_handshake("", [](const struct belfry_call *call, const struct belfry_host *h) {
        take(call, h, token + "x");
        assert_non_null(why);
        assert_null(bench->s->conns[0]->client);
        take(call, h, token);
        assert_null(why);
    });
    conn *c = x->on;
    assert_string_equal(std::string(client_user(c)).c_str(), "ann");
    assert_int_equal(c->client->expires_ms, bench->now_ms + 60000);
    assert_string_equal(c->client->info.c_str(), "{\"n\":1}");
    assert_true(client_may_join(c, "chat:1") && client_may_publish(c, "chat:1"));
    assert_non_null(strstr(std::string(buffer_view(&x->claims)).c_str(), "\"exp\":1700000060"));
}

void a_renewal_makes_nobody_another_one(void **) {
    bench->s->loop->clock.wall_ms = 1700000000000;
    token = make_token("{\"sub\":\"ann\",\"exp\":1700000060}");
    other_token = make_token("{\"sub\":\"ben\",\"exp\":1700009999}");
    exchange *x =
        at_handshake("", [](const struct belfry_call *call, const struct belfry_host *h) { take(call, h, token); });
    conn *c = x->on;
    body = [](const struct belfry_call *call, const struct belfry_host *h) { take(call, h, other_token); };
    assert_true(chain_renew(c, "x", &v) == chain_result::pass); // the probe's word; the host said no
    assert_string_equal(why, "the token is another user's");
    assert_int_equal(c->client->expires_ms, bench->now_ms + 60000);
    token = make_token("{\"sub\":\"ann\",\"exp\":1700000100}");
    body = [](const struct belfry_call *call, const struct belfry_host *h) { take(call, h, token); };
    assert_true(chain_renew(c, "x", &v) == chain_result::pass);
    assert_null(why);
    assert_int_equal(c->client->expires_ms, bench->now_ms + 100000);
}

void a_renewal_takes_the_last_tokens_rooms(void **) {
    bench->s->loop->clock.wall_ms = 1700000000000;
    token = make_token("{\"sub\":\"ann\",\"exp\":1700000060,\"rooms\":{\"join\":[\"a\",\"b\"],\"publish\":[\"c\"]}}");
    exchange *x = at_handshake("", [](const struct belfry_call *call, const struct belfry_host *h) {
        h->allow(call, 0, text("own"));
        take(call, h, token);
        h->allow(call, 1, text("own"));
    });
    conn *c = x->on;
    assert_true(client_may_join(c, "a") && client_may_join(c, "b") && client_may_publish(c, "c"));
    body = [](const struct belfry_call *call, const struct belfry_host *h) { take(call, h, token); };
    for (const char *rooms : {"", ",\"rooms\":[\"d\"]", ",\"rooms\":[]"}) {
        token = make_token(std::string("{\"sub\":\"ann\",\"exp\":1700000060") + rooms + "}");
        assert_true(chain_renew(c, "x", &v) == chain_result::pass);
        assert_null(why);
        for (const char *room : {"a", "b", "c"})
            assert_false(client_may_join(c, room) || client_may_publish(c, room));
        assert_int_equal(client_may_join(c, "d"), strchr(rooms, 'd') != nullptr);
        assert_true(client_may_join(c, "own") && client_may_publish(c, "own")); // another module's
    }
}

void bad_keys_are_explained(void **) {
    char wrong[200] = "";
    struct belfry_text texts[] = {text("too short")};
    assert_null(chain_host()->keys_load(texts, 1, wrong, sizeof wrong));
    assert_non_null(strstr(wrong, "key 1:"));
    static const char nul[40] = "0123456789abcdef";
    texts[0] = {nul, sizeof nul};
    assert_null(chain_host()->keys_load(texts, 1, wrong, sizeof wrong));
    assert_string_equal(wrong, "key 1: holds a NUL byte");
}

void limits_are_the_processs(void **) {
    struct belfry_rate r = {1, 60000, 1};
    assert_int_equal(chain_host()->rate_take(&r, text("limit"), 1, 5000), 0);
    assert_int_equal(chain_host()->rate_take(&r, text("limit"), 1, 5000), 60000);
    assert_int_equal(chain_host()->count_add(text("limit"), 2), 2);
    assert_int_equal(chain_host()->count_add(text("limit"), -3), 0);
}

} // namespace

#define on_bench(test) cmocka_unit_test_setup_teardown(test, setup, bench_end)
#define with_keys(test) cmocka_unit_test_setup_teardown(test, setup_keys, teardown_keys)

int main() {
    const CMUnitTest tests[] = {
        on_bench(fields_cookies_and_parameters),
        on_bench(subprotocols_by_prefix),
        on_bench(answer_fields_cannot_break_the_answer),
        on_bench(who_the_client_is),
        on_bench(nobody_is_kept_for_nothing),
        on_bench(at_another_moment_nothing_happens),
        on_bench(a_renewal_names_nobody_anew),
        with_keys(a_token_says_who_somebody_is),
        with_keys(a_renewal_makes_nobody_another_one),
        with_keys(a_renewal_takes_the_last_tokens_rooms),
        with_keys(bad_keys_are_explained),
        on_bench(limits_are_the_processs),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
