// Unit tests of main/top_frame: samples are read, frames keep to their size, names can't move the cursor.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
extern "C" {
#include <cmocka.h>
}

#include "base/frame.h"
#include "main/top_frame.h"

#include <string.h>

namespace belfry {
namespace {

constexpr const char *tail =
    R"(,"ready":true,"stopping":false,"node":"Ab3d","version":"1.2.3","uptime":3723,"workers":2,"generation":4,
"limit":100000,"connections":12345,"kinds":{"ws":12000,"sse":345},"tls":12000,"memberships":5,"blocked":3,
"queue_bytes":5242880,"lag_us":2100,"hooks":{"calls":10,"failures":0},"proxy":{"requests":7,"failures":1},
"notify":{"spooled":0,"dropped":0},"broker":{"type":"redis","ready":false,"received":9,"published":9,"reconnects":2,
"subscriptions":3,"lost":0},"log":{"error":0,"warn":1,"dropped":0},"cpu_ms":500,"resident":104857600,"files":12400,
"refused":{"origin":4},"dropped":{"oldest":20},"closed":{"1000":17},"rooms":9,
"upstreams":[{"name":"app","servers":[{"server":"127.0.0.1:8000","state":"up","inflight":1,"requests":2,"failures":0},
{"server":"127.0.0.1:8001","state":"down","inflight":0,"requests":2,"failures":9}],"running":0}],
"top":{"rooms":[{"room":"ticker","rate":1234.5,"bytes_rate":99999,"members":42},{"room":"a\u009b31mb","rate":0.5,
"bytes_rate":1,"members":1}],"slow":[{"conn":"c_1","user":"Ann","ip":"192.0.2.1","listener":"public","route":"/ws",
"queue":1048576,"blocked_ms":2500,"dropped":3}]}})";

json_reader *reader;

int setup(void **) {
    reader = json_reader_new();
    return 0;
}
int teardown(void **) {
    json_reader_free(reader);
    return 0;
}

top_sample read_sample(const std::string &head) {
    frame *padded = frame_copy(head + tail);
    top_sample s;
    error e;
    bool fine = top_sample_read(reader, frame_view(padded), &s, &e);
    frame_unref(padded);
    if (!fine) fail_msg("%s", e.text);
    return s;
}

top_sample at(const char *time, const char *deliveries, const char *pid = "7") {
    return read_sample(std::string("{\"time\":") + time + ",\"pid\":" + pid + ",\"deliveries\":" + deliveries);
}

std::string joined(const std::vector<std::string> &lines) {
    std::string all;
    for (const std::string &line : lines)
        all += line + "\n";
    return all;
}

void assert_has(const std::string &text, const char *what) {
    if (text.find(what) == std::string::npos) fail_msg("no \"%s\" in:\n%s", what, text.c_str());
}

void everything_is_shown(void **) {
    top_sample first = at("1000", "100"), second = at("3000", "5100");
    std::string all = joined(top_frame(&second, &first, 110, 60, false));
    assert_has(all, "node Ab3d  1.2.3  up 1h 2min  2 workers  config 4  READY");
    assert_has(all, "connections  12.3k of 100k  (345 sse, 12.0k ws)");
    assert_has(all, "delivered 2500"); // 5,000 in two seconds
    assert_has(all, "waiting      5.0MB for 3 full sockets");
    assert_has(all, "OUT OF REACH");
    assert_has(all, "memory 100MB");
    assert_has(all, "ticker");
    assert_has(all, "1234");
    assert_has(all, "c_1 192.0.2.1 Ann");
    assert_has(all, "1.0MB");
    assert_has(all, "2.5 s");
    assert_has(all, "app 127.0.0.1:8001");
    assert_has(all, "refused: origin");
    assert_has(all, "closed: 1000");
}

void there_are_no_rates_at_first_nor_across_processes(void **) {
    top_sample first = at("1000", "100", "6"), second = at("3000", "5100");
    assert_has(joined(top_frame(&second, nullptr, 110, 60, false)), "delivered 0 ");
    assert_has(joined(top_frame(&second, &first, 110, 60, false)), "delivered 0 ");
    top_sample less = at("5000", "7");
    assert_has(joined(top_frame(&less, &second, 110, 60, false)), "delivered 0 "); // never below
}

void a_frame_keeps_to_its_size(void **) {
    top_sample first = at("1000", "100"), second = at("2000", "200");
    for (size_t width : {1u, 20u, 60u, 80u, 200u})
        for (size_t height : {1u, 7u, 20u, 24u, 60u}) {
            std::vector<std::string> lines = top_frame(&second, &first, width, height, false);
            assert_true(lines.size() <= height);
            for (const std::string &line : lines)
                assert_true(line.size() <= width); // all of it is ASCII here
        }
}

void each_section_has_its_place_on_a_small_screen(void **) {
    top_sample first = at("1000", "100"), second = at("2000", "200");
    for (int i = 0; i < 50; i++)
        second.rooms.push_back({"room" + std::to_string(i), 1, 1, 1});
    std::string all = joined(top_frame(&second, &first, 100, 24, false));
    assert_has(all, "ROOM");
    assert_has(all, "SLOW READER");
    assert_has(all, "UPSTREAM");
    assert_has(all, "REFUSED, DROPPED, CLOSED");
}

void names_do_not_reach_the_terminal_as_commands(void **) {
    top_sample s = at("1000", "1");
    s.rooms.push_back({"evil\x1b[2J\x07\r\n\x7f\xc2\x9bm", 1, 1, 1});
    s.slow.push_back({"c", "user\x1b]0;title\x07", "/r\n", "ip", 1, 1, 1});
    for (const std::string &line : top_frame(&s, nullptr, 110, 60, false))
        for (size_t i = 0; i < line.size(); i++) {
            auto c = static_cast<unsigned char>(line[i]);
            assert_true(c >= 0x20 && c != 0x7f);
            assert_false(c == 0xc2 && static_cast<unsigned char>(line[i + 1]) < 0xa0);
        }
    assert_has(joined(top_frame(&s, nullptr, 110, 60, false)), "evil?[2J");
}

void colours_end_where_they_began(void **) {
    top_sample s = at("1000", "1");
    for (const std::string &line : top_frame(&s, nullptr, 80, 60, true)) {
        size_t on = 0, off = 0;
        for (size_t i = 0; (i = line.find("\x1b[", i)) != std::string::npos; i++)
            (line.compare(i, 4, "\x1b[0m") == 0 ? off : on)++;
        assert_int_equal(on, off);
    }
}

void what_is_something_else_is_refused(void **) {
    for (const char *json : {"{}", "[]", "{\"top\":1,\"upstreams\":[]}", "{\"upstreams\":[1],\"top\":{}}",
                             "{\"upstreams\":[],\"top\":{\"rooms\":[]}}"}) {
        frame *padded = frame_copy(json);
        top_sample s;
        error e;
        bool fine = top_sample_read(reader, frame_view(padded), &s, &e);
        frame_unref(padded);
        if (fine) fail_msg("%s was taken", json);
    }
}

} // namespace
} // namespace belfry

int main() {
    using namespace belfry;
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(everything_is_shown),
        TEST(there_are_no_rates_at_first_nor_across_processes),
        TEST(a_frame_keeps_to_its_size),
        TEST(each_section_has_its_place_on_a_small_screen),
        TEST(names_do_not_reach_the_terminal_as_commands),
        TEST(colours_end_where_they_began),
        TEST(what_is_something_else_is_refused),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
