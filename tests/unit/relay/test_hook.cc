// Hook calls of a session: what is asked and signed, in which order, what an answer does, what is left behind.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
extern "C" {
#include <cmocka.h>
}

#include "hook_bench.h"
#include "relay/admission.h"

using namespace belfry;

namespace {

constexpr unsigned char text = 0x81, binary = 0x82;

int begin(void **state) {
    hook_bench_begin(state);
    bench->settings.rooms = {{"ask-*", right_backend, right_backend, 0, {}}, {"*", right_anyone, right_anyone, 0, {}}};
    return 0;
}

void say(const test_client &c, const std::string &object) {
    send_bytes(c, client_frame(text, object));
}
std::string object(const std::string &content) {
    return server_frame(text, content);
}
std::string failure(const std::string &code, const std::string &why) {
    return object("{\"type\":\"error\",\"id\":1,\"code\":" + code + ",\"message\":\"" + why + "\"}");
}
const char *call = "{\"type\":\"call\",\"id\":1,\"method\":\"m\",\"data\":[1]}";
std::string event(const conn *c, const std::string &name, const std::string &rest) {
    return "{\"event\":\"" + name + "\",\"conn\":\"" + id_of(c) + "\"" + rest + "}";
}

// The reference signature of Standard Webhooks' own test suite.
void the_signature_is_standard_webhooks(void **) {
    char out[hook_signature_size];
    hook_signature("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330,
                   R"({"test": 2432232314})", out);
    assert_bytes(std::string(out, sizeof out), "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    char raw[hook_signature_size], same[hook_signature_size];
    hook_signature("0123456789abcdef", "i", 1, "b", raw);
    hook_signature("whsec_MDEyMzQ1Njc4OWFiY2RlZg==", "i", 1, "b", same);
    assert_memory_equal(raw, same, sizeof raw);
}

void a_call_is_asked_and_answered(void **) {
    test_client c = open_client(form_json);
    say(c, call);
    assert_bytes(asked(), event(c.at, "call", ",\"method\":\"m\",\"data\":[1]"));
    assert_bytes(backend->head.substr(0, 23), "POST /belfry HTTP/1.1\r\n");
    assert_bytes(field("Content-Type"), "application/json");
    assert_bytes(field("X-Request-Id"), field("webhook-id"));
    char want[hook_signature_size];
    hook_signature("0123456789abcdef", field("webhook-id"), strtoull(field("webhook-timestamp").c_str(), nullptr, 10),
                   backend->body, want);
    assert_bytes(field("webhook-signature"), std::string(want, sizeof want));
    assert_bytes(received(c), "");
    answer("200 OK", "{\"data\": {\"x\":2} }");
    assert_bytes(received(c), object("{\"type\":\"ok\",\"id\":1,\"data\":{\"x\":2}}"));
    assert_int_equal(the_shard()->count.edge.hook_calls, 1);
    assert_int_equal(the_shard()->count.edge.hook_failures, 0);
}

void without_a_secret_nothing_is_signed(void **) {
    bench->way.hook_secret = "";
    test_client c = open_client(form_json);
    say(c, call);
    asked();
    assert_bytes(field("webhook-signature") + field("webhook-id"), "");
    answer("204 No Content", "");
    assert_bytes(received(c), object("{\"type\":\"ok\",\"id\":1,\"data\":null}"));
}

// What needs no hook doesn't overtake what does; other clients don't notice.
void a_client_is_served_in_order(void **) {
    test_client c = open_client(form_json), other = open_client(form_json);
    send_bytes(c, client_frame(text, call) + client_frame(text, "{\"type\":\"ping\",\"id\":2}") +
                      client_frame(text, "{\"type\":\"call\",\"id\":3,\"method\":\"n\"}"));
    assert_true(asked().find("\"method\":\"m\"") != std::string::npos);
    int first = backend->answering;
    assert_bytes(received(c), "");
    say(other, "{\"type\":\"ping\"}");
    assert_bytes(received(other), object("{\"type\":\"pong\"}"));
    say(other, call);
    assert_true(asked().find(id_of(other.at)) != std::string::npos);
    answer("204 No Content", "");
    assert_bytes(received(other), object("{\"type\":\"ok\",\"id\":1,\"data\":null}"));
    answer_by(first, "204 No Content", "");
    assert_bytes(received(c),
                 object("{\"type\":\"ok\",\"id\":1,\"data\":null}") + object("{\"type\":\"pong\",\"id\":2}"));
    assert_true(asked().find("\"method\":\"n\"") != std::string::npos);
    answer("204 No Content", "");
    assert_bytes(received(c), object("{\"type\":\"ok\",\"id\":3,\"data\":null}"));
}

// A call that runs ends as it began; one that waits behind it, and now has nobody to ask, fails.
void a_reload_takes_the_hook_away(void **) {
    test_client c = open_client(form_json);
    say(c, call);
    asked();
    expiry_refresh(c.at);
    bench->way.hook = "";
    bench->way.hook_secret = "other";
    answer("200 OK", "{\"data\":1}");
    assert_bytes(received(c), object("{\"type\":\"ok\",\"id\":1,\"data\":1}"));
    assert_true(c.at->client->refreshing);
    pass(200);
    assert_false(c.at->client->refreshing);
    assert_int_equal(c.at->client->call_count, 0);
    assert_int_equal(the_shard()->count.edge.hook_failures, 1);
    assert_bytes(asked(), "");
}

void state_is_kept_and_echoed(void **) {
    test_client c = open_client(form_json);
    client_of(c.at)->user = "56";
    say(c, call);
    assert_bytes(asked(), event(c.at, "call", ",\"user\":\"56\",\"method\":\"m\",\"data\":[1]"));
    answer("200 OK", "{\"state\":{\"cart\":[1]}}");
    say(c, call);
    assert_bytes(asked(),
                 event(c.at, "call", ",\"user\":\"56\",\"state\":{\"cart\":[1]},\"method\":\"m\",\"data\":[1]"));
    answer("200 OK", "{\"state\":null}");
    say(c, call);
    assert_bytes(asked(), event(c.at, "call", ",\"user\":\"56\",\"method\":\"m\",\"data\":[1]"));
    answer("204 No Content", "");
}

void what_is_no_answer_is_502(void **) {
    for (const char *status : {"500 No", "404 No", "302 Found", "201 Created"}) {
        test_client c = open_client(form_json);
        say(c, call);
        asked();
        answer(status, "{\"data\":1}");
        assert_bytes(received(c), failure("502", "call: the backend did not answer"));
    }
    for (const char *body : {"", "[]", "{\"user\":5}", "<html>"}) {
        test_client c = open_client(form_json);
        say(c, call);
        asked();
        answer("200 OK", body);
        assert_bytes(received(c), failure("502", "call: the backend did not answer"));
    }
    assert_int_equal(the_shard()->count.edge.hook_failures, 8);
}

void too_large_an_answer_is_502(void **) {
    bench->way.max_message = 1000;
    for (size_t size : {size_t{66000}, size_t{67000}}) {
        test_client c = open_client(form_json);
        say(c, call);
        asked();
        answer("200 OK", "{\"data\":\"" + std::string(size, 'x') + "\"}");
        for (int i = 0; i < 20; i++)
            turn();
        std::string got = received(c);
        assert_true((got.find("\"code\":502") != std::string::npos) == (size == 67000));
    }
}

void too_late_is_504(void **) {
    test_client c = open_client(form_json);
    say(c, call);
    asked();
    pass(4900);
    assert_bytes(received(c), "");
    pass(300);
    assert_bytes(received(c), failure("504", "call: the backend did not answer"));
    say(c, "{\"type\":\"ping\"}");
    assert_bytes(received(c), object("{\"type\":\"pong\"}"));
}

void the_backends_errors_are_passed_on(void **) {
    test_client c = open_client(form_json);
    say(c, call);
    asked();
    answer("200 OK", "{\"error\":{\"code\":409,\"message\":\"sold out\"}}");
    assert_bytes(received(c), failure("409", "sold out"));
    say(c, call);
    asked();
    answer("200 OK", "{\"error\":{}}");
    assert_bytes(received(c), failure("403", "refused by the backend"));
}

void a_join_is_asked_for(void **) {
    test_client c = open_client(form_json), other = open_client(form_raw);
    enter(other.at, "ask-1");
    say(c, "{\"type\":\"join\",\"id\":1,\"room\":\"ask-1\"}");
    assert_bytes(asked(), event(c.at, "join", ",\"room\":\"ask-1\""));
    answer("200 OK", "{\"info\":{\"name\":\"A\"}}");
    assert_bytes(received(c), object("{\"type\":\"ok\",\"id\":1,\"room\":\"ask-1\"}"));
    assert_bytes(c.at->client->info, "{\"name\":\"A\"}");
    assert_non_null(room_membership(c.at, "ask-1"));
    say(c, "{\"type\":\"join\",\"id\":1,\"room\":\"ask-2\"}");
    asked();
    answer("200 OK", "{\"error\":{\"code\":403,\"message\":\"no\"}}");
    assert_bytes(received(c), failure("403", "no"));
    assert_null(room_membership(c.at, "ask-2"));
    client_of(c.at)->join = {"ask-3*"};
    say(c, "{\"type\":\"join\",\"id\":1,\"room\":\"ask-33\"}"); // the connect hook gave it already
    assert_bytes(asked(), "");
    assert_non_null(room_membership(c.at, "ask-33"));
}

void a_publish_is_asked_for(void **) {
    test_client c = open_client(form_json);
    auto publish = [&](const char *answered) {
        letters();
        say(c, "{\"type\":\"publish\",\"id\":1,\"room\":\"ask-1\",\"data\":{\"a\":1}}");
        assert_bytes(asked(), event(c.at, "publish", ",\"room\":\"ask-1\",\"data\":{\"a\":1}"));
        answer("200 OK", answered);
        letters();
        return bench->publishes.empty() ? std::string() : bench->publishes[0].payload;
    };
    assert_bytes(publish("{}"), "{\"a\":1}");
    assert_bytes(publish("{\"data\":[2]}"), "[2]");
    assert_bytes(received(c), "");
    assert_bytes(publish("{\"deliver\":false}"), "");
    assert_bytes(received(c), object("{\"type\":\"ok\",\"id\":1}"));
    assert_bytes(publish("{\"error\":{\"message\":\"too rude\"}}"), "");
    assert_bytes(received(c), failure("403", "too rude"));
}

void raw_messages_go_to_the_hook(void **) {
    test_client c = open_client(form_raw);
    enter(c.at, "open");
    letters();
    send_bytes(c, client_frame(text, "a\"b"));
    assert_bytes(asked(), event(c.at, "message", ",\"data\":\"a\\\"b\""));
    answer("200 OK", "{\"data\":\"x\\ny\"}");
    assert_bytes(received(c), server_frame(text, "x\ny"));
    send_bytes(c, client_frame(binary, std::string("\0\xff", 2)));
    assert_bytes(asked(), event(c.at, "message", ",\"data64\":\"AP8=\""));
    answer("200 OK", "{\"data64\":\"AAE=\"}");
    assert_bytes(received(c), server_frame(binary, std::string("\0\1", 2)));
    send_bytes(c, client_frame(text, "1"));
    asked();
    answer("200 OK", "{\"data\":{\"a\": 1}}");
    assert_bytes(received(c), server_frame(text, "{\"a\": 1}"));
    send_bytes(c, client_frame(text, "2"));
    asked();
    answer("500 No", "");
    assert_bytes(received(c), "");
    assert_int_equal(the_shard()->count.dropped[drop_hook], 1);
    assert_int_equal(letters().size(), 0); // nothing went to the room by itself
}

void commands_go_to_the_node_behind_the_answer(void **) {
    test_client c = open_client(form_json);
    say(c, call);
    asked();
    answer("200 OK", "{\"commands\":[{\"op\":\"publish\",\"room\":\"r\",\"data\":1}, {\"op\":\"leave\"}]}");
    mailbox_flush(&the_shard()->outbox);
    for (const char *want : {"{\"op\":\"publish\",\"room\":\"r\",\"data\":1}", "{\"op\":\"leave\"}"}) {
        auto *l = static_cast<command_letter *>(mailbox_receive(&the_shard()->outbox));
        assert_non_null(l);
        assert_true(l->head.type == letter_type::command);
        std::string got(frame_view(l->source));
        frame_unref(l->source);
        delete l;
        assert_bytes(got, want);
    }
}

void the_backend_disconnects_behind_the_answer(void **) {
    test_client c = open_client(form_json);
    say(c, call);
    asked();
    answer("200 OK", "{\"data\":1,\"disconnect\":{\"code\":4001,\"reason\":\"banned\"}}");
    assert_bytes(
        received(c),
        object("{\"type\":\"ok\",\"id\":1,\"data\":1}") +
            object("{\"type\":\"bye\",\"code\":4001,\"reason\":\"banned\",\"reconnect\":false,\"after_ms\":0}") +
            server_frame(0x88, "\x0f\xa1"
                               "banned"));
    assert_int_equal(closed_with(4000), 1); // applications' codes are counted by their thousand
}

void who_goes_meanwhile_takes_the_call_along(void **) {
    test_client c = open_client(form_json);
    say(c, call);
    asked();
    conn_abort(c.at);
    turn();
    char one;
    assert_int_equal(recv(backend->answering, &one, 1, MSG_DONTWAIT), 0); // the link went with it
    assert_int_equal(the_shard()->live, 0);
}

// A session that got its Close while the backend was thinking is told nothing more.
void nothing_is_said_behind_a_close(void **) {
    test_client c = open_client(form_json);
    say(c, call);
    asked();
    websocket_close(c.at, 4403, "");
    answer("200 OK", "{\"data\":1}");
    assert_bytes(received(c), server_frame(0x88, "\x11\x33"));
    send_bytes(c, client_frame(0x88, "\x11\x33"));
    turn();
    assert_true(at_end(c));
}

} // namespace

#define with_bench(test) cmocka_unit_test_setup_teardown(test, begin, hook_bench_end)

int main() {
    const CMUnitTest tests[] = {
        with_bench(the_signature_is_standard_webhooks),
        with_bench(a_call_is_asked_and_answered),
        with_bench(without_a_secret_nothing_is_signed),
        with_bench(a_client_is_served_in_order),
        with_bench(a_reload_takes_the_hook_away),
        with_bench(state_is_kept_and_echoed),
        with_bench(what_is_no_answer_is_502),
        with_bench(too_large_an_answer_is_502),
        with_bench(too_late_is_504),
        with_bench(the_backends_errors_are_passed_on),
        with_bench(a_join_is_asked_for),
        with_bench(a_publish_is_asked_for),
        with_bench(raw_messages_go_to_the_hook),
        with_bench(commands_go_to_the_node_behind_the_answer),
        with_bench(the_backend_disconnects_behind_the_answer),
        with_bench(who_goes_meanwhile_takes_the_call_along),
        with_bench(nothing_is_said_behind_a_close),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
