// permessage-deflate on the worker, looked at from the client's socket: compressed messages in, deliveries out.
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>
extern "C" {
#include <cmocka.h>
}

#include "shard_bench.h"

using namespace belfry;

namespace {

constexpr unsigned char part = 0x01, last = 0x80, text = 0x81, binary = 0x82, close_frame = 0x88, ping = 0x89,
                        rsv1 = 0x40;
const std::string hello("\xf2\x48\xcd\xc9\xc9\x07\x00", 7); // RFC 7692 section 7.2.3.1

std::string server_close(uint16_t code, const std::string &reason) {
    return server_frame(close_frame, std::string{static_cast<char>(code >> 8), static_cast<char>(code)} + reason);
}

test_client open_in_room(wire_form form = form_raw_deflated) {
    room_rule anyone = {};
    anyone.pattern = "*";
    anyone.join = anyone.publish = right_anyone;
    bench->settings.rooms = {anyone};
    test_client c = open_client(form);
    enter(c.at, "news");
    letters();
    return c;
}

std::string packed(const std::string &message) {
    buffer out = {};
    deflater *d = deflater_new(0);
    if (!deflate_message(d, deflate_wide, message, &out)) fatal("a message that does not shrink");
    std::string bytes(buffer_view(&out));
    deflater_free(d);
    buffer_free(&out);
    return bytes;
}

void assert_published(const std::string &payload, payload_kind kind) {
    letters();
    assert_int_equal(bench->publishes.size(), 1);
    assert_bytes(bench->publishes[0].payload, payload);
    assert_int_equal(static_cast<int>(bench->publishes[0].kind), static_cast<int>(kind));
}

void a_compressed_message_is_published_inflated(void **) {
    test_client c = open_in_room();
    send_bytes(c, client_frame(text | rsv1, hello));
    assert_published("Hello", payload_kind::text);
    send_bytes(c, client_frame(binary | rsv1, packed(std::string(50000, 'a'))));
    assert_published(std::string(50000, 'a'), payload_kind::binary);
    send_bytes(c, client_frame(text, "plain"));
    assert_published("plain", payload_kind::text);
    assert_int_equal(the_shard()->count.inflates, 2);
    assert_int_equal(the_shard()->count.messages_in, 3);
}

void fragments_are_inflated_together(void **) {
    test_client c = open_in_room();
    send_bytes(c, client_frame(part | rsv1, hello.substr(0, 3)) + client_frame(ping, "p") + client_frame(0, ""));
    assert_bytes(received(c), server_frame(0x8a, "p"));
    assert_int_equal(the_shard()->count.inflates, 0);
    send_bytes(c, client_frame(last, hello.substr(3)));
    assert_published("Hello", payload_kind::text);
    assert_null(c.at->message.data); // nothing stays with the connection
}

void json_is_inflated(void **) {
    test_client c = open_client(form_json_deflated);
    send_bytes(
        c, client_frame(text | rsv1, packed("{\"type\":\"ping\",\"id\":7,\"none\":\"" + std::string(99, 'a') + "\"}")));
    assert_bytes(received(c), server_frame(text, "{\"type\":\"pong\",\"id\":7}")); // answers are plain
}

// A message as large as it may be; one byte more; and a bomb, of which no more is inflated than that.
void max_message_counts_inflated_bytes(void **) {
    bench->way.max_message = 1000;
    test_client c = open_in_room();
    send_bytes(c, client_frame(text | rsv1, packed(std::string(1000, 'a'))));
    assert_published(std::string(1000, 'a'), payload_kind::text);
    for (size_t size : {1001u, 1000000u}) {
        test_client each = open_client(form_raw_deflated);
        send_bytes(each, client_frame(text | rsv1, packed(std::string(size, 'a'))) + client_frame(text, "behind"));
        assert_bytes(received(each), server_close(1009, "a compressed message that is larger than this route allows"));
        assert_true(at_end(each));
        assert_true(the_shard()->unpacked.capacity < 20000);
    }
    assert_int_equal(closed_with(1009), 2);
    letters();
    assert_true(bench->publishes.empty());
}

void bad_data_closes_with_1007(void **) {
    for (const std::string &payload :
         {std::string("\x06"), hello.substr(0, 4), std::string("\xf2\x00\x11\x00\x00", 5)}) {
        test_client c = open_client(form_raw_deflated);
        send_bytes(c, client_frame(text | rsv1, payload) + client_frame(text, "behind"));
        assert_bytes(received(c), server_close(1007, "a compressed message that can't be inflated (RFC 7692 7.2.2)"));
        assert_true(at_end(c));
    }
    test_client c = open_client(form_raw_deflated), fine = open_in_room();
    std::string no_text = packed(std::string(50, 'a') + "\xc3\x28" + std::string(50, 'a'));
    send_bytes(c, client_frame(text | rsv1, no_text));
    assert_bytes(received(c), server_close(1007, "compressed text that is not UTF-8 (RFC 6455 8.1)"));
    send_bytes(fine, client_frame(binary | rsv1, no_text)); // bytes need not be text; and nothing of the others stays
    assert_published(std::string(50, 'a') + "\xc3\x28" + std::string(50, 'a'), payload_kind::binary);
}

// What it published itself is delivered before the Close, and nothing behind the violation is read as frames.
void a_violation_waits_for_the_fence(void **) {
    test_client c = open_in_room();
    send_bytes(c, client_frame(text | rsv1, hello) + client_frame(text | rsv1, "\x06") + client_frame(text, "behind"));
    assert_int_equal(letters().size(), 2);
    assert_int_equal(bench->publishes.size(), 1);
    assert_bytes(received(c), "");
    assert_true(c.at->fencing);
    websocket_fenced(c.at);
    turn();
    assert_bytes(received(c), server_close(1007, "a compressed message that can't be inflated (RFC 7692 7.2.2)"));
    assert_true(at_end(c));
}

void rsv1_needs_the_agreement(void **) {
    test_client c = open_client(form_raw);
    send_bytes(c, client_frame(text | rsv1, hello));
    assert_bytes(received(c),
                 server_close(1002, "a reserved bit is set, but no extension was agreed on (RFC 6455 5.2)"));
    test_client ping_it = open_client(form_json_narrow);
    send_bytes(ping_it, client_frame(ping | rsv1, ""));
    assert_bytes(received(ping_it),
                 server_close(1002, "RSV1 is set elsewhere than on a message's first frame (RFC 7692 6.1)"));
}

// Members of all forms; those of one form get the same frame.
void one_message_in_all_forms(void **) {
    std::string payload = std::string(300, 'a') + "b" + std::string(300, 'a');
    const wire_form forms[] = {form_raw,  form_raw_deflated,  form_raw_narrow,
                               form_json, form_json_deflated, form_json_narrow};
    test_client clients[6][2];
    for (int f = 0; f < 6; f++)
        for (test_client &c : clients[f])
            enter((c = open_client(forms[f])).at, "news");
    uint64_t encodes = message_encodes(), deflates = message_deflates();
    message *m = make_message("news", payload, payload_kind::text);
    deliver(m);
    turn();
    std::string got[6];
    for (int f = 0; f < 6; f++) {
        got[f] = received(clients[f][0]);
        assert_bytes(received(clients[f][1]), got[f]);
        assert_int_equal(static_cast<unsigned char>(got[f][0]), form_is_deflated(forms[f]) ? 0xc1 : 0x81);
    }
    assert_bytes(got[0], server_frame(text, payload));
    assert_bytes(got[1], server_frame(text | rsv1, packed(payload)));
    assert_true(got[2].size() < 100 && got[4].size() < 150 && got[5].size() < 150);
    assert_int_equal(m->receivers.load(), 12);
    assert_int_equal(message_encodes() - encodes, 6);
    assert_int_equal(message_deflates() - deflates, 4);
}

void control_frames_are_plain(void **) {
    test_client c = open_in_room(form_json_deflated);
    send_bytes(c, client_frame(ping, std::string(100, 'p')));
    assert_bytes(received(c), server_frame(0x8a, std::string(100, 'p')));
    websocket_close(c.at, 4000, std::string(100, 'r'));
    turn();
    assert_bytes(received(c), server_close(4000, std::string(100, 'r')));
}

#define with_bench(test) cmocka_unit_test_setup_teardown(test, bench_begin, bench_end)

} // namespace

int main() {
    const CMUnitTest tests[] = {
        with_bench(a_compressed_message_is_published_inflated),
        with_bench(fragments_are_inflated_together),
        with_bench(json_is_inflated),
        with_bench(max_message_counts_inflated_bytes),
        with_bench(bad_data_closes_with_1007),
        with_bench(a_violation_waits_for_the_fence),
        with_bench(rsv1_needs_the_agreement),
        with_bench(one_message_in_all_forms),
        with_bench(control_frames_are_plain),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
