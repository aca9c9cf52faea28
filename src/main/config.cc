// Sections to structs, with every mistake found in one go. Main thread.
#include "main/config.h"

#include "main/config_check.h"
#include "main/config_reader.h"

#include <algorithm>
#include <map>
#include <string.h>

namespace belfry {

static const char *const section_kinds[] = {"belfry", "listener", "route", "room", "broker", "control"};

// One [section] while the file is read: its kind, its struct, and which of its options were given.
struct section_state {
    std::string kind;
    void *object; // null: an unknown or repeated section, whose options are passed over
    std::map<std::string, config_place> given;
};

struct loading {
    config *out;
    std::map<std::string, section_state> sections; // by the text between the brackets
    // Stable while the file is read; moved into the config at the end.
    std::map<std::string, listener_settings> listeners;
    std::map<std::string, route> routes;
    std::map<std::string, room_rule> rooms;
    config_places places;
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
    if (kind == "route") {
        l->routes[name].path = name.substr(0, name.find_first_of(" \t"));
        return &l->routes[name];
    }
    l->rooms[name].pattern = name;
    return &l->rooms[name];
}

static bool takes_name(const std::string &kind) {
    return kind == "listener" || kind == "route" || kind == "room";
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
                 "[" + text + "] is there already, at " + l->places[text].file + ":" +
                     std::to_string(l->places[text].line));
        return;
    } else {
        state.object = make_object(l, state.kind, name);
        options_defaults(config_rows, config_row_count, state.kind, state.object);
        l->places[text] = *place;
    }
    l->sections[text] = state;
}

static std::string unknown_option(const std::string &kind, const char *name) {
    std::vector<const char *> names;
    for (size_t i = 0; i < config_row_count; i++)
        if (kind == config_rows[i].section) names.push_back(config_rows[i].name);
    return "unknown option \"" + std::string(name) + "\" in [" + kind + "]" +
           did_you_mean(nearest_name(name, names.data(), names.size()));
}

static bool repeats(const option_row *row) {
    return row->type == option_type::list || row->type == option_type::lines;
}

static void clear_list(const option_row *row, void *object) {
    reinterpret_cast<std::vector<std::string> *>(static_cast<char *>(object) + row->offset)->clear();
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
    const option_row *row = option_find(config_rows, config_row_count, s->kind, name);
    if (!row) return complain(l, place, unknown_option(s->kind, name));
    auto [given, first] = s->given.try_emplace(name, *place);
    if (!first && !repeats(row))
        return complain(
            l, place, "\"" + std::string(name) + "\" is there already, at line " + std::to_string(given->second.line));
    std::string value = text, why;
    if (!config_expand(&value, row->type == option_type::secret, &why))
        return complain(l, place, std::string(name) + ": " + why);
    if (first && repeats(row)) clear_list(row, s->object);
    error e;
    if (!option_parse(row, value, s->object, &e)) complain(l, place, std::string(name) + ": " + e.text);
    l->places[section + "\n" + name] = *place;
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

bool config_load(const char *file, config *out) {
    loading l = {out, {}, {}, {}, {}, {}};
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
    config_check(out, file, &l.places, route_names);
    return out->errors.empty();
}

void config_free(config *c) {
    for (listener_settings &l : c->relay.listeners)
        if (l.context) tls_unref(l.context);
    c->relay.listeners.clear();
}

// ---------------------------------------------------------------- printing

static void print_section(const char *kind, const std::string &name, const void *object, buffer *out) {
    buffer_printf(out, "[%s%s%s]\n", kind, name.empty() ? "" : " ", name.c_str());
    for (size_t i = 0; i < config_row_count; i++) {
        const option_row *row = &config_rows[i];
        if (strcmp(row->section, kind) != 0) continue;
        buffer text = {};
        option_format(row, object, &text);
        view rest = buffer_view(&text);
        do { // an option of several lines is repeated
            size_t end = rest.find('\n');
            view line = rest.substr(0, end);
            buffer_printf(out, "%s = %.*s\n", row->name, static_cast<int>(line.size()), line.data());
            rest = end == view::npos ? view() : rest.substr(end + 1);
        } while (!rest.empty());
        buffer_free(&text);
    }
    buffer_append(out, "\n");
}

void config_print(const config *c, buffer *out) {
    print_section("belfry", "", &c->core, out);
    for (const listener_settings &l : c->relay.listeners)
        print_section("listener", l.name, &l, out);
    for (const route &r : c->relay.routes)
        print_section("route", r.host.empty() ? r.path : r.path + " " + r.host, &r, out);
    for (const room_rule &r : c->relay.rooms)
        print_section("room", r.pattern, &r, out);
    print_section("broker", "", &c->broker, out);
    print_section("control", "", &c->control, out);
}

void config_print_help_ini(buffer *out) {
    const char *section = "";
    for (size_t i = 0; i < config_row_count; i++) {
        const option_row *row = &config_rows[i];
        if (strcmp(section, row->section) != 0) buffer_printf(out, "%s[%s]\n", *section ? "\n" : "", row->section);
        section = row->section;
        buffer_printf(out, "; %s\n%s = %s\n", row->help, row->name, row->default_value);
    }
}

// A leading dot or quote would be a macro.
static void print_mdoc_text(const char *text, buffer *out) {
    if (*text == '.' || *text == '\'') buffer_append(out, "\\&");
    for (; *text; text++) {
        if (*text == '\\')
            buffer_append(out, "\\e");
        else
            buffer_append_char(out, *text);
    }
    buffer_append(out, "\n");
}

void config_print_help_mdoc(buffer *out) {
    static const char *const heads[] = {"[belfry]",       "[listener NAME]", "[route PATH]",
                                        "[room PATTERN]", "[broker]",        "[control]"};
    size_t head = 0;
    const char *section = "";
    for (size_t i = 0; i < config_row_count; i++) {
        const option_row *row = &config_rows[i];
        if (strcmp(section, row->section) != 0)
            buffer_printf(out, "%s.Ss %s\n.Bl -tag -width Ds\n", *section ? ".El\n" : "", heads[head++]);
        section = row->section;
        buffer_printf(out, ".It Cm %s", row->name);
        if (*row->default_value) buffer_printf(out, " = Ar %s", row->default_value);
        buffer_append(out, "\n");
        print_mdoc_text(row->help, out);
    }
    buffer_append(out, ".El\n");
}

} // namespace belfry
