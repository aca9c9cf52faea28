// The configuration in words: what is in force (-T), and every option with its help (--help-config). Main thread.
#include "main/config.h"

#include <string.h>

namespace belfry {

// ---------------------------------------------------------------- what is in force

static void print_option(const option_row *row, const void *object, buffer *out) {
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

static const option_values no_values;

static void print_section(const config *c, const char *kind, const std::string &name, const void *object,
                          const option_values *values, buffer *out) {
    buffer_printf(out, "[%s%s%s]\n", kind, name.empty() ? "" : " ", name.c_str());
    for (size_t i = 0; i < config_row_count; i++)
        if (strcmp(config_rows[i].section, kind) == 0) print_option(&config_rows[i], object, out);
    for (const option_row &row : c->modules.rows)
        if (!values->empty() && strcmp(row.section, kind) == 0) print_option(&row, values->data(), out);
    buffer_append(out, "\n");
}

void config_print(const config *c, buffer *out) {
    const relay_settings *r = &c->relay;
    print_section(c, "belfry", "", &c->core, &no_values, out);
    for (const listener_settings &l : r->listeners)
        print_section(c, "listener", l.name, &l, &no_values, out);
    for (size_t i = 0; i < r->upstreams.size(); i++)
        print_section(c, "upstream", r->upstreams[i].name, &r->upstreams[i], &c->upstream_values[i], out);
    for (size_t i = 0; i < r->routes.size(); i++) {
        const route *way = &r->routes[i];
        std::string name = way->host.empty() ? way->path : way->path + " " + way->host;
        print_section(c, "route", name, way, &c->route_values[i], out);
    }
    for (size_t i = 0; i < r->rooms.size(); i++)
        print_section(c, "room", r->rooms[i].pattern, &r->rooms[i], &c->room_values[i], out);
    print_section(c, "broker", "", &c->broker, &no_values, out);
    print_section(c, "control", "", &c->control, &no_values, out);
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

static void print_ini_section(const option_row *first, buffer *out) {
    buffer_printf(out, "%s[%s]\n", out->size ? "\n" : "", first->section);
}

static void print_ini_option(const option_row *row, buffer *out) {
    buffer_printf(out, "; %s\n%s = %s\n", row->help, row->name, row->default_value);
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

static void print_mdoc_option(const option_row *row, buffer *out) {
    buffer_printf(out, ".It Cm %s", row->name);
    if (*row->default_value) buffer_printf(out, " = Ar %s", row->default_value);
    buffer_append(out, "\n");
    print_mdoc_text(row->help, out);
}

void config_print_help_mdoc(buffer *out) {
    each_option(print_mdoc_section, print_mdoc_option, out);
    buffer_append(out, ".El\n");
}

} // namespace belfry
