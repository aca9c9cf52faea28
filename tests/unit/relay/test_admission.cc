// Handshakes, looked at where they come out: the answer's bytes at the client's socket, and what was counted.
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>
extern "C" {
#include <cmocka.h>
}

#include "relay/admission.h"
#include "shard_bench.h"

using namespace belfry;

namespace {

constexpr unsigned char text = 0x81;
// RFC 6455 section 1.3's example.
const std::string key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
const std::string upgrade = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n";

int begin(void **state) {
    bench_begin(state);
    bench->way.path = "/ws";
    bench->way.ping_interval = 25000;
    route raw = bench->way, other = bench->way;
    raw.path = "/raw";
    raw.protocol = route_raw;
    other.path = "/other";
    other.host = "b.example";
    bench->settings.routes = {other, raw, bench->way};
    bench->settings.rooms = {{"closed-*", right_backend, right_anyone, 0},
                             {"single", right_anyone, right_anyone, 1},
                             {"*", right_anyone, right_anyone, 0}};
    return 0;
}

route *the_route() {
    return &bench->settings.routes[2];
}

std::string head(const std::string &target, const std::string &more = "") {
    return "GET " + target + " HTTP/1.1\r\nHost: a.example\r\n" + upgrade + key + more + "\r\n";
}

std::string accepted(const std::string &protocol = "") {
    return "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
           "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n" +
           (protocol.empty() ? "" : "Sec-WebSocket-Protocol: " + protocol + "\r\n") + "\r\n";
}

std::string refusal(const std::string &status, const std::string &why, const std::string &extra = "") {
    std::string body = "{\"error\":{\"code\":" + status.substr(0, 3) + ",\"message\":\"" + why + "\"}}";
    return "HTTP/1.1 " + status +
           "\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: " + std::to_string(body.size()) +
           "\r\n" + extra + "\r\n" + body;
}

std::string id_of(const test_client &c) {
    conn_id_text id = conn_id_format(conn_id_of(c.at));
    return std::string(view(id));
}

std::string welcome(const test_client &c, const std::string &rooms) {
    return server_frame(text,
                        "{\"type\":\"welcome\",\"conn\":\"" + id_of(c) + "\",\"ping\":25,\"rooms\":{" + rooms + "}}");
}

uint64_t refused_all() {
    uint64_t all = 0;
    for (uint64_t n : the_shard()->count.refused)
        all += n;
    return all;
}

void assert_refused(const std::string &asked, const std::string &answer, refuse_reason reason) {
    uint64_t before = the_shard()->count.refused[reason], all = refused_all();
    test_client c = connect_client();
    send_bytes(c, asked);
    assert_bytes(received(c), answer);
    assert_true(at_end(c));
    assert_int_equal(the_shard()->count.refused[reason] - before, 1);
    assert_int_equal(refused_all() - all, 1);
    assert_int_equal(the_shard()->count.handshakes, 0);
}

// ---------------------------------------------------------------- 101

void a_good_handshake_is_answered_101(void **) {
    test_client c = connect_client();
    send_bytes(c, head("/ws"));
    assert_bytes(received(c), accepted() + welcome(c, ""));
    assert_int_equal(the_shard()->count.handshakes, 1);
    assert_int_equal(the_shard()->count.accepted, 1);
    assert_int_equal(refused_all(), 0);
    assert_ptr_equal(c.at->phase, &websocket_phase);
    assert_ptr_equal(c.at->route, the_route());
    assert_true(c.at->open);
    assert_int_equal(c.at->send_queue, 1 << 20);
}

void a_head_may_come_byte_by_byte(void **) {
    test_client c = connect_client();
    std::string all = head("/ws");
    for (char byte : all.substr(0, all.size() - 1))
        send_bytes(c, std::string(1, byte));
    assert_bytes(received(c), "");
    send_bytes(c, "\n");
    assert_bytes(received(c), accepted() + welcome(c, ""));
}

void the_subprotocol_decides_the_form(void **) {
    test_client raw = connect_client(), json = connect_client(), by_route = connect_client(),
                unknown = connect_client();
    send_bytes(raw, head("/ws", "Sec-WebSocket-Protocol: other, belfry.v1.raw, belfry.v1.json\r\n"));
    assert_bytes(received(raw), accepted("belfry.v1.raw"));
    assert_int_equal(raw.at->form, form_raw);
    send_bytes(json, head("/raw", "Sec-WebSocket-Protocol: belfry.v1.json\r\n"));
    assert_bytes(received(json), accepted("belfry.v1.json") + welcome(json, ""));
    assert_int_equal(json.at->form, form_json);
    send_bytes(by_route, head("/raw"));
    assert_bytes(received(by_route), accepted());
    assert_int_equal(by_route.at->form, form_raw);
    send_bytes(unknown, head("/raw", "Sec-WebSocket-Protocol: other\r\n"));
    assert_bytes(received(unknown), accepted());
}

// What is answered to which offer is in test_deflate_offer.cc.
void compression_decides_the_form_too(void **) {
    the_route()->compression = bench->settings.routes[1].compression = true;
    struct {
        const char *target, *offer, *answer;
        wire_form form;
    } const cases[] = {
        {"/raw", "permessage-deflate", "", form_raw_deflated},
        {"/ws", "permessage-deflate; client_max_window_bits", "", form_json_deflated},
        {"/raw", "permessage-deflate; server_max_window_bits=15", "; server_max_window_bits=15", form_raw_deflated},
        {"/raw", "permessage-deflate; server_max_window_bits=14", "; server_max_window_bits=14", form_raw_narrow},
        {"/ws", "permessage-deflate; server_max_window_bits=8", "; server_max_window_bits=8", form_json_narrow},
    };
    for (const auto &each : cases) {
        test_client c = connect_client();
        send_bytes(c, head(each.target, std::string("Sec-WebSocket-Extensions: ") + each.offer + "\r\n"));
        std::string want = accepted();
        want.insert(want.size() - 2,
                    std::string("Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; "
                                "client_no_context_takeover") +
                        each.answer + "\r\n");
        assert_bytes(received(c), want + (form_is_json(each.form) ? welcome(c, "") : ""));
        assert_int_equal(c.at->form, each.form);
    }
    test_client bad = connect_client(), off = connect_client();
    send_bytes(bad, head("/raw", "Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=7\r\n"));
    assert_bytes(received(bad), accepted());
    assert_int_equal(bad.at->form, form_raw);
    the_route()->compression = false;
    send_bytes(off, head("/ws", "Sec-WebSocket-Extensions: permessage-deflate\r\n"));
    assert_bytes(received(off), accepted() + welcome(off, ""));
    assert_int_equal(off.at->form, form_json);
}

// ---------------------------------------------------------------- refusals

void each_refusal_has_its_status_and_its_count(void **) {
    assert_refused(head("/nowhere"), refusal("404 Not Found", "no route for this path"), refuse_not_found);
    assert_refused(head("/other"), refusal("421 Misdirected Request", "this host has no such route"),
                   refuse_misdirected);
    assert_refused(head("/ws/../x"), refusal("400 Bad Request", "the path is not normal"), refuse_bad_request);
    assert_refused("POST /ws HTTP/1.1\r\nHost: a\r\n\r\n",
                   refusal("405 Method Not Allowed", "a WebSocket handshake is a GET request", "Allow: GET\r\n"),
                   refuse_method_not_allowed);
    std::string fields = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n";
    assert_refused("GET /ws HTTP/1.1\r\nHost: a\r\n\r\n",
                   refusal("426 Upgrade Required", "this address speaks WebSocket: the request is no upgrade", fields),
                   refuse_upgrade_required);
    assert_refused("GET /ws HTTP/1.1\r\nHost: a\r\n" + upgrade + "\r\n",
                   refusal("400 Bad Request", "no Sec-WebSocket-Key field"), refuse_bad_request);
    assert_refused("GET /ws HTTP/2.0\r\nHost: a\r\n\r\n",
                   refusal("505 HTTP Version Not Supported", "only HTTP/1.0 and HTTP/1.1 are spoken here"),
                   refuse_http_version);
    assert_refused("GET /" + std::string(9000, 'x') + " HTTP/1.1\r\n",
                   refusal("414 URI Too Long", "the request target is too long"), refuse_target_too_long);
    assert_refused("GET /ws HTTP/1.1\r\nA: " + std::string(17000, 'x'),
                   refusal("431 Request Header Fields Too Large", "the head is too large"), refuse_head_too_large);
}

void half_a_request_gets_408_at_its_deadline(void **) {
    test_client half = connect_client(), silent = connect_client();
    send_bytes(half, "GET /ws HTTP/1.1\r\n");
    advance(9999);
    assert_bytes(received(half), "");
    assert_false(at_end(silent));
    advance(101);
    std::string answer = refusal("408 Request Timeout", "no whole request within handshake_timeout");
    assert_bytes(received(half), answer);
    assert_bytes(received(silent), answer);
    assert_int_equal(the_shard()->count.refused[refuse_timeout], 2);
}

void above_max_connections_it_is_503(void **) {
    bench->settings.max_connections = 1;
    test_client first = connect_client(), second = connect_client();
    send_bytes(second, head("/ws"));
    assert_bytes(received(second), refusal("503 Service Unavailable", "max_connections reached", "Retry-After: 5\r\n"));
    assert_true(at_end(second));
    send_bytes(first, head("/ws"));
    assert_bytes(received(first), accepted() + welcome(first, ""));
    assert_int_equal(the_shard()->count.refused[refuse_full], 1);
    assert_int_equal(refused_all(), 1);
}

// 64 above the limit still get an answer, whoever comes then is closed without a word.
void far_above_max_connections_nothing_is_said(void **) {
    bench->settings.max_connections = 0;
    for (int i = 0; i < 64; i++)
        assert_non_null(connect_client().at);
    uint32_t slots = the_shard()->slot_count;
    int ends[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends), 0);
    bench->sockets.push_back(ends[1]);
    struct sockaddr_un nobody = {};
    nobody.sun_family = AF_UNIX;
    conn_accept(the_shard(), ends[0], reinterpret_cast<struct sockaddr *>(&nobody), sizeof nobody.sun_family,
                &bench->settings.listeners[0]);
    assert_true(at_end({nullptr, ends[1]}));
    assert_int_equal(the_shard()->slot_count, slots);
    assert_int_equal(bench->live.load(), 64);
    assert_int_equal(the_shard()->count.refused[refuse_full], 1);
}

const std::string shutting_down = refusal("503 Service Unavailable", "shutting down", "Retry-After: 1\r\n");

void while_draining_it_is_503(void **) {
    the_shard()->draining = true;
    assert_refused(head("/ws"), shutting_down, refuse_draining);
}

// ---------------------------------------------------------------- first rooms

void first_rooms_come_from_templates(void **) {
    the_route()->join_on_connect = {"news", "user-{query.user}", "own:{conn}", "news"};
    the_route()->max_rooms = 3;
    test_client c = connect_client();
    std::string own = "own:" + id_of(c);
    send_bytes(c, head("/ws?user=a%2Db&room=ignored"));
    std::vector<seen_letter> wants = letters();
    assert_int_equal(wants.size(), 3); // named twice, counted and wanted once
    const std::string names[] = {"news", "user-a-b", own};
    for (size_t i = 0; i < 3; i++) {
        assert_true(wants[i].type == letter_type::want);
        assert_bytes(wants[i].room, names[i]);
        turn();
        assert_bytes(received(c), ""); // not before the last room is there
        room_active(the_shard(), wants[i].room, wants[i].serial, &nowhere, admission_room_active);
    }
    turn();
    std::string got = received(c), answer = accepted();
    assert_bytes(got.substr(0, answer.size()), answer);
    for (const std::string &name : names)
        assert_int_not_equal(got.find("\"" + name + "\":{}"), std::string::npos);
    assert_int_equal(got.size(), answer.size() + welcome(c, "\"news\":{},\"user-a-b\":{},\"" + own + "\":{}").size());
    assert_int_equal(c.at->room_count, 3);
    deliver(make_message("news", "1", payload_kind::any));
    turn();
    assert_bytes(received(c), json_message("news", "1"));
}

// What the client sends behind its request is a frame of the session, however long the rooms take.
void what_follows_the_head_waits_for_the_101(void **) {
    the_route()->join_on_connect = {"news"};
    test_client c = connect_client();
    send_bytes(c, head("/ws") + client_frame(text, "{\"type\":\"ping\",\"id\":1}"));
    send_bytes(c, client_frame(text, "{\"type\":\"ping\",\"id\":2}"));
    assert_bytes(received(c), "");
    seen_letter want = letters().at(0);
    room_active(the_shard(), "news", want.serial, &nowhere, admission_room_active);
    turn();
    turn();
    assert_bytes(received(c), accepted() + welcome(c, "\"news\":{}") +
                                  server_frame(text, "{\"type\":\"pong\",\"id\":1}") +
                                  server_frame(text, "{\"type\":\"pong\",\"id\":2}"));
}

void raw_clients_name_rooms_in_the_query(void **) {
    test_client c = connect_client();
    send_bytes(c, head("/raw?room=a%7E&other=1&room=b"));
    assert_int_equal(letters().size(), 2);
    assert_bytes(bench->letters[0].room, "a~");
    assert_bytes(bench->letters[1].room, "b");
    assert_refused(head("/raw?room=%4"), refusal("400 Bad Request", "room: bad percent-encoding"), refuse_room);
    assert_refused(head("/raw?room="), refusal("400 Bad Request", "a room name may not be empty"), refuse_room);
    assert_refused(head("/raw?room=%40all"), refusal("403 Forbidden", "room: names with @ are reserved"), refuse_room);
    assert_refused(head("/raw?room=closed-x"),
                   refusal("403 Forbidden", "not allowed to join a room that was asked for"), refuse_room);
    bench->settings.routes[1].max_rooms = 2;
    assert_refused(head("/raw?room=a&room=b&room=c"), refusal("400 Bad Request", "too many rooms"), refuse_room);
}

// A template with the client's words is the client's wish; one without is the operator's.
void a_template_does_not_lend_the_operators_rights(void **) {
    the_route()->join_on_connect = {"closed-{query.x}"};
    assert_refused(head("/ws?x=1"), refusal("403 Forbidden", "not allowed to join a room that was asked for"),
                   refuse_room);
    the_route()->join_on_connect = {"closed-1"};
    test_client c = connect_client();
    send_bytes(c, head("/ws"));
    assert_bytes(letters().at(0).room, "closed-1");
}

void a_full_room_is_503(void **) {
    the_route()->join_on_connect = {"other", "single"};
    test_client in = open_client(form_raw);
    enter(in.at, "single");
    assert_refused(head("/ws"), refusal("503 Service Unavailable", "a room is full", "Retry-After: 5\r\n"),
                   refuse_room);
    assert_int_equal(the_shard()->membership_count, 1); // "other" was left
}

void a_room_that_the_broker_refuses_is_503(void **) {
    the_route()->join_on_connect = {"news", "more"};
    test_client c = connect_client();
    send_bytes(c, head("/ws"));
    std::vector<seen_letter> wants = letters();
    room_refused(the_shard(), "news", wants.at(0).serial, admission_room_refused);
    turn();
    assert_bytes(received(c),
                 refusal("503 Service Unavailable", "the broker can't subscribe to a room", "Retry-After: 1\r\n"));
    assert_true(at_end(c));
    assert_int_equal(the_shard()->count.refused[refuse_room], 1);
    assert_int_equal(the_shard()->rooms.count, 0);
    room_active(the_shard(), "more", wants.at(1).serial, &nowhere,
                admission_room_active); // too late, of no consequence
    turn();
    assert_bytes(received(c), "");
    assert_int_equal(the_shard()->count.handshakes, 0);
}

void a_broker_that_does_not_answer_is_503_at_the_deadline(void **) {
    the_route()->join_on_connect = {"news"};
    test_client c = connect_client();
    send_bytes(c, head("/ws"));
    advance(9999);
    assert_bytes(received(c), "");
    advance(101);
    assert_bytes(received(c), refusal("503 Service Unavailable", "the broker did not answer within handshake_timeout",
                                      "Retry-After: 1\r\n"));
    assert_int_equal(the_shard()->count.refused[refuse_timeout], 1);
    assert_int_equal(the_shard()->membership_count, 0);
}

void a_drain_refuses_who_waits(void **) {
    the_route()->join_on_connect = {"news"};
    test_client told = connect_client(), late = connect_client(), in = open_client(form_json);
    send_bytes(told, head("/ws"));
    send_bytes(late, head("/ws"));
    the_shard()->draining = true;
    assert_false(admission_refuse_waiting(in.at, 503, refuse_draining, "shutting down"));
    assert_true(admission_refuse_waiting(told.at, 503, refuse_draining, "shutting down"));
    room_active(the_shard(), "news", letters().at(0).serial, &nowhere, admission_room_active);
    turn();
    assert_bytes(received(told), shutting_down);
    assert_bytes(received(late), shutting_down);
    assert_int_equal(the_shard()->count.refused[refuse_draining], 2);
    assert_int_equal(the_shard()->count.handshakes, 0);
    assert_true(in.at->open);
}

void who_leaves_before_the_answer_is_counted_as_gone(void **) {
    test_client asking = connect_client();
    send_bytes(asking, "GET");
    shutdown(asking.fd, SHUT_WR);
    turn();
    assert_int_equal(the_shard()->count.refused[refuse_gone], 1);
    assert_true(at_end(asking));
}

} // namespace

#define with_bench(test) cmocka_unit_test_setup_teardown(test, begin, bench_end)

int main() {
    const CMUnitTest tests[] = {
        with_bench(a_good_handshake_is_answered_101),
        with_bench(a_head_may_come_byte_by_byte),
        with_bench(the_subprotocol_decides_the_form),
        with_bench(compression_decides_the_form_too),
        with_bench(each_refusal_has_its_status_and_its_count),
        with_bench(half_a_request_gets_408_at_its_deadline),
        with_bench(above_max_connections_it_is_503),
        with_bench(far_above_max_connections_nothing_is_said),
        with_bench(while_draining_it_is_503),
        with_bench(first_rooms_come_from_templates),
        with_bench(what_follows_the_head_waits_for_the_101),
        with_bench(raw_clients_name_rooms_in_the_query),
        with_bench(a_template_does_not_lend_the_operators_rights),
        with_bench(a_full_room_is_503),
        with_bench(a_room_that_the_broker_refuses_is_503),
        with_bench(a_broker_that_does_not_answer_is_503_at_the_deadline),
        with_bench(a_drain_refuses_who_waits),
        with_bench(who_leaves_before_the_answer_is_counted_as_gone),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
