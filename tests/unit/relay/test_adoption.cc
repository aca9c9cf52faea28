// Reloads inside the relay: connections in every phase live through them and go on by the new settings; nothing points
// into the old ones, which are freed at once (the sanitizer tells).
#include "adoption_bench.h"
#include "relay/notify.h"

#include <algorithm>
#include <atomic>

using namespace belfry;

namespace {

// ---- a module that counts ----

// Written on the worker's thread, read on the test's.
std::atomic<int> handshakes, messages, closes, closes_without_scope;
std::atomic<bool> waits;     // then the ticket
struct belfry_ticket ticket; // of who waits

const test_scope *scope_of(const struct belfry_call *call) {
    return static_cast<const test_scope *>(call->route);
}
struct module_state {
    char first[32]; // the word of the scope that its first message met
    int messages;
};

enum belfry_verdict_type on_handshake(const struct belfry_call *call, struct belfry_verdict *) {
    struct belfry_text value;
    handshakes++;
    if (scope_of(call)->word.empty()) fatal("no word");
    if (!call->host->field(call, "X-Wait", 0, &value)) return BELFRY_PASS;
    ticket = call->ticket;
    waits = true;
    return BELFRY_WAIT;
}
enum belfry_verdict_type on_message(const struct belfry_call *call, struct belfry_verdict *verdict) {
    auto *state = static_cast<module_state *>(call->connection);
    messages++;
    if (!state->messages++) snprintf(state->first, sizeof state->first, "%s", scope_of(call)->word.c_str());
    if (!belfry_text_equal(call->data, belfry_text_of("which"))) return BELFRY_PASS;
    verdict->close_code = 4000;
    verdict->reason = belfry_text_of(state->first);
    return BELFRY_DENY;
}
void on_close(const struct belfry_call *call) {
    closes++;
    if (!call->connection) fatal("no state");
    closes_without_scope += call->route == nullptr;
}
void *unused_scope_new(const struct belfry_host *, const char *, struct belfry_text, const struct belfry_value *,
                       size_t, char *, size_t) {
    return nullptr; // the bench makes them
}

struct belfry_module the_module() {
    struct belfry_module m = {};
    m.size = sizeof m;
    m.abi = BELFRY_ABI;
    m.name = "counting";
    m.conn_size = sizeof(module_state);
    m.scope_new = unused_scope_new;
    m.handshake = on_handshake;
    m.message = on_message;
    m.close = on_close;
    return m;
}
const struct belfry_module module = the_module();

// The module is there, with a scope of that word in these routes.
relay_settings *with_scopes(relay_settings *s, std::initializer_list<const char *> paths, const char *word) {
    s->modules = {{&module, 0}};
    chain_lay_out(s);
    for (const char *path : paths)
        way(s, path)->scopes = {new test_scope{word}};
    return s;
}

int begin(void **state) {
    handshakes = messages = closes = closes_without_scope = 0;
    waits = false;
    return bench_begin(state);
}

int begin_started(void **state) {
    begin(state);
    start_node();
    return 0;
}

#define assert_hears(client, what) assert_true(!hears(&(client), what).empty())

// ---- every phase ----

struct everybody {
    test_client head, hook, json, raw, sse, poll, body, tunnel, post, lingering, served, waits;
    int asked_hook, proxied, tunnelled;
    std::string session, cursor; // of poll's
};

// The value behind a name, up to the closing character.
std::string cut(const std::string &all, const std::string &from, char to) {
    const size_t at = all.find(from);
    if (at == std::string::npos) return "";
    return all.substr(at + from.size(), all.find(to, at + from.size()) - at - from.size());
}

std::string poll_request(const everybody *e) {
    return "GET /poll?transport=poll&cursor=" + e->cursor + " HTTP/1.1\r\nHost: a\r\n\r\n";
}

void open_sessions(everybody *e) {
    e->json = client(upgrade("/json"));
    assert_hears(e->json, "\"type\":\"welcome\"");
    say(e->json, "{\"type\":\"join\",\"room\":\"chat:json\",\"id\":1}");
    assert_hears(e->json, "\"type\":\"ok\"");
    e->raw = client(upgrade("/raw"));
    assert_hears(e->raw, "\r\n\r\n");
    e->sse = client("GET /sse HTTP/1.1\r\nHost: a\r\nAccept: text/event-stream\r\n\r\n");
    assert_hears(e->sse, "\"type\":\"welcome\"");
    e->poll = client("GET /poll?transport=poll HTTP/1.1\r\nHost: a\r\n\r\n");
    e->cursor = cut(hears(&e->poll, "]}"), "\"cursor\":\"", '"');
    e->session = e->cursor.substr(0, e->cursor.rfind('.'));
    assert_false(e->session.empty());
}

// In the middle of something: half a head, a handshake that a module or the backend is asked about, half of a proxied
// body, half of a message for a session, an answer that is being thrown away.
void open_requests(everybody *e) {
    e->head = client("GET /json HTTP/1.1\r\nHost: a\r\nConn");
    e->hook = client(upgrade("/hook"));
    e->asked_hook = asked("POST /asked");
    e->waits = client(upgrade("/json", "X-Wait: 1\r\n"));
    assert_true(until([] { return waits.load(); }));
    e->body = client("POST /app/body HTTP/1.1\r\nHost: a\r\nContent-Length: 8\r\n\r\nhalf");
    e->proxied = asked("POST /app/body");
    e->tunnel = client(upgrade("/app/tunnel"));
    e->tunnelled = asked("GET /app/tunnel");
    send_all(e->tunnelled, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                           "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n");
    assert_hears(e->tunnel, "\r\n\r\n");
    e->post = client("POST /poll HTTP/1.1\r\nHost: a\r\nBelfry-Connection: " + e->session +
                     "\r\nContent-Length: 25\r\n\r\n{\"type\":\"pi");
    e->lingering = client("GET /nowhere HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_hears(e->lingering, "404");
    e->served = client("GET /app/first HTTP/1.1\r\nHost: a\r\n\r\n");
    answer(asked("GET /app/first"), "first");
    assert_hears(e->served, "first");
}

// All of them come to their end as if nothing had been.
void finish_requests(everybody *e) {
    send_all(e->head.fd, "ection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
                         "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n");
    assert_hears(e->head, "\"type\":\"welcome\"");
    answer(e->asked_hook, "{\"user\":\"56\"}");
    assert_hears(e->hook, "\"user\":\"56\"");
    chain_host()->resume(ticket, BELFRY_PASS, nullptr);
    assert_hears(e->waits, "\"type\":\"welcome\"");
    send_all(e->body.fd, "done");
    assert_int_equal(asked("halfdone"), e->proxied);
    answer(e->proxied, "whole");
    assert_hears(e->body, "whole");
    send_all(e->tunnel.fd, "to the backend");
    assert_int_equal(asked("to the backend"), e->tunnelled);
    send_all(e->tunnelled, std::string("\x82\x04"
                                       "down",
                                       6));
    assert_hears(e->tunnel, "down");
    send_all(e->post.fd, "ng\",\"id\":7   }");
    assert_hears(e->post, "\"id\":7");
    send_all(e->served.fd, "GET /app/second HTTP/1.1\r\nHost: a\r\n\r\n");
    answer(asked("GET /app/second"), "second");
    assert_hears(e->served, "second");
    close(e->lingering.fd);
    bench->fds.erase(std::find(bench->fds.begin(), bench->fds.end(), e->lingering.fd));
}

void sessions_go_on(everybody *e) {
    say(e->json, "{\"type\":\"publish\",\"room\":\"chat:json\",\"data\":\"again\",\"echo\":true,\"id\":2}");
    assert_hears(e->json, "\"again\"");
    say(e->raw, "echoed");
    assert_hears(e->raw, "echoed");
    say(e->json, "{\"type\":\"publish\",\"room\":\"chat:plain\",\"data\":\"plain\",\"id\":3}");
    assert_hears(e->sse, "\"plain\"");
    send_all(e->poll.fd, poll_request(e));
    const std::string batch = hears(&e->poll, "]}");
    assert_true(batch.find("\"plain\"") != std::string::npos);
    e->cursor = cut(batch, "\"cursor\":\"", '"');
}

void test_every_phase(void **) {
    everybody e = {};
    free_settings(bench->settings);
    bench->settings = with_scopes(make_settings(), {"/json", "/app"}, "first");
    start_node();
    open_sessions(&e);
    open_requests(&e);
    for (int i = 0; i < 3; i++) {
        adopt(with_scopes(make_settings(), {"/json", "/app"}, "second"));
        sessions_go_on(&e);
    }
    finish_requests(&e);
    adopt(with_scopes(make_settings(), {"/json", "/app"}, "third"));
    sessions_go_on(&e);
}

// ---- modules ----

void say_which(test_client *c, const char *word) {
    say(*c, "which");
    assert_hears(*c, std::string("\x0f\xa0") + word); // Close 4000
}

// A connection whose route had nothing for the module is its business from the reload on, and until its end.
void test_module_begins_and_ends(void **) {
    free_settings(bench->settings);
    bench->settings = with_scopes(make_settings(), {}, "");
    start_node();
    test_client before = client(upgrade("/raw")), never = client(upgrade("/raw")), idle = client(upgrade("/json"));
    assert_hears(before, "\r\n\r\n");
    assert_hears(never, "\r\n\r\n");
    assert_hears(idle, "welcome");
    adopt(with_scopes(make_settings(), {"/raw"}, "second"));
    assert_int_equal(handshakes, 0);
    say(before, "one");
    assert_hears(before, "one");
    assert_int_equal(messages, 1);
    adopt(with_scopes(make_settings(), {"/raw"}, "third"));
    say_which(&before, "second"); // its state is the one that it had
    assert_true(until([] { return closes == 1; }));
    test_client since = client(upgrade("/raw"));
    assert_hears(since, "\r\n\r\n");
    assert_int_equal(handshakes, 1);
    adopt(with_scopes(make_settings(), {}, ""));
    say(since, "two");
    assert_hears(since, "two");
    assert_int_equal(messages, 2); // it is called no more
    for (test_client *c : {&since, &never, &idle}) {
        say(*c, "{");
        shutdown(c->fd, SHUT_RDWR);
    }
    assert_true(until([] { return bench->node.process_live.load() == 0; }));
    assert_int_equal(closes, 2); // but for the end of the connection that was its own
    assert_int_equal(closes_without_scope, 1);
}

// ---- limits, rules, upstreams, listeners ----

void test_limits_are_felt(void **) {
    test_client large = client(upgrade("/raw")), quiet = client(upgrade("/raw")), slow = client(upgrade("/json"));
    for (test_client *c : {&large, &quiet, &slow})
        assert_hears(*c, "\r\n\r\n");
    say(large, std::string(2000, 'a'));
    assert_hears(large, std::string(2000, 'a'));
    relay_settings *now = make_settings();
    way(now, "/raw")->max_message = 1000;
    way(now, "/raw")->ping_interval = 200;
    way(now, "/json")->idle_timeout = 200;
    adopt(now);
    assert_hears(quiet, std::string("\x89\x00", 2)); // a Ping
    assert_hears(slow, "\x03\xe9"
                       "idle"); // Close 1001
    say(large, std::string(2000, 'b'));
    assert_hears(large, "\x03\xf1"); // Close 1009
}

void test_rights_of_rooms(void **) {
    test_client c = client(upgrade("/json"));
    assert_hears(c, "welcome");
    say(c, "{\"type\":\"join\",\"room\":\"chat:a\",\"id\":1}");
    assert_hears(c, "\"type\":\"ok\"");
    relay_settings *now = make_settings();
    now->rooms.insert(now->rooms.begin(), {"chat:a", right_nobody, right_nobody, 0});
    adopt(now);
    say(c, "{\"type\":\"publish\",\"room\":\"chat:a\",\"data\":1,\"id\":2}");
    assert_hears(c, "nobody may");
    adopt(make_settings());
    say(c, "{\"type\":\"publish\",\"room\":\"chat:a\",\"data\":1,\"id\":3}");
    assert_hears(c, "\"id\":3");
}

// Presence of a room that is there begins: who is in it is no news, who goes is; it ends: nobody is told anything.
void test_presence_of_living_rooms(void **) {
    test_client a = client(upgrade("/json")), b = client(upgrade("/json"));
    for (test_client *c : {&a, &b}) {
        assert_hears(*c, "welcome");
        say(*c, "{\"type\":\"join\",\"room\":\"chat:a\",\"id\":1}");
        assert_hears(*c, "\"type\":\"ok\"");
    }
    relay_settings *now = make_settings();
    now->rooms[0].presence = now->rooms[0].announce = true;
    adopt(now);
    say(a, "{\"type\":\"members\",\"room\":\"chat:a\",\"id\":2}");
    const std::string members = hears(&a, "\"id\":2");
    assert_true(members.find("\"event\":\"join\"") == std::string::npos);
    assert_hears(a, "\"count\":2");
    shutdown(b.fd, SHUT_RDWR);
    assert_hears(a, "\"event\":\"leave\"");
    adopt(make_settings());
    say(a, "{\"type\":\"members\",\"room\":\"chat:a\",\"id\":3}");
    assert_hears(a, "\"type\":\"error\"");
    assert_true(until([] { return presence_count(bench->node.presence).members == 0; }));
}

void test_history_of_living_rooms(void **) {
    test_client c = client(upgrade("/json"));
    assert_hears(c, "welcome");
    say(c, "{\"type\":\"join\",\"room\":\"chat:a\",\"id\":1}");
    assert_hears(c, "\"type\":\"ok\"");
    relay_settings *now = make_settings();
    now->rooms[0].history = 10;
    now->rooms[0].history_ttl = 60000;
    adopt(now);
    assert_hears(c, "\"type\":\"gap\"");
    say(c, "{\"type\":\"publish\",\"room\":\"chat:a\",\"data\":1,\"id\":2,\"echo\":true}");
    const std::string kept = hears(&c, "\"offset\":1");
    const std::string epoch = cut(kept + c.got, "\"epoch\":\"", '"');
    adopt(make_settings());
    assert_hears(c, "\"type\":\"gap\"");
    now = make_settings();
    now->rooms[0].history = 10;
    now->rooms[0].history_ttl = 60000;
    adopt(now);
    assert_hears(c, "\"type\":\"gap\"");
    // What came meanwhile was not kept, so who was away can't have it all: the room is of another epoch.
    say(c, "{\"type\":\"join\",\"room\":\"chat:a\",\"id\":3,\"since\":{\"epoch\":\"" + epoch + "\",\"offset\":1}}");
    assert_hears(c, "\"recovered\":false");
}

// Calls and tunnels stay on what is replaced, new ones go to what is there now.
void test_upstreams(void **) {
    test_client kept = client("GET /app/1 HTTP/1.1\r\nHost: a\r\n\r\n");
    answer(asked("GET /app/1"), "one");
    assert_hears(kept, "one");
    test_client tunnel = client(upgrade("/app/t")), running = client("GET /app/2 HTTP/1.1\r\nHost: a\r\n\r\n");
    const int tunnelled = asked("GET /app/t");
    send_all(tunnelled, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                        "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n");
    assert_hears(tunnel, "\r\n\r\n");
    const int second = asked("GET /app/2");
    relay_settings *now = make_settings();
    now->upstreams[0].servers.clear();
    now->upstreams[0].server.clear();
    add_server(&now->upstreams[0], 1);
    upstream_shared *before = bench->node.upstreams[0];
    adopt(now);
    assert_ptr_not_equal(bench->node.upstreams[0], before);
    assert_int_equal(bench->node.retiring.size(), 1);
    send_all(kept.fd, "GET /app/3 HTTP/1.1\r\nHost: a\r\n\r\n");
    const int third = asked("GET /app/3");
    struct sockaddr_in a = {};
    socklen_t size = sizeof a;
    getsockname(third, reinterpret_cast<struct sockaddr *>(&a), &size);
    assert_int_equal(ntohs(a.sin_port), make_server(bench->backends[1]).port);
    answer(third, "three");
    assert_hears(kept, "three");
    answer(second, "two");
    assert_hears(running, "two");
    send_all(tunnel.fd, "to the backend");
    assert_int_equal(asked("to the backend"), tunnelled);
    assert_int_equal(bench->node.retiring.size(), 1); // of the tunnel
    shutdown(tunnel.fd, SHUT_RDWR);
    assert_true(until([] { return bench->node.retiring.empty(); }));
}

// The same settings again: the same upstream, with its idle links.
void test_upstreams_that_stay(void **) {
    test_client c = client("GET /app/1 HTTP/1.1\r\nHost: a\r\n\r\n");
    const int first = asked("GET /app/1");
    answer(first, "one");
    assert_hears(c, "one");
    upstream_shared *before = bench->node.upstreams[0];
    adopt(make_settings());
    assert_ptr_equal(bench->node.upstreams[0], before);
    send_all(c.fd, "GET /app/2 HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_int_equal(asked("GET /app/2"), first);
    answer(first, "two");
    assert_hears(c, "two");
    relay_settings *now = make_settings(); // another one, for the server's sake the links are kept
    now->upstreams[0].read_timeout = 5000;
    adopt(now);
    assert_ptr_not_equal(bench->node.upstreams[0], before);
    send_all(c.fd, "GET /app/3 HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_int_equal(asked("GET /app/3"), first);
    answer(first, "three");
    assert_hears(c, "three");
    assert_true(until([] { return bench->node.retiring.empty(); }));
}

// A call that runs ends as it began, the next one goes where the route says now.
void test_hooks(void **) {
    test_client c = client(upgrade("/hook"));
    const int fd = asked("POST /asked");
    answer(fd, "{\"user\":\"56\"}");
    assert_hears(c, "welcome");
    say(c, "{\"type\":\"call\",\"method\":\"m\",\"data\":1,\"id\":1}");
    const int first = asked("POST /asked");
    relay_settings *now = make_settings();
    way(now, "/hook")->hook = "/elsewhere";
    adopt(now);
    answer(first, "{\"data\":\"first\"}");
    assert_hears(c, "first");
    say(c, "{\"type\":\"call\",\"method\":\"m\",\"data\":2,\"id\":2}");
    answer(asked("POST /elsewhere"), "{\"data\":\"second\"}");
    assert_hears(c, "second");
    now = make_settings();
    way(now, "/hook")->hook = "";
    way(now, "/hook")->connect_hook = asks_auto;
    way(now, "/hook")->upstream_index = -1;
    adopt(now);
    say(c, "{\"type\":\"publish\",\"room\":\"chat:a\",\"data\":1,\"id\":3}");
    assert_hears(c, "\"id\":3");
}

// What is spooled or under way is told in any case; the next events go where the route says now; a route that has lost
// its hook tells nobody.
void test_notifications(void **) {
    const auto telling = [](const char *hook) {
        relay_settings *s = make_settings();
        way(s, "/json")->hook = hook;
        way(s, "/json")->upstream_index = 0;
        way(s, "/json")->notify_bits = 1u << notify_connected | 1u << notify_disconnected;
        return s;
    };
    const auto tells = [](const std::string &hook, const char *type) {
        const int fd = asked("POST " + hook);
        assert_int_equal(asked("\"type\":\"" + std::string(type) + "\""), fd);
        return fd;
    };
    adopt(telling("/first"));
    test_client a = client(upgrade("/json")), b = client(upgrade("/json"));
    assert_hears(a, "welcome");
    assert_hears(b, "welcome");
    const int fd = tells("/first", "connected");
    shutdown(a.fd, SHUT_RDWR);
    assert_true(until([] { return bench->node.process_live.load() == 1; }));
    adopt(telling("/second"));
    answer(fd, "");
    answer(tells("/second", "disconnected"), "");
    relay_settings *deaf = telling("");
    way(deaf, "/json")->notify_bits = 0;
    way(deaf, "/json")->upstream_index = -1;
    shutdown(b.fd, SHUT_RDWR);
    adopt(deaf);
    adopt(telling("/third"));
    test_client c = client(upgrade("/json"));
    assert_hears(c, "welcome");
    answer(tells("/third", "connected"), "");
}

// Who waits for the backend when its route becomes another kind of route is told to come again.
void test_route_of_another_kind(void **) {
    test_client c = client(upgrade("/hook"));
    const int fd = asked("POST /asked");
    relay_settings *now = make_settings();
    way(now, "/hook")->mode = mode_proxy;
    adopt(now);
    answer(fd, "{}");
    assert_hears(c, "HTTP/1.1 503");
}

// Of sections that are gone altogether, connections are ended; of retired ones they are asked to leave.
void test_gone_and_retired(void **) {
    test_client gone = client(upgrade("/raw")), stays = client(upgrade("/json")),
                served = client("GET /app/1 HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_hears(gone, "\r\n\r\n");
    assert_hears(stays, "welcome");
    answer(asked("GET /app/1"), "one");
    assert_hears(served, "one");
    relay_settings *now = make_settings();
    way(now, "/json")->retired = true;
    std::erase_if(now->routes, [](const route &r) { return r.path == "/raw" || r.path == "/app"; });
    adopt(now);
    assert_true(ends(&gone));
    assert_true(ends(&served));
    assert_hears(stays, "\"type\":\"bye\"");
    assert_hears(stays, "\x03\xf4"); // Close 1012
    test_client late = client(upgrade("/json"));
    assert_hears(late, "HTTP/1.1 404");
    adopt(make_settings()); // it is there again
    late = client(upgrade("/json"));
    assert_hears(late, "welcome");
}

void test_listeners(void **) {
    const int old = bench->listening[0];
    bench->listening.push_back(open_listening());
    adopt(make_settings());
    for (int fd : bench->listening) {
        test_client c = connect_to(fd);
        send_all(c.fd, upgrade("/json"));
        assert_hears(c, "welcome");
    }
    struct sockaddr_in a = {};
    socklen_t size = sizeof a;
    getsockname(old, reinterpret_cast<struct sockaddr *>(&a), &size);
    bench->listening.erase(bench->listening.begin());
    adopt(make_settings());
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_not_equal(connect(fd, reinterpret_cast<struct sockaddr *>(&a), sizeof a), 0);
    close(fd);
    test_client c = client(upgrade("/json"));
    assert_hears(c, "welcome");
}

} // namespace

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin_started, bench_end)
#define TEST_UNSTARTED(name) cmocka_unit_test_setup_teardown(name, begin, bench_end)

int main() {
    log_set_level(log_level::error);
    const struct CMUnitTest tests[] = {
        TEST_UNSTARTED(test_every_phase),
        TEST_UNSTARTED(test_module_begins_and_ends),
        TEST(test_limits_are_felt),
        TEST(test_rights_of_rooms),
        TEST(test_presence_of_living_rooms),
        TEST(test_history_of_living_rooms),
        TEST(test_upstreams),
        TEST(test_upstreams_that_stay),
        TEST(test_hooks),
        TEST(test_notifications),
        TEST(test_route_of_another_kind),
        TEST(test_gone_and_retired),
        TEST(test_listeners),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
