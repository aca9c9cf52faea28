// Prometheus' text format, byte by byte.
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>
extern "C" {
#include <cmocka.h>
}

#include "main/metrics_text.h"

#include <string>

using namespace belfry;

namespace {

buffer out;
metrics_text text;

int setup(void **) {
    out = {};
    text = {&out, ""};
    return 0;
}
int teardown(void **) {
    buffer_free(&out);
    return 0;
}

void assert_text(const char *expected) {
    assert_string_equal(std::string(buffer_view(&out)).c_str(), expected);
}

void a_metric_of_one_sample(void **) {
    metric_counter(&text, "a_total", "What it is.", 18446744073709551615u);
    metric_gauge(&text, "b", "Another.", 0);
    assert_text("# HELP a_total What it is.\n# TYPE a_total counter\na_total 18446744073709551615\n"
                "# HELP b Another.\n# TYPE b gauge\nb 0\n");
}

void labels_stand_in_order(void **) {
    metric_begin(&text, "a", metric_type::gauge, "h");
    metric_value(&text, {{"x", "1"}, {"y", ""}}, 7);
    metric_value(&text, {}, 8);
    assert_text("# HELP a h\n# TYPE a gauge\na{x=\"1\",y=\"\"} 7\na 8\n");
}

void label_values_are_escaped(void **) {
    metric_begin(&text, "a", metric_type::gauge, "one\\two\n\"three\"");
    metric_value(&text, {{"x", "\"} 1\nforged 2 \\"}}, 1);
    assert_text("# HELP a one\\\\two\\n\"three\"\n# TYPE a gauge\na{x=\"\\\"} 1\\nforged 2 \\\\\"} 1\n");
}

void utf8_stays_and_other_bytes_go(void **) {
    metric_begin(&text, "a", metric_type::gauge, "h");
    metric_value(&text, {{"x", "gr\xc3\xbc\xc3\x9f"}}, 1);
    metric_value(&text, {{"x", "gr\xfc\xdf."}}, 2);
    assert_text("# HELP a h\n# TYPE a gauge\na{x=\"gr\xc3\xbc\xc3\x9f\"} 1\na{x=\"gr??.\"} 2\n");
}

void seconds_are_exact(void **) {
    text.name = "s";
    for (uint64_t ns : {uint64_t{0}, uint64_t{1}, uint64_t{1500000000}, uint64_t{25000}, uint64_t{10000000000},
                        uint64_t{1764000000123000000}})
        metric_seconds(&text, {}, ns);
    assert_text("s 0\ns 0.000000001\ns 1.5\ns 0.000025\ns 10\ns 1764000000.123\n");
}

void a_histogram_is_cumulative(void **) {
    histogram h = {};
    histogram_add(&h, 20000, 2);    // to 25 us
    histogram_add(&h, 2000000);     // to 2.5 ms
    histogram_add(&h, 11000000000); // above all
    metric_begin(&text, "t_seconds", metric_type::histogram, "h");
    metric_histogram(&text, {{"k", "v"}}, &h);
    assert_text("# HELP t_seconds h\n# TYPE t_seconds histogram\n"
                "t_seconds_bucket{k=\"v\",le=\"0.000025\"} 2\n"
                "t_seconds_bucket{k=\"v\",le=\"0.00005\"} 2\n"
                "t_seconds_bucket{k=\"v\",le=\"0.0001\"} 2\n"
                "t_seconds_bucket{k=\"v\",le=\"0.00025\"} 2\n"
                "t_seconds_bucket{k=\"v\",le=\"0.0005\"} 2\n"
                "t_seconds_bucket{k=\"v\",le=\"0.001\"} 2\n"
                "t_seconds_bucket{k=\"v\",le=\"0.0025\"} 3\n"
                "t_seconds_bucket{k=\"v\",le=\"0.005\"} 3\n"
                "t_seconds_bucket{k=\"v\",le=\"0.01\"} 3\n"
                "t_seconds_bucket{k=\"v\",le=\"0.025\"} 3\n"
                "t_seconds_bucket{k=\"v\",le=\"0.05\"} 3\n"
                "t_seconds_bucket{k=\"v\",le=\"0.1\"} 3\n"
                "t_seconds_bucket{k=\"v\",le=\"0.25\"} 3\n"
                "t_seconds_bucket{k=\"v\",le=\"0.5\"} 3\n"
                "t_seconds_bucket{k=\"v\",le=\"1\"} 3\n"
                "t_seconds_bucket{k=\"v\",le=\"2.5\"} 3\n"
                "t_seconds_bucket{k=\"v\",le=\"5\"} 3\n"
                "t_seconds_bucket{k=\"v\",le=\"10\"} 3\n"
                "t_seconds_bucket{k=\"v\",le=\"+Inf\"} 4\n"
                "t_seconds_sum{k=\"v\"} 11.00204\n"
                "t_seconds_count{k=\"v\"} 4\n");
}

void a_histogram_without_labels(void **) {
    const histogram h = {};
    text.name = "t";
    metric_histogram(&text, {}, &h);
    view all = buffer_view(&out);
    assert_true(all.starts_with("t_bucket{le=\"0.000025\"} 0\n"));
    assert_true(all.ends_with("t_bucket{le=\"+Inf\"} 0\nt_sum 0\nt_count 0\n"));
}

} // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_metric_of_one_sample, setup, teardown),
        cmocka_unit_test_setup_teardown(labels_stand_in_order, setup, teardown),
        cmocka_unit_test_setup_teardown(label_values_are_escaped, setup, teardown),
        cmocka_unit_test_setup_teardown(utf8_stays_and_other_bytes_go, setup, teardown),
        cmocka_unit_test_setup_teardown(seconds_are_exact, setup, teardown),
        cmocka_unit_test_setup_teardown(a_histogram_is_cumulative, setup, teardown),
        cmocka_unit_test_setup_teardown(a_histogram_without_labels, setup, teardown),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
