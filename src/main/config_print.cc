// The configuration in words: what is in force (-T), and every option with its help (--help-config). Main thread.
#include "main/config.h"

#include "proto/json.h"

#include <string.h>

namespace belfry {

// ---------------------------------------------------------------- what is in force

// How sections and options are written: as ini, or as JSON.
struct printer {
    void (*begin)(const char *kind, const std::string &name, buffer *out);
    void (*option)(const option_row *row, view value, buffer *out);
    void (*end)(buffer *out);
};

static const option_values no_values;

static void print_option(const printer *p, const option_row *row, const void *object, buffer *out) {
    buffer text = {};
    option_format(row, object, &text);
    p->option(row, buffer_view(&text), out);
    buffer_free(&text);
}

static void print_section(const config *c, const printer *p, const char *kind, const std::string &name,
                          const void *object, const option_values *values, buffer *out) {
    p->begin(kind, name, out);
    for (size_t i = 0; i < config_row_count; i++)
        if (strcmp(config_rows[i].section, kind) == 0) print_option(p, &config_rows[i], object, out);
    for (const option_row &row : c->modules.rows)
        if (!values->empty() && strcmp(row.section, kind) == 0) print_option(p, &row, values->data(), out);
    p->end(out);
}

// What the file says; retired sections are not in it.
static void print_sections(const config *c, const printer *p, buffer *out) {
    const relay_settings *r = &c->relay;
    print_section(c, p, "belfry", "", &c->core, &no_values, out);
    for (const listener_settings &l : r->listeners)
        if (!l.retired) print_section(c, p, "listener", l.name, &l, &no_values, out);
    for (size_t i = 0; i < r->upstreams.size(); i++)
        if (!r->upstreams[i].retired)
            print_section(c, p, "upstream", r->upstreams[i].name, &r->upstreams[i], &c->upstream_values[i], out);
    for (size_t i = 0; i < r->routes.size(); i++) {
        const route *way = &r->routes[i];
        std::string name = way->host.empty() ? way->path : way->path + " " + way->host;
        if (!way->retired) print_section(c, p, "route", name, way, &c->route_values[i], out);
    }
    for (size_t i = 0; i < r->rooms.size(); i++)
        print_section(c, p, "room", r->rooms[i].pattern, &r->rooms[i], &c->room_values[i], out);
    print_section(c, p, "broker", "", &c->broker, &no_values, out);
    print_section(c, p, "control", "", &c->control, &no_values, out);
}

static view next_part(view *rest, view between) {
    size_t end = rest->find(between);
    view part = rest->substr(0, end);
    *rest = end == view::npos ? view() : rest->substr(end + between.size());
    return part;
}

static void ini_begin(const char *kind, const std::string &name, buffer *out) {
    buffer_printf(out, "[%s%s%s]\n", kind, name.empty() ? "" : " ", name.c_str());
}

static void ini_option(const option_row *row, view value, buffer *out) {
    do { // an option of several lines is repeated
        view line = next_part(&value, "\n");
        buffer_printf(out, "%s = %.*s\n", row->name, static_cast<int>(line.size()), line.data());
    } while (!value.empty());
}

static void ini_end(buffer *out) {
    buffer_append(out, "\n");
}

void config_print(const config *c, buffer *out) {
    static constexpr printer ini = {ini_begin, ini_option, ini_end};
    print_sections(c, &ini, out);
}

static void json_separate(buffer *out) {
    if (out->data[out->size - 1] != '[' && out->data[out->size - 1] != '{') buffer_append_char(out, ',');
}

static void json_begin(const char *kind, const std::string &name, buffer *out) {
    json_separate(out);
    buffer_printf(out, "{\"kind\":\"%s\",\"name\":", kind);
    json_write_string(out, name);
    buffer_append(out, ",\"options\":{");
}

static void json_option(const option_row *row, view value, buffer *out) {
    json_separate(out);
    buffer_printf(out, "\"%s\":", row->name);
    if (!option_repeats(row)) return json_write_string(out, value);
    buffer_append_char(out, '[');
    const view between = row->type == option_type::list ? ", " : "\n";
    while (!value.empty()) {
        json_separate(out);
        json_write_string(out, next_part(&value, between));
    }
    buffer_append_char(out, ']');
}

static void json_end(buffer *out) {
    buffer_append(out, "}}");
}

void config_print_json(const config *c, buffer *out) {
    static constexpr printer json = {json_begin, json_option, json_end};
    buffer_append_char(out, '[');
    print_sections(c, &json, out);
    buffer_append_char(out, ']');
}

// ---------------------------------------------------------------- what is wrong

std::string config_error_line(const config_error *e) {
    return e->file + (e->line ? ":" + std::to_string(e->line) : "") + ": " + e->text;
}

void config_errors_write(const std::vector<config_error> *all, buffer *out) {
    for (const config_error &e : *all) {
        buffer_append(out, &e == all->data() ? "{\"file\":" : ",{\"file\":");
        json_write_string(out, e.file);
        buffer_printf(out, ",\"line\":%d,\"message\":", e.line);
        json_write_string(out, e.text);
        buffer_append_char(out, '}');
    }
}

// ---------------------------------------------------------------- what there is

// Every section with its options, those of the built-in modules behind Belfry's own.
static void each_option(void (*section)(const option_row *first, buffer *out),
                        void (*option)(const option_row *row, buffer *out), buffer *out) {
    const std::vector<option_row> *more = &modules_built_in()->rows;
    for (size_t i = 0; i < config_row_count; i++) {
        const option_row *row = &config_rows[i];
        bool first = i == 0 || strcmp(row[-1].section, row->section) != 0;
        bool last = i + 1 == config_row_count || strcmp(row[1].section, row->section) != 0;
        if (first) section(row, out);
        option(row, out);
        for (size_t k = 0; last && k < more->size(); k++)
            if (strcmp((*more)[k].section, row->section) == 0) option(&(*more)[k], out);
    }
}

static const char *felt_when(const option_row *row) {
    return row->reload ? "felt at a reload" : "needs a restart";
}

static void print_ini_section(const option_row *first, buffer *out) {
    buffer_printf(out, "%s[%s]\n", out->size ? "\n" : "", first->section);
}

static void print_ini_option(const option_row *row, buffer *out) {
    buffer_printf(out, "; %s (%s)\n%s = %s\n", row->help, felt_when(row), row->name, row->default_value);
}

void config_print_help_ini(buffer *out) {
    each_option(print_ini_section, print_ini_option, out);
}

static const char *mdoc_head(view kind) {
    if (kind == "listener") return "[listener NAME]";
    if (kind == "upstream") return "[upstream NAME]";
    if (kind == "route") return "[route PATH]";
    if (kind == "room") return "[room PATTERN]";
    return nullptr;
}

static void print_mdoc_section(const option_row *first, buffer *out) {
    const char *head = mdoc_head(first->section);
    buffer_append(out, out->size ? ".El\n" : "");
    if (head)
        buffer_printf(out, ".Ss %s\n", head);
    else
        buffer_printf(out, ".Ss [%s]\n", first->section);
    buffer_append(out, ".Bl -tag -width Ds\n");
}

// Without the newline. A leading dot or quote would be a macro.
static void print_mdoc_text(const char *text, buffer *out) {
    if (*text == '.' || *text == '\'') buffer_append(out, "\\&");
    for (; *text; text++) {
        if (*text == '\\')
            buffer_append(out, "\\e");
        else
            buffer_append_char(out, *text);
    }
}

static void print_mdoc_option(const option_row *row, buffer *out) {
    buffer_printf(out, ".It Cm %s", row->name);
    if (*row->default_value) buffer_printf(out, " = Ar %s", row->default_value);
    buffer_append(out, "\n");
    print_mdoc_text(row->help, out);
    buffer_printf(out, "\n.Pq %s\n", felt_when(row));
}

void config_print_help_mdoc(buffer *out) {
    each_option(print_mdoc_section, print_mdoc_option, out);
    buffer_append(out, ".El\n");
}

} // namespace belfry
