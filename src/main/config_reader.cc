// Reading ini files through inih with a line reader of our own. Main thread.
#ifdef HAVE_CONFIG_H
#include <config.h>
#endif

#include "main/config_reader.h"

#include <algorithm>
#include <errno.h>
#include <glob.h>
#include <ini.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

namespace belfry {

static constexpr int include_depth_max = 8;
static constexpr size_t inih_name_max = 49; // inih cuts section and option names there without a word

static constexpr char half_a_line[] = "a comment cuts the line in two: \" ;\" begins one";

struct reading {
    FILE *file;
    config_place place;
    const config_sink *sink;
    int depth;
};

static void read_file(const char *file, const config_sink *sink, int depth);

static std::string text_of(const char *line) {
    std::string s = line;
    while (!s.empty() && (s.back() == '\n' || s.back() == '\r' || s.back() == ' ' || s.back() == '\t'))
        s.pop_back();
    return s;
}

// inih takes a ';' behind white space for the start of a comment, also in front of the ] or the =; then it passes over
// the line.
static bool cut_by_comment(const std::string &line, size_t end) {
    for (size_t i = 1; i < end; i++)
        if (line[i] == ';' && (line[i - 1] == ' ' || line[i - 1] == '\t')) return true;
    return false;
}

// True where inih shall see the line; false: it was dealt with here (a section, a mistake).
static bool check_line(reading *r, const std::string &line) {
    const config_sink *sink = r->sink;
    auto complain = [&](const std::string &text) {
        sink->error(sink->context, &r->place, text);
        return false;
    };
    size_t start = line.find_first_not_of(" \t");
    if (start == std::string::npos || line[start] == ';' || line[start] == '#') return true;
    if (start > 0) return complain("a line must not begin with white space: repeat the option for another value");
    if (line[0] == '[') {
        size_t end = line.find(']');
        if (end == std::string::npos) return complain("a section lacks its ]");
        if (cut_by_comment(line, end)) return complain(half_a_line);
        std::string name = line.substr(1, end - 1);
        if (name.size() > inih_name_max) return complain("a section's name is longer than 49 characters: " + name);
        sink->section(sink->context, name.c_str(), &r->place);
        return true;
    }
    size_t sign = line.find_first_of("=:");
    if (sign == std::string::npos) return complain("neither a [section] nor NAME = VALUE: " + line.substr(0, 60));
    if (cut_by_comment(line, sign)) return complain(half_a_line);
    size_t name_end = line.find_last_not_of(" \t", sign ? sign - 1 : 0);
    if (sign == 0) return complain("an option's name is missing in front of " + line.substr(0, 1));
    if (name_end + 1 > inih_name_max) return complain("an option's name is longer than 49 characters");
    return true;
}

// inih's reader: one line, or an empty one in place of a line that was dealt with here.
static char *next_line(char *out, int size, void *context) {
    auto *r = static_cast<reading *>(context);
    size_t n = 0, most = static_cast<size_t>(size) - 2; // room for the newline and the NUL
    bool too_long = false, has_nul = false;
    int c;
    while ((c = fgetc(r->file)) != EOF && c != '\n') {
        has_nul = has_nul || c == 0;
        too_long = too_long || n == most;
        if (n < most) out[n++] = static_cast<char>(c);
    }
    if (c == EOF && n == 0) return nullptr;
    r->place.line++;
    out[n] = 0;
    if (has_nul)
        r->sink->error(r->sink->context, &r->place, "the line has a NUL byte: is it a text file?");
    else if (too_long)
        r->sink->error(r->sink->context, &r->place,
                       "the line is longer than " + std::to_string(most) + " characters: repeat the option instead");
    else if (check_line(r, text_of(out))) {
        out[n] = '\n';
        out[n + 1] = 0;
        return out;
    }
    out[0] = '\n';
    out[1] = 0;
    return out;
}

static void include(reading *r, const char *pattern) {
    std::string path = pattern;
    size_t slash = r->place.file.rfind('/');
    if (path[0] != '/' && slash != std::string::npos) path = r->place.file.substr(0, slash + 1) + path;
    glob_t found = {};
    int result = glob(path.c_str(), 0, nullptr, &found);
    bool wild = path.find_first_of("*?[") != std::string::npos;
    if (result != 0 && !(wild && result == GLOB_NOMATCH))
        r->sink->error(r->sink->context, &r->place, "include: no such file: " + path);
    for (size_t i = 0; result == 0 && i < found.gl_pathc; i++)
        read_file(found.gl_pathv[i], r->sink, r->depth + 1);
    globfree(&found);
}

static int on_option(void *context, const char *section, const char *name, const char *value) {
    auto *r = static_cast<reading *>(context);
    if (strcmp(name, "include") == 0)
        include(r, value);
    else
        r->sink->option(r->sink->context, section, name, value, &r->place);
    return 1;
}

static void read_file(const char *file, const config_sink *sink, int depth) {
    reading r = {nullptr, {file, 0}, sink, depth};
    if (depth > include_depth_max)
        return sink->error(sink->context, &r.place, "includes go deeper than 8: is it a circle?");
    r.file = fopen(file, "re");
    if (!r.file) return sink->error(sink->context, &r.place, std::string("can't read it: ") + strerror(errno));
    ini_parse_stream(next_line, &r, on_option, &r);
    if (ferror(r.file)) sink->error(sink->context, &r.place, std::string("can't read it: ") + strerror(errno));
    fclose(r.file);
}

void config_read(const char *file, const config_sink *sink) {
#if defined(HAVE_DECL_INI_MAX_LINE) && HAVE_DECL_INI_MAX_LINE
    // Debian's inih has these at run time; elsewhere lines are bounded by the 200 that it was compiled with, and said
    // to be.
    ini_use_stack = false;
    ini_max_line = 8192;
    ini_initial_alloc = 8192;
#endif
    read_file(file, sink, 0);
}

static constexpr size_t secret_line_max = 8192, secret_file_max = 256 * 1024;

// A secret's first line, or (keys in PEM or JSON) the whole file.
static bool read_secret(const std::string &path, bool whole, std::string *out, std::string *why) {
    FILE *f = fopen(path.c_str(), "re");
    if (!f) {
        *why = "can't read " + path + ": " + strerror(errno);
        return false;
    }
    size_t most = whole ? secret_file_max : secret_line_max;
    std::string text(most + 1, 0);
    size_t size = fread(text.data(), 1, text.size(), f);
    bool failed = ferror(f) != 0;
    fclose(f);
    text.resize(size);
    if (!whole) text.resize(std::min(text.find_first_of("\r\n"), size));
    while (!text.empty() && (text.back() == '\n' || text.back() == '\r'))
        text.pop_back();
    if (failed)
        *why = "can't read " + path;
    else if (text.empty())
        *why = path + " is empty";
    else if (text.size() > most)
        *why = path + " is larger than " + std::to_string(most) + " bytes";
    else if (text.find('\0') != std::string::npos)
        *why = path + " is no text";
    if (!why->empty()) return false;
    *out = whole ? text : std::string(bytes_trim(text));
    return true;
}

static bool expand_environment(std::string *value, std::string *why) {
    for (size_t at = 0; (at = value->find("${", at)) != std::string::npos;) {
        size_t end = value->find('}', at);
        if (end == std::string::npos) {
            *why = "${ lacks its }";
            return false;
        }
        std::string name = value->substr(at + 2, end - at - 2);
        const char *found = getenv(name.c_str());
        if (!found) {
            *why = "the environment has no " + name;
            return false;
        }
        value->replace(at, end + 1 - at, found);
        at += strlen(found);
    }
    return true;
}

bool config_expand(std::string *value, config_secret secret, std::string *why) {
    if (!expand_environment(value, why)) return false;
    if (secret == config_secret::none) return true;
    bool keys = secret == config_secret::keys;
    size_t at = keys && value->starts_with("kid=") ? value->find(' ') : 0; // kid=NAME file:PATH
    at = at == std::string::npos ? value->size() : value->find_first_not_of(' ', at);
    if (at == std::string::npos || value->compare(at, 5, "file:") != 0) return true;
    std::string content;
    if (!read_secret(value->substr(at + 5), keys, &content, why)) return false;
    value->replace(at, std::string::npos, content);
    return true;
}

} // namespace belfry
