// Unit tests of main/modules: which modules are loaded in which order, what is wrong with others, values and scopes.
// The .so files are tests/e2e/test_modules.py's.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
extern "C" {
#include <cmocka.h>
}

#include "main/modules.h"
#include "temporary_files.h"

using namespace belfry;

namespace {

module_set *set;
std::string *told;

constexpr option_row own[] = {
    {"route", "host", option_type::text, 0, "", 0, 0, nullptr, false, ""},
};

int setup(void **) {
    directory_begin();
    set = new module_set{};
    told = new std::string;
    return 0;
}

int teardown(void **) {
    modules_close(set);
    delete set;
    delete told;
    directory_end();
    return 0;
}

void open(const std::vector<std::string> &names, const std::vector<std::string> &files = {}, own_rows rows = {own, 1}) {
    std::vector<module_file> list;
    for (const std::string &f : files)
        list.push_back({f, list.size() + 10});
    modules_close(set);
    told->clear();
    for (const module_problem &p : modules_open(set, rows, names, list))
        *told += (p.place == SIZE_MAX ? "" : std::to_string(p.place) + " ") + p.text + "\n";
}

std::string names() {
    std::string all;
    for (const loaded_module &m : set->modules)
        all += std::string(m.module->name) + " ";
    return all;
}

void built_in_modules_in_any_order(void **) {
    open({"origin", "rate_limit", "auth", "sticky"});
    assert_string_equal(told->c_str(), "");
    assert_string_equal(names().c_str(), "origin rate_limit auth sticky ");
    open({"sticky", "auth"});
    assert_string_equal(names().c_str(), "sticky auth ");
    assert_non_null(option_find(set->rows.data(), set->rows.size(), "route", "auth"));
    assert_null(option_find(set->rows.data(), set->rows.size(), "route", "origin"));
    open({});
    assert_string_equal(names().c_str(), "");
    assert_int_equal(set->rows.size(), 0);
}

void names_that_are_none(void **) {
    open({"orgin", "auth", "auth", "nothing"});
    assert_string_equal(told->c_str(), "there is no module \"orgin\"; did you mean \"origin\"?\n"
                                       "\"auth\" is there twice\n"
                                       "there is no module \"nothing\"; one that is not built in needs load_module\n");
    assert_string_equal(names().c_str(), "auth ");
}

void files_that_are_none(void **) {
    std::string text = write_file("text.so", "not a library\n");
    open({"auth"}, {"foo.so", *directory + "/none.so", text});
    assert_non_null(strstr(told->c_str(), "10 foo.so: write the whole path of the file\n"));
    assert_non_null(strstr(told->c_str(), ("11 " + *directory + "/none.so: ").c_str()));
    assert_non_null(strstr(told->c_str(), ("12 " + text + ": ").c_str()));
    assert_string_equal(names().c_str(), "auth ");
}

void options_may_not_collide(void **) {
    constexpr option_row clash[] = {{"route", "auth", option_type::text, 0, "", 0, 0, nullptr, false, ""}};
    open({"origin", "auth"}, {}, {clash, 1});
    assert_string_equal(told->c_str(), "module auth: option auth is one of Belfry's own in [route]\n");
    assert_string_equal(names().c_str(), "origin ");
    for (size_t owner : set->owners)
        assert_int_equal(owner, 0); // no row of the other one was left
}

void all_that_are_built_in(void **) {
    const module_set *all = modules_built_in();
    assert_int_equal(all->modules.size(), 4);
    for (const option_row &row : all->rows)
        assert_true(*row.help != 0);
    assert_string_equal(modules_missing("route", "origin"), "origin");
    assert_string_equal(modules_missing("upstream", "sticky"), "sticky");
    assert_null(modules_missing("upstream", "origin"));
    assert_null(modules_missing("route", "nothing"));
}

void complain(void *, const char *option, const std::string &text) {
    *told += std::string(option ? option : "-") + ": " + text + "\n";
}

void values_become_scopes(void **) {
    open({"auth", "origin"});
    option_values values = modules_defaults(set, "route");
    const option_row *row = option_find(set->rows.data(), set->rows.size(), "route", "origin");
    error e;
    values[row->offset / sizeof(option_cell)].list.clear();
    assert_true(option_parse(row, "https://app.example, https://*.example", values.data(), &e));
    module_scopes scopes;
    modules_make_scopes(set, "route", "/ws", &values, &scopes, complain, nullptr);
    assert_string_equal(told->c_str(), "");
    assert_int_equal(scopes.size(), 2);
    assert_non_null(scopes[1]);
    modules_free_scopes(set, "route", &scopes);
    assert_int_equal(scopes.size(), 0);
    assert_true(option_parse(row, "https://app.example/path", values.data(), &e));
    modules_make_scopes(set, "route", "/ws", &values, &scopes, complain, nullptr);
    assert_non_null(strstr(told->c_str(), "origin: \"https://app.example/path\""));
    assert_null(scopes[1]);
    modules_free_scopes(set, "route", &scopes);
}

} // namespace

#define with_set(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main() {
    const CMUnitTest tests[] = {
        with_set(built_in_modules_in_any_order), with_set(names_that_are_none),   with_set(files_that_are_none),
        with_set(options_may_not_collide),       with_set(all_that_are_built_in), with_set(values_become_scopes),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
