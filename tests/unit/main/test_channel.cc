// Messages between master and worker process: what is written, and what is refused.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
extern "C" {
#include <cmocka.h>
}

#include "main/channel.h"

using namespace belfry;
using namespace std::string_literals;

namespace {

void assert_text(const std::string &found, const std::string &expected) {
    assert_int_equal(found.size(), expected.size());
    assert_memory_equal(found.data(), expected.data(), expected.size());
}

void bytes_of_messages(void **) {
    channel_message log = {channel_kind::log, {"/var/log/belfry/log", "2", "0"}};
    assert_text(channel_encode(&log), "log\0/var/log/belfry/log\0"
                                      "2\0"
                                      "0"s);
    channel_message keep = {channel_kind::keep, {"listener", "public", "127.0.0.1:0"}};
    assert_text(channel_encode(&keep), "keep\0listener\0public\0"
                                       "127.0.0.1:0"s);
    channel_message ready = {channel_kind::ready, {}};
    assert_text(channel_encode(&ready), "ready");
    channel_message empty = {channel_kind::pid_file, {""}};
    assert_text(channel_encode(&empty), "pid_file\0"s);
    channel_message sly = {channel_kind::pid_file, {"/run/a\0/etc/b"s}};
    assert_text(channel_encode(&sly), "pid_file\0/run/a"s);
}

void there_and_back(void **) {
    const size_t counts[channel_kind_count] = {3, 1, 1, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0};
    for (int kind = 0; kind < channel_kind_count; kind++) {
        channel_message in = {static_cast<channel_kind>(kind), {}}, out;
        for (size_t i = 0; i < counts[kind]; i++)
            in.fields.push_back(i == 1 ? "" : "field " + std::to_string(i));
        assert_true(channel_decode(channel_encode(&in), &out));
        assert_int_equal(static_cast<int>(out.kind), kind);
        assert_int_equal(out.fields.size(), in.fields.size());
        for (size_t i = 0; i < in.fields.size(); i++)
            assert_text(out.fields[i], in.fields[i]);
    }
}

void what_is_refused(void **) {
    for (const std::string &bytes : {
             ""s,
             "\0"s,
             "nonsense"s,
             "read"s,
             "readyy"s,
             "READY"s,
             "ready\0"s, // a field too many
             "ready\0x"s,
             "pid_file"s, // one too few
             "pid_file\0a\0b"s,
             "log\0stderr\0002"s,
             "keep\0listener\0public"s,
             "keep\0listener\0public\0a\0b"s,
             "\0ready"s,
             "ready "s,
             std::string(70000, 'x'),
             "log"s + std::string(1000, '\0'),
         }) {
        channel_message out;
        assert_false(channel_decode(bytes, &out));
    }
}

} // namespace

int main() {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_of_messages),
        cmocka_unit_test(there_and_back),
        cmocka_unit_test(what_is_refused),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
