// Tests of relay/plain_request: what is asked for without WebSocket, and what is wrong with it.
//
// One thread.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
extern "C" {
#include <cmocka.h>
}

#include "relay/plain_request.h"
#include "relay/settings.h"

#include <string>

using namespace belfry;
using std::string;

namespace {

struct bench {
    route at;
    conn on;
    exchange x;
    string head;
};

int setup(void **state) {
    auto *b = new bench{};
    b->at.sse = b->at.poll = true;
    b->at.max_message = 100;
    b->on.route = &b->at;
    b->x.on = &b->on;
    *state = b;
    return 0;
}

int teardown(void **state) {
    delete static_cast<bench *>(*state);
    return 0;
}

// The request line without its version, and field lines with a '|' behind each.
plain_request asked(bench *b, const string &line, const string &fields = "", const char *version = "HTTP/1.1") {
    b->head = line + " " + version + "\r\nHost: x\r\n";
    for (char c : fields)
        b->head += c == '|' ? string("\r\n") : string(1, c);
    b->head += "\r\n";
    http1_scan scan = {};
    const char *why = "";
    assert_int_equal(static_cast<int>(http1_parse_request(b->head, &scan, &b->x.request, &why)), 0);
    return b->x.plain = plain_request_of(&b->at, &b->x.request);
}

int status(bench *b) {
    return plain_request_check(&b->x).status;
}

void test_which_there_are(void **state) {
    auto *b = static_cast<bench *>(*state);
    assert_int_equal(asked(b, "GET /ws", "Accept: text/event-stream|"), plain_ask_events);
    assert_int_equal(asked(b, "GET /ws?transport=poll"), plain_ask_session);
    assert_int_equal(asked(b, "GET /ws?transport=poll&cursor="), plain_ask_session);
    assert_int_equal(asked(b, "GET /ws?cursor=x&transport=poll"), plain_ask_poll);
    assert_int_equal(asked(b, "GET /ws?transport=poll", "Accept: text/event-stream|"), plain_ask_session);
    assert_int_equal(asked(b, "POST /ws", "Belfry-Connection: a.b|Content-Length: 1|"), plain_ask_post);
    assert_int_equal(asked(b, "OPTIONS /ws", "Access-Control-Request-Method: POST|"), plain_ask_preflight);
    for (const char *other : {"GET /ws", "GET /ws?transport=polls", "GET /ws?cursor=x", "POST /ws?transport=poll",
                              "PUT /ws", "DELETE /ws?transport=poll", "OPTIONS /ws"})
        assert_int_equal(asked(b, other), plain_ask_none);
}

void test_accept(void **state) {
    auto *b = static_cast<bench *>(*state);
    for (const char *yes :
         {"Accept: text/event-stream|", "accept: TEXT/EVENT-STREAM|", "Accept: a/b, text/event-stream|",
          "Accept: a/b|Accept: text/event-stream;q=0.1|", "Accept: text/event-stream ;x=y|",
          "Accept: text/event-stream; q=0.001|", "Accept: text/event-stream;qq=0|"})
        assert_int_equal(asked(b, "GET /ws", yes), plain_ask_events);
    for (const char *no :
         {"Accept: */*|", "Accept: text/*|", "Accept: text/event-stream;q=0|", "Accept: text/event-stream; Q=0.000|",
          "Accept: text/event-stream2|", "Accept: |", "X-Accept: text/event-stream|", "Accept: a;b=text/event-stream|"})
        assert_int_equal(asked(b, "GET /ws", no), plain_ask_none);
}

void test_what_the_route_takes(void **state) {
    auto *b = static_cast<bench *>(*state);
    b->at.sse = false;
    assert_int_equal(asked(b, "GET /ws", "Accept: text/event-stream|"), plain_ask_none);
    assert_int_equal(asked(b, "GET /ws?transport=poll"), plain_ask_session);
    assert_int_equal(asked(b, "POST /ws", "Belfry-Connection: a.b|"), plain_ask_post);
    b->at.sse = true;
    b->at.poll = false;
    assert_int_equal(asked(b, "GET /ws?transport=poll"), plain_ask_none);
    assert_int_equal(asked(b, "GET /ws?transport=poll", "Accept: text/event-stream|"), plain_ask_events);
    b->at.sse = false;
    assert_int_equal(asked(b, "POST /ws", "Belfry-Connection: a.b|"), plain_ask_none);
    assert_int_equal(asked(b, "OPTIONS /ws", "Access-Control-Request-Method: POST|"), plain_ask_none);
}

void test_kinds(void **) {
    assert_int_equal(plain_request_kind(plain_ask_events), BELFRY_EVENTS);
    assert_int_equal(plain_request_kind(plain_ask_session), BELFRY_EVENTS);
    assert_int_equal(plain_request_kind(plain_ask_poll), BELFRY_CARRIED);
    assert_int_equal(plain_request_kind(plain_ask_post), BELFRY_CARRIED);
    assert_int_equal(plain_request_kind(plain_ask_preflight), BELFRY_HTTP);
}

void test_objections(void **state) {
    auto *b = static_cast<bench *>(*state);
    const string name = "Belfry-Connection: a.b|", json = "Content-Type: application/json|";
    const struct {
        const char *line;
        string fields;
        int want;
    } cases[] = {
        {"GET /ws", "Accept: text/event-stream|", 0},
        {"HEAD /ws", "Accept: text/event-stream|", 405},
        {"HEAD /ws?transport=poll", "", 405},
        {"GET /ws?transport=poll", "Content-Length: 1|", 400},
        {"GET /ws?transport=poll", "Content-Length: 0|", 0},
        {"GET /ws?transport=poll", "Transfer-Encoding: chunked|", 400},
        {"OPTIONS /ws", "Access-Control-Request-Method: POST|", 0},
        {"POST /ws", name, 411},
        {"POST /ws", name + "Content-Length: 100|", 0},
        {"POST /ws", name + "Content-Length: 101|", 413},
        {"POST /ws", name + "Transfer-Encoding: chunked|", 0},
        {"POST /ws", name + json + "Content-Length: 9|", 0},
        {"POST /ws", name + "Content-Type: Text/Plain; charset=utf-8|Content-Length: 9|", 0},
        {"POST /ws", name + "Content-Type: text/html|Content-Length: 9|", 415},
        {"POST /ws", name + "Content-Type: application/json-seq|Content-Length: 9|", 415},
        {"POST /ws", name + json + json + "Content-Length: 9|", 415},
    };
    for (const auto &c : cases) {
        assert_int_not_equal(asked(b, c.line, c.fields), plain_ask_none);
        assert_int_equal(status(b), c.want);
    }
    asked(b, "GET /ws", "Accept: text/event-stream|", "HTTP/1.0");
    assert_int_equal(status(b), 505);
    b->at.protocol = route_raw; // whose messages may be anything
    asked(b, "POST /ws", name + "Content-Type: image/png|Content-Length: 9|");
    assert_int_equal(status(b), 0);
}

} // namespace

int main() {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_which_there_are, setup, teardown),
        cmocka_unit_test_setup_teardown(test_accept, setup, teardown),
        cmocka_unit_test_setup_teardown(test_what_the_route_takes, setup, teardown),
        cmocka_unit_test(test_kinds),
        cmocka_unit_test_setup_teardown(test_objections, setup, teardown),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
