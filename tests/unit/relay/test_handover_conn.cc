// Connections on their way from one worker to another, as over a handover: relay/handover_departures.cc,
// handover_describe.cc, handover_restore.cc, handover_arrivals.cc, chain_move.cc. The test is the node of both.
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>
extern "C" {
#include <cmocka.h>
}

#include "shard_bench.h"

#include "module.h"
#include "relay/chain.h"
#include "relay/chain_call.h"
#include "relay/client.h"
#include "relay/conn_slow.h"
#include "relay/expiry.h"
#include "relay/handover_worker.h"

#include <string.h>
#include <vector>

using namespace belfry;

namespace {

constexpr unsigned char part = 0x01, more = 0x00, last = 0x80, text = 0x81, packed_text = 0xc1, ping = 0x89,
                        pong = 0x8a;

worker *other; // the new process's

shard *there() {
    return &other->shard;
}

int begin(void **state) {
    if (bench_begin(state) != 0) return -1;
    bench->settings.routes = {bench->way};
    bench->settings.listeners[0].name = "public";
    bench->settings.rooms.resize(1);
    bench->settings.rooms[0].pattern = "*";
    bench->settings.rooms[0].join = bench->settings.rooms[0].publish = right_anyone;
    other = new worker{};
    worker_init(other, 3, &bench->settings, bench->node_loop, &bench->live, &bench->node_stalled);
    there()->loop->clock.monotonic_ms = bench->now_ms;
    return 0;
}

// What a shard told its node: letters of handovers are kept, of others the publishes' payloads.
struct told {
    std::vector<handover_letter *> letters; // owned, until `forget`
    std::vector<std::string> published;
    std::vector<std::string> wanted;
    std::vector<uint32_t> serials;
    size_t presence, asks;
};
told heard;

void forget() {
    for (handover_letter *l : heard.letters)
        handover_letter_free(l);
    heard = {};
}

void listen_to(shard *s) {
    mailbox_flush(&s->outbox);
    while (auto *l = static_cast<letter *>(mailbox_receive(&s->outbox))) {
        switch (l->type) {
        case letter_type::handover:
            heard.letters.push_back(reinterpret_cast<handover_letter *>(l));
            break;
        case letter_type::publish: {
            auto *p = reinterpret_cast<publish_letter *>(l);
            heard.published.emplace_back(p->what->payload);
            message_unref(p->what);
            delete p;
            break;
        }
        case letter_type::want: {
            auto *r = reinterpret_cast<room_letter *>(l);
            heard.wanted.push_back(r->room);
            heard.serials.push_back(r->serial);
            delete r;
            break;
        }
        case letter_type::drop:
            delete reinterpret_cast<room_letter *>(l);
            break;
        case letter_type::join_ask:
            heard.asks++;
            delete reinterpret_cast<join_ask_letter *>(l);
            break;
        case letter_type::entered:
        case letter_type::exited:
            heard.presence++;
            delete reinterpret_cast<member_letter *>(l);
            break;
        case letter_type::fence:
            delete reinterpret_cast<fence_letter *>(l);
            break;
        default:
            fatal("a letter that these tests do not cause: %d", static_cast<int>(l->type));
        }
    }
}

// The last one of that kind, or null.
handover_letter *letter_of(handover_op op) {
    for (size_t i = heard.letters.size(); i--;)
        if (heard.letters[i]->op == op) return heard.letters[i];
    return nullptr;
}

void turn_there() {
    shard *s = there();
    loop_turn(s->loop, false);
    s->loop->clock.monotonic_ms = bench->now_ms;
    conn_run_again(s);
    while (fanout_flush(s)) {
    }
    conn_bury(s);
}

int end(void **state) {
    shard *s = there();
    for (uint32_t i = 0; i < s->slot_count; i++)
        if (s->conns[i]) conn_abort(s->conns[i]);
    turn_there();
    listen_to(s);
    listen_to(the_shard());
    forget();
    bool left = s->live || s->rooms.count || s->membership_count;
    worker_destroy(other);
    delete other;
    return bench_end(state) != 0 || left ? 1 : 0;
}

void say(shard *s, handover_op op, conn_id who, uint64_t serial = 0) {
    handover_letter *l = handover_letter_new(op, 0, who);
    l->serial = serial;
    handover_worker_letter(s, l);
}

// The old one freezes whatever can go; the descriptions are in `heard`.
void let_go(bool counted = false) {
    say(the_shard(), handover_op::move, {}, counted);
    handover_worker_turn(the_shard());
    listen_to(the_shard());
    handover_letter *fence = letter_of(handover_op::fence);
    if (fence) say(the_shard(), handover_op::fenced, {}, fence->serial);
    handover_worker_turn(the_shard());
    listen_to(the_shard());
}

// As the link does it: the description and the descriptor, to the new one.
conn *install(conn_id who) {
    handover_letter *from = letter_of(handover_op::described);
    assert_non_null(from);
    handover_letter *l = handover_letter_new(handover_op::install, 0, who);
    l->bytes = frame_ref(from->bytes);
    l->fd = from->fd;
    from->fd = -1;
    handover_worker_letter(there(), l);
    listen_to(there());
    return conn_find(there(), who);
}

// The node knows the rooms, and answers what was missed.
void answer(conn_id who, const std::vector<message *> &replay = {}, const std::vector<std::string> &gaps = {}) {
    for (size_t i = 0; i < heard.wanted.size(); i++)
        room_active(there(), heard.wanted[i], heard.serials[i], &nowhere, [](membership *) {});
    handover_letter *l = handover_letter_new(handover_op::told, 0, who);
    for (message *m : replay)
        l->replay.push_back(message_ref(m));
    l->names = gaps;
    handover_worker_letter(there(), l);
    listen_to(there());
}

void start(conn_id who) {
    say(the_shard(), handover_op::go, who);
    say(there(), handover_op::start, who);
    turn();
    turn_there();
    listen_to(there());
    listen_to(the_shard());
}

// All the way: the connection as it is in the new one.
test_client move(const test_client &c) {
    const conn_id who = conn_id_of(c.at);
    let_go();
    test_client moved = {install(who), c.fd};
    assert_non_null(moved.at);
    answer(who);
    assert_non_null(letter_of(handover_op::ready));
    start(who);
    assert_null(conn_find(the_shard(), who));
    assert_ptr_equal(conn_find(there(), who), moved.at);
    assert_true(moved.at->open && moved.at->phase == &websocket_phase);
    return moved;
}

void send_there(const test_client &c, const std::string &all) {
    if (send(c.fd, all.data(), all.size(), MSG_NOSIGNAL) != static_cast<ssize_t>(all.size())) fatal("a full socket");
    turn_there();
    turn_there();
    listen_to(there());
}

// ---------------------------------------------------------------- what was read

// Cut at each place: what the new process makes of the rest is what one process would have made of all.
void everywhere(wire_form form, const std::string &stream, const std::vector<std::string> &published) {
    for (size_t cut = 0; cut <= stream.size(); cut++) {
        test_client c = open_client(form);
        enter(c.at, "news");
        if (cut) send_bytes(c, stream.substr(0, cut));
        test_client moved = move(c);
        if (cut < stream.size()) send_there(moved, stream.substr(cut));
        if (heard.published != published)
            fail_msg("cut at %zu: %zu messages of %zu", cut, heard.published.size(), published.size());
        assert_false(moved.at->closed);
        conn_abort(moved.at);
        turn_there();
        forget();
    }
}

void frames_in_two_halves(void **) {
    everywhere(form_raw, client_frame(text, "hello"), {"hello"});
    everywhere(form_raw, client_frame(text, std::string(200, 'x')), {std::string(200, 'x')});
}

void fragments_and_what_comes_between(void **) {
    everywhere(form_raw,
               client_frame(part, "one ") + client_frame(ping, "p") + client_frame(more, "two ") +
                   client_frame(last, "three") + client_frame(text, "4"),
               {"one two three", "4"});
}

void characters_in_two_halves(void **) {
    everywhere(form_raw, client_frame(text, "a\xe2\x82\xac\xf0\x9f\x98\x80z"), {"a\xe2\x82\xac\xf0\x9f\x98\x80z"});
    test_client c = open_client(form_raw);
    const std::string bad = client_frame(text, "a\xe2\x82\xff");
    send_bytes(c, bad.substr(0, bad.size() - 1));
    test_client moved = move(c);
    send_there(moved, bad.substr(bad.size() - 1));
    assert_int_equal(received(moved).substr(2, 2) == "\x03\xef", 1); // 1007
}

void compressed_messages(void **) {
    const std::string hello("\xf2\x48\xcd\xc9\xc9\x07\x00", 7); // RFC 7692 section 7.2.3.1
    everywhere(form_raw_deflated, client_frame(packed_text, hello) + client_frame(text, "plain"), {"Hello", "plain"});
    everywhere(form_raw_narrow, client_frame(0x41, hello.substr(0, 3)) + client_frame(last, hello.substr(3)),
               {"Hello"});
}

// ---------------------------------------------------------------- what is to be written

void a_frame_that_is_half_written(void **) {
    test_client c = open_client(form_raw);
    enter(c.at, "news");
    std::string want;
    for (int i = 0; i < 12; i++) {
        std::string payload(60000, static_cast<char>('a' + i));
        deliver(make_message("news", payload, payload_kind::text));
        turn();
        want += server_frame(0x81, payload);
    }
    assert_true(c.at->blocked && c.at->outq.offset != 0); // the socket took as much as it takes
    test_client moved = move(c);
    std::string got;
    while (got.size() < want.size()) {
        std::string some = received(moved);
        if (some.empty() && !moved.at->outq.count) break;
        got += some;
        turn_there();
    }
    assert_bytes(got, want);
    assert_int_equal(moved.at->outq.bytes, 0);
}

// What may become of a frame where its reader is slow: marked by rooms' names here as there.
void what_kind_of_frame_it_is(void **) {
    test_client c = open_client(form_json);
    enter(c.at, "news");
    c.at->blocked = true; // nothing is written
    deliver(make_message("news", "1", payload_kind::json));
    deliver(make_message("@all", "2", payload_kind::json));
    websocket_send(c.at, 1, "{}");
    const conn_id who = conn_id_of(c.at);
    let_go();
    conn *moved = install(who);
    std::vector<uint64_t> marks;
    const auto note = [](const frame *f, uint32_t, void *all) {
        static_cast<std::vector<uint64_t> *>(all)->push_back(f->room);
    };
    outq_each(&moved->outq, note, &marks);
    assert_true(marks == std::vector<uint64_t>({hash_bytes("news"), hash_bytes("@all"), 0}));
    answer(who);
    start(who);
    assert_bytes(received(c), json_message("news", "1") + json_message("@all", "2") + server_frame(0x81, "{}"));
}

void a_pong_that_waits(void **) {
    test_client c = open_client(form_raw);
    c.at->pong = frame_copy(server_frame(pong, "late"));
    test_client moved = move(c);
    assert_bytes(received(moved), server_frame(pong, "late"));
}

void a_slow_reader_stays_one(void **) {
    test_client c = open_client(form_raw);
    conn_slow_restore(c.at, 7, 3);
    test_client moved = move(c);
    assert_non_null(moved.at->slow);
    assert_true(moved.at->slow->dropped == 7 && moved.at->slow->replaced == 3);
}

// ---------------------------------------------------------------- who it is

void the_client(void **) {
    test_client c = open_client(form_json);
    client *who = client_of(c.at);
    who->user = "56";
    who->info = "{\"name\":\"A\"}";
    who->state = "[1]";
    who->join = {"a:*", "b"};
    who->publish = {"c"};
    who->token_join = 1;
    who->sticky = "k";
    who->has_sticky = true;
    expiry_set(c.at, 3600);
    expiry_arm(c.at);
    const conn_id id = conn_id_of(c.at);
    const uint64_t expires = who->expires_ms, opened = c.at->opened_ms;
    test_client moved = move(c);
    who = moved.at->client;
    assert_true(conn_id_of(moved.at) == id && moved.at->opened_ms == opened);
    assert_true(who->user == "56" && who->info == "{\"name\":\"A\"}" && who->state == "[1]" && who->sticky == "k");
    assert_true(who->join == std::vector<std::string>({"a:*", "b"}) && who->token_join == 1 && who->has_sticky);
    assert_true(who->expires_ms == expires && timer_armed(&who->expiry.timer));
    assert_int_equal(expiry_left(moved.at), 3600);
}

// Its slot may be somebody else's here: it is found by its id all the same, and makes no room for another.
void ids_stay_whatever_slots_are_free(void **) {
    std::vector<test_client> all;
    for (int i = 0; i < 3; i++)
        all.push_back(open_client(form_raw));
    const conn_id first = conn_id_of(all[0].at), third = conn_id_of(all[2].at);
    conn_abort(all[1].at);
    turn();
    let_go();
    for (handover_letter *l : heard.letters) {
        if (l->op != handover_op::described) continue;
        handover_letter *in = handover_letter_new(handover_op::install, 0, l->who);
        in->bytes = frame_ref(l->bytes);
        in->fd = l->fd;
        l->fd = -1;
        handover_worker_letter(there(), in);
    }
    assert_true(conn_find(there(), first) && conn_find(there(), third));
    assert_true(conn_find(there(), first) != conn_find(there(), third));
    assert_null(conn_find(there(), {3, third.slot, first.tag}));
    for (conn_id who : {first, third})
        say(there(), handover_op::drop, who);
    turn_there();
    assert_null(conn_find(there(), first));
    assert_int_equal(there()->live, 0);
    say(the_shard(), handover_op::stay, {});
}

// ---------------------------------------------------------------- rooms

void rooms_and_what_was_missed(void **) {
    test_client c = open_client(form_json);
    for (const char *room : {"a", "b", "@user:56"})
        enter(c.at, room);
    const conn_id who = conn_id_of(c.at);
    listen_to(the_shard());
    forget();
    let_go();
    conn *moved = install(who);
    handover_letter *ask = letter_of(handover_op::ask);
    assert_non_null(ask);
    assert_int_equal(ask->seen.size(), 4);
    assert_true(ask->seen[0].room == "a" && ask->seen[2].room == "@user:56" && ask->seen[3].room.empty());
    assert_true(heard.wanted == std::vector<std::string>({"a", "b", "@user:56"}));
    fanout_deliver(there(), make_message("a", "0", payload_kind::json)); // before the answer: it will be in there
    const std::string self = conn_room(moved);
    view mine = view(self).substr(6);
    std::vector<message *> replay = {make_message("a", "1", payload_kind::json),
                                     make_message("b", "2", payload_kind::json),
                                     make_message("a", "3", payload_kind::json, &mine, 1), // its own
                                     make_message("@all", "4", payload_kind::json)};
    answer(who, replay, {"b"});
    fanout_deliver(there(), make_message("b", "5", payload_kind::json));
    assert_non_null(letter_of(handover_op::ready));
    assert_bytes(received(c), ""); // not ours yet
    start(who);
    assert_bytes(received(c), server_frame(0x81, "{\"type\":\"gap\",\"room\":\"b\"}") + json_message("a", "1") +
                                  json_message("b", "2") + json_message("@all", "4") + json_message("b", "5"));
    assert_int_equal(moved->room_count, 3);
    assert_int_equal(heard.presence, 0);
}

// A room with history is asked for what it has had since; presence is told in silence.
void rooms_with_history_and_presence(void **) {
    bench->settings.rooms[0].history = 10;
    bench->settings.rooms[0].presence = true;
    test_client c = open_client(form_json);
    membership *m = enter(c.at, "kept");
    (void)position_set(&m->in->at, "k3Fq", 5);
    const conn_id who = conn_id_of(c.at);
    listen_to(the_shard());
    forget();
    let_go();
    conn *moved = install(who);
    answer(who);
    assert_null(letter_of(handover_op::ready));
    assert_int_equal(heard.asks, 1);
    membership *there_m = room_membership(moved, "kept");
    join_answer_letter a = {{letter_type::join_answer}, who, there_m->ask, "kept", true, {}, {}};
    there_m->ask = 0;
    moved->session->recovered(moved, there_m, &a);
    handover_worker_recovered(there(), moved);
    listen_to(there());
    assert_true(there_m->member);
    assert_non_null(letter_of(handover_op::ready));
    start(who);
    assert_bytes(received(c), "");
    assert_int_equal(heard.presence, 0); // neither has left here, nor entered there
    assert_true(letter_of(handover_op::gone)->names == std::vector<std::string>({"kept"}));
    assert_true(letter_of(handover_op::arrived)->names == std::vector<std::string>({"kept"}));
}

// Where rooms are counted, who is in one that is not yet has to wait.
void rooms_that_are_not_counted_yet(void **) {
    test_client c = open_client(form_raw);
    membership *m = enter(c.at, "news");
    let_go(true);
    assert_null(letter_of(handover_op::described));
    room_counted_from(the_shard(), "news", m->in->serial, 1);
    message *counted = make_message("news", "x", payload_kind::text);
    counted->ordinal = 2;
    deliver(counted);
    handover_worker_turn(the_shard());
    listen_to(the_shard());
    handover_letter *l = letter_of(handover_op::described);
    assert_non_null(l);
    handover_conn d;
    const char *why;
    assert_true(handover_parse(frame_view(l->bytes), &d, &why));
    assert_true(d.rooms.size() == 1 && d.rooms[0].ordinal == 2 && d.ordinal == 1);
    say(the_shard(), handover_op::stay, {});
}

// ---------------------------------------------------------------- who stays

void who_is_not_taken_goes_on(void **) {
    test_client c = open_client(form_raw);
    enter(c.at, "news");
    const conn_id who = conn_id_of(c.at);
    send_bytes(c, client_frame(text, "first").substr(0, 8));
    bench->settings.routes[0].path = "/elsewhere";
    let_go(); // described by its own route, which the new process does not have
    deliver(make_message("news", "meanwhile", payload_kind::text));
    turn();
    assert_bytes(received(c), "");
    assert_null(install(who));
    assert_non_null(letter_of(handover_op::refused));
    assert_non_null(strstr(letter_of(handover_op::refused)->why, "route"));
    say(the_shard(), handover_op::stay, who, 1);
    turn();
    assert_bytes(received(c), server_frame(0x81, "meanwhile"));
    send_bytes(c, client_frame(text, "first").substr(8));
    listen_to(the_shard());
    assert_true(heard.published == std::vector<std::string>({"first"}));
    forget();
    handover_worker_turn(the_shard());
    listen_to(the_shard());
    assert_null(letter_of(handover_op::described)); // it is not asked twice
}

void orders_wait_and_go_along(void **) {
    test_client c = open_client(form_json);
    const conn_id who = conn_id_of(c.at);
    let_go();
    order_letter o = {};
    o.op = order_op::disconnect;
    o.code = 4403;
    o.conn = who;
    o.reason = "banned";
    assert_true(handover_worker_defers(the_shard(), c.at, &o));
    conn *moved = install(who);
    assert_true(handover_worker_defers(there(), moved, &o)); // it has heard it, too
    answer(who);
    start(who);
    handover_letter *l = letter_of(handover_op::order);
    assert_non_null(l);
    handover_order got;
    assert_true(handover_order_read(frame_view(l->bytes), &got));
    assert_true(got.op == 2 && got.code == 4403 && got.conn.tag == who.tag && got.reason == "banned");
    assert_true(received(c).find("\"type\":\"bye\"") != std::string::npos && moved->close_sent);
    forget();
    handover_worker_passes_on(the_shard(), &o); // one that comes later
    listen_to(the_shard());
    assert_non_null(letter_of(handover_op::order));
}

void who_is_busy_is_not_moved(void **) {
    test_client asking = open_client(form_json), closing = open_client(form_raw), held = open_client(form_raw),
                waiting = open_client(form_raw);
    asking.at->asking = 1;
    websocket_close(closing.at, 4000, "");
    conn_hold(held.at);
    membership *m = nullptr;
    (void)room_join(the_shard(), waiting.at, "news", &m);
    let_go();
    assert_null(letter_of(handover_op::described));
    handover_letter *left = letter_of(handover_op::left);
    assert_int_equal(left->serial, 3); // who closes does not count
    advance(1100);                     // they are let go, to be tried again
    handover_worker_turn(the_shard());
    assert_int_equal(held.at->holds, 1 + 1); // again, by now
    say(the_shard(), handover_op::stay, {});
    assert_int_equal(held.at->holds, 1);
}

// ---------------------------------------------------------------- modules

struct counted_state {
    int64_t sum;
};
int arrivals, closes;
void note_arrived(const struct belfry_call *call) {
    arrivals++;
    assert_int_equal(static_cast<counted_state *>(call->connection)->sum, 41);
}
void note_close(const struct belfry_call *) {
    closes++;
}
struct belfry_module counting = {};

void make_modules(bool movable) {
    counting = {};
    counting.size = sizeof counting;
    counting.abi = BELFRY_ABI;
    counting.name = "counting";
    counting.version = "1";
    counting.conn_size = sizeof(counted_state);
    counting.close = note_close;
    counting.arrived = movable ? note_arrived : nullptr;
    bench->settings.modules = {{&counting, 0}};
    chain_lay_out(&bench->settings);
    arrivals = closes = 0;
}

// As the handshake would have it: the module was called, and has a state.
test_client open_with_modules() {
    test_client c = open_client(form_raw);
    chain_adopt(c.at, chain_need_of(&bench->settings, &bench->way));
    auto *block = static_cast<chain_block *>(c.at->modules);
    assert_true(block->has_states);
    block->called = 1;
    reinterpret_cast<counted_state *>(block + 1)->sum = 41;
    return c;
}

void modules_come_along(void **) {
    make_modules(true);
    test_client moved = move(open_with_modules());
    assert_true(arrivals == 1 && closes == 0);
    chain_close(moved.at);
    assert_int_equal(closes, 1);
}

void modules_that_keep_their_connections(void **) {
    make_modules(false);
    test_client c = open_with_modules();
    let_go();
    assert_null(letter_of(handover_op::described));
    say(the_shard(), handover_op::stay, {});
    assert_false(c.at->paused);
    chain_close(c.at);
}

// What `arrived` has counted is taken back where the old process keeps it.
void a_connection_that_is_dropped_after_all(void **) {
    make_modules(true);
    test_client c = open_with_modules();
    const conn_id who = conn_id_of(c.at);
    let_go();
    assert_non_null(install(who));
    say(there(), handover_op::drop, who);
    turn_there();
    assert_true(arrivals == 1 && closes == 1);
    assert_null(conn_find(there(), who));
    say(the_shard(), handover_op::stay, {});
    send_bytes(c, client_frame(ping, "x"));
    assert_bytes(received(c), server_frame(pong, "x"));
    chain_close(c.at);
}

void a_module_of_another_version(void **) {
    make_modules(true);
    test_client c = open_with_modules();
    let_go();
    counting.version = "2";
    assert_null(install(conn_id_of(c.at)));
    assert_non_null(strstr(letter_of(handover_op::refused)->why, "module"));
    assert_int_equal(arrivals, 0);
    say(the_shard(), handover_op::stay, {});
    chain_close(c.at);
}

} // namespace

int main() {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(frames_in_two_halves, begin, end),
        cmocka_unit_test_setup_teardown(fragments_and_what_comes_between, begin, end),
        cmocka_unit_test_setup_teardown(characters_in_two_halves, begin, end),
        cmocka_unit_test_setup_teardown(compressed_messages, begin, end),
        cmocka_unit_test_setup_teardown(a_frame_that_is_half_written, begin, end),
        cmocka_unit_test_setup_teardown(what_kind_of_frame_it_is, begin, end),
        cmocka_unit_test_setup_teardown(a_pong_that_waits, begin, end),
        cmocka_unit_test_setup_teardown(a_slow_reader_stays_one, begin, end),
        cmocka_unit_test_setup_teardown(the_client, begin, end),
        cmocka_unit_test_setup_teardown(ids_stay_whatever_slots_are_free, begin, end),
        cmocka_unit_test_setup_teardown(rooms_and_what_was_missed, begin, end),
        cmocka_unit_test_setup_teardown(rooms_with_history_and_presence, begin, end),
        cmocka_unit_test_setup_teardown(rooms_that_are_not_counted_yet, begin, end),
        cmocka_unit_test_setup_teardown(who_is_not_taken_goes_on, begin, end),
        cmocka_unit_test_setup_teardown(orders_wait_and_go_along, begin, end),
        cmocka_unit_test_setup_teardown(who_is_busy_is_not_moved, begin, end),
        cmocka_unit_test_setup_teardown(modules_come_along, begin, end),
        cmocka_unit_test_setup_teardown(modules_that_keep_their_connections, begin, end),
        cmocka_unit_test_setup_teardown(a_connection_that_is_dropped_after_all, begin, end),
        cmocka_unit_test_setup_teardown(a_module_of_another_version, begin, end),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
