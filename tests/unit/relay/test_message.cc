// Messages and their wire forms: exact bytes, encoded once, also by threads that race; nothing left in flight.
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>
extern "C" {
#include <cmocka.h>
}

#include "relay/message.h"

#include <pthread.h>
#include <string.h>
#include <string>
#include <unistd.h>

using namespace belfry;

namespace {

struct bench {
    json_reader *reader;
    buffer scratch;
    message *m;
    deflater *packer;
};

bench *b;

int setup(void **) {
    alarm(120); // a thread that waits for ever fails instead of hanging
    node_id_init();
    b = new bench{};
    b->reader = json_reader_new();
    b->packer = deflater_new(256);
    return 0;
}

int teardown(void **) {
    if (b->m) message_unref(b->m);
    buffer_free(&b->scratch);
    json_reader_free(b->reader);
    deflater_free(b->packer);
    delete b;
    alarm(0);
    return message_bytes_in_flight() != 0;
}

message *make(view payload, payload_kind kind, view from = view(), const view *except = nullptr, size_t n = 0) {
    if (b->m) message_unref(b->m);
    frame *source = frame_copy(payload);
    message_parts parts = {"chat", source, frame_view(source), kind, from, 1700000000123, except, n};
    b->m = message_new(&parts);
    frame_unref(source);
    return b->m;
}

std::string form(wire_form f) {
    return std::string(frame_view(message_form(b->m, f, b->reader, &b->scratch, b->packer)));
}

// An unmasked server frame (RFC 6455 section 5.2) of fewer than 126 bytes.
std::string short_frame(char first, const std::string &payload) {
    return std::string(1, first) + static_cast<char>(payload.size()) + payload;
}

void check(const std::string &got, const std::string &want) {
    assert_int_equal(got.size(), want.size());
    assert_memory_equal(got.data(), want.data(), want.size());
}

constexpr char text = '\x81', binary = '\x82';

void check_raw(view payload, payload_kind kind, char first) {
    make(payload, kind);
    check(form(form_raw), short_frame(first, std::string(payload)));
}

void the_raw_form_is_the_payload(void **) {
    check_raw("hello", payload_kind::any, text);
    check_raw("{\"a\":1}", payload_kind::any, text);
    check_raw("\xff\xfe", payload_kind::any, binary);
    check_raw("{\"a\":1}", payload_kind::json, text);
    check_raw("hello", payload_kind::text, text);
    check_raw("hello", payload_kind::binary, binary); // a client's binary frame stays one
    check_raw("\xff", payload_kind::binary, binary);
    check_raw("", payload_kind::any, text);
    check_raw(view("a\0b", 3), payload_kind::any, text);
}

void check_json(view payload, payload_kind kind, const char *data) {
    make(payload, kind);
    check(form(form_json), short_frame(text, "{\"type\":\"message\",\"room\":\"chat\"," + std::string(data) +
                                                 ",\"time\":1700000000123}"));
}

void json_is_relayed_verbatim(void **) {
    check_json("{\"b\" : 1.0,\"a\":\"\\u00e4\"}", payload_kind::json, "\"data\":{\"b\" : 1.0,\"a\":\"\\u00e4\"}");
    check_json("[1, 2]", payload_kind::any, "\"data\":[1, 2]");
    check_json("7", payload_kind::any, "\"data\":7");
    check_json("\"x\"", payload_kind::text, "\"data\":\"x\"");
    check_json("true", payload_kind::binary, "\"data\":true"); // of a raw client
}

void text_becomes_a_string(void **) {
    check_json("hello", payload_kind::any, "\"data\":\"hello\"");
    check_json("say \"hi\"\n", payload_kind::text, "\"data\":\"say \\\"hi\\\"\\n\"");
    check_json("{\"a\":1", payload_kind::any, "\"data\":\"{\\\"a\\\":1\"");
    check_json("{}{}", payload_kind::any, "\"data\":\"{}{}\"");
    check_json("", payload_kind::any, "\"data\":\"\"");
    check_json("hello", payload_kind::binary, "\"data\":\"hello\"");
}

void other_bytes_become_base64(void **) {
    check_json("\xff\xfe", payload_kind::any, "\"data64\":\"//4=\"");
    check_json("\xff", payload_kind::binary, "\"data64\":\"/w==\"");
    check_json("a\xc3", payload_kind::text, "\"data64\":\"YcM=\"");
    check_json("\"\xc3\"", payload_kind::any, "\"data64\":\"IsMi\""); // JSON but for its UTF-8
}

void the_sender_is_named(void **) {
    make("1", payload_kind::json, "{\"conn\":\"c_1\"}");
    check(form(form_json), short_frame(text, "{\"type\":\"message\",\"room\":\"chat\",\"data\":1,"
                                             "\"from\":{\"conn\":\"c_1\"},\"time\":1700000000123}"));
    check(form(form_raw), short_frame(text, "1"));
}

void long_payloads_have_long_headers(void **) {
    std::string payload(126, 'x');
    make(payload, payload_kind::text);
    check(form(form_raw), std::string("\x81\x7e\x00\x7e", 4) + payload);
    payload.assign(65535, 'x');
    make(payload, payload_kind::text);
    check(form(form_raw), std::string("\x81\x7e\xff\xff", 4) + payload);
    payload.assign(65536, 'x');
    make(payload, payload_kind::binary);
    check(form(form_raw), std::string("\x82\x7f\0\0\0\0\0\x01\0\0", 10) + payload);
}

// The payload may be a part of its source: an envelope's, say.
void the_payload_may_lie_inside_its_source(void **) {
    frame *source = frame_copy("head\n[1]");
    message_parts parts = {"chat", source, frame_view(source).substr(5), payload_kind::json, view(), 5};
    b->m = message_new(&parts);
    frame_unref(source);
    message_set_in_flight(b->m);
    assert_int_equal(message_bytes_in_flight(), 8); // what it keeps in memory
    message_landed(b->m);
    check(form(form_raw), short_frame(text, "[1]"));
    check(form(form_json), short_frame(text, "{\"type\":\"message\",\"room\":\"chat\",\"data\":[1],\"time\":5}"));
}

void each_form_is_made_once(void **) {
    uint64_t before = message_encodes();
    make("[1]", payload_kind::json);
    assert_int_equal(message_encodes() - before, 0);
    frame *json = message_form(b->m, form_json, b->reader, &b->scratch, b->packer);
    assert_ptr_equal(message_form(b->m, form_json, b->reader, &b->scratch, b->packer), json);
    assert_int_equal(message_encodes() - before, 1);
    frame *raw = message_form(b->m, form_raw, b->reader, &b->scratch, b->packer);
    assert_ptr_equal(message_form(b->m, form_raw, b->reader, &b->scratch, b->packer), raw);
    assert_ptr_not_equal(raw, json);
    assert_int_equal(message_encodes() - before, 2);
    assert_int_equal(json->references.load(), 1); // the message's own: message_form lends
}

void names_outlive_what_they_were_made_of(void **) {
    std::string room = "a-room", from = "{\"user\":1}";
    frame *source = frame_copy("x");
    message_parts parts = {room, source, frame_view(source), payload_kind::any, from, 1};
    b->m = message_new(&parts);
    frame_unref(source);
    room.assign(room.size(), '?');
    from.assign(from.size(), '?');
    assert_true(b->m->room == "a-room" && b->m->from == "{\"user\":1}");
}

void only_this_nodes_exceptions_are_kept(void **) {
    const conn_id mine = {1, 2, 3}, other = {4, 5, 6};
    conn_id_text a = conn_id_format(mine), z = conn_id_format(other);
    conn_id_text foreign = a;
    foreign.text[2] = foreign.text[2] == 'A' ? 'B' : 'A'; // another node's
    const view except[] = {a, foreign, "rubbish", z};
    make("x", payload_kind::any, view(), except, 4);
    assert_int_equal(b->m->except_count, 2);
    assert_true(b->m->except[0] == mine && b->m->except[1] == other);
}

void more_exceptions_than_may_be_are_left_out(void **) {
    conn_id_text id = conn_id_format({1, 2, 3});
    view except[command_except_max + 6];
    for (view &e : except)
        e = id;
    make("x", payload_kind::any, view(), except, sizeof except / sizeof *except);
    assert_int_equal(b->m->except_count, command_except_max);
}

void the_last_reference_gives_everything_back(void **) {
    int64_t before = message_bytes_in_flight();
    frame *source = frame_copy("0123456789");
    message_parts parts = {"chat", source, frame_view(source), payload_kind::any, view(), 1};
    message *m = message_new(&parts);
    assert_int_equal(message_bytes_in_flight() - before, 0); // a client's, not yet the node's
    message_set_in_flight(m);
    assert_int_equal(message_bytes_in_flight() - before, 10);
    assert_int_equal(source->references.load(), 2);
    frame *kept = frame_ref(message_form(m, form_raw, b->reader, &b->scratch, b->packer));
    message_landed(m);
    assert_int_equal(message_bytes_in_flight() - before, 0);
    message_ref(m);
    message_unref(m);
    assert_int_equal(source->references.load(), 2);
    message_unref(m);
    assert_int_equal(source->references.load(), 1);
    assert_int_equal(kept->references.load(), 1); // a queue's reference outlives the message
    frame_unref(kept);
    frame_unref(source);
}

// ---------------------------------------------------------------- compressed

std::string noise(size_t n) {
    std::string s;
    uint32_t seed = 1;
    while (s.size() < n)
        s += static_cast<char>((seed = seed * 1664525 + 1013904223) >> 24);
    return s;
}

// A frame of fewer than 126 bytes, RSV1 set (RFC 7692 section 6), whose payload inflates to `want`.
void check_deflated(const std::string &bytes, char first, const std::string &want) {
    assert_true(bytes.size() > 2 && bytes.size() < 128);
    assert_int_equal(static_cast<unsigned char>(bytes[0]), static_cast<unsigned char>(first) | 0x40);
    assert_int_equal(bytes[1], bytes.size() - 2);
    inflater *unpacker = inflater_new();
    buffer out = {};
    inflate_result result = inflate_message(unpacker, view(bytes).substr(2), 100000, &out);
    std::string got(buffer_view(&out));
    buffer_free(&out);
    inflater_free(unpacker);
    assert_int_equal(static_cast<int>(result), static_cast<int>(inflate_result::ok));
    check(got, want);
}

void compressed_forms_are_frames_with_rsv1(void **) {
    std::string payload = std::string(300, 'a') + "b" + std::string(300, 'a');
    std::string object = "{\"type\":\"message\",\"room\":\"chat\",\"data\":\"" + payload + "\",\"time\":1700000000123}";
    uint64_t encodes = message_encodes(), deflates = message_deflates();
    make(payload, payload_kind::text);
    check_deflated(form(form_raw_deflated), text, payload);
    check_deflated(form(form_json_deflated), text, object);
    check_deflated(form(form_raw_narrow), text, payload);
    check_deflated(form(form_json_narrow), text, object);
    assert_int_equal(message_deflates() - deflates, 4);
    assert_int_equal(message_encodes() - encodes, 4); // the plain forms were not asked for
    make(payload, payload_kind::binary);
    check_deflated(form(form_raw_deflated), binary, payload);
    make(payload + "\xff", payload_kind::any);
    check_deflated(form(form_raw_deflated), binary, payload + "\xff");
}

// Of 400 bytes twice the second half is found again within 32 KiB, but not within 256 bytes.
void the_narrow_form_reaches_back_less(void **) {
    make(noise(400) + noise(400), payload_kind::binary);
    std::string plain = form(form_raw), wide = form(form_raw_deflated);
    assert_true(wide.size() < plain.size() * 2 / 3);
    check(form(form_raw_narrow), plain);
}

void short_ones_and_noise_share_the_plain_form(void **) {
    for (const std::string &payload : {std::string(255, 'a'), noise(3000)}) {
        uint64_t encodes = message_encodes(), deflates = message_deflates();
        make(payload, payload_kind::binary);
        frame *packed = message_form(b->m, form_raw_deflated, b->reader, &b->scratch, b->packer);
        frame *narrow = message_form(b->m, form_raw_narrow, b->reader, &b->scratch, b->packer);
        frame *plain = message_form(b->m, form_raw, b->reader, &b->scratch, b->packer);
        assert_ptr_equal(packed, plain);
        assert_ptr_equal(narrow, plain);
        assert_int_equal(plain->references.load(), 3);
        assert_int_equal(message_encodes() - encodes, 1);
        assert_int_equal(message_deflates() - deflates, payload.size() > 255 ? 2 : 0);
    }
}

// ---------------------------------------------------------------- two threads

constexpr size_t races = 400;

struct racer {
    pthread_t thread;
    pthread_barrier_t *start;
    message **messages;
    wire_form asked[2]; // in this order
    frame *made[2][races];
};

void *race(void *context) {
    auto *r = static_cast<racer *>(context);
    json_reader *reader = json_reader_new();
    deflater *packer = deflater_new(256);
    buffer scratch = {};
    for (size_t i = 0; i < races; i++) {
        pthread_barrier_wait(r->start);
        for (int n = 0; n < 2; n++)
            r->made[n][i] = message_form(r->messages[i], r->asked[n], reader, &scratch, packer);
        message_unref(r->messages[i]); // each thread holds one
    }
    buffer_free(&scratch);
    json_reader_free(reader);
    deflater_free(packer);
    return nullptr;
}

// `other` is the order of the second thread.
void run_race(wire_form one, wire_form other, bool backwards, const std::string &payload, uint64_t encodes_each) {
    static message *messages[races];
    static racer racers[2];
    pthread_barrier_t start;
    frame *source = frame_copy(payload);
    for (message *&m : messages) {
        message_parts parts = {"chat", source, frame_view(source), payload_kind::any, view(), 1};
        m = message_new(&parts);
        message_ref(message_ref(m));
    }
    uint64_t before = message_encodes();
    pthread_barrier_init(&start, nullptr, 2);
    for (int i = 0; i < 2; i++) {
        racers[i] = {{}, &start, messages, {one, other}, {}};
        if (backwards && i == 1) std::swap(racers[i].asked[0], racers[i].asked[1]);
        assert_int_equal(pthread_create(&racers[i].thread, nullptr, race, &racers[i]), 0);
    }
    for (racer &r : racers)
        pthread_join(r.thread, nullptr);
    pthread_barrier_destroy(&start);
    uint64_t encodes = message_encodes() - before;
    size_t differ = 0, wrong = 0;
    for (size_t i = 0; i < races; i++) {
        int turned = backwards ? 1 : 0;
        differ +=
            racers[0].made[0][i] != racers[1].made[turned][i] || racers[0].made[1][i] != racers[1].made[!turned][i];
        wrong += racers[0].made[1][i]->size != payload.size() + 4;
        message_unref(messages[i]);
    }
    frame_unref(source);
    assert_int_equal(encodes, encodes_each * races);
    assert_int_equal(differ, 0);
    assert_int_equal(wrong, 0);
}

// Long enough to be met while it is encoded.
const std::string long_payload = "[\"" + std::string(20000, 'x') + "\"]";

void two_threads_encode_once(void **) {
    run_race(form_json, form_raw, false, long_payload, 2);
}

void two_threads_encode_two_forms_at_once(void **) {
    run_race(form_json, form_raw, true, long_payload, 2);
}

void two_threads_compress_once(void **) {
    uint64_t before = message_deflates();
    run_race(form_raw_deflated, form_raw, false, long_payload, 2);
    run_race(form_json_deflated, form_raw, true, long_payload, 2);
    assert_int_equal(message_deflates() - before, 2 * races);
}

// One thread makes the plain form while the other, who has found out that it has to be that, waits for it.
void two_threads_share_what_does_not_shrink(void **) {
    uint64_t before = message_deflates();
    run_race(form_raw_deflated, form_raw, true, noise(20000), 1);
    assert_int_equal(message_deflates() - before, races);
}

} // namespace

#define with_bench(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main() {
    const CMUnitTest tests[] = {
        with_bench(the_raw_form_is_the_payload),
        with_bench(json_is_relayed_verbatim),
        with_bench(text_becomes_a_string),
        with_bench(other_bytes_become_base64),
        with_bench(the_sender_is_named),
        with_bench(long_payloads_have_long_headers),
        with_bench(the_payload_may_lie_inside_its_source),
        with_bench(each_form_is_made_once),
        with_bench(names_outlive_what_they_were_made_of),
        with_bench(only_this_nodes_exceptions_are_kept),
        with_bench(more_exceptions_than_may_be_are_left_out),
        with_bench(the_last_reference_gives_everything_back),
        with_bench(two_threads_encode_once),
        with_bench(two_threads_encode_two_forms_at_once),
        with_bench(two_threads_compress_once),
        with_bench(two_threads_share_what_does_not_shrink),
        with_bench(compressed_forms_are_frames_with_rsv1),
        with_bench(the_narrow_form_reaches_back_less),
        with_bench(short_ones_and_noise_share_the_plain_form),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
