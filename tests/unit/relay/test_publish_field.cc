// Publish by answer: what of an answer becomes a publish, and what is left alone.
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>
extern "C" {
#include <cmocka.h>
}

#include "relay/publish_field.h"
#include "shard_bench.h"

using namespace belfry;

static test_client from;

static int begin(void **state) {
    if (bench_begin(state)) return 1;
    bench->settings.max_message = 100;
    bench->way.publish_header = true;
    bench->way.upstream = "app";
    from = connect_client();
    from.at->route = &bench->way;
    return 0;
}

// What an answer with these field lines and this body publishes: "ROOM=PAYLOAD " for each.
static std::string published(const std::string &lines, const std::string &body, bool has_body = true) {
    std::string head = "HTTP/1.1 200 OK\r\n" + lines + "\r\n", all;
    http1_scan scan = {};
    http1_response r;
    const char *why = "";
    if (http1_parse_response(head, &scan, &r, &why) != http1_result::complete) return why;
    publish_field *f = publish_field_new(from.at, &r, has_body);
    if (!f) return "nothing";
    for (size_t i = 0; i < body.size(); i += 7)
        publish_field_body(from.at, f, view(body).substr(i, 7));
    publish_field_end(from.at, f);
    publish_field_free(f);
    letters();
    for (const seen_publish &p : bench->publishes)
        all += p.room + "=" + p.payload + " ";
    return all;
}

static edge_counters *counted() {
    return &the_shard()->count.edge;
}

static void test_the_body(void **) {
    assert_string_equal(published("Belfry-Publish: a\r\n", "the whole body").c_str(), "a=the whole body ");
    assert_string_equal(published("belfry-publish: a, b,,c\r\nBelfry-Publish: d\r\n", "x").c_str(), "a=x b=x c=x d=x ");
    assert_int_equal(counted()->published, 5);
    assert_int_equal(counted()->publish_failures, 0);
    assert_true(bench->publishes[0].kind == payload_kind::any);
    assert_string_equal(bench->publishes[0].from.c_str(), "");
    assert_false(bench->publishes[0].wants_answer);
}

static void test_the_data_field(void **) {
    const char *lines = "Belfry-Publish: a\r\nBelfry-Publish-Data: {\"n\":1}\r\nContent-Encoding: gzip\r\n";
    assert_string_equal(published(lines, "body").c_str(), "a={\"n\":1} ");
    assert_string_equal(published(lines, "", false).c_str(), "a={\"n\":1} ");
    assert_string_equal(published("Belfry-Publish: a\r\nBelfry-Publish-Data:\r\n", "body").c_str(), "a= ");
}

static void test_without_the_field_or_the_option(void **) {
    assert_string_equal(published("X-Other: a\r\n", "body").c_str(), "nothing");
    assert_string_equal(published("Belfry-Publish:\r\n", "body").c_str(), "nothing");
    bench->way.publish_header = false;
    assert_string_equal(published("Belfry-Publish: a\r\n", "body").c_str(), "nothing");
    assert_int_equal(counted()->publish_failures, 0);
}

static void test_names(void **) {
    const char *lines = "Belfry-Publish: a b, @all, @user:7, @conn:c_x, @user:, @other, \xff, ok\r\n";
    assert_string_equal(published(lines, "x").c_str(), "@all=x @user:7=x @conn:c_x=x ok=x ");
    assert_int_equal(counted()->publish_failures, 4);
    assert_string_equal(published("Belfry-Publish: @other\r\n", "x").c_str(), "nothing");
}

static void test_64_rooms_at_most(void **) {
    std::string names = "r0", want = "r0=x ";
    for (int i = 1; i < 70; i++) {
        names += ",r" + std::to_string(i);
        if (i < 64) want += "r" + std::to_string(i) + "=x ";
    }
    assert_string_equal(published("Belfry-Publish: " + names + "\r\n", "x").c_str(), want.c_str());
    assert_int_equal(counted()->publish_failures, 1);
}

static void test_what_cannot_be_published(void **) {
    assert_string_equal(published("Belfry-Publish: a\r\nContent-Encoding: gzip\r\n", "x").c_str(), "nothing");
    assert_string_equal(published("Belfry-Publish: a\r\n", "", false).c_str(), "nothing");
    assert_string_equal(
        published("Belfry-Publish: a\r\nBelfry-Publish-Data: 1\r\nBelfry-Publish-Data: 2\r\n", "x").c_str(), "nothing");
    assert_int_equal(counted()->publish_failures, 3);
    assert_string_equal(published("Belfry-Publish: a\r\nContent-Encoding: identity\r\n", "x").c_str(), "a=x ");
}

static void test_max_message(void **) {
    std::string most(100, 'x');
    assert_string_equal(published("Belfry-Publish: a\r\n", most).c_str(), ("a=" + most + " ").c_str());
    assert_string_equal(published("Belfry-Publish: a\r\n", most + "x").c_str(), "");
    assert_int_equal(counted()->publish_failures, 1);
    assert_int_equal(counted()->published, 1);
}

static void test_an_overloaded_node(void **) {
    the_shard()->outbox_bytes += outbox_bytes_max + 1;
    assert_string_equal(published("Belfry-Publish: a\r\n", "x").c_str(), "");
    the_shard()->outbox_bytes -= outbox_bytes_max + 1;
    assert_int_equal(counted()->publish_failures, 1);
}

int main() {
#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, bench_end)
    const struct CMUnitTest tests[] = {
        TEST(test_the_body),    TEST(test_the_data_field),     TEST(test_without_the_field_or_the_option),
        TEST(test_names),       TEST(test_64_rooms_at_most),   TEST(test_what_cannot_be_published),
        TEST(test_max_message), TEST(test_an_overloaded_node),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
