// Fuzzes the JSON reader against a second, plain implementation of RFC 8259 that shares no code with it: both must give
// the same verdict and the same slices, whatever bytes stand in the padding behind the source.
#include "base/frame.h"
#include "proto/json.h"
#include "proto/utf8.h"

#include <stdlib.h>
#include <string.h>
#include <string>
#include <vector>

using namespace belfry;

namespace {

void require(bool fine) {
    if (!fine) abort();
}

struct member_span {
    view name; // with quotes
    view value;
};

// The reference: recursive descent, one byte at a time. Collects what the outermost array or object holds.
struct reference {
    const char *at;
    const char *end;
    std::vector<member_span> members;
    std::vector<view> elements;
};

void skip_space(reference *p) {
    while (p->at < p->end && strchr(" \t\r\n", *p->at) && *p->at != '\0')
        p->at++;
}

bool take(reference *p, char c) {
    if (p->at == p->end || *p->at != c) return false;
    p->at++;
    return true;
}

bool take_digits(reference *p) {
    const char *begin = p->at;
    while (p->at < p->end && *p->at >= '0' && *p->at <= '9')
        p->at++;
    return p->at > begin;
}

bool take_string(reference *p) {
    if (!take(p, '"')) return false;
    while (p->at < p->end) {
        unsigned char c = static_cast<unsigned char>(*p->at++);
        if (c == '"') return true;
        if (c < 0x20) return false;
        if (c != '\\') continue;
        if (p->at == p->end) return false;
        char escape = *p->at++;
        if (escape == 'u') {
            for (int i = 0; i < 4; i++, p->at++)
                if (p->at == p->end || !strchr("0123456789abcdefABCDEF", *p->at) || *p->at == '\0') return false;
        } else if (escape == '\0' || !strchr("\"\\/bfnrt", escape)) {
            return false;
        }
    }
    return false;
}

bool take_number(reference *p) {
    take(p, '-');
    if (!take(p, '0') && !take_digits(p)) return false;
    if (take(p, '.') && !take_digits(p)) return false;
    if (!take(p, 'e') && !take(p, 'E')) return true;
    if (!take(p, '+')) take(p, '-');
    return take_digits(p);
}

bool take_word(reference *p, view word) {
    if (view(p->at, static_cast<size_t>(p->end - p->at)).substr(0, word.size()) != word) return false;
    p->at += word.size();
    return true;
}

bool take_value(reference *p, int depth);

bool take_items(reference *p, char close, int depth) {
    if (depth > json_depth_max) return false;
    skip_space(p);
    if (take(p, close)) return true;
    for (;;) {
        skip_space(p);
        view name;
        if (close == '}') {
            const char *begin = p->at;
            if (!take_string(p)) return false;
            name = view(begin, static_cast<size_t>(p->at - begin));
            skip_space(p);
            if (!take(p, ':')) return false;
            skip_space(p);
        }
        const char *begin = p->at;
        if (!take_value(p, depth)) return false;
        view value(begin, static_cast<size_t>(p->at - begin));
        if (depth == 1 && close == '}') p->members.push_back({name, value});
        if (depth == 1 && close == ']') p->elements.push_back(value);
        skip_space(p);
        if (take(p, close)) return true;
        if (!take(p, ',')) return false;
    }
}

bool take_value(reference *p, int depth) {
    if (p->at == p->end) return false;
    switch (*p->at) {
    case '{':
        p->at++;
        return take_items(p, '}', depth + 1);
    case '[':
        p->at++;
        return take_items(p, ']', depth + 1);
    case '"':
        return take_string(p);
    case 't':
        return take_word(p, "true");
    case 'f':
        return take_word(p, "false");
    case 'n':
        return take_word(p, "null");
    default:
        return take_number(p);
    }
}

bool reference_valid(reference *p, view source) {
    p->at = source.data();
    p->end = p->at + source.size();
    if (!utf8_valid(source)) return false;
    skip_space(p);
    if (!take_value(p, 0)) return false;
    skip_space(p);
    return p->at == p->end;
}

std::string unescaped(view raw, bool *whole) {
    buffer b = {};
    *whole = json_unescape(raw, &b);
    std::string text(buffer_view(&b));
    buffer_free(&b);
    require(text.size() + 2 <= raw.size());
    require(utf8_valid(text));
    return text;
}

// What json.h promises beyond the grammar.
bool object_expected(const reference *p) {
    if (p->members.size() > json_members_max) return false;
    std::vector<std::string> names;
    for (const member_span &member : p->members) {
        bool whole;
        std::string name = unescaped(member.name, &whole);
        if (!whole) return false;
        for (const std::string &other : names)
            if (other == name) return false;
        names.push_back(name);
    }
    return true;
}

void check_members(json_reader *reader, const reference *p, const json_object *object) {
    require(object->count == p->members.size());
    for (size_t i = 0; i < object->count; i++) {
        const json_member *member = &object->members[i];
        bool whole;
        require(member->raw.data() == p->members[i].value.data() && member->raw.size() == p->members[i].value.size());
        require(member->name == unescaped(p->members[i].name, &whole));
        require(json_find(object, member->name) == member);
        if (member->type == json_type::string) {
            require(member->text == unescaped(member->raw, &whole) && member->text_valid == whole);
            buffer again = {};
            json_write_string(&again, member->text);
            require(unescaped(buffer_view(&again), &whole) == member->text && whole);
            buffer_free(&again);
        }
        if (member->is_integer)
            require(member->type == json_type::number &&
                    strtoll(std::string(member->raw).c_str(), nullptr, 10) == member->integer);
    }
    for (size_t i = 0; i < object->count; i++) {
        json_object nested;
        error e;
        if (object->members[i].type == json_type::object)
            (void)json_parse_nested(reader, object->members[i].raw, &nested, &e);
    }
    for (size_t i = 0; i < object->count; i++) {
        bool whole;
        require(object->members[i].name == unescaped(p->members[i].name, &whole));
    }
}

struct collected {
    json_reader *reader;
    std::vector<view> elements;
};

bool collect(view raw, json_type, void *context) {
    collected *c = static_cast<collected *>(context);
    c->elements.push_back(raw);
    require(json_valid(c->reader, raw)); // the reader may be used from here
    return true;
}

void check_source(json_reader *reader, view source) {
    reference p = {};
    bool valid = reference_valid(&p, source);
    bool is_object = valid && source[source.find_first_not_of(" \t\r\n")] == '{';
    bool is_array = valid && source[source.find_first_not_of(" \t\r\n")] == '[';
    require(json_valid(reader, source) == valid);

    error e;
    json_object object;
    bool parsed = json_parse_object(reader, source, &object, &e);
    require(parsed == (is_object && object_expected(&p)));
    if (parsed) check_members(reader, &p, &object);

    collected c = {reader, {}};
    require(json_each_element(reader, source, collect, &c, &e) == is_array);
    require(c.elements.size() == (is_array ? p.elements.size() : 0));
    for (size_t i = 0; i < c.elements.size(); i++)
        require(c.elements[i].data() == p.elements[i].data() && c.elements[i].size() == p.elements[i].size());
}

void check_write(json_reader *reader, view text) {
    buffer b = {};
    json_write_string(&b, text);
    size_t size = b.size;
    buffer_reserve(&b, frame_padding);
    memset(b.data + size, 0, frame_padding);
    require(json_valid(reader, view(b.data, size)));
    bool whole;
    std::string back = unescaped(view(b.data, size), &whole);
    require(whole && (!utf8_valid(text) || back == text));
    buffer_free(&b);
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static json_reader *reader = json_reader_new();
    // The padding ends at the allocation's end, so that AddressSanitizer sees a read beyond it.
    char *bytes = static_cast<char *>(malloc(size + frame_padding));
    memcpy(bytes, data, size);
    for (const char *filling : {"", "]", "}", "\"", ",", ":1}", "]}]}", " ", "[{"}) {
        size_t length = strlen(filling);
        for (size_t i = 0; i < frame_padding; i++)
            bytes[size + i] = length == 0 ? '\0' : filling[i % length];
        check_source(reader, view(bytes, size));
    }
    check_write(reader, view(bytes, size));
    free(bytes);
    return 0;
}
