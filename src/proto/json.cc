// The JSON reader: simdjson finds the tokens, this file checks that they are JSON.
// A reader belongs to one thread. simdjson 3.0.1 by itself leaves scalars unchecked that nobody asks for, matches
// brackets by their number alone, ignores what stands behind the document, and may read structure from the padding (so
// `[1,[2]` before a stray `]` would pass). Hence the walk below: it visits every value once, looks at no token but
// through raw_json_token, and never lets simdjson step past its last token, which would be an assertion in there.
#include "proto/json.h"

#include "base/frame.h"
#include "proto/json_text.h"

#include <new>
#include <stdio.h>
#include <string.h>

#define SIMDJSON_EXCEPTIONS 0
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wsign-conversion"
#include <simdjson.h>
#pragma GCC diagnostic pop

namespace belfry {

namespace ondemand = simdjson::ondemand;

static_assert(frame_padding >= simdjson::SIMDJSON_PADDING);

struct json_reader {
    ondemand::parser parser; // grows to the largest document
    buffer scratch;          // owned: unescaped names and texts of the last object
    size_t source_size;      // of the last object: nothing unescaped in it is longer
};

json_reader *json_reader_new() {
    json_reader *r = new (std::nothrow) json_reader;
    if (!r) fatal("out of memory for a JSON reader");
    r->scratch = {};
    r->source_size = 0;
    return r;
}

void json_reader_free(json_reader *r) {
    if (!r) return;
    buffer_free(&r->scratch);
    delete r;
}

namespace {

// One document being walked. `problem` is a static text once something is wrong.
struct walk {
    ondemand::document document;
    const char *end; // of the source, without white space
    const char *problem;
};

bool walk_fail(walk *w, const char *problem) {
    if (!w->problem) w->problem = problem;
    return false;
}

const char *problem_of(simdjson::error_code code) {
    switch (code) {
    case simdjson::UTF8_ERROR:
        return "it is not valid UTF-8";
    case simdjson::UNCLOSED_STRING:
        return "a string does not end";
    case simdjson::UNESCAPED_CHARS:
        return "a control character stands in a string";
    case simdjson::CAPACITY:
        return "it is too large";
    case simdjson::MEMALLOC:
        fatal("out of memory for JSON");
    default:
        return "brackets, commas and colons are not where they belong";
    }
}

bool walk_value(walk *w, ondemand::value value, int depth, json_member *out);

// A name, from behind its quote to the colon. simdjson has seen both but says nothing about what is between.
const char *name_end(walk *w, const char *name) {
    const char *end = json_string_end(name, w->end);
    if (!end) walk_fail(w, "a name holds a bad escape");
    return end;
}

// The next field's name (raw, with quotes) and value; the value must be where the name's colon says.
bool walk_field(walk *w, simdjson::simdjson_result<ondemand::field> result, view *name, ondemand::value *value) {
    ondemand::field field;
    simdjson::error_code code = std::move(result).get(field);
    if (code) return walk_fail(w, problem_of(code));
    const char *begin = field.key().raw() - 1;
    const char *end = name_end(w, begin + 1);
    if (!end) return false;
    *name = view(begin, static_cast<size_t>(end - begin));
    *value = field.value();
    while (end < w->end && json_is_space(*end))
        end++;
    if (end == w->end || *end != ':') return walk_fail(w, "a name has no colon behind it");
    return true;
}

// `depth` counts the containers around this one.
bool walk_array(walk *w, ondemand::array array, int depth) {
    for (simdjson::simdjson_result<ondemand::value> element : array) {
        ondemand::value value;
        simdjson::error_code code = element.get(value);
        if (code) return walk_fail(w, problem_of(code));
        json_member ignored;
        if (!walk_value(w, value, depth + 1, &ignored)) return false;
    }
    return true;
}

bool walk_object(walk *w, ondemand::object object, int depth) {
    for (simdjson::simdjson_result<ondemand::field> field : object) {
        view name;
        ondemand::value value;
        json_member ignored;
        if (!walk_field(w, field, &name, &value)) return false;
        if (!walk_value(w, value, depth + 1, &ignored)) return false;
    }
    return true;
}

// simdjson stands on the token behind the container. There must be one: the outer container's bracket at least.
bool walk_container_end(walk *w, const char *begin, json_member *out) {
    const char *next;
    if (w->document.current_location().get(next) || next >= w->end) return walk_fail(w, "a bracket is not closed");
    out->raw = json_trim(view(begin, static_cast<size_t>(next - begin)));
    return true;
}

// A value inside a container; `depth` counts the containers around it. Fills in raw, type and integer.
bool walk_value(walk *w, ondemand::value value, int depth, json_member *out) {
    view token = value.raw_json_token();
    char first = token.data()[0];
    if (first == '[' || first == '{') {
        if (depth >= json_depth_max) return walk_fail(w, "it is nested too deep");
        ondemand::array array;
        ondemand::object object;
        simdjson::error_code code = first == '[' ? value.get_array().get(array) : value.get_object().get(object);
        if (code) return walk_fail(w, problem_of(code));
        out->type = first == '[' ? json_type::array : json_type::object;
        out->is_integer = false;
        bool fine = first == '[' ? walk_array(w, array, depth) : walk_object(w, object, depth);
        return fine && walk_container_end(w, token.data(), out);
    }
    // The token reaches to the next one, which must exist and go on with the container: behind a string, simdjson would
    // let a colon pass even in an array.
    const char *next = token.data() + token.size();
    if (next >= w->end || (*next != ',' && *next != ']' && *next != '}'))
        return walk_fail(w, "a value has something else behind it");
    out->raw = json_trim(token);
    const char *problem = json_scalar_check(out->raw, out);
    return !problem || walk_fail(w, problem);
}

// Runs simdjson's first stage: UTF-8, strings, positions of all tokens. `source` has no white space around it.
bool walk_begin(json_reader *r, view source, walk *w) {
    w->end = source.data() + source.size();
    w->problem = nullptr;
    if (source.empty()) return walk_fail(w, "it is empty");
    // simdjson 3.3 and later skip a byte order mark; RFC 8259 section 8.1 forbids to send one.
    if (source.substr(0, 3) == "\xef\xbb\xbf") return walk_fail(w, "it begins with a byte order mark");
    if (r->parser.capacity() < source.size()) {
        // In steps, so that documents that grow byte by byte do not reallocate each time.
        constexpr size_t step = 4096;
        simdjson::error_code code = r->parser.allocate((source.size() + step - 1) / step * step);
        if (code) return walk_fail(w, problem_of(code));
    }
    size_t readable = source.size() + simdjson::SIMDJSON_PADDING;
    simdjson::error_code code = r->parser.iterate(source.data(), source.size(), readable).get(w->document);
    return !code || walk_fail(w, problem_of(code));
}

// Behind the outermost bracket there must be no further token.
bool walk_end(walk *w) {
    const char *next;
    if (w->document.current_location().get(next) == simdjson::OUT_OF_BOUNDS) return true;
    return walk_fail(w, "there is something behind its end");
}

// `source` begins with a bracket and walk_begin has been.
bool walk_root(walk *w, view source) {
    simdjson::error_code code;
    if (source[0] == '[') {
        ondemand::array array;
        code = w->document.get_array().get(array);
        if (!code) return walk_array(w, array, 0) && walk_end(w);
    } else {
        ondemand::object object;
        code = w->document.get_object().get(object);
        if (!code) return walk_object(w, object, 0) && walk_end(w);
    }
    return walk_fail(w, problem_of(code));
}

// Unescaped once and for all into scratch, which never moves while views point into it: all that is unescaped from one
// document together is no longer than the document.
view unescape(json_reader *r, view raw, bool *valid) {
    *valid = true;
    view inner = raw.substr(1, raw.size() - 2);
    if (!memchr(inner.data(), '\\', inner.size())) return inner;
    if (r->scratch.size == 0) buffer_reserve(&r->scratch, r->source_size);
    size_t begin = r->scratch.size;
    if (r->scratch.capacity - begin < inner.size()) fatal("a nested JSON slice was parsed twice");
    *valid = json_unescape(raw, &r->scratch);
    return view(r->scratch.data + begin, r->scratch.size - begin);
}

bool take_member(json_reader *r, walk *w, simdjson::simdjson_result<ondemand::field> field, json_object *out) {
    if (out->count == json_members_max) return walk_fail(w, "it has too many members");
    json_member *member = &out->members[out->count];
    view raw_name;
    ondemand::value value;
    if (!walk_field(w, field, &raw_name, &value) || !walk_value(w, value, 1, member)) return false;
    bool valid;
    member->name = unescape(r, raw_name, &valid);
    if (!valid) return walk_fail(w, "a member's name has half a surrogate pair");
    if (json_find(out, member->name)) return walk_fail(w, "a member is named twice");
    member->text = {};
    member->text_valid = false;
    if (member->type == json_type::string) member->text = unescape(r, member->raw, &member->text_valid);
    out->count++;
    return true;
}

bool parse_object(json_reader *r, view source, walk *w, json_object *out) {
    out->count = 0;
    source = json_trim(source);
    if (!walk_begin(r, source, w)) return false;
    if (source[0] != '{') return walk_fail(w, "it is not an object");
    ondemand::object object;
    simdjson::error_code code = w->document.get_object().get(object);
    if (code) return walk_fail(w, problem_of(code));
    for (simdjson::simdjson_result<ondemand::field> field : object)
        if (!take_member(r, w, field, out)) return false;
    return walk_end(w);
}

bool answer(const walk *w, bool fine, error *e) {
    if (!fine) error_set(e, "bad JSON: %s", w->problem);
    return fine;
}

bool walk_whole_array(json_reader *r, view source, walk *w) {
    if (!walk_begin(r, source, w)) return false;
    if (source[0] != '[') return walk_fail(w, "it is not an array");
    return walk_root(w, source);
}

} // namespace

bool json_parse_object(json_reader *r, view source, json_object *out, error *e) {
    buffer_clear(&r->scratch);
    r->source_size = source.size();
    walk w;
    return answer(&w, parse_object(r, source, &w, out), e);
}

bool json_parse_nested(json_reader *r, view raw, json_object *out, error *e) {
    walk w;
    return answer(&w, parse_object(r, raw, &w, out), e);
}

bool json_each_element(json_reader *r, view source, bool (*each)(view raw, json_type type, void *context),
                       void *context, error *e) {
    view array = json_trim(source);
    walk w;
    if (!answer(&w, walk_whole_array(r, array, &w), e)) return false;
    size_t at = 1;
    view element;
    while (json_next_valid(array, &at, &element) && each(element, json_type_of(element), context)) {
    }
    return true;
}

bool json_valid(json_reader *r, view source) {
    source = json_trim(source);
    walk w;
    if (!walk_begin(r, source, &w)) return false;
    if (source[0] == '[' || source[0] == '{') return walk_root(&w, source);
    // simdjson checked its UTF-8 and nothing else.
    json_member scalar;
    return json_scalar_check(source, &scalar) == nullptr;
}

const json_member *json_find(const json_object *o, view name) {
    for (size_t i = 0; i < o->count; i++)
        if (o->members[i].name == name) return &o->members[i];
    return nullptr;
}

const char *json_library_version() {
    static char text[32];
    snprintf(text, sizeof text, "%d.%d.%d", simdjson::SIMDJSON_VERSION_MAJOR, simdjson::SIMDJSON_VERSION_MINOR,
             simdjson::SIMDJSON_VERSION_REVISION);
    return text;
}

} // namespace belfry
