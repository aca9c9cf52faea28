// Modules: built in, and from .so files by dlopen(3). Main thread.
#include "main/modules.h"

#include "relay/chain.h"

#include <algorithm>
#include <dlfcn.h>
#include <map>
#include <string.h>

// Compiled with BELFRY_BUILT_IN from src/modules/.
extern const struct belfry_module belfry_module_origin;
extern const struct belfry_module belfry_module_rate_limit;
extern const struct belfry_module belfry_module_auth;
extern const struct belfry_module belfry_module_sticky;

namespace belfry {

// The structs hold std::string, so offsetof is only conditionally supported; gcc and clang do support it.
#pragma GCC diagnostic ignored "-Winvalid-offsetof"

static const struct belfry_module *const built_in[] = {&belfry_module_origin, &belfry_module_rate_limit,
                                                       &belfry_module_auth, &belfry_module_sticky};

// How many configurations hold each module: its load is called with the first, its unload with the last.
static std::map<const struct belfry_module *, unsigned> uses;

static constexpr size_t module_name_max = 32;
static constexpr size_t module_options_max = 64;

// ---------------------------------------------------------------- what a module's table says

static bool is_name(const char *name) {
    if (!name || !*name || strlen(name) > module_name_max) return false;
    return strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_") == strlen(name);
}

static size_t field_of(option_type type) {
    switch (type) {
    case option_type::boolean:
        return offsetof(option_cell, boolean);
    case option_type::choice:
        return offsetof(option_cell, choice);
    case option_type::integer:
    case option_type::size:
    case option_type::duration:
        return offsetof(option_cell, number);
    case option_type::rate:
        return offsetof(option_cell, rate);
    case option_type::text:
    case option_type::secret:
        return offsetof(option_cell, text);
    case option_type::list:
    case option_type::lines:
    case option_type::secrets:
        return offsetof(option_cell, list);
    }
    return 0;
}

static bool type_of(enum belfry_option_type from, option_type *to) {
    static constexpr option_type types[] = {option_type::boolean,  option_type::integer, option_type::size,
                                            option_type::duration, option_type::text,    option_type::list,
                                            option_type::choice,   option_type::secrets, option_type::rate};
    if (static_cast<size_t>(from) >= std::size(types)) return false;
    *to = types[from];
    return true;
}

// Empty where the option makes a row, else why it does not. `at`: its cell.
static std::string make_row(const struct belfry_option *o, size_t at, option_row *out) {
    view section = o->section ? o->section : "";
    if (section != "route" && section != "upstream" && section != "room") return "stands in no known section";
    if (!o->default_value || !o->help) return "lacks a default or a help text";
    *out = {};
    if (!type_of(o->type, &out->type)) return "has a type that this Belfry does not know";
    if (out->type == option_type::choice && (!o->choices || !o->choices[0])) return "has no choices";
    out->section = o->section;
    out->name = o->name;
    out->offset = at * sizeof(option_cell) + field_of(out->type);
    out->default_value = o->default_value;
    out->minimum = o->minimum;
    out->maximum = o->maximum;
    out->choices = o->choices;
    out->reload = true; // scopes are made anew
    out->help = o->help;
    error e;
    option_values trial(at + 1);
    if (!option_parse(out, out->default_value, trial.data(), &e)) return std::string("has a bad default: ") + e.text;
    return "";
}

static size_t rows_of_kind(const module_set *set, view section) {
    return static_cast<size_t>(std::count_if(set->rows.begin(), set->rows.end(),
                                             [&](const option_row &row) { return section == row.section; }));
}

// The rows of one more module. Empty, or what is wrong; then none was added.
static std::string add_rows(module_set *set, own_rows own, const struct belfry_module *m) {
    size_t before = set->rows.size();
    std::string wrong;
    if (m->option_count > module_options_max) wrong = "module " + std::string(m->name) + " has more than 64 options";
    for (size_t i = 0; i < m->option_count && wrong.empty(); i++) {
        const struct belfry_option *o = &m->options[i];
        std::string what = "module " + std::string(m->name) + ": option " + (is_name(o->name) ? o->name : "?") + " ";
        option_row row;
        const option_row *same = nullptr;
        if (!is_name(o->name))
            wrong = what + "is not named with a to z, 0 to 9 and _";
        else if (wrong = make_row(o, rows_of_kind(set, o->section ? o->section : ""), &row); !wrong.empty())
            wrong = what + wrong;
        else if (option_find(own.rows, own.count, row.section, row.name))
            wrong = what + "is one of Belfry's own in [" + row.section + "]";
        else if ((same = option_find(set->rows.data(), set->rows.size(), row.section, row.name)))
            wrong = what + "is module " +
                    set->modules[set->owners[static_cast<size_t>(same - set->rows.data())]].module->name + "'s in [" +
                    row.section + "]";
        if (!wrong.empty()) break;
        set->rows.push_back(row);
        set->owners.push_back(set->modules.size());
    }
    if (wrong.empty()) return wrong;
    set->rows.resize(before);
    set->owners.resize(before);
    return wrong;
}

// Empty, or why the table can't be used at all. `where`: its file.
static std::string check_table(const struct belfry_module *m, const std::string &where) {
    if (m->abi != BELFRY_ABI)
        return where + " was built for ABI " + std::to_string(m->abi) + ", this Belfry speaks " +
               std::to_string(BELFRY_ABI) + ": rebuild it with this version's <belfry/module.h>";
    if (!BELFRY_HAS(m, conn_size))
        return where + ": its table has " + std::to_string(m->size) +
               " bytes, too few for any module: is `size` sizeof(struct belfry_module)?";
    if (!is_name(m->name)) return where + ": the module's name is not 1 to 32 of a to z, 0 to 9 and _";
    if (m->conn_size > chain_state_max)
        return "module " + std::string(m->name) + " wants " + std::to_string(m->conn_size) +
               " bytes a connection, at most " + std::to_string(chain_state_max) + " are given";
    return "";
}

// ---------------------------------------------------------------- loading

// Empty where the file's module is in *out.
static std::string open_file(const std::string &path, loaded_module *out) {
    if (path.find('/') == std::string::npos) return path + ": write the whole path of the file";
    void *handle = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (!handle) return dlerror();
    auto *m = static_cast<const struct belfry_module *>(dlsym(handle, "belfry_module"));
    std::string wrong = m ? check_table(m, path) : path + " is no module: it has no symbol belfry_module";
    if (!wrong.empty()) {
        dlclose(handle);
        return wrong;
    }
    *out = {m, handle, path};
    return "";
}

static const struct belfry_module *find_built_in(view name) {
    for (const struct belfry_module *m : built_in)
        if (name == m->name) return m;
    return nullptr;
}

static void let_go(const loaded_module *m) {
    if (m->handle) dlclose(m->handle);
}

// Takes it over. Empty where it is in the set.
static std::string add(module_set *set, own_rows own, const loaded_module *m) {
    char text[512] = "";
    std::string wrong = set->modules.size() == chain_modules_max ? "there are 64 modules already, which is all"
                                                                 : add_rows(set, own, m->module);
    if (wrong.empty() && !uses.count(m->module) && BELFRY_HAS(m->module, load) && m->module->load &&
        !m->module->load(chain_host(), text, sizeof text)) {
        wrong = "module " + std::string(m->module->name) + ": " + (*text ? text : "does not load");
        while (!set->owners.empty() && set->owners.back() == set->modules.size()) {
            set->rows.pop_back();
            set->owners.pop_back();
        }
    }
    if (!wrong.empty()) {
        let_go(m);
        return wrong;
    }
    if (uses[m->module]++) let_go(m); // one handle is enough for all sets
    set->modules.push_back(*m);
    return "";
}

static std::string unknown_module(const std::string &name, const std::vector<loaded_module> &files) {
    std::vector<const char *> known;
    for (const struct belfry_module *m : built_in)
        known.push_back(m->name);
    for (const loaded_module &m : files)
        known.push_back(m.module->name);
    const char *nearest = nearest_name(name, known.data(), known.size());
    return "there is no module \"" + name + "\"" +
           (nearest ? std::string("; did you mean \"") + nearest + "\"?"
                    : std::string("; one that is not built in needs load_module"));
}

struct opening {
    std::vector<module_problem> problems;
    std::vector<loaded_module> loaded; // from files; owned until they are taken
    std::vector<size_t> places;        // of those
};

static bool complain(opening *o, size_t place, const std::string &text) {
    if (!text.empty()) o->problems.push_back({place, text});
    return !text.empty();
}

static void open_files(opening *o, const std::vector<std::string> &names, const std::vector<module_file> &files) {
    for (const module_file &f : files) {
        loaded_module m;
        if (complain(o, f.place, open_file(f.path, &m))) continue;
        view name = m.module->name;
        auto same = [&](const loaded_module &other) { return name == other.module->name; };
        std::string twice;
        if (std::any_of(o->loaded.begin(), o->loaded.end(), same))
            twice = "there are two modules of the name " + std::string(name);
        else if (find_built_in(name) && std::count(names.begin(), names.end(), name))
            twice = f.path + " is a module " + std::string(name) +
                    ", and so is one that is built in: take the name out of `modules`";
        if (complain(o, f.place, twice)) {
            let_go(&m);
            continue;
        }
        o->loaded.push_back(m);
        o->places.push_back(f.place);
    }
}

std::vector<module_problem> modules_open(module_set *out, own_rows own, const std::vector<std::string> &names,
                                         const std::vector<module_file> &files) {
    opening o;
    open_files(&o, names, files);
    std::vector<bool> taken(o.loaded.size());
    for (size_t n = 0; n < names.size(); n++) {
        const std::string &name = names[n];
        size_t i = 0;
        while (i < o.loaded.size() && name != o.loaded[i].module->name)
            i++;
        loaded_module own_module = {find_built_in(name), nullptr, ""};
        if (std::count(names.begin(), names.begin() + static_cast<ptrdiff_t>(n), name)) {
            complain(&o, SIZE_MAX, "\"" + name + "\" is there twice");
        } else if (i < o.loaded.size()) {
            taken[i] = true;
            complain(&o, o.places[i], add(out, own, &o.loaded[i]));
        } else if (own_module.module) {
            complain(&o, SIZE_MAX, add(out, own, &own_module));
        } else {
            complain(&o, SIZE_MAX, unknown_module(name, o.loaded));
        }
    }
    for (size_t i = 0; i < o.loaded.size(); i++)
        if (!taken[i]) complain(&o, o.places[i], add(out, own, &o.loaded[i]));
    return o.problems;
}

void modules_share(const module_set *from, module_set *out) {
    *out = *from;
    for (const loaded_module &m : out->modules)
        uses[m.module]++;
}

void modules_close(module_set *set) {
    for (const loaded_module &m : set->modules) {
        if (--uses[m.module]) continue;
        uses.erase(m.module);
        if (BELFRY_HAS(m.module, unload) && m.module->unload) m.module->unload();
        let_go(&m);
    }
    *set = {};
}

const module_set *modules_built_in() {
    static module_set all;
    if (!all.modules.empty()) return &all;
    for (const struct belfry_module *m : built_in) {
        std::string wrong = check_table(m, "a built-in module");
        if (wrong.empty()) wrong = add_rows(&all, {}, m);
        if (!wrong.empty()) fatal("%s", wrong.c_str());
        all.modules.push_back({m, nullptr, ""});
    }
    return &all;
}

const char *modules_missing(view section, view option) {
    const module_set *all = modules_built_in();
    const option_row *row = option_find(all->rows.data(), all->rows.size(), section, option);
    return row ? all->modules[all->owners[static_cast<size_t>(row - all->rows.data())]].module->name : nullptr;
}

// ---------------------------------------------------------------- values and scopes

option_values modules_defaults(const module_set *set, view section) {
    option_values values(rows_of_kind(set, section));
    options_defaults(set->rows.data(), set->rows.size(), section, values.data());
    return values;
}

view modules_choice(const module_set *set, view section, view option, const option_values *values) {
    const option_row *row = option_find(set->rows.data(), set->rows.size(), section, option);
    if (!row || row->type != option_type::choice) return view();
    return row->choices[(*values)[row->offset / sizeof(option_cell)].choice];
}

// The texts of a list stand in `texts`, which does not move any more.
static void make_value(const option_row *row, const option_cell *cell, std::vector<struct belfry_text> *texts,
                       struct belfry_value *out) {
    *out = {};
    if (row->type == option_type::boolean)
        out->number = cell->boolean;
    else if (row->type == option_type::choice)
        out->number = cell->choice;
    else
        out->number = cell->number;
    out->rate = {cell->rate.amount, cell->rate.period_ms, cell->rate.burst};
    out->text = {cell->text.data(), cell->text.size()};
    for (const std::string &entry : cell->list)
        texts->push_back({entry.data(), entry.size()});
    out->list = texts->data();
    out->list_count = texts->size();
}

// "NAME: ..." is about that option; the name is cut off, for who tells it puts it in front.
static const char *about_option(const module_set *set, view section, size_t owner, std::string *text) {
    for (size_t i = 0; i < set->rows.size(); i++) {
        std::string name = set->rows[i].name;
        if (set->owners[i] != owner || section != set->rows[i].section || text->rfind(name + ": ", 0) != 0) continue;
        *text = text->substr(name.size() + 2);
        return set->rows[i].name;
    }
    return nullptr;
}

void modules_make_scopes(const module_set *set, const char *section, const std::string &name,
                         const option_values *cells, module_scopes *out,
                         void (*complain)(void *context, const char *option, const std::string &text), void *context) {
    out->assign(set->modules.size(), nullptr);
    for (size_t owner = 0; owner < set->modules.size(); owner++) {
        const struct belfry_module *m = set->modules[owner].module;
        std::vector<struct belfry_value> values;
        std::vector<std::vector<struct belfry_text>> texts(cells->size());
        size_t cell = 0;
        for (size_t i = 0; i < set->rows.size(); i++) {
            if (view(section) != set->rows[i].section) continue;
            if (set->owners[i] == owner)
                make_value(&set->rows[i], &(*cells)[cell], &texts[cell], &values.emplace_back());
            cell++;
        }
        if (values.empty() || !BELFRY_HAS(m, scope_new) || !m->scope_new) continue;
        char text[512] = "";
        (*out)[owner] = m->scope_new(chain_host(), section, {name.data(), name.size()}, values.data(), values.size(),
                                     text, sizeof text);
        if ((*out)[owner] || !*text) continue;
        std::string wrong = text;
        const char *option = about_option(set, section, owner, &wrong);
        complain(context, option, wrong);
    }
}

void modules_free_scopes(const module_set *set, const char *section, module_scopes *scopes) {
    for (size_t i = 0; i < scopes->size(); i++) {
        const struct belfry_module *m = set->modules[i].module;
        if ((*scopes)[i] && BELFRY_HAS(m, scope_free) && m->scope_free)
            m->scope_free(chain_host(), section, (*scopes)[i]);
    }
    scopes->clear();
}

} // namespace belfry
