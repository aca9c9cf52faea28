// Unit tests of base/options: units, bounds, defaults, what errors say, formatting, nearest names.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
extern "C" {
#include <cmocka.h>
}

#include "base/options.h"
#include "expect_fatal.h"

namespace belfry {
namespace {

struct sample {
    bool tls;
    int64_t workers;
    int64_t limit;
    int64_t timeout;
    int64_t huge;
    std::string log;
    std::vector<std::string> origins;
    std::vector<std::string> servers;
    int32_t format;
    std::string token;
    std::vector<std::string> keys;
    struct rate pace;
};

constexpr const char *formats[] = {"text", "json", "compact", nullptr};

constexpr option_row rows[] = {
    {"belfry", "tls", option_type::boolean, offsetof(sample, tls), "yes", 0, 0, nullptr, false, ""},
    {"belfry", "workers", option_type::integer, offsetof(sample, workers), "4", -1, 64, nullptr, false, ""},
    {"belfry", "limit", option_type::size, offsetof(sample, limit), "64k", 1024, 1 << 30, nullptr, true, ""},
    {"belfry", "timeout", option_type::duration, offsetof(sample, timeout), "10s", 500, 86400000, nullptr, true, ""},
    {"belfry", "huge", option_type::integer, offsetof(sample, huge), "0", INT64_MIN, INT64_MAX, nullptr, true, ""},
    {"belfry", "log", option_type::text, offsetof(sample, log), "stderr", 0, 0, nullptr, true, ""},
    {"belfry", "origin", option_type::list, offsetof(sample, origins), "same, any", 0, 0, nullptr, true, ""},
    {"belfry", "server", option_type::lines, offsetof(sample, servers), "a weight=1\nb", 0, 0, nullptr, true, ""},
    {"belfry", "format", option_type::choice, offsetof(sample, format), "json", 0, 0, formats, true, ""},
    {"belfry", "token", option_type::secret, offsetof(sample, token), "", 0, 0, nullptr, true, ""},
    {"belfry", "key", option_type::secrets, offsetof(sample, keys), "", 0, 0, nullptr, true, ""},
    {"belfry", "pace", option_type::rate, offsetof(sample, pace), "20/s burst=40", 0, 0, nullptr, true, ""},
    {"other", "timeout", option_type::duration, offsetof(sample, huge), "0", 0, INT64_MAX, nullptr, true, ""},
    {"bytes", "huge", option_type::size, offsetof(sample, huge), "1g", INT64_MIN, INT64_MAX, nullptr, true, ""},
};
constexpr size_t row_count = std::size(rows);

sample s; // at rest between tests: nothing that a failed assertion could leak
error e;

int set_defaults(void **) {
    s = {};
    options_defaults(rows, row_count, "belfry", &s);
    return 0;
}

int clear(void **) {
    s = {};
    return 0;
}

const option_row *row(const char *name, const char *section = "belfry") {
    return option_find(rows, row_count, section, name);
}

bool parse(const char *name, view value) {
    e.text[0] = 0;
    return option_parse(row(name), value, &s, &e);
}

void assert_refused(const char *name, view value, const char *text) {
    assert_false(parse(name, value));
    assert_string_equal(e.text, text);
}

void assert_formatted(const option_row *r, const char *wanted) {
    buffer b = {};
    option_format(r, &s, &b);
    std::string text(buffer_view(&b));
    buffer_free(&b);
    assert_string_equal(text.c_str(), wanted);
}

void assert_entries(const std::vector<std::string> &got, const char *wanted) {
    std::string joined;
    for (const std::string &entry : got)
        joined += "<" + entry + ">";
    assert_string_equal(joined.c_str(), wanted);
}

void rows_are_found_by_section_and_name(void **) {
    assert_ptr_equal(row("timeout"), &rows[3]);
    assert_ptr_equal(row("timeout", "other"), &rows[12]);
    assert_null(row("tls", "other"));
    assert_null(row("Timeout"));
    assert_null(row("time"));
    assert_null(row(""));
}

void defaults_come_from_the_rows_of_one_section(void **) {
    s = {};
    s.origins = {"left over"};
    s.huge = 17;
    options_defaults(rows, row_count, "belfry", &s);
    assert_true(s.tls);
    assert_int_equal(s.workers, 4);
    assert_int_equal(s.limit, 65536);
    assert_int_equal(s.timeout, 10000);
    assert_int_equal(s.huge, 0);
    assert_string_equal(s.log.c_str(), "stderr");
    assert_entries(s.origins, "<same><any>");
    assert_entries(s.servers, "<a weight=1><b>");
    assert_int_equal(s.format, 1);
    assert_string_equal(s.token.c_str(), "");
    s.huge = 17;
    options_defaults(rows, row_count, "other", &s);
    assert_int_equal(s.huge, 0);
    assert_int_equal(s.workers, 4);
}

void a_bad_default_is_fatal(void **) {
    assert_true(expect_fatal(
        [] {
            option_row bad = rows[3];
            bad.default_value = "1ms";
            options_defaults(&bad, 1, "belfry", &s);
        },
        "the default of [belfry] timeout: \"1ms\" is out of range: write 500ms to 1d"));
}

void booleans(void **) {
    for (const char *yes : {"yes", "on", "true", "1", "YES", "True", " yes\t"}) {
        s.tls = false;
        assert_true(parse("tls", yes));
        assert_true(s.tls);
    }
    for (const char *no : {"no", "off", "false", "0", "Off"}) {
        s.tls = true;
        assert_true(parse("tls", no));
        assert_false(s.tls);
    }
    for (const char *wrong : {"", "y", "enable", "2", "yes no"})
        assert_false(parse("tls", wrong));
    assert_refused("tls", "maybe",
                   "\"maybe\" is neither yes nor no: write yes, on, true or 1, or else no, off, false or 0");
}

void integers(void **) {
    assert_true(parse("workers", "64"));
    assert_int_equal(s.workers, 64);
    assert_true(parse("workers", "-1"));
    assert_int_equal(s.workers, -1);
    assert_true(parse("workers", " 007 "));
    assert_int_equal(s.workers, 7);
    assert_true(parse("workers", "-0"));
    assert_int_equal(s.workers, 0);
    assert_refused("workers", "65", "\"65\" is out of range: write -1 to 64");
    assert_refused("workers", "-2", "\"-2\" is out of range: write -1 to 64");
    assert_refused("workers", "99999999999999999999999", "\"99999999999999999999999\" is out of range: write -1 to 64");
    assert_refused("workers", "4k", "\"4k\" is not a number: write digits alone");
    assert_refused("workers", "", "\"\" is not a number: write digits alone");
    for (const char *wrong : {"-", "+1", "--1", "1.5", "0x10", "1 2", "- 1", "four"}) {
        assert_false(parse("workers", wrong));
        assert_non_null(strstr(e.text, "is not a number"));
    }
    assert_int_equal(s.workers, 0); // untouched by all that
}

void the_ends_of_64_bits(void **) {
    assert_true(parse("huge", "9223372036854775807"));
    assert_true(s.huge == INT64_MAX);
    assert_true(parse("huge", "-9223372036854775808"));
    assert_true(s.huge == INT64_MIN);
    for (const char *wrong : {"9223372036854775808", "-9223372036854775809", "18446744073709551615",
                              "18446744073709551616", "-18446744073709551616"}) {
        assert_false(parse("huge", wrong));
        assert_non_null(strstr(e.text, "write -9223372036854775808 to 9223372036854775807"));
    }
    assert_true(parse("huge", "00000000000000000000000000000000000012"));
    assert_int_equal(s.huge, 12);
    const option_row *size = row("huge", "bytes");
    assert_true(option_parse(size, "8589934591g", &s, &e));
    assert_true(s.huge == int64_t{8589934591} << 30);
    assert_false(option_parse(size, "8589934592g", &s, &e));
    assert_true(option_parse(size, "-8589934592g", &s, &e));
    assert_true(s.huge == INT64_MIN);
    assert_false(option_parse(size, "-8589934593g", &s, &e));
    const option_row *duration = row("timeout", "other");
    assert_true(option_parse(duration, "106751991167d", &s, &e));
    assert_false(option_parse(duration, "106751991168d", &s, &e));
}

struct number_case {
    const char *text;
    int64_t value;
};

void sizes(void **) {
    constexpr number_case cases[] = {{"1024", 1024},    {"1k", 1024},    {"64k", 65536},       {"64K", 65536},
                                     {"1m", 1 << 20},   {"3M", 3 << 20}, {"1g", 1 << 30},      {"1G", 1 << 30},
                                     {"  2048 ", 2048}, {"0001k", 1024}, {"1048576k", 1 << 30}};
    for (const number_case &c : cases) {
        assert_true(parse("limit", c.text));
        assert_int_equal(s.limit, c.value);
    }
    assert_refused("limit", "1023", "\"1023\" is out of range: write 1k to 1g");
    assert_refused("limit", "0", "\"0\" is out of range: write 1k to 1g");
    assert_refused("limit", "2g", "\"2g\" is out of range: write 1k to 1g");
    assert_refused("limit", "-64k", "\"-64k\" is out of range: write 1k to 1g");
    assert_refused("limit", "64x", "\"64x\" is not a size: write plain bytes, or 64k, 1m or 2g");
    for (const char *wrong : {"", "k", "64kb", "64 k", "1.5m", "64kk", "64k/s", "10s"}) {
        assert_false(parse("limit", wrong));
        assert_non_null(strstr(e.text, "is not a size"));
    }
}

void durations(void **) {
    constexpr number_case cases[] = {{"500ms", 500},     {"10s", 10000},          {"5m", 300000},
                                     {"1h", 3600000},    {"1d", 86400000},        {" 24h ", 86400000},
                                     {"0000500ms", 500}, {"86400000ms", 86400000}};
    for (const number_case &c : cases) {
        assert_true(parse("timeout", c.text));
        assert_int_equal(s.timeout, c.value);
    }
    assert_refused("timeout", "10x", "\"10x\" is not a duration: write 500ms, 10s, 5m, 1h or 2d");
    assert_refused("timeout", "10", "\"10\" has no unit: write 500ms, 10s, 5m, 1h or 2d");
    assert_refused("timeout", "499ms", "\"499ms\" is out of range: write 500ms to 1d");
    assert_refused("timeout", "2d", "\"2d\" is out of range: write 500ms to 1d");
    assert_refused("timeout", "-10s", "\"-10s\" is out of range: write 500ms to 1d");
    assert_refused("timeout", "0", "\"0\" is out of range: write 500ms to 1d");
    assert_refused("timeout", "99999999999999999999d", "\"99999999999999999999d\" is out of range: write 500ms to 1d");
    for (const char *wrong : {"", "s", "10S", "10M", "1.5s", "10 s", "1m30s", "10sec", "64k"}) {
        assert_false(parse("timeout", wrong));
        assert_non_null(strstr(e.text, "is not a duration"));
    }
    // A bare 0 needs no unit where 0 is allowed.
    s.huge = 1;
    for (const char *zero : {"0", "0s", "00", "0ms", "0d"}) {
        s.huge = 1;
        assert_true(option_parse(row("timeout", "other"), zero, &s, &e));
        assert_int_equal(s.huge, 0);
    }
}

void texts_are_kept_as_they_are(void **) {
    assert_true(parse("log", " a, b ; \xc3\xa9 "));
    assert_string_equal(s.log.c_str(), " a, b ; \xc3\xa9 ");
    assert_true(parse("log", ""));
    assert_string_equal(s.log.c_str(), "");
    assert_true(parse("token", view("s3\0cret", 7)));
    assert_int_equal(s.token.size(), 7);
}

void lists_are_split_and_repeat(void **) {
    s.origins.clear();
    assert_true(parse("origin", " https://a.example ,b,\tc d "));
    assert_entries(s.origins, "<https://a.example><b><c d>");
    assert_true(parse("origin", "e"));
    assert_entries(s.origins, "<https://a.example><b><c d><e>");
    assert_true(parse("origin", "  "));
    assert_entries(s.origins, "<https://a.example><b><c d><e>");
    for (const char *wrong : {",", "f,", ",f", "f,,g", "f, ,g"}) {
        assert_false(parse("origin", wrong));
        assert_entries(s.origins, "<https://a.example><b><c d><e>");
    }
    assert_refused("origin", "f,,g", "\"f,,g\" has an empty entry: write entries with one comma between them");
}

void lines_are_kept_whole_and_repeat(void **) {
    s.servers.clear();
    assert_true(parse("server", "127.0.0.1:8000 weight=1, backup"));
    assert_true(parse("server", "unix:/run/app.sock"));
    assert_true(parse("server", ""));
    assert_entries(s.servers, "<127.0.0.1:8000 weight=1, backup><unix:/run/app.sock>");
    assert_refused("server", "a\nb", "the value holds a line break: write one value a line, and repeat the option");
    assert_entries(s.servers, "<127.0.0.1:8000 weight=1, backup><unix:/run/app.sock>");
}

void secrets_repeat_and_may_have_several_lines(void **) {
    s.keys.clear();
    assert_true(parse("key", "-----BEGIN PUBLIC KEY-----\nMFkw\n"));
    assert_true(parse("key", "a, b"));
    assert_true(parse("key", ""));
    assert_entries(s.keys, "<-----BEGIN PUBLIC KEY-----\nMFkw\n><a, b>");
    assert_formatted(row("key"), "***\n***");
    s.keys.clear();
    assert_formatted(row("key"), "");
}

struct rate_case {
    const char *text;
    int64_t amount, period_ms, burst;
    const char *formatted;
};

void rates(void **) {
    constexpr rate_case cases[] = {{"20/s", 20, 1000, 20, "20/s"},
                                   {"20/s burst=40", 20, 1000, 40, "20/s burst=40"},
                                   {"  20/s \t burst=40 ", 20, 1000, 40, "20/s burst=40"},
                                   {"64k/s burst=256k", 65536, 1000, 262144, "64k/s burst=256k"},
                                   {"100/m", 100, 60000, 100, "100/m"},
                                   {"5/h burst=1", 5, 3600000, 1, "5/h burst=1"},
                                   {"3m/m", 3 << 20, 60000, 3 << 20, "3m/m"},
                                   {"20/s burst=20", 20, 1000, 20, "20/s"},
                                   {"1024g/s", rate_most, 1000, rate_most, "1024g/s"},
                                   {"0", 0, 0, 0, "0"},
                                   {"0/s burst=40", 0, 0, 0, "0"},
                                   {"", 0, 0, 0, "0"}};
    for (const rate_case &c : cases) {
        s.pace = {7, 7, 7};
        assert_true(parse("pace", c.text));
        assert_int_equal(s.pace.amount, c.amount);
        assert_int_equal(s.pace.period_ms, c.period_ms);
        assert_int_equal(s.pace.burst, c.burst);
        assert_formatted(row("pace"), c.formatted);
    }
    s.pace = {7, 7, 7};
    for (const char *wrong : {"20",
                              "/s",
                              "20/",
                              "20/d",
                              "20/S",
                              "20 /s",
                              "20/s burst",
                              "20/s burst=",
                              "20/s burst=0",
                              "20/s 40",
                              "20/s burst=40 x",
                              "20/sburst=40",
                              "-1/s",
                              "1.5/s",
                              "20x/s",
                              "1025g/s",
                              "99999999999999999999/s",
                              "9223372036854775807g/s",
                              "20/s burst=1025g",
                              "s",
                              "burst=40"}) {
        assert_false(parse("pace", wrong));
        assert_non_null(strstr(e.text, "is not a rate: write 20/s"));
    }
    assert_int_equal(s.pace.amount, 7);
    assert_refused("pace", "fast",
                   "\"fast\" is not a rate: write 20/s, 20/s burst=40, 64k/s burst=256k, 100/m or 5/h; "
                   "0 for no limit");
}

void choices(void **) {
    assert_true(parse("format", " compact "));
    assert_int_equal(s.format, 2);
    assert_true(parse("format", "text"));
    assert_int_equal(s.format, 0);
    assert_refused("format", "jsno", "\"jsno\" is not known here: write text, json or compact; did you mean json?");
    assert_refused("format", "xml", "\"xml\" is not known here: write text, json or compact");
    assert_refused("format", "", "\"\" is not known here: write text, json or compact");
    assert_int_equal(s.format, 0);
}

void a_long_value_does_not_push_out_the_advice(void **) {
    std::string wanted = "\"" + std::string(80, 'x') + "...\" is not a duration: write 500ms, 10s, 5m, 1h or 2d";
    assert_refused("timeout", std::string(2000, 'x'), wanted.c_str());
}

void the_defaults_are_formatted_as_they_were_written(void **) {
    for (const option_row &r : rows) {
        if (view(r.section) == "belfry") assert_formatted(&r, r.default_value);
    }
}

void numbers_are_formatted_in_the_largest_exact_unit(void **) {
    constexpr number_case durations[] = {{"0s", 0},        {"1ms", 1},        {"999ms", 999},    {"1s", 1000},
                                         {"1500ms", 1500}, {"59s", 59000},    {"1m", 60000},     {"90s", 90000},
                                         {"1h", 3600000},  {"25h", 90000000}, {"2d", 172800000}, {"-10s", -10000}};
    for (const number_case &c : durations) {
        s.timeout = c.value;
        assert_formatted(row("timeout"), c.text);
    }
    constexpr number_case sizes[] = {
        {"0", 0},       {"1", 1},        {"1023", 1023},         {"1k", 1024},       {"1025", 1025},
        {"64k", 65536}, {"1m", 1 << 20}, {"1025k", 1025 * 1024}, {"1536m", 3 << 29}, {"4g", int64_t{4} << 30}};
    for (const number_case &c : sizes) {
        s.limit = c.value;
        assert_formatted(row("limit"), c.text);
    }
    s.workers = 65536;
    assert_formatted(row("workers"), "65536"); // no unit for a count
    s.huge = INT64_MIN;
    assert_formatted(row("huge"), "-9223372036854775808");
}

void the_rest_is_formatted(void **) {
    s.tls = false;
    assert_formatted(row("tls"), "no");
    s.format = 2;
    assert_formatted(row("format"), "compact");
    s.origins = {};
    assert_formatted(row("origin"), "");
    s.servers = {"a, b", "c"};
    assert_formatted(row("server"), "a, b\nc");
}

void secrets_are_not_shown(void **) {
    assert_formatted(row("token"), "");
    s.token = "s3cret";
    assert_formatted(row("token"), "***");
    s.token = "s3://cret";
    assert_formatted(row("token"), "***");
    s.token = "redis://user:p@ss/word@127.0.0.1:6379/0";
    assert_formatted(row("token"), "redis://user:***@127.0.0.1:6379/0");
    s.token = "redis://127.0.0.1:6379/0";
    assert_formatted(row("token"), "redis://127.0.0.1:6379/0");
    s.token = "unix://:secret@/run/redis.sock?db=1";
    assert_formatted(row("token"), "unix://:***@/run/redis.sock?db=1");
    s.token.clear();
}

// Each type of field, and that a secret counts although it is not shown.
void fields_are_compared_and_copied(void **) {
    sample other = s;
    static constexpr const char *changed[][2] = {{"tls", "no"},       {"workers", "5"}, {"limit", "65k"},
                                                 {"timeout", "11s"},  {"huge", "1"},    {"log", "x"},
                                                 {"origin", "also"},  {"server", "c"},  {"format", "text"},
                                                 {"token", "hidden"}, {"key", "more"},  {"pace", "20/s burst=41"}};
    for (auto [name, value] : changed) {
        const option_row *r = row(name);
        assert_true(option_equal(r, &s, &other));
        assert_true(parse(name, value));
        assert_false(option_equal(r, &s, &other));
        for (const option_row &one : rows)
            if (view(one.section) == "belfry" && &one != r) assert_true(option_equal(&one, &s, &other));
        option_copy(r, &s, &other);
        assert_true(option_equal(r, &s, &other));
    }
    assert_string_equal(other.token.c_str(), "hidden");
    assert_int_equal(other.origins.size(), 3);
    assert_int_equal(other.pace.burst, 41);
}

void the_nearest_name(void **) {
    static constexpr const char *names[] = {"listen", "log", "log_level", "ping_interval", "pong_timeout", "tls"};
    auto nearest = [](view name) {
        const char *found = nearest_name(name, names, std::size(names));
        return found ? found : "(none)";
    };
    assert_string_equal(nearest("listen"), "listen");
    assert_string_equal(nearest("Listen"), "listen");
    assert_string_equal(nearest("lisen"), "listen");   // one missing
    assert_string_equal(nearest("listeen"), "listen"); // one too many
    assert_string_equal(nearest("lisden"), "listen");  // another one
    assert_string_equal(nearest("lsiten"), "listen");  // two swapped
    assert_string_equal(nearest("loglevel"), "log_level");
    assert_string_equal(nearest("ping_intreval"), "ping_interval");
    assert_string_equal(nearest("lgo"), "log");    // 1: a swap costs one, not two
    assert_string_equal(nearest("ssl"), "tls");    // 2 of at most 1 + 3/3
    assert_string_equal(nearest("xyz"), "(none)"); // 3
    assert_string_equal(nearest("certificate"), "(none)");
    assert_string_equal(nearest(""), "(none)");
    assert_string_equal(nearest(std::string(100000, 'x')), "(none)");
    assert_null(nearest_name("listen", nullptr, 0));
    // At the limit: six letters, so 3 is near enough and 4 is not.
    constexpr const char *one[] = {"listen"};
    assert_non_null(nearest_name("lisxyz", one, 1));
    assert_null(nearest_name("liwxyz", one, 1));
    // The nearest wins, not the first; among equals the first.
    constexpr const char *several[] = {"abcx", "abcd", "abce"};
    assert_string_equal(nearest_name("abcd", several, 3), "abcd");
    assert_string_equal(nearest_name("abcy", several, 3), "abcx");
}

} // namespace
} // namespace belfry

int main() {
    using namespace belfry;
    const CMUnitTest tests[] = {
        cmocka_unit_test(rows_are_found_by_section_and_name),
        cmocka_unit_test_setup_teardown(defaults_come_from_the_rows_of_one_section, set_defaults, clear),
        cmocka_unit_test(a_bad_default_is_fatal),
        cmocka_unit_test_setup_teardown(booleans, set_defaults, clear),
        cmocka_unit_test_setup_teardown(integers, set_defaults, clear),
        cmocka_unit_test_setup_teardown(the_ends_of_64_bits, set_defaults, clear),
        cmocka_unit_test_setup_teardown(sizes, set_defaults, clear),
        cmocka_unit_test_setup_teardown(durations, set_defaults, clear),
        cmocka_unit_test_setup_teardown(texts_are_kept_as_they_are, set_defaults, clear),
        cmocka_unit_test_setup_teardown(lists_are_split_and_repeat, set_defaults, clear),
        cmocka_unit_test_setup_teardown(lines_are_kept_whole_and_repeat, set_defaults, clear),
        cmocka_unit_test_setup_teardown(secrets_repeat_and_may_have_several_lines, set_defaults, clear),
        cmocka_unit_test_setup_teardown(rates, set_defaults, clear),
        cmocka_unit_test_setup_teardown(choices, set_defaults, clear),
        cmocka_unit_test_setup_teardown(a_long_value_does_not_push_out_the_advice, set_defaults, clear),
        cmocka_unit_test_setup_teardown(the_defaults_are_formatted_as_they_were_written, set_defaults, clear),
        cmocka_unit_test_setup_teardown(numbers_are_formatted_in_the_largest_exact_unit, set_defaults, clear),
        cmocka_unit_test_setup_teardown(the_rest_is_formatted, set_defaults, clear),
        cmocka_unit_test_setup_teardown(secrets_are_not_shown, set_defaults, clear),
        cmocka_unit_test_setup_teardown(fields_are_compared_and_copied, set_defaults, clear),
        cmocka_unit_test(the_nearest_name),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
