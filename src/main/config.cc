// Sections to structs, with every mistake found in one go. Main thread.
#include "main/config.h"

#include "base/clock.h"
#include "main/config_check.h"
#include "main/config_reader.h"
#include "relay/chain.h"

#include <algorithm>
#include <map>
#include <string.h>

namespace belfry {

static const char *const section_kinds[] = {"belfry", "listener", "upstream", "route", "room", "broker", "control"};

// One [section] while the file is read: its kind, its struct, and which of its options were given.
struct section_state {
    std::string kind;
    void *object;         // null: an unknown or repeated section, whose options are passed over
    option_values values; // of modules' options
    bool wrong;           // one of its options is
    std::map<std::string, config_place> given;
    std::map<std::string, size_t> times; // each was given
};

struct loading {
    config *out;
    std::map<std::string, section_state> sections; // by the text between the brackets
    // Stable while the file is read; moved into the config at the end.
    std::map<std::string, listener_settings> listeners;
    std::map<std::string, upstream_settings> upstreams;
    std::map<std::string, route> routes;
    std::map<std::string, room_rule> rooms;
    const config *in_force; // borrowed; null: this is no reload
};

static void complain(loading *l, const config_place *place, const std::string &text) {
    l->out->errors.push_back({place->file, place->line, text});
}

static std::string did_you_mean(const char *nearest) {
    return nearest ? std::string("; did you mean \"") + nearest + "\"?" : "";
}

// "route /ws" is kind "route", name "/ws". Host-bound routes with one path are told apart by what follows: [route /ws
// a].
static void split(const std::string &text, std::string *kind, std::string *name) {
    size_t space = text.find_first_of(" \t");
    *kind = text.substr(0, space);
    *name = space == std::string::npos ? "" : std::string(bytes_trim(view(text).substr(space)));
}

// The same section's text however it is spaced.
static std::string joined(const std::string &kind, const std::string &name) {
    return name.empty() ? kind : kind + " " + name;
}

static void *make_object(loading *l, const std::string &kind, const std::string &name) {
    if (kind == "belfry") return &l->out->core;
    if (kind == "broker") return &l->out->broker;
    if (kind == "control") return &l->out->control;
    if (kind == "listener") {
        l->listeners[name].name = name;
        return &l->listeners[name];
    }
    if (kind == "upstream") {
        l->upstreams[name].name = name;
        return &l->upstreams[name];
    }
    if (kind == "route") {
        l->routes[name].path = name.substr(0, name.find_first_of(" \t"));
        return &l->routes[name];
    }
    l->rooms[name].pattern = name;
    return &l->rooms[name];
}

static bool takes_name(const std::string &kind) {
    return kind == "listener" || kind == "upstream" || kind == "route" || kind == "room";
}

static void on_section(void *context, const char *written, const config_place *place) {
    auto *l = static_cast<loading *>(context);
    section_state state;
    std::string name;
    split(written, &state.kind, &name);
    std::string text = joined(state.kind, name);
    auto known = [&](const char *k) { return state.kind == k; };
    bool is_known = false;
    for (const char *k : section_kinds)
        is_known = is_known || known(k);
    state.object = nullptr;
    state.wrong = false;
    if (!is_known) {
        complain(
            l, place,
            "unknown section [" + state.kind + "]" +
                did_you_mean(nearest_name(state.kind, section_kinds, sizeof section_kinds / sizeof *section_kinds)));
    } else if (takes_name(state.kind) == name.empty()) {
        complain(l, place,
                 name.empty() ? "[" + state.kind + "] needs a name: [" + state.kind + " NAME]"
                              : "[" + state.kind + "] takes no name");
    } else if (l->sections.count(text) && l->sections[text].object) {
        complain(l, place,
                 "[" + text + "] is there already, at " + l->out->places[text].file + ":" +
                     std::to_string(l->out->places[text].line));
        return;
    } else {
        state.object = make_object(l, state.kind, name);
        options_defaults(config_rows, config_row_count, state.kind, state.object);
        state.values = modules_defaults(&l->out->modules, state.kind);
        l->out->places[text] = *place;
    }
    l->sections[text] = state;
}

static std::string unknown_option(const loading *l, const std::string &kind, const char *name) {
    const module_set *modules = &l->out->modules;
    if (const char *owner = modules_missing(kind, name))
        return std::string("\"") + name + "\" is an option of module " + owner + ", which is not " +
               (l->in_force ? "loaded: [belfry] modules is read at a restart" : "in [belfry] modules");
    std::vector<const char *> names;
    for (size_t i = 0; i < config_row_count; i++)
        if (kind == config_rows[i].section) names.push_back(config_rows[i].name);
    for (const option_row &row : modules->rows)
        if (kind == row.section) names.push_back(row.name);
    return "unknown option \"" + std::string(name) + "\" in [" + kind + "]" +
           did_you_mean(nearest_name(name, names.data(), names.size()));
}

static void clear_list(const option_row *row, void *object) {
    reinterpret_cast<std::vector<std::string> *>(static_cast<char *>(object) + row->offset)->clear();
}

static config_secret secret_of(const option_row *row) {
    if (row->type == option_type::secrets) return config_secret::keys;
    return row->type == option_type::secret ? config_secret::secret : config_secret::none;
}

static void on_option(void *context, const char *written, const char *name, const char *text,
                      const config_place *place) {
    auto *l = static_cast<loading *>(context);
    std::string kind, section_name;
    split(written, &kind, &section_name);
    std::string section = joined(kind, section_name);
    auto at = l->sections.find(section);
    if (at == l->sections.end()) return complain(l, place, "\"" + std::string(name) + "\" stands before any [section]");
    section_state *s = &at->second;
    if (!s->object) return; // the section's own mistake was told
    const std::vector<option_row> *more = &l->out->modules.rows;
    void *object = s->object;
    const option_row *row = option_find(config_rows, config_row_count, s->kind, name);
    if (!row) {
        row = option_find(more->data(), more->size(), s->kind, name);
        object = s->values.data();
    }
    if (!row) return complain(l, place, unknown_option(l, s->kind, name));
    auto [given, first] = s->given.try_emplace(name, *place);
    if (!first && !option_repeats(row))
        return complain(
            l, place, "\"" + std::string(name) + "\" is there already, at line " + std::to_string(given->second.line));
    std::string value = text, why;
    if (!config_expand(&value, secret_of(row), &why)) {
        s->wrong = true;
        return complain(l, place, std::string(name) + ": " + why);
    }
    if (first && option_repeats(row)) clear_list(row, object);
    error e;
    if (!option_parse(row, value, object, &e)) {
        s->wrong = true;
        complain(l, place, std::string(name) + ": " + e.text);
    }
    l->out->places[section + "\n" + name] = *place;
    l->out->places[section + "\n" + name + "#" + std::to_string(s->times[name]++)] = *place;
}

static void on_error(void *context, const config_place *place, const std::string &text) {
    complain(static_cast<loading *>(context), place, text);
}

// Longest first, so that the first match is the one that counts. Returns their names in that order.
template <typename T, typename F>
static std::vector<std::string> take_longest_first(std::map<std::string, T> *from, std::vector<T> *to, F size) {
    std::multimap<size_t, const std::string *, std::greater<size_t>> order;
    std::vector<std::string> names;
    for (auto &[name, object] : *from)
        order.emplace(size(object), &name);
    for (auto &[n, name] : order) {
        names.push_back(*name);
        to->push_back(std::move(from->at(*name)));
    }
    return names;
}

// ---------------------------------------------------------------- modules

// Modules bring options, so they are loaded before the sections are read: a first reading looks for their names alone.
// What is wrong with the file is told by the second.
struct preview {
    core_options core;
    config_place names; // of `modules`
    bool named;
    std::vector<module_file> files;
    std::vector<config_place> places; // of those
};

static void preview_option(void *context, const char *written, const char *name, const char *text,
                           const config_place *place) {
    auto *p = static_cast<preview *>(context);
    std::string kind, section_name, value = text, why;
    split(written, &kind, &section_name);
    bool list = strcmp(name, "modules") == 0, file = strcmp(name, "load_module") == 0;
    if (kind != "belfry" || (!list && !file) || !config_expand(&value, config_secret::none, &why)) return;
    error e;
    if (list) {
        if (!p->named) p->core.modules.clear();
        p->named = true;
        p->names = *place;
        if (!option_parse(option_find(config_rows, config_row_count, "belfry", name), value, &p->core, &e)) return;
    } else if (!value.empty()) {
        p->files.push_back({value, p->places.size()});
        p->places.push_back(*place);
    }
}

static void load_modules(loading *l, const char *file) {
    preview p = {{}, {file, 0}, false, {}, {}};
    options_defaults(config_rows, config_row_count, "belfry", &p.core);
    config_sink sink = {[](void *, const char *, const config_place *) {}, preview_option,
                        [](void *, const config_place *, const std::string &) {}, &p};
    config_read(file, &sink);
    own_rows own = {config_rows, config_row_count};
    for (const module_problem &problem : modules_open(&l->out->modules, own, p.core.modules, p.files)) {
        bool list = problem.place == SIZE_MAX;
        complain(l, list ? &p.names : &p.places[problem.place], (list ? "modules: " : "load_module: ") + problem.text);
    }
}

static void lay_out_modules(config *out) {
    for (const loaded_module &m : out->modules.modules)
        out->relay.modules.push_back({m.module, 0});
    chain_lay_out(&out->relay);
}

struct scope_place {
    loading *l;
    std::string section;
};

static void complain_scope(void *context, const char *option, const std::string &text) {
    auto *p = static_cast<scope_place *>(context);
    complain(p->l, config_place_of(p->l->out, p->section, option, config_last),
             option ? std::string(option) + ": " + text : text);
}

// `name`: what stands behind the kind of section. Where an option is wrong already, no more is asked.
static void make_scopes(loading *l, const char *kind, const std::string &name, option_values *kept,
                        module_scopes *scopes) {
    scope_place place = {l, joined(kind, name)};
    section_state *s = &l->sections[place.section];
    *kept = std::move(s->values);
    if (!s->wrong) modules_make_scopes(&l->out->modules, kind, name, kept, scopes, complain_scope, &place);
}

// What a module's option asks of the route itself.
static void check_auth(loading *l, const route *r, const std::string &name, const option_values *values) {
    view auth = modules_choice(&l->out->modules, "route", "auth", values);
    scope_place place = {l, joined("route", name)};
    if ((auth == "backend" || auth == "jwt_or_backend") && r->hook.empty())
        complain_scope(&place, "auth", "asks the backend, but the route has no hook");
}

static void make_all_scopes(loading *l, const std::vector<std::string> &route_names) {
    config *c = l->out;
    c->upstream_values.resize(c->relay.upstreams.size());
    c->route_values.resize(c->relay.routes.size());
    c->room_values.resize(c->relay.rooms.size());
    for (size_t i = 0; i < c->relay.upstreams.size(); i++)
        make_scopes(l, "upstream", c->relay.upstreams[i].name, &c->upstream_values[i], &c->relay.upstreams[i].scopes);
    for (size_t i = 0; i < c->relay.routes.size(); i++) {
        make_scopes(l, "route", route_names[i], &c->route_values[i], &c->relay.routes[i].scopes);
        check_auth(l, &c->relay.routes[i], route_names[i], &c->route_values[i]);
    }
    for (size_t i = 0; i < c->relay.rooms.size(); i++)
        make_scopes(l, "room", c->relay.rooms[i].pattern, &c->room_values[i], &c->relay.rooms[i].scopes);
}

// ---------------------------------------------------------------- the whole

const config_place *config_place_of(const config *c, const std::string &section, const char *option, size_t which) {
    auto at = c->places.end();
    if (option)
        at = c->places.find(section + "\n" + option + (which == config_last ? "" : "#" + std::to_string(which)));
    if (at == c->places.end()) at = c->places.find(section);
    if (at == c->places.end()) at = c->places.find("");
    return &at->second;
}

bool config_load(const char *file, config *out, const config *in_force) {
    loading l = {out, {}, {}, {}, {}, {}, in_force};
    out->places[""] = {file, 0};
    out->tickets = in_force ? ticket_keys_ref(in_force->tickets) : ticket_keys_new(clock_monotonic_ms());
    if (in_force)
        modules_share(&in_force->modules, &out->modules);
    else
        load_modules(&l, file);
    lay_out_modules(out);
    for (const char *kind : {"belfry", "broker", "control"})
        options_defaults(config_rows, config_row_count, kind, make_object(&l, kind, ""));
    config_sink sink = {on_section, on_option, on_error, &l};
    config_read(file, &sink);
    std::vector<std::string> route_names =
        take_longest_first(&l.routes, &out->relay.routes, [](const route &r) { return r.path.size(); });
    take_longest_first(
        &l.rooms, &out->relay.rooms, [](const room_rule &r) { // an exact name before a pattern of its length
            return r.pattern.size() - static_cast<size_t>(std::count(r.pattern.begin(), r.pattern.end(), '*'));
        });
    for (auto &[name, listener] : l.listeners)
        out->relay.listeners.push_back(std::move(listener));
    for (auto &[name, upstream] : l.upstreams)
        out->relay.upstreams.push_back(std::move(upstream));
    config_check(out, route_names);
    make_all_scopes(&l, route_names);
    return out->errors.empty();
}

void config_free(config *c) {
    for (upstream_settings &u : c->relay.upstreams)
        modules_free_scopes(&c->modules, "upstream", &u.scopes);
    for (route &r : c->relay.routes)
        modules_free_scopes(&c->modules, "route", &r.scopes);
    for (room_rule &r : c->relay.rooms)
        modules_free_scopes(&c->modules, "room", &r.scopes);
    c->relay.modules.clear();
    modules_close(&c->modules);
    for (listener_settings &l : c->relay.listeners)
        if (l.context) tls_unref(l.context);
    c->relay.listeners.clear();
    for (upstream_settings &u : c->relay.upstreams)
        if (u.tls) tls_unref(u.tls);
    c->relay.upstreams.clear();
    ticket_keys_unref(c->tickets);
    c->tickets = nullptr;
}

} // namespace belfry
